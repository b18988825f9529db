"""One latent vector by gradient descent, as published."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from .._result import RESULTS
from ._latent_misfit import LatentMisfit, latent_misfit
from ._method import AbstractPosteriorMethod, Found


class PointEstimate(AbstractPosteriorMethod):
    """β = bounded(network(1)), the network's weights by Adam, to make small

        25 ‖u(x_i; β) − y‖/‖y‖ + residual_weight · mean r(β)²

    with residuals r of the weak form for fields and coefficient that are decoded of β,
    at points that are new in each step. As published for DGNO: a vector is more easily
    found as the output of a network with one input and two layers of 64 than by itself,
    and no prior keeps it near those of the training. Neither errors of the observations
    nor the spread of what is found are part of it: standard deviations are NaN.
    `Laplace` is faster and says more. (Weight decay of 1e-4 is part of it, too, and
    leaves a misfit of a percent or two.)

    Of coefficients with two phases a relaxed sample is taken, as published:
    low + (high − low) σ(raw + mean of 25 standard logistic numbers).

    As the rate falls to nothing, every descent comes to rest, wherever it is. The
    result is `RESULTS.successful` where a tenth more steps at the first rate would
    lower the loss by less than a hundredth, and `RESULTS.max_steps_reached` elsewhere.
    `stats`: `misfit`, here ½ Σ ((u − y)/std)² without a prior's share, `p_value` and
    `out_of_distribution` made of that, so that they judge the fit alone, `loss`, and
    `num_starts_agreeing`, starts whose loss is the best's to 10 %.

    **Arguments:**

    - `num_steps`: Default 500.
    - `learning_rate`: halved each tenth of the steps. Default 1e-2.
    - `residual_weight`: Default 1; residuals are in the units of the weak form.
    - `num_starts`: of networks with other initial weights. Default 1, as published.

    **Raises:** `ValueError` for numbers out of range.

    !!! example

        ```python
        method = sciml.inverse.PointEstimate(num_starts=4)
        ```

    Source: Zang & Koutsourelakis, *DGenNO*, J. Comput. Phys. 538 (2025) 114137, the
    accompanying code.
    """

    num_steps: int = eqx.field(static=True, default=500)
    learning_rate: float = eqx.field(static=True, default=1e-2)
    residual_weight: float = eqx.field(static=True, default=1.0)
    num_starts: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        for name in ("num_steps", "num_starts"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name}: expected at least 1, got {getattr(self, name)}."
                )
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(
                f"learning_rate: expected a positive number, got {self.learning_rate}."
            )
        if not 0 <= self.residual_weight < float("inf"):
            raise ValueError(
                f"residual_weight: expected at least 0, got {self.residual_weight}."
            )

    def misfit(self, model, observations, prior) -> LatentMisfit:
        """In the latent space of a `DGNO`; the prior is of no consequence."""
        if not np.any(np.asarray(observations.values)):
            raise ValueError(
                "observations: all values are 0, and the misfit is relative to them; "
                "take Laplace()."
            )
        return latent_misfit(model, observations, prior)

    def find(self, misfit: LatentMisfit, *, key: PRNGKeyArray) -> Found:
        """The descent, and what the vector at its end means."""
        judge_key, key = jr.split(key)
        # (All are judged at the same points.)
        run = lambda key: self._descend(misfit, key, judge_key)
        places, losses, further = jax.lax.map(run, jr.split(key, self.num_starts))
        losses = jnp.where(jnp.isfinite(losses), losses, jnp.inf)
        best = jnp.argmin(losses)
        # w of z = mean + factor w.
        off = places[best] - misfit.prior.mean.astype(places.dtype)
        factor = misfit.prior.factor.astype(places.dtype)
        w = jax.scipy.linalg.solve_triangular(factor, off, lower=True)
        mean = misfit.solution(w, misfit.nodes())
        coefficient = misfit.coefficient(w, misfit.coefficient_nodes())
        cost = 0.5 * jnp.sum(misfit.seen(w) ** 2)
        probable = jax.scipy.stats.chi2.sf(2 * cost, len(misfit.values))
        flagged = probable < 1e-3
        names: Any = RESULTS
        settled = losses[best] - further[best] <= 0.01 * losses[best]
        result = names.where(settled, names.successful, names.max_steps_reached)
        finite = jnp.isfinite(cost) & jnp.isfinite(losses[best])
        return Found(
            w,
            w[None],
            mean,
            jnp.full_like(mean, jnp.nan),
            coefficient,
            jnp.full_like(coefficient, jnp.nan),
            names.where(finite, result, names.nonfinite),
            {
                "misfit": cost,
                "p_value": probable,
                "out_of_distribution": flagged,
                "loss": losses[best],
                "num_starts_agreeing": jnp.sum(losses <= 1.1 * losses[best]),
            },
        )

    def _descend(
        self, misfit: LatentMisfit, key: PRNGKeyArray, judge_key: PRNGKeyArray
    ) -> tuple[Float[Array, " latent"], Float[Array, ""], Float[Array, ""]]:
        """The numbers that β is bounded from, the last loss, and that of a tenth more
        steps at the first rate.
        """
        model, dtype = misfit.model, misfit.values.dtype
        form = model.weak_form
        network_key, step_key = jr.split(key)
        network = eqx.nn.MLP(
            1, model.latent_dim, 64, 2, jax.nn.silu, dtype=dtype, key=network_key
        )
        weights, static = eqx.partition(network, eqx.is_inexact_array)
        each = -(-self.num_steps // 10)
        halved = lambda count: jnp.asarray(count // each, jnp.float32)
        falling = lambda count: self.learning_rate * 0.5 ** halved(count)
        adam = lambda rate: optax.chain(
            optax.add_decayed_weights(1e-4), optax.adam(rate)
        )
        size = jnp.linalg.norm(misfit.values)
        numbers = lambda weights: eqx.combine(weights, static)(jnp.ones(1, dtype))

        def loss(weights, key):
            where_key, phase_key = jr.split(key)
            latent = model.latent.bounded(numbers(weights))
            seen = model.solution(latent, misfit.points)
            off = jnp.linalg.norm(misfit.off(seen)) / size
            cast = lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x
            where = jax.tree.map(cast, form.draw(key=where_key))
            fields = model.fields(latent)

            def coefficient(points):
                raw = form.raw_coefficient(fields, points)
                return form.coefficient.relaxed(raw, key=phase_key)

            residuals = form.residuals(fields, coefficient, where)
            wrong = sum(jnp.mean(r**2) for r in residuals.values())
            return 25 * off + self.residual_weight * wrong

        def descend(weights, optimiser, keys):
            def step(carry, key):
                weights, state = carry
                slopes = jax.grad(loss)(weights, key)
                # (Optax mixes types, as NumPy lets one.)
                with jax.numpy_dtype_promotion("standard"):
                    updates, state = optimiser.update(slopes, state, weights)
                return (optax.apply_updates(weights, updates), state), None

            carry = (weights, optimiser.init(weights))
            return jax.lax.scan(step, carry, keys)[0][0]

        keys = jr.split(step_key, self.num_steps + each)
        weights = descend(weights, adam(falling), keys[each:])
        further = descend(weights, adam(self.learning_rate), keys[:each])
        ends = (loss(weights, judge_key), loss(further, judge_key))
        return numbers(weights), *ends
