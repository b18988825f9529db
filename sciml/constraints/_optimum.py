"""The optimum as a function of the problem, with its own derivative rule."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import optimistix as optx
from jaxtyping import Array, Float, Int

from ..linear._status import CONVERGED, MAX_STEPS, NONFINITE, STAGNATED
from ._least_squares import AbstractLeastSquares
from ._solvers import (
    AbstractWeightSolver,
    GramLevenbergMarquardt,
    Iterated,
    judged,
)

_SINGULAR = (
    "The optimum has no derivative that can be trusted: the matrix of second "
    "derivatives is singular to rounding, or has a negative eigenvalue, so that the "
    "weights are not a strict minimum. Raise `ridge`, use fewer or other basis fields, "
    "or enable double precision."
)
# Of solvers that have no number of their own.
_OPTIMISTIX_STEPS = 256

WeightSolver = (
    AbstractWeightSolver | optx.AbstractLeastSquaresSolver | optx.AbstractMinimiser
)


class Report(eqx.Module):
    """How a solve for weights ended."""

    status: Int[Array, ""]
    num_steps: Int[Array, ""]
    relative_gradient: Float[Array, ""]


@eqx.filter_custom_jvp
def optimum(
    problem: AbstractLeastSquares,
    start: Float[Array, "..."],
    *,
    solver: WeightSolver,
    throw: bool,
) -> tuple[Float[Array, "..."], Report]:
    """The weights that minimise the sum of squares, and how they were found.

    **Derivatives** are those of the condition that the gradient vanishes:
    ω' = −H⁻¹ (∂/∂problem gradient)', with all second derivatives in H, exact where the
    residual is not zero as well. They do not flow into `start`. Where the solve failed,
    or H has no Cholesky factor, they are NaN with `throw=False`; with `throw=True` the
    latter raises.
    """
    judge: AbstractWeightSolver
    if isinstance(solver, AbstractWeightSolver):
        judge, found = solver, solver.iterate(problem, start)
    else:
        judge, found = GramLevenbergMarquardt(), _by_optimistix(problem, start, solver)
    scale = jnp.sqrt(2 * problem.cost(jnp.zeros_like(start)))
    judgement = judged(judge, found.normal, found.weights, scale)
    status = jnp.where(judgement.optimal, CONVERGED, found.status)
    status = jnp.where(judgement.finite, status, NONFINITE).astype(jnp.int32)
    return found.weights, Report(status, found.num_steps, judgement.relative_gradient)


@optimum.def_jvp
def _tangent(primals, tangents, *, solver, throw):
    problem, start = primals
    weights, report = optimum(problem, start, solver=solver, throw=throw)
    gradient = lambda problem: problem.normal(weights).gradient
    _, change = eqx.filter_jvp(gradient, (problem,), (tangents[0],))
    factor = problem.hessian(weights).factorise(jnp.zeros((), weights.dtype))
    definite = factor.definite()
    if throw:
        failed = (report.status == CONVERGED) & ~definite
        factor = eqx.error_if(factor, failed, _SINGULAR)
    # (A product, not a choice: the transpose of a choice gives zeros.)
    known = jnp.where(definite & (report.status == CONVERGED), 1.0, jnp.nan)
    move = -factor.solve(change) * known.astype(weights.dtype)
    still = jtu.tree_map(lambda _: None, report)
    return (weights, report), (move, still)


def _by_optimistix(
    problem: AbstractLeastSquares, start: Float[Array, "..."], solver: Any
) -> Iterated:
    found = optx.least_squares(
        lambda weights, problem: problem.rows(weights),
        solver,
        start,
        args=problem,
        max_steps=_OPTIMISTIX_STEPS,
        throw=False,
    )
    out_of_steps = found.result == optx.RESULTS.nonlinear_max_steps_reached
    status = jnp.where(out_of_steps, MAX_STEPS, STAGNATED).astype(jnp.int32)
    num_steps = jnp.asarray(found.stats["num_steps"], jnp.int32)
    return Iterated(found.value, problem.normal(found.value), num_steps, status)
