"""Small least-squares problems in a box, inside of compiled programs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_NUM_STEPS = 40
# How far towards the boundary a step goes.
_DAMPING = 0.995


def least_norm_solution(
    matrix: Float[Array, "rows m"], vector: Float[Array, " rows"]
) -> Float[Array, " m"]:
    """The shortest of all minimisers of ‖F θ − y‖."""
    left, values, right = jnp.linalg.svd(matrix, full_matrices=False)
    floor = max(matrix.shape) * jnp.finfo(matrix.dtype).eps * values[0]
    live = values > floor
    inverse = jnp.where(live, 1 / jnp.where(live, values, 1.0), 0.0)
    return right.T @ (inverse * (left.T @ vector))


def box_least_squares(
    matrix: Float[Array, "rows m"],
    vector: Float[Array, " rows"],
    bounds: Float[Array, " m"],
) -> Float[Array, " m"]:
    """argmin ‖F θ − y‖ over |θ_j| ≤ bounds_j, by a primal-dual interior-point method.

    A predictor and a corrector per step, 40 steps at most, for a few unknowns. Where
    minimisers are not unique the one found lies in the middle of them.

    **Arguments:**

    - `matrix`: F. Any rank.
    - `vector`: y.
    - `bounds`: ≥ 0.

    Source: Mehrotra, SIAM J. Optim. 2 (1992) 575; Nocedal & Wright, *Numerical
    Optimization*, §16.6.
    """
    dtype = matrix.dtype
    eps = jnp.finfo(dtype).eps
    # In units of the bounds, and of the data.
    matrix = matrix * bounds[None]
    unit = jnp.maximum(jnp.max(jnp.abs(matrix)), jnp.max(jnp.abs(vector)))
    unit = jnp.where(unit > 0, unit, 1.0)
    matrix, vector = matrix / unit, vector / unit
    gram, linear = matrix.T @ matrix, matrix.T @ vector
    size = len(linear)

    def direction(state, target):
        """Newton's step to where slack · multiplier = target (2, m)."""
        x, slack, dual = state
        gradient = gram @ x - linear + dual[0] - dual[1]
        # Slacks are 1 − x and 1 + x, exactly: their equations stay satisfied.
        weights = dual / slack
        push = target / slack - dual
        matrix = gram + jnp.diag(jnp.sum(weights, axis=0))
        factor = jax.scipy.linalg.cho_factor(matrix)
        dx = jax.scipy.linalg.cho_solve(factor, -gradient - push[0] + push[1])
        dslack = jnp.stack([-dx, dx])
        return dx, dslack, push - weights * dslack

    def longest(value, change):
        """The longest step ≤ 1 that keeps positive numbers positive."""
        ratio = jnp.where(change < 0, -value / jnp.where(change < 0, change, 1.0), 1.0)
        return jnp.minimum(1.0, _DAMPING * jnp.min(ratio))

    def gap(state):
        return jnp.mean(state[1] * state[2])

    def step(carry):
        state, count, _ = carry
        x, slack, dual = state
        mu = gap(state)
        _, dslack, ddual = direction(state, jnp.zeros((), dtype))
        reach = longest(slack, dslack), longest(dual, ddual)
        after = jnp.mean((slack + reach[0] * dslack) * (dual + reach[1] * ddual))
        centre = (after / mu) ** 3 * mu
        dx, dslack, ddual = direction(state, centre - dslack * ddual)
        # (One length for both: the problem is quadratic.)
        length = jnp.minimum(longest(slack, dslack), longest(dual, ddual))
        x = x + length * dx
        new = (x, slack + length * dslack, dual + length * ddual)
        good = jnp.all(jnp.isfinite(jnp.append(new[1], new[2])))
        new = jax.tree_util.tree_map(lambda a, b: jnp.where(good, a, b), new, state)
        return new, count + 1, good

    def running(carry):
        state, count, good = carry
        return good & (count < _NUM_STEPS) & (gap(state) > eps**1.5)

    zero = jnp.zeros(size, dtype)
    start = (zero, jnp.ones((2, size), dtype), jnp.ones((2, size), dtype))
    carry = (start, jnp.zeros((), jnp.int32), jnp.asarray(True))
    (x, _, _), _, _ = jax.lax.while_loop(running, step, carry)
    return bounds * x
