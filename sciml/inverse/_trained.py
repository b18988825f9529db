"""A trained model, what it was trained on, and how: one file."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from .._serialisation import register
from ..data import Dataset
from ..neural_operators import DGNO
from ..preconditioners import Provenance
from ._prior import LatentPrior


@register
class TrainedDGNO(eqx.Module):
    """A `DGNO` with the prior of the coefficients that it was trained on.

    What `sciml train dgno` saves, and what `posterior` needs. Called with a coefficient
    it is the model; `misses` says of one why the model should not be believed.

    **Arguments:**

    - `model`: the trained model.
    - `prior`: of its latent vector.
    - `values`: smallest and largest value of the coefficients of the training.
    - `distance`: of latent vectors from the prior's mean that 999 of 1,000 of the
        training's coefficients have at most (`LatentPrior.distance`).
    - `provenance`: how it was trained, and what it achieved. Default None.

    !!! example

        ```python
        trained = sciml.inverse.TrainedDGNO.of(model, coefficients_only)
        trained(a)
        trained.misses(1000 * a)  # "values from 5000 to 10000, …"
        sciml.save("dgno.safetensors", trained)
        ```
    """

    model: DGNO
    prior: LatentPrior
    values: tuple[float, float] = eqx.field(static=True)
    distance: float = eqx.field(static=True)
    provenance: Provenance | None = None

    @classmethod
    def of(
        cls,
        model: DGNO,
        coefficients: Dataset,
        provenance: Provenance | None = None,
    ) -> "TrainedDGNO":
        """With prior, values and distances of given coefficients.

        **Arguments:**

        - `model`: trained with `coefficients`.
        - `coefficients`: a dataset; targets are not looked at.
        - `provenance`: as of the class.
        """
        prior = LatentPrior.fit(model, coefficients)
        inputs = jnp.asarray(coefficients.as_floating().inputs)
        found = jax.lax.map(lambda a: prior.distance(model, a), inputs, batch_size=256)
        return cls(
            model,
            prior,
            (float(jnp.min(inputs)), float(jnp.max(inputs))),
            float(np.quantile(np.asarray(found), 0.999)),
            provenance,
        )

    def __call__(
        self, x: Shaped[Array | np.ndarray, "1 *space"]
    ) -> Float[Array, "channels *domain"]:
        """u at the nodes of the domain, as of the model."""
        return self.model(x)

    def misses(self, x: Shaped[Array | np.ndarray, "1 *space"]) -> str | None:
        """Why a coefficient is none of those of the training; None where it is one.

        **Arguments:**

        - `x`: the coefficient, shape `(1, *grid.shape)`.
        """
        a = np.asarray(x, float)
        low, high = float(np.min(a)), float(np.max(a))
        # (Of many unseen ones some have the smallest or largest value so far.)
        slack = 0.2 * (self.values[1] - self.values[0])
        inside = self.values[0] - slack <= low and high <= self.values[1] + slack
        if not inside:  # (Nor is NaN.)
            return (
                f"values from {low:.4g} to {high:.4g}, in training from "
                f"{self.values[0]:.4g} to {self.values[1]:.4g}"
            )
        dtype = self.prior.mean.dtype
        found = float(self.prior.distance(self.model, jnp.asarray(x, dtype)))
        if not found <= 1.5 * self.distance:
            return (
                f"its latent vector is {found:.3g} from the mean of the training's, "
                f"999 of 1,000 of which are at most {self.distance:.3g} from it"
            )
        return None
