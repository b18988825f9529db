"""The coefficient and the solution, given a few values of the latter."""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from .._problem import AbstractLinearProblem
from .._result import RESULTS
from ..grids import Grid
from ..neural_operators import DGNO
from ._laplace import Laplace
from ._method import AbstractPosteriorMethod, Found
from ._observations import Observations
from ._prior import LatentPrior
from ._trained import TrainedDGNO


class Posterior(eqx.Module):
    """What is known after the measurement.

    - `mean`, `std`: of u at the domain's nodes, shape `(channels, *domain)`.
    - `coefficient_mean`, `coefficient_std`: of a, shape `(*space)`. The standard
        deviation is that of the field's mean given a latent vector: for two phases the
        probability of the higher one is (mean − low)/(high − low), and its own
        deviation √(p (1 − p)).
    - `result`: `RESULTS.successful` where the search ended at an optimum.
    - `stats`: of the method.
    - `misfit`: what was searched; it makes fields of the following.
    - `mode`, `draws`: the most probable numbers, and samples of them.
    """

    mean: Float[Array, "channels *domain"]
    std: Float[Array, "channels *domain"]
    coefficient_mean: Float[Array, "*space"]
    coefficient_std: Float[Array, "*space"]
    result: Any
    stats: dict[str, Array]
    misfit: Any
    mode: Float[Array, " numbers"]
    draws: Float[Array, "draws numbers"]

    @property
    def grid(self) -> Grid:
        """Where coefficients are; `misfit.domain` is where u is."""
        return self.misfit.grid

    @property
    def latent(self) -> Float[Array, " latent"]:
        """The most probable β of a `DGNO`."""
        return self.misfit.latent(self.mode)

    @property
    def latents(self) -> Float[Array, "draws latent"]:
        """Samples of β of a `DGNO`."""
        return jax.vmap(self.misfit.latent)(self.draws)

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
        """Samples of the mean of a given β, at points or at the grid's nodes.

        **Arguments:** as of `solutions`.
        """
        points = self.misfit.coefficient_nodes() if points is None else points
        return jax.vmap(lambda w: self.misfit.coefficient(w, points))(self.draws)


def posterior(
    model: TrainedDGNO | DGNO | AbstractLinearProblem,
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
    Or, with `method=TotalVariation(…)`, for a problem itself, without any training.

    **Arguments:**

    - `model`: a trained `DGNO` or `TrainedDGNO`; or an `AbstractLinearProblem`.
    - `observations`: values of u at points.
    - `method`: `Laplace()` (default), `NUTS()` or `PointEstimate()` for a `DGNO`,
        `TotalVariation(…)` for a problem.
    - `prior`: of β, for a `DGNO`. Default that of a `TrainedDGNO`; of a `DGNO`
        `LatentPrior.standard(model)`, which does not know where the model was trained:
        `LatentPrior.fit(model, coefficients)` does, and is much better.
    - `throw`: raise where the search ended at no optimum. Default True.
    - `key`: draws starting points and samples.

    The search runs in double precision where JAX has it enabled; fields have the type
    of the observations.

    **Raises:** `ValueError` for points outside of the domain, channels that there are
    not, and a prior of another length; `TypeError` for a model that the method is not
    for.

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
    if method is None:
        method = Laplace()
    if isinstance(model, TrainedDGNO):
        prior = model.prior if prior is None else prior
        model = model.model
    misfit = method.misfit(model, observations, prior)
    found = _find(method, misfit, key)
    grid, domain, dtype = misfit.grid, misfit.domain, observations.values.dtype
    on = lambda box, field: field.reshape(*field.shape[:-1], *box.shape).astype(dtype)
    answer = Posterior(
        on(domain, found.mean),
        on(domain, found.std),
        on(grid, found.coefficient_mean),
        on(grid, found.coefficient_std),
        found.result,
        found.stats,
        misfit,
        found.mode,
        found.draws,
    )
    if throw:
        answer = found.result.error_if(answer, found.result != RESULTS.successful)
    return answer


@eqx.filter_jit
def _find(method: AbstractPosteriorMethod, misfit: Any, key: PRNGKeyArray) -> Found:
    return method.find(misfit, key=key)
