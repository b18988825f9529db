"""A normal distribution about the most probable latent vector."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optimistix as optx
from jaxtyping import Array, Float, PRNGKeyArray

from .._result import RESULTS
from ._latent_misfit import LatentMisfit, latent_misfit
from ._method import AbstractPosteriorMethod, Found, averaged


class Mode(eqx.Module):
    """A most probable w, L with L Lᵀ = JᵀJ there, and how the search ended."""

    place: Float[Array, " latent"]
    factor: Float[Array, "latent latent"]
    result: Any
    stats: dict[str, Array]

    def at(self, y: Float[Array, " latent"]) -> Float[Array, " latent"]:
        """w* + L⁻ᵀ y: of the covariance (JᵀJ)⁻¹ if y is standard normal."""
        return self.place + jax.scipy.linalg.solve_triangular(
            self.factor, y, lower=True, trans="T"
        )

    def inverse(self) -> Float[Array, "latent latent"]:
        """L⁻¹."""
        identity = jnp.eye(len(self.place), dtype=self.place.dtype)
        return jax.scipy.linalg.solve_triangular(self.factor, identity, lower=True)


class Laplace(AbstractPosteriorMethod):
    """p(w | y) ≈ N(w*, (JᵀJ)⁻¹), J being the Jacobian at the most probable w*:

        w* = argmin ½ ‖rows(w)‖²,   rows = ((u(x_i) − y_i)/std_i, w)

    by Levenberg and Marquardt's method from several starting points, the best of which
    is kept. u is linearised about it: std² = diag(J_u (JᵀJ)⁻¹ J_uᵀ). Coefficients,
    which are not nearly linear in w, are averaged over samples.

    `stats` of a `Posterior` by it:

    - `misfit`: ½ of the smallest ‖rows‖². If model, prior and noise are as stated,
        twice that has about the distribution χ² with as many degrees as there are
        observations.
    - `p_value`: of that; and `out_of_distribution`, whether it is below 0.001: the
        observations come from a coefficient of another kind, or have other errors.
    - `num_informed`: tr(I − (JᵀJ)⁻¹), about how many directions of w the observations
        say something of.
    - `distance_to_optimum`: ‖L⁻¹ Jᵀ rows‖ with L Lᵀ = JᵀJ, how far Gauss and Newton's
        next step would go, in standard deviations of the posterior. Convergence is
        judged on it.
    - `num_starts_agreeing`: starts whose optimum is as good as the best, to 1 % or 0.1.

    **Arguments:**

    - `num_starts`: the prior's mean, and others drawn from the prior. Default 4.
    - `max_steps`: of each search. Default 100.
    - `atol`: largest distance to the optimum of a success. Default 0.01.
    - `num_draws`: samples for the averages. Default 256.

    **Raises:** `ValueError` for numbers below 1, and an `atol` that is not positive.

    !!! example

        ```python
        method = sciml.inverse.Laplace(num_starts=8)
        ```
    """

    num_starts: int = eqx.field(static=True, default=4)
    max_steps: int = eqx.field(static=True, default=100)
    atol: float = 0.01
    num_draws: int = eqx.field(static=True, default=256)

    def __check_init__(self):
        for name in ("num_starts", "max_steps", "num_draws"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name}: expected at least 1, got {getattr(self, name)}."
                )
        if not 0 < self.atol < float("inf"):
            raise ValueError(f"atol: expected a positive number, got {self.atol}.")

    def misfit(self, model, observations, prior) -> LatentMisfit:
        """In the latent space of a `DGNO`."""
        return latent_misfit(model, observations, prior)

    def find(self, misfit: LatentMisfit, *, key: PRNGKeyArray) -> Found:
        """The search, and what is around its end."""
        search_key, draw_key = jr.split(key)
        found = self.mode(misfit, key=search_key)
        shape = (self.num_draws, *found.place.shape)
        noise = jr.normal(draw_key, shape, found.place.dtype)
        nodes = misfit.nodes()
        mean, push = jax.linearize(lambda w: misfit.solution(w, nodes), found.place)
        moved = jax.vmap(push)(found.inverse())
        draws = jax.vmap(found.at)(noise)
        return Found(
            found.place,
            draws,
            mean,
            jnp.sqrt(jnp.sum(moved**2, 0)),
            *averaged(misfit, draws),
            found.result,
            found.stats,
        )

    def mode(self, misfit: LatentMisfit, *, key: PRNGKeyArray) -> "Mode":
        """The most probable w, and the factor of JᵀJ there.

        **Arguments:**

        - `misfit`: the sum of squares.
        - `key`: draws starting points.
        """
        size, dtype = misfit.model.latent_dim, misfit.values.dtype
        others = jr.normal(key, (self.num_starts - 1, size), dtype)
        starts = jnp.concatenate([jnp.zeros((1, size), dtype), others])
        ends = jax.lax.map(lambda start: self._search(misfit, start), starts)
        costs = jax.vmap(lambda w: 0.5 * jnp.sum(misfit.rows(w) ** 2))(ends)
        costs = jnp.where(jnp.isfinite(costs), costs, jnp.inf)
        best = jnp.argmin(costs)
        place, cost = ends[best], costs[best]
        rows, jacobian = misfit.rows(place), jax.jacrev(misfit.rows)(place)
        factor = jnp.linalg.cholesky(jacobian.T @ jacobian)
        step = jax.scipy.linalg.solve_triangular(factor, jacobian.T @ rows, lower=True)
        distance = jnp.linalg.norm(step)
        agreeing = costs <= cost + jnp.maximum(0.01 * cost, 0.1)
        probable = jax.scipy.stats.chi2.sf(2 * cost, len(misfit.values))
        found = Mode(place, factor, self._judged(cost, distance), {})
        stats = {
            "misfit": cost,
            "p_value": probable,
            "out_of_distribution": probable < 1e-3,
            "num_informed": size - jnp.sum(found.inverse() ** 2),
            "distance_to_optimum": distance,
            "num_starts_agreeing": jnp.sum(agreeing),
        }
        return Mode(place, factor, found.result, stats)

    def _search(
        self, misfit: LatentMisfit, start: Float[Array, " latent"]
    ) -> Float[Array, " latent"]:
        tolerance = 1e-4 if misfit.values.dtype == jnp.float32 else 1e-8
        solver = optx.LevenbergMarquardt(rtol=tolerance, atol=tolerance)
        return optx.least_squares(
            lambda w, misfit: misfit.rows(w),
            solver,
            start,
            args=misfit,
            max_steps=self.max_steps,
            throw=False,
        ).value

    def _judged(self, cost: Array, distance: Array) -> Any:
        names: Any = RESULTS
        result = names.where(
            distance <= self.atol, names.successful, names.max_steps_reached
        )
        finite = jnp.isfinite(cost) & jnp.isfinite(distance)
        return names.where(finite, result, names.nonfinite)
