"""What is known of a latent vector before anything is measured."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._serialisation import register
from ..data import Dataset
from ..neural_operators import DGNO


@register
class LatentPrior(eqx.Module):
    """β = bounded(mean + factor w),  w ~ N(0, I).

    For a model with `BoxLatent` bounded is tanh, for `GaussianLatent` the identity.

    **Arguments:**

    - `mean`: shape `(latent_dim,)`.
    - `factor`: L with covariance L Lᵀ, shape `(latent_dim, latent_dim)`.

    **Raises:** `ValueError` for other shapes.

    !!! example

        ```python
        prior = sciml.inverse.LatentPrior.fit(model, coefficients_only)
        ```
    """

    mean: Float[Array, "..."]
    factor: Float[Array, "..."]

    def __check_init__(self):
        if self.mean.ndim != 1 or self.factor.shape != self.mean.shape * 2:
            raise ValueError(
                "mean, factor: expected shapes (latent_dim,) and twice that, got "
                f"{self.mean.shape} and {self.factor.shape}."
            )

    @classmethod
    def standard(cls, model: DGNO) -> "LatentPrior":
        """That of the model's training: N(0, I), or for `BoxLatent` nearly flat.

        atanh of a number that is uniform on (−1, 1) has the variance π²/12, and is
        taken to be normal.
        """
        size = model.latent_dim
        scale = model.latent.unbounded_std
        return cls(jnp.zeros(size), scale * jnp.eye(size))

    @classmethod
    def fit(
        cls, model: DGNO, coefficients: Dataset, *, shrinkage: float = 1e-3
    ) -> "LatentPrior":
        """Mean and covariance of the latent vectors of given coefficients.

        A decoder is right near vectors that it was trained with, and nowhere else:
        inversion needs this prior, or it finds vectors which mean nothing. Where a
        posterior is a distribution, its variances are added.

        **Arguments:**

        - `model`: a trained `DGNO`.
        - `coefficients`: what it was trained with, or others of their kind. Targets are
            not needed.
        - `shrinkage`: of the mean variance that is added to all, so that directions
            which these coefficients do not use stay possible. Default 1e-3.

        **Raises:** `ValueError` for fewer than two coefficients, a negative
        shrinkage, and vectors that are not finite.
        """
        if len(coefficients) < 2:
            raise ValueError("coefficients: expected at least two.")
        if not 0 < shrinkage < float("inf"):
            raise ValueError(f"shrinkage: expected a positive number, got {shrinkage}.")
        inputs = jnp.asarray(coefficients.as_floating().inputs)
        read = lambda x: model.latent.unbounded(model.raw_latent(x))
        # (One after the other in blocks: all at once would hold all of their layers.)
        centres, variances = jax.lax.map(read, inputs, batch_size=256)
        centres = np.asarray(centres, np.float64)
        if not np.isfinite(centres).all():
            raise ValueError(
                "model: some coefficients have latents that are not finite."
            )
        spread = np.asarray(variances, np.float64).mean(0)
        covariance = np.cov(centres.T).reshape(len(spread), -1) + np.diag(spread)
        floor = shrinkage * np.trace(covariance) / len(spread)
        factor = np.linalg.cholesky(covariance + floor * np.eye(len(spread)))
        dtype = inputs.dtype
        return cls(jnp.asarray(centres.mean(0), dtype), jnp.asarray(factor, dtype))

    def latent(self, model: DGNO, w: Float[Array, "..."]) -> Float[Array, "..."]:
        """β of standard normal numbers.

        **Arguments:**

        - `model`: says which function bounds them.
        - `w`: shape `(latent_dim,)`.
        """
        z = self.mean.astype(w.dtype) + self.factor.astype(w.dtype) @ w
        return model.latent.bounded(z)

    def distance(self, model: DGNO, x: Float[Array, "..."]) -> Float[Array, ""]:
        """How far the latent vector of a coefficient is from the mean.

        The root mean square of the w that makes it, 1 for w ~ N(0, I).

        **Arguments:**

        - `model`: that the prior is of.
        - `x`: the coefficient, shape `(1, *space)`.
        """
        centre, _ = model.latent.unbounded(model.raw_latent(x))
        off = centre - self.mean.astype(centre.dtype)
        factor = self.factor.astype(centre.dtype)
        w = jax.scipy.linalg.solve_triangular(factor, off, lower=True)
        return jnp.sqrt(jnp.mean(w**2))
