"""How weights are found: Levenberg and Marquardt's steps, or one linear solve."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .._serialisation import register
from ..linear._status import CONVERGED, MAX_STEPS, NONFINITE, RUNNING, STAGNATED
from ._least_squares import AbstractLeastSquares, NormalEquations

# Damping that is negligible: the first step is Gauss and Newton's.
_FIRST_DAMPING = 1e-6
# Beyond it a step is shorter than rounding.
_LARGEST_DAMPING = 1e12
# A decrease of the cost by less, in ε of it, cannot be told from none.
_BLIND = 100
# A step that leaves more of the gradient is slow.
_SLOW = 0.25
# Jᵀr that is rounding: so many ε of what it is a difference of.
_ROUNDING = 32


class Judgement(eqx.Module):
    """How far from the optimum some weights are.

    - `relative_gradient`: ‖Jᵀr‖ / (‖J‖ ‖r‖), with the norm of Frobenius.
    - `optimal`: whether it is small enough, or all that rounding leaves.
    """

    relative_gradient: Float[Array, ""]
    optimal: Bool[Array, ""]
    finite: Bool[Array, ""]


class Iterated(eqx.Module):
    """Where an iteration ended: weights, their equations, and why it is no optimum.

    - `status`: `MAX_STEPS` or `STAGNATED`, unless a test of the weights says otherwise.
    """

    weights: Float[Array, "..."]
    normal: NormalEquations
    num_steps: Int[Array, ""]
    status: Int[Array, ""]


class AbstractWeightSolver(eqx.Module):
    """Finds the weights that minimise a sum of squares."""

    rtol: eqx.AbstractVar[Float[Array, ""] | None]
    atol: eqx.AbstractVar[Float[Array, ""]]

    @abc.abstractmethod
    def iterate(
        self, problem: AbstractLeastSquares, weights: Float[Array, "..."]
    ) -> Iterated:
        """The iteration itself, from some weights."""

    def tolerance(self, dtype: Any) -> Float[Array, ""]:
        """rtol; by default 1e-8 in double and 1e-5 in single precision."""
        if self.rtol is not None:
            return self.rtol.astype(dtype)
        return jnp.asarray(1e-8 if dtype == jnp.float64 else 1e-5, dtype)


def judged(
    solver: AbstractWeightSolver,
    normal: NormalEquations,
    weights: Float[Array, "..."],
    scale: Float[Array, ""],
) -> Judgement:
    """‖Jᵀr‖ ≤ rtol ‖J‖ ‖r‖ + atol, or what rounding leaves of Jᵀr.

    **Arguments:** `scale` is ‖r‖ at weights of zero.
    """
    rtol, atol = solver.tolerance(weights.dtype), solver.atol.astype(weights.dtype)
    eps = jnp.finfo(weights.dtype).eps
    jacobian = jnp.sqrt(normal.matrix.trace())
    residual = jnp.sqrt(2 * normal.cost)
    size = jnp.sqrt(jnp.sum(normal.gradient**2))
    parts = jacobian * jnp.sqrt(jnp.sum(weights**2)) + scale
    floor = _ROUNDING * eps * jacobian * parts
    bound = rtol * jacobian * residual
    relative = size / jnp.where(bound > 0, jacobian * residual, 1)
    finite = jnp.isfinite(size) & jnp.isfinite(residual)
    optimal = finite & ((size <= bound + atol) | (size <= floor))
    return Judgement(relative, optimal, finite)


class _State(eqx.Module):
    weights: Float[Array, "..."]
    normal: NormalEquations
    damping: Float[Array, ""]
    growth: Float[Array, ""]
    num_steps: Int[Array, ""]
    status: Int[Array, ""]
    slow: Bool[Array, ""]


@register
class GramLevenbergMarquardt(AbstractWeightSolver):
    """Levenberg–Marquardt for residuals of fields that are linear in the weights.

        (JᵀJ + μI) δ = −Jᵀr,   ω ← ω + δ where that lowers ‖r‖²

    JᵀJ and Jᵀr are found once per accepted step, as products of the terms' arrays, and
    kept while steps are refused: then only another factor of an n × n matrix is
    needed. General methods build J anew, column by column, for each solve.

    μ follows Nielsen's rule, from 1e-6 of the mean diagonal entry: the first step
    is Gauss and Newton's unless that fails.

    Once a step has left more than a quarter of the gradient, as Gauss and Newton's do
    where ‖r‖ is large, JᵀJ is replaced by the matrix of second derivatives, if that is
    positive definite: the last steps converge quadratically.

    It stops when ‖Jᵀr‖ ≤ rtol ‖J‖ ‖r‖ + atol, not when steps are small: weights may be
    right to four digits where the derivative of the solution is not right to one.

    **Arguments:**

    - `rtol`: default 1e-8 in double, 1e-5 in single precision.
    - `atol`: default 0.
    - `max_steps`: accepted and refused ones, default 100; static.

    Source: Madsen, Nielsen & Tingleff, *Methods for non-linear least squares problems*,
    2nd ed., 2004, §3.2, for the rule.
    """

    rtol: Float[Array, ""] | None
    atol: Float[Array, ""]
    max_steps: int = eqx.field(static=True)

    def __init__(
        self,
        rtol: ArrayLike | None = None,
        atol: ArrayLike = 0.0,
        max_steps: int = 100,
    ):
        self.rtol, self.atol = check_tolerances(rtol, atol)
        self.max_steps = check_max_steps(max_steps)

    def iterate(
        self, problem: AbstractLeastSquares, weights: Float[Array, "..."]
    ) -> Iterated:
        """The iteration itself, from some weights."""
        dtype = weights.dtype
        scale = jnp.sqrt(2 * problem.cost(jnp.zeros_like(weights)))
        eps = jnp.finfo(dtype).eps
        unit = lambda normal: normal.matrix.trace() / weights.size

        def status_of(weights, normal, damping):
            judgement = judged(self, normal, weights, scale)
            stuck = damping > _LARGEST_DAMPING * unit(normal)
            status = jnp.where(stuck, STAGNATED, RUNNING)
            status = jnp.where(judgement.optimal, CONVERGED, status)
            return jnp.where(judgement.finite, status, NONFINITE).astype(jnp.int32)

        def step(state: _State) -> _State:
            normal = state.normal
            matrix = lax.cond(
                state.slow,
                lambda weights: problem.hessian(weights),
                lambda _: normal.matrix,
                state.weights,
            )
            factor = matrix.factorise(state.damping)
            definite = factor.definite()
            factor = lax.cond(
                definite,
                lambda _: factor,
                lambda damping: normal.matrix.factorise(damping),
                state.damping,
            )
            move = -factor.solve(normal.gradient)
            trial = state.weights + move
            cost = problem.cost(trial)
            # What the linear model promises, a sum of squares but for the sign.
            gain = jnp.sum(move * (state.damping * move - normal.gradient)) / 2
            ratio = (normal.cost - cost) / jnp.where(gain > 0, gain, 1)
            # Near the optimum costs differ by rounding only; the gradient still falls.
            blind = gain <= _BLIND * eps * normal.cost
            good = jnp.isfinite(cost) & (gain > 0) & ((ratio > 0) | blind)
            again = lambda weights: problem.normal(weights)
            found = lax.cond(good, again, lambda _: normal, trial)
            nearer = _size(found.gradient) < _size(normal.gradient)
            better = good & (nearer | ~blind)
            less = _size(found.gradient) < _SLOW * _size(normal.gradient)
            slow = jnp.where(better, state.slow | ~less, state.slow & definite)
            choose = lambda new, old: jnp.where(better, new, old)
            weights = choose(trial, state.weights)
            normal = jtu.tree_map(choose, found, normal)
            ratio = jnp.where(blind, 1.0, ratio)
            shrink = jnp.maximum(1 / 3, 1 - (2 * ratio - 1) ** 3)
            damping = state.damping * jnp.where(better, shrink, state.growth)
            return _State(
                weights,
                normal,
                damping,
                jnp.where(better, 2, 2 * state.growth).astype(dtype),
                state.num_steps + 1,
                status_of(weights, normal, damping),
                slow,
            )

        normal = problem.normal(weights)
        damping = (_FIRST_DAMPING * unit(normal)).astype(dtype)
        first = _State(
            weights,
            normal,
            damping,
            jnp.asarray(2, dtype),
            jnp.zeros((), jnp.int32),
            status_of(weights, normal, damping),
            jnp.asarray(False),
        )
        running = lambda s: (s.status == RUNNING) & (s.num_steps < self.max_steps)
        last = lax.while_loop(running, step, first)
        status = jnp.where(last.status == RUNNING, MAX_STEPS, STAGNATED)
        return Iterated(
            last.weights, last.normal, last.num_steps, status.astype(jnp.int32)
        )


@register
class LinearLeastSquares(AbstractWeightSolver):
    """One solve, for residuals that are linear in the field.

        JᵀJ δ = −Jᵀr,   ω ← ω + δ,   and once more with the r that is left

    The second solve has the same factor and mends what rounding in JᵀJ spoilt. For a
    residual that is not linear the result is `RESULTS.stagnated`: JᵀJ is found anew
    for the test of optimality.

    **Arguments:** `rtol`, `atol`: of the test, as of `GramLevenbergMarquardt`.
    """

    rtol: Float[Array, ""] | None
    atol: Float[Array, ""]

    def __init__(self, rtol: ArrayLike | None = None, atol: ArrayLike = 0.0):
        self.rtol, self.atol = check_tolerances(rtol, atol)

    def iterate(
        self, problem: AbstractLeastSquares, weights: Float[Array, "..."]
    ) -> Iterated:
        """The iteration itself, from some weights."""
        normal = problem.normal(weights)
        factor = normal.matrix.factorise(jnp.zeros((), weights.dtype))
        weights = weights - factor.solve(normal.gradient)
        weights = weights - factor.solve(problem.normal(weights).gradient)
        two, stagnated = (jnp.asarray(k, jnp.int32) for k in (2, STAGNATED))
        return Iterated(weights, problem.normal(weights), two, stagnated)


def _size(vector: Float[Array, "..."]) -> Float[Array, ""]:
    return jnp.sqrt(jnp.sum(vector**2))


def check_tolerances(
    rtol: ArrayLike | None, atol: ArrayLike
) -> tuple[Float[Array, ""] | None, Float[Array, ""]]:
    """Both as arrays, so that changing them does not compile anew."""
    for name, value in (("rtol", rtol), ("atol", atol)):
        if value is not None and jnp.shape(value) != ():
            raise ValueError(f"{name}: expected a number, got {value!r}.")
        if isinstance(value, float | int) and not 0 <= value < float("inf"):
            raise ValueError(f"{name}: expected a number ≥ 0, got {value!r}.")
    as_array = lambda x: jnp.asarray(x, jnp.result_type(float))
    return None if rtol is None else as_array(rtol), as_array(atol)


def check_max_steps(max_steps: int) -> int:
    """**Raises:** `ValueError` unless it is an integer ≥ 1."""
    if not isinstance(max_steps, int) or max_steps < 1:
        raise ValueError(f"max_steps: expected an integer ≥ 1, got {max_steps!r}.")
    return max_steps
