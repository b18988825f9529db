"""The coefficient and the solution, given a few values of the latter."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._result import RESULTS
from ..grids import Grid
from ..neural_operators import DGNO
from ._laplace import Laplace
from ._method import AbstractPosteriorMethod, Found, Misfit
from ._observations import Observations
from ._prior import LatentPrior


class Posterior(eqx.Module):
    """What is known after the measurement.

    - `mean`, `std`: of u at the grid's nodes, shape `(channels, *space)`.
    - `coefficient_mean`, `coefficient_std`: of a, shape `(*space)`. The standard
        deviation is that of the field's mean given a latent vector: for two phases the
        probability of the higher one is (mean − low)/(high − low), and its own
        deviation √(p (1 − p)).
    - `latent`: the most probable β; `draws` are samples of the numbers behind it.
    - `result`: `RESULTS.successful` where the search ended at an optimum.
    - `stats`: of the method.
    """

    mean: Float[Array, "channels *space"]
    std: Float[Array, "channels *space"]
    coefficient_mean: Float[Array, "*space"]
    coefficient_std: Float[Array, "*space"]
    latent: Float[Array, " latent"]
    result: Any
    stats: dict[str, Array]
    misfit: Misfit
    draws: Float[Array, "draws latent"]

    @property
    def grid(self) -> Grid:
        """Where the fields are."""
        return self.misfit.model.weak_form.grid

    @property
    def latents(self) -> Float[Array, "draws latent"]:
        """Samples of β."""
        return jax.vmap(lambda w: self.misfit.prior.latent(self.misfit.model, w))(
            self.draws
        )

    def solutions(
        self, points: Float[Array, "num ndim"] | None = None
    ) -> Float[Array, "draws channels num"]:
        """Samples of u at points, by default at the nodes in their order.

        **Arguments:**

        - `points`: shape `(num, ndim)`.
        """
        points = self.misfit.nodes() if points is None else points
        return jax.vmap(lambda w: self.misfit.solution(w, points))(self.draws)

    def coefficients(
        self, points: Float[Array, "num ndim"] | None = None
    ) -> Float[Array, "draws num"]:
        """Samples of the mean of a given β, at points or at the nodes.

        **Arguments:** as of `solutions`.
        """
        points = self.misfit.nodes() if points is None else points
        return jax.vmap(lambda w: self.misfit.coefficient(w, points))(self.draws)


def posterior(
    model: DGNO,
    observations: Observations,
    *,
    method: AbstractPosteriorMethod | None = None,
    prior: LatentPrior | None = None,
    throw: bool = True,
    key: PRNGKeyArray,
) -> Posterior:
    """The distribution of u and a, given some values of u:

        p(β | y) ∝ p(β) Π_i N(y_i; u(x_i; β), std_i²)

    in the latent space of a trained `DGNO`. The model is taken at its word: what it
    itself is off by, belongs into the observations' `std` if it is not small beside it.

    **Arguments:**

    - `model`: a trained `DGNO`, u having one channel.
    - `observations`: values of u at points.
    - `method`: default `Laplace()`.
    - `prior`: of β. Default `LatentPrior.standard(model)`, which does not know where
        the model was trained: `LatentPrior.fit(model, coefficients)` does, and is much
        better.
    - `throw`: raise where the search ended at no optimum. Default True.
    - `key`: draws starting points and samples.

    The search runs in double precision where JAX has it enabled; fields have the type
    of the observations.

    **Raises:** `ValueError` for points outside of the domain, a prior of another
    length, and a model of several solution channels.

    !!! example

        ```python
        seen = sciml.inverse.Observations(points, values, snr=25)
        prior = sciml.inverse.LatentPrior.fit(model, coefficients_only)
        found = sciml.inverse.posterior(model, seen, prior=prior, key=key)
        found.coefficient_mean, found.std, found.stats["out_of_distribution"]
        ```

    Source: the idea of inverting in a latent space, Zang & Koutsourelakis, *DGenNO*,
    J. Comput. Phys. 538 (2025) 114137; there a point estimate.
    """
    grid = model.weak_form.grid
    observations.check_inside(grid)
    method = Laplace() if method is None else method
    prior = LatentPrior.standard(model) if prior is None else prior
    if prior.mean.shape != (model.latent_dim,):
        raise ValueError(
            f"prior: expected one of {model.latent_dim} numbers, the model's "
            f"latent_dim, got {prior.mean.shape[0]}."
        )
    _check_channels(model)
    # As precise as JAX is: the search is short, and its algebra is not.
    precise = jnp.result_type(float)
    of_values = (observations.points, observations.values, observations.std)
    misfit = Misfit(model, prior, *(x.astype(precise) for x in of_values))
    found, average, deviation = _find(method, misfit, key)
    on_grid = lambda field: field.reshape(*field.shape[:-1], *grid.shape).astype(
        observations.values.dtype
    )
    answer = Posterior(
        on_grid(found.mean),
        on_grid(found.std),
        on_grid(average),
        on_grid(deviation),
        prior.latent(model, found.mode),
        found.result,
        found.stats,
        misfit,
        found.draws,
    )
    if throw:
        answer = found.result.error_if(answer, found.result != RESULTS.successful)
    return answer


def _check_channels(model: DGNO) -> None:
    latent = jax.ShapeDtypeStruct((model.latent_dim,), jnp.float32)
    place = jax.ShapeDtypeStruct((1, model.weak_form.grid.ndim), jnp.float32)
    channels = eqx.filter_eval_shape(model.solution, latent, place).shape[0]
    if channels != 1:
        raise ValueError(
            f"model: expected one solution channel, as observations are of one, got "
            f"{channels}."
        )


@eqx.filter_jit
def _find(
    method: AbstractPosteriorMethod, misfit: Misfit, key: PRNGKeyArray
) -> tuple[Found, Array, Array]:
    found = method.find(misfit, key=key)
    nodes = misfit.nodes()
    drawn = jax.vmap(lambda w: misfit.coefficient(w, nodes))(found.draws)
    return found, jnp.mean(drawn, 0), jnp.std(drawn, 0)
