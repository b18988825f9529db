"""The certified surrogate: a model predicts, conjugate gradients finish."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import lineax as lx
from jaxtyping import Array, ArrayLike, Float

from ._problem import AbstractLinearProblem
from .grids._check import check_field
from .linear import CG, AbstractPreconditioner, Solution, linear_solve
from .preconditioners import Multigrid


def predict(
    model: Any,
    problem: AbstractLinearProblem,
    coefficient: ArrayLike,
    rtol: float | Float[Array, ""] | None = None,
    *,
    preconditioner: AbstractPreconditioner | lx.AbstractLinearOperator | None = None,
    max_steps: int = 500,
    throw: bool = True,
    compare: bool = False,
) -> Solution:
    """Solve A(a) u = b from a model's prediction, to the tolerance that was asked for.

    The model predicts u from the coefficient; prescribed boundary values are made
    exact; the residual of that prediction is reported; preconditioned conjugate
    gradients start from it and end at ‖b − A u‖ ≤ rtol ‖b‖. However wrong the
    model is, the value returned is a solution of the discretised problem, or the result
    says that it is not.

    **Arguments:**

    - `model`: maps `problem.inputs(a)`, shape (channels, *space), to (1, *space).
    - `problem`: the problem, see `sciml.AbstractLinearProblem`.
    - `coefficient`: a, a field on the problem's grid; the state before it where the
        problem is an implicit time step (`problems.HeatStep`).
    - `rtol`: relative tolerance of the residual. Default that of `sciml.CG`: 1e-8 in
        float64, 1e-5 or the rounding floor in float32.
    - `preconditioner`: default `Multigrid()`.
    - `max_steps`: of the conjugate gradients; static.
    - `throw`: raise where the solve fails (default), or say so in `result`.
    - `compare`: also solve from zero, to tell what the prediction saved. Default False,
        since that costs more than the answer.

    **Returns:** a `Solution`. Besides those of `sciml.CG` its statistics are

    - `surrogate`: the prediction, with exact boundary values;
    - `surrogate_relative_residual`: its ‖b − A u‖/‖b‖, 1 for the zero field. A
        prediction that is close but not smooth can exceed 1: A amplifies roughness;
    - `surrogate_relative_error`: its ‖u − u*‖/‖u*‖ against the value returned;
    - `surrogate_energy_error`: the same in the norm (uᵀA u)^½, in which conjugate
        gradients converge. 1 is the zero field's: above that the prediction costs steps
        instead of saving them;
    - with `compare`, `num_steps_from_zero` and `steps_saved`, their difference from
        `num_steps`; negative where the prediction cost steps.

    Derivatives with respect to the coefficient are those of the exact solution (see
    `sciml.linear_solve`); none flow into the model.

    !!! example

        ```python
        out = sciml.predict(model, problem, coefficient, rtol=1e-6)
        out.stats["surrogate_relative_residual"], out.stats["num_steps"]
        ```
    """
    field = check_field("coefficient", coefficient, problem.grid.num_points)
    problem.check_coefficient(field)
    solver = CG(rtol=rtol, max_steps=max_steps)
    if preconditioner is None:
        preconditioner = Multigrid()
    return _predict(model, problem, field, solver, preconditioner, throw, compare)


@eqx.filter_jit
def _predict(model, problem, field, solver, preconditioner, throw, compare) -> Solution:
    grid = problem.grid
    A, b = problem.assemble(field)
    inputs = problem.inputs(field)
    output = model(inputs.astype(_parameter_dtype(model, inputs.dtype)))
    expected = (1, *grid.num_points)
    if jnp.shape(output) != expected:
        raise ValueError(
            f"model: expected an output of shape {expected} on this problem's grid, "
            f"got {jnp.shape(output)}."
        )
    guess = grid.impose(output[0].astype(b.dtype))
    # A prediction that overflowed is worth nothing, and must not spoil the solve.
    usable = jnp.isfinite(guess).all()
    start = jnp.where(usable, guess, grid.impose(jnp.zeros_like(guess)))
    solution = linear_solve(
        A, b, solver, preconditioner=preconditioner, x0=start, throw=throw
    )
    stats = {**solution.stats, **_quality(A, b, guess, solution.value)}
    if compare:
        # What fails from zero has taken all its steps, and is counted so.
        start = grid.impose(jnp.zeros_like(guess))
        plain = linear_solve(
            A, b, solver, preconditioner=preconditioner, x0=start, throw=False
        )
        stats["num_steps_from_zero"] = plain.stats["num_steps"]
        stats["steps_saved"] = plain.stats["num_steps"] - stats["num_steps"]
    return Solution(solution.value, solution.result, stats)


def _quality(A, b, guess, u) -> dict[str, Array]:
    """What the prediction was worth, u being the solution."""
    norm = lambda v: jnp.sqrt(jnp.sum(v**2))
    energy = lambda v: jnp.sqrt(jnp.sum(v * A.mv(v)))
    error = guess - u
    return {
        "surrogate": guess,
        "surrogate_relative_residual": _ratio(norm(b - A.mv(guess)), norm(b)),
        "surrogate_relative_error": _ratio(norm(error), norm(u)),
        "surrogate_energy_error": _ratio(energy(error), energy(u)),
    }


def _ratio(part: Array, whole: Array) -> Array:
    """part / whole, and 0 for 0/0: nothing was predicted where there is nothing."""
    nothing = (part == 0) & (whole == 0)
    return jnp.where(nothing, 0, part / jnp.where(nothing, 1, whole))


def _parameter_dtype(model: Any, default):
    """The type of the model's parameters: a float32 model wants float32 inputs."""
    for leaf in jtu.tree_leaves(model):
        if eqx.is_inexact_array(leaf):
            return jnp.finfo(leaf.dtype).dtype
    return default
