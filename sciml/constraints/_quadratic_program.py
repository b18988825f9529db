"""Convex quadratic programs with an honest end and a derivative."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from .._result import RESULTS
from ..linear import Solution
from ._interior_point import interior_point, kkt_matrix, polished
from ._outcome import all_finite, concluded, first_result
from ._program import (
    Point,
    Program,
    Scales,
    equilibrating_scales,
    kkt_residuals,
    largest,
    scaled,
)

# Files of such problems write 1e20 for no bound, or nearly that.
_NO_BOUND = 1e19
_NO_DERIVATIVE = (
    "quadratic_program: the solution has no derivative here, or was not found. Either "
    "the solve failed, or a constraint is active with a multiplier of zero (a kink), "
    "or the active constraints are dependent, or x is not unique. Perturb the problem, "
    "add a small multiple of the identity to P, drop redundant constraints; with "
    "throw=False the derivative is NaN instead."
)


def quadratic_program(
    P: ArrayLike,
    q: ArrayLike,
    A: ArrayLike | None = None,
    b: ArrayLike | None = None,
    G: ArrayLike | None = None,
    h: ArrayLike | None = None,
    *,
    rtol: float | None = None,
    max_steps: int = 100,
    throw: bool = True,
) -> Solution:
    """Minimise ½ xᵀP x + qᵀx subject to A x = b and G x ≤ h, P ⪰ 0.

    Dense, for programs of up to some hundreds of unknowns; runs under `jit` and `vmap`.
    Bounds l ≤ C x ≤ u are the rows C x ≤ u and −C x ≤ −l; an entry of h that is
    infinite or at least 1e19 asks for nothing.

    **Arguments:**

    - `P`: (n, n), symmetric positive semidefinite (its symmetric part is what counts);
        zero for a linear program. `q`: the linear term, (n,).
    - `A`, `b`: equations, (m, n) and (m,), default none; redundant ones are allowed if
        they agree.
    - `G`, `h`: inequalities, (p, n) and (p,), default none.
    - `rtol`: on the relative residual of the optimality conditions. Default 1e-8 in
        float64, 1e-4 in float32.
    - `max_steps`: of the interior-point method, static. Default 100; 10 to 20 are
        usual.
    - `throw`: raise where the solve fails (default), or return what it reached with the
        `result` that says why.

    **Returns:** a `Solution` with x. `result` is

    - `successful` only where the residual recomputed from P, q, A, b, G, h as given
        meets `rtol`, and P has no negative eigenvalue beyond rounding;
    - `infeasible`, `unbounded`: with a certificate, multipliers or a direction;
    - `nonconvex`: P has a negative eigenvalue;
    - `nonfinite`: NaN, or an infinity that is not an upper bound;
    - `max_steps_reached`, `stagnated`: none of these.

    Statistics: `equality_multiplier` y and `inequality_multiplier` z ≥ 0, with
    P x + q + Aᵀy + Gᵀz = 0; `objective`; `num_steps`, `max_steps`; `kkt_residual`, the
    largest of `stationarity`, `primal_residual`, `dual_residual` and
    `complementarity`, each relative to the largest of its terms (where these cancel
    down to their rounding, to that); `tolerance`.

    **Derivatives** of x and of the multipliers are those of the exact solution, through
    the optimality conditions of the active constraints: to any order, in both modes,
    with respect to all six. They exist where x is unique, the active constraints are
    independent and each has a multiplier above zero (strict complementarity; within
    1e-6 in float64, 2e-3 in float32, in equilibrated units). Elsewhere, and where the
    solve failed, they raise, or are NaN with `throw=False`.

    !!! example

        ```python
        import jax
        import jax.numpy as jnp
        from sciml.constraints import quadratic_program

        def nearest(point):  # … in the triangle x ≥ 0, x₁ + x₂ ≤ 1
            G = jnp.array([[1.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
            h = jnp.array([1.0, 0.0, 0.0])
            return quadratic_program(jnp.eye(2), -point, G=G, h=h).value

        nearest(jnp.array([2.0, 0.5]))  # [1, 0]
        jax.jacobian(nearest)(jnp.array([1.0, 1.0]))  # along the edge x₁ + x₂ = 1
        ```

    Source: Amos and Kolter, *OptNet*, ICML 2017 (the derivative); for the method, and
    why it is our own, the module `_interior_point`.
    """
    program = _checked(P, q, A, b, G, h)
    if rtol is None:
        rtol = 1e-8 if jnp.finfo(program.q.dtype).bits >= 64 else 1e-4
    if max_steps < 1:
        raise ValueError(f"max_steps: expected at least 1, got {max_steps}.")
    return _compiled(program, jnp.asarray(rtol, program.q.dtype), max_steps, throw)


def _checked(P, q, A, b, G, h) -> Program:
    """The parts as arrays that fit together, or an error that names one."""
    q = jnp.asarray(q)
    if q.ndim != 1 or not jnp.issubdtype(q.dtype, jnp.floating):
        raise ValueError(
            f"q: expected real floating-point numbers of shape (n,), got {q.dtype} of "
            f"shape {q.shape}."
        )
    n = q.shape[0]
    parts: dict[str, Any] = {"P": (P, (n, n)), "q": (q, (n,))}
    for names, matrix, side in (("A, b", A, b), ("G, h", G, h)):
        left, right = names.split(", ")
        if (matrix is None) != (side is None):
            raise ValueError(f"{names}: expected both or neither, got one of them.")
        rows = 0 if side is None else jnp.size(side)
        parts[left] = (
            jnp.zeros((0, n), q.dtype) if side is None else matrix,
            (rows, n),
        )
        parts[right] = (jnp.zeros(0, q.dtype) if side is None else side, (rows,))
    arrays = []
    for name, (value, shape) in parts.items():
        array = jnp.asarray(value)
        if array.shape != shape:
            raise ValueError(
                f"{name}: expected shape {shape}, as q and the right-hand sides have, "
                f"got {array.shape}."
            )
        if array.dtype != q.dtype:
            raise ValueError(
                f"{name}: expected dtype {q.dtype}, as q has, got {array.dtype}; "
                "convert one of them with `.astype`."
            )
        arrays.append(array)
    return Program(*arrays)


@eqx.filter_jit
def _compiled(program: Program, rtol, max_steps: int, throw: bool) -> Solution:
    with jax.default_matmul_precision("highest"):
        return _solved(_bounded(program), rtol, max_steps, throw)


def _bounded(program: Program) -> Program:
    """Rows without a bound made 0 ≤ 1, P made symmetric."""
    P, q, A, b, G, h = program
    free = h >= _NO_BOUND
    G, h = jnp.where(free[:, None], 0.0, G), jnp.where(free, 1.0, h)
    return Program((P + P.T) / 2, q, A, b, G, h)


def _solved(program: Program, rtol, max_steps: int, throw: bool) -> Solution:
    still: Program = jax.lax.stop_gradient(program)
    scales = equilibrating_scales(still)
    small = scaled(still, scales)
    ending = interior_point(small, max_steps)

    noise = 10 * jnp.finfo(rtol.dtype).eps / rtol
    worst = lambda residuals: jnp.max(jnp.stack(list(residuals.values())))
    candidates = [
        scales.original(p) for p in (ending.point, polished(small, ending.point))
    ]
    measured = [kkt_residuals(still, point, noise) for point in candidates]
    # (A polish on the wrong constraints is worse, or NaN.)
    better = worst(measured[1]) <= worst(measured[0])
    choose = lambda a, b: jnp.where(better, a, b)
    point = jax.tree.map(choose, candidates[1], candidates[0])
    residuals = jax.tree.map(choose, measured[1], measured[0])

    n = still.q.size
    shift = (
        100 * n * jnp.finfo(rtol.dtype).eps * jnp.maximum(1.0, largest(small.P.ravel()))
    )
    convex = all_finite(
        jnp.linalg.cholesky(small.P + shift * jnp.eye(n, dtype=rtol.dtype))
    )
    met = worst(residuals) <= rtol
    result = first_result(
        (~all_finite(still), RESULTS.nonfinite),
        (~convex, RESULTS.nonconvex),
        (met, RESULTS.successful),
        (ending.infeasible, RESULTS.infeasible),
        (ending.unbounded, RESULTS.unbounded),
        (~all_finite(point), RESULTS.nonfinite),
        (ending.num_steps >= max_steps, RESULTS.max_steps_reached),
        (True, RESULTS.stagnated),
    )
    exists = (result == RESULTS.successful) & _strict(small, scales.equilibrated(point))
    x, y, z = _differentiable(program, point, scales, exists, throw)
    stats: dict[str, Any] = {
        "equality_multiplier": y,
        "inequality_multiplier": z,
        "objective": 0.5 * jnp.dot(point.x, still.P @ point.x)
        + jnp.dot(still.q, point.x),
        "num_steps": ending.num_steps,
        "max_steps": max_steps,
        "kkt_residual": worst(residuals),
        "tolerance": rtol,
        **residuals,
    }
    return concluded(x, result, stats, throw=throw)


def _strict(program: Program, point: Point) -> Array:
    """Whether each constraint has a slack or a multiplier that is clearly not zero."""
    P, q, A, b, G, h = program
    x, y, z, _ = point
    margin = jnp.finfo(q.dtype).eps ** 0.375
    slack = (h - G @ x) / (1.0 + largest(h, G @ x))
    force = z / (1.0 + largest(P @ x, q, y @ A, z @ G))
    return jnp.all(jnp.maximum(slack, force) > margin)


def _differentiable(program: Program, point: Point, scales: Scales, exists, throw):
    """x, y and z, with the derivative that the optimality conditions give them."""

    @jax.custom_jvp
    def solution(program, point, scales, exists):
        del program, scales, exists
        return point.x, point.y, point.z

    @solution.defjvp
    def solution_jvp(primals, tangents):
        program, point, scales, exists = primals
        change: Program = tangents[0]
        # (Themselves with their derivatives, for the second ones.)
        x, y, z = solution(*primals)
        small, at = scaled(program, scales), scales.equilibrated(point)
        active = at.z > (small.h - small.G @ at.x)
        matrix = kkt_matrix(small, active)
        inverse = jnp.linalg.inv(matrix)
        size = lambda m: jnp.max(jnp.sum(jnp.abs(m), axis=0))
        limit = jnp.finfo(x.dtype).eps ** -0.75
        regular = exists & (size(matrix) * size(inverse) < limit)
        inverse = jnp.where(regular, inverse, jnp.nan)
        if throw:
            inverse = eqx.error_if(inverse, ~regular, _NO_DERIVATIVE)
        residual = jnp.concatenate(
            [
                scales.cost * scales.columns * change.gradient(x, y, z),
                scales.equations * (change.A @ x - change.b),
                scales.inequalities * jnp.where(active, change.G @ x - change.h, 0.0),
            ]
        )
        moved = inverse @ residual
        moved = -(moved + inverse @ (residual - matrix @ moved))
        n, m = x.size, y.size
        move = Point(moved[:n], moved[n : n + m], moved[n + m :], jnp.zeros_like(z))
        move = scales.original(move)
        return (x, y, z), (move.x, move.y, move.z)

    return solution(program, point, scales, exists)
