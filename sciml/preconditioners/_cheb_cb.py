"""ChebCB: a contextual bandit whose arms are polynomials in the context."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int32, PRNGKeyArray

from .._registry import register
from ._box_least_squares import box_least_squares, least_norm_solution
from ._relaxation import AbstractOmegas, AbstractRelaxation, OmegaInterval
from ._rounds import chebyshev, checked_interval, chosen_loss, draw


@register
class ChebCBFits(eqx.Module):
    """The arms' least-squares fits, one along the first axis for each.

    `factors` are triangles [R | z] of shape `(num_features, num_features + 1)` with
    R θ ≈ z in steps, `remainders` the squared residuals beyond them; `coefficients`, θ,
    and `residuals` are in units of `scale`.
    """

    factors: Float[Array, "*batch d m width"]
    remainders: Float[Array, "*batch d"]
    coefficients: Float[Array, "*batch d m"]
    residuals: Float[Array, "*batch d"]
    scale: Float[Array, "*batch"]


@register
class ChebCBState(eqx.Module):
    """What ChebCB knows.

    The fits; the largest and the smallest loss; the sum of squared errors of
    predictions; the last choice and its features.
    """

    fits: ChebCBFits
    largest: Float[Array, "*batch"]
    smallest: Float[Array, "*batch"]
    errors: Float[Array, "*batch"]
    num_rounds: Int32[Array, "*batch"]
    arm: Int32[Array, "*batch"]
    features: Float[Array, "*batch m"]
    omegas: Any


@register
class ChebCB(AbstractRelaxation[ChebCBState]):
    """Draws ω by predicted losses, each arm's a Chebyshev polynomial in the context c.

        s_i = Σ_j θ_ij T_j(2 (c − a)/(b − a) − 1),  j < num_features
        p_i = 1/(d + η (s_i − s_*)) for all but the best arm *, which gets the rest

    θ_i is the least-norm least-squares fit to (loss − 1)/scale of the arm's own rounds,
    or, where its entries leave the bounds that losses of a known Lipschitz constant
    imply, the fit within them. Constant, scale and η (it grows with the rounds) are
    estimated from the losses so far, see the source. Competes with the best ω for each
    context; the regret grows about as T^{9/11}.

    **Arguments:**

    - `interval`: (a, b), between which contexts lie; one outside of it is taken for the
        nearer end.
    - `num_arms`: d, default 20.
    - `num_features`: default 6.
    - `omegas`: what arms stand for. Default `OmegaInterval()`, [1, 1.95].

    !!! example

        ```python
        import jax.random as jr
        import sciml

        method = sciml.preconditioners.ChebCB((0.0, 10.0))
        state = method.init()
        omega, state = method.choose(state, 2.5, key=jr.key(0))
        state = method.update(state, 12)
        ```

    Source: Khodak, Chow, Balcan & Talwalkar, *Learning to Relax*, ICLR 2024, algorithm
    3, with the estimated constants of the authors' program.
    """

    interval: tuple[float, float] = eqx.field(static=True, converter=checked_interval)
    num_arms: int = eqx.field(static=True, default=20)
    num_features: int = eqx.field(static=True, default=6)
    omegas: AbstractOmegas = OmegaInterval()

    def __check_init__(self):
        for name, least in (("num_arms", 2), ("num_features", 1)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"{name}: expected at least {least}, got {getattr(self, name)}."
                )

    def init(self, operator: lx.AbstractLinearOperator | None = None) -> ChebCBState:
        """No losses yet: every prediction is 0."""
        dtype = jnp.result_type(float)
        d, m = self.num_arms, self.num_features
        zero, count = jnp.zeros((), dtype), jnp.zeros((), jnp.int32)
        return ChebCBState(
            fits=ChebCBFits(
                factors=jnp.zeros((d, m, m + 1), dtype),
                remainders=jnp.zeros(d, dtype),
                coefficients=jnp.zeros((d, m), dtype),
                residuals=jnp.zeros(d, dtype),
                scale=zero + 1,
            ),
            largest=zero - jnp.inf,
            smallest=zero + jnp.inf,
            errors=zero,
            num_rounds=count,
            arm=count,
            features=jnp.zeros(m, dtype),
            omegas=self.omegas.init(operator),
        )

    def choose(
        self,
        state: ChebCBState,
        context: ArrayLike | None = None,
        operator: lx.AbstractLinearOperator | None = None,
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, ""], ChebCBState]:
        """Draw an arm by its prediction for the context."""
        dtype = state.errors.dtype
        features = chebyshev(context, self.interval, self.num_features, dtype)
        arm = draw(key, self.probabilities(state, features))
        omegas = self.omegas.follow(state.omegas, operator)
        state = dataclasses.replace(state, arm=arm, features=features, omegas=omegas)
        position = arm.astype(dtype) / (self.num_arms - 1)
        return self.omegas.omega(state.omegas, position), state

    def update(self, state: ChebCBState, num_steps: ArrayLike) -> ChebCBState:
        """Add the loss to the arm's fit; fit all arms anew where the scale changes."""
        dtype = state.errors.dtype
        loss = chosen_loss(num_steps, dtype)
        arm, features, fits = state.arm, state.features, state.fits
        predicted = fits.coefficients[arm] @ features
        factor, left = _add_row(fits.factors[arm], features, loss - 1)
        factors = fits.factors.at[arm].set(factor)
        remainders = fits.remainders.at[arm].add(left**2)
        largest = jnp.maximum(state.largest, loss)
        smallest = jnp.minimum(state.smallest, loss)
        slope, norm, scale = self._constants(largest, smallest)
        bounds = self._bounds(slope, norm, scale)
        # (In the new units, so that the first loss is not an error of its own size.)
        error = predicted - (loss - 1) / scale

        def fit(inputs):
            factor, remainder = inputs
            return _fit(factor, remainder, scale, bounds)

        def one():
            theta, residual = fit((factor, remainders[arm]))
            return (
                fits.coefficients.at[arm].set(theta),
                fits.residuals.at[arm].set(residual),
            )

        coefficients, residuals = jax.lax.cond(
            scale == fits.scale, one, lambda: jax.lax.map(fit, (factors, remainders))
        )
        return dataclasses.replace(
            state,
            fits=ChebCBFits(factors, remainders, coefficients, residuals, scale),
            largest=largest,
            smallest=smallest,
            errors=state.errors + error**2,
            num_rounds=state.num_rounds + 1,
        )

    def probabilities(
        self, state: ChebCBState, features: Float[Array, " m"]
    ) -> Float[Array, " d"]:
        """p of the next round, given T_0, T_1, … of its context."""
        dtype = features.dtype
        d, m = self.num_arms, self.num_features
        t = state.num_rounds.astype(dtype)
        slope, _, scale = self._constants(state.largest, state.smallest)
        # How far a polynomial of this degree is from a Lipschitz function.
        alpha = (np.pi + 2 / np.pi * np.log(2 * m + 1)) / (2 * (m + 1)) * slope / scale
        regret = state.errors - jnp.sum(state.fits.residuals) + 2 * alpha**2 * t
        eta = 2 * t * jnp.sqrt(d * t / jnp.where(regret > 0, regret, 1.0))
        predicted = state.fits.coefficients @ features
        gap = predicted - jnp.min(predicted)
        p = 1 / (d + jnp.where((regret > 0) & (t > 0), eta, 0.0) * gap)
        best = jnp.argmin(predicted)
        p = p.at[best].set(0.0)
        return p.at[best].set(1 - jnp.sum(p))

    def _constants(
        self, largest: Float[Array, ""], smallest: Float[Array, ""]
    ) -> tuple[Float[Array, ""], ...]:
        """(b − a) L, N and the scale K N from the range of the losses so far."""
        known = largest > 0
        slope = jnp.where(known, largest - smallest, 0.0)
        top = jnp.where(known, largest, 1.0)
        norm = 2 + 4 * slope / top * (1 + np.log(self.num_features))
        return slope, norm, jnp.where(known, top * norm, 1.0)

    def _bounds(self, slope, norm, scale) -> Float[Array, " m"]:
        """The largest |θ_j| of a Lipschitz function's Chebyshev series."""
        j = jnp.arange(1, self.num_features, dtype=scale.dtype)
        return jnp.append(1 / norm, 2 * slope / scale / j)


def _add_row(
    factor: Float[Array, "m width"], features: Float[Array, " m"], value
) -> tuple[Float[Array, "m width"], Float[Array, ""]]:
    """[R | z] with one more equation, and the residual that is beyond θ's reach."""
    size = len(features)
    row = jnp.append(features, value)
    triangle = jnp.linalg.qr(jnp.concatenate([factor, row[None]]), mode="r")
    return triangle[:size], triangle[size, size]


def _fit(factor, remainder, scale, bounds):
    """θ in units of the scale, and the sum of squared residuals in these units."""
    matrix, rhs = factor[:, :-1], factor[:, -1] / scale
    free = least_norm_solution(matrix, rhs)
    theta = jax.lax.cond(
        jnp.all(jnp.abs(free) <= bounds),
        lambda: free,
        lambda: box_least_squares(matrix, rhs, bounds),
    )
    residual = jnp.sum((matrix @ theta - rhs) ** 2) + remainder / scale**2
    return theta, residual
