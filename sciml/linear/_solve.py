"""`linear_solve` and `adjoint_solve`: solves that own their derivative rule."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import lineax as lx
from jaxtyping import ArrayLike, PyTree

from .._result import RESULTS
from . import _tree as tree
from ._builder import AbstractPreconditioner, build_preconditioner, frozen
from ._cg import CG
from ._fallback import iterate
from ._function_operator import facts_of
from ._krylov import AbstractKrylov
from ._product import Product, product
from ._solution import Solution
from ._status import CONVERGED, INFEASIBLE, our_result
from ._stencil_operator import constant_vector
from ._tree import Vector


def linear_solve(
    operator: lx.AbstractLinearOperator,
    vector: PyTree[ArrayLike],
    solver: AbstractKrylov | None = None,
    *,
    preconditioner: AbstractPreconditioner | lx.AbstractLinearOperator | None = None,
    x0: PyTree[ArrayLike] | None = None,
    throw: bool = True,
) -> Solution:
    """Solve A x = b and say truthfully how it went.

    **Arguments:**

    - `operator`: A, any square lineax operator that the solver accepts.
    - `vector`: b, of A's `out_structure()`.
    - `solver`: default `sciml.CG()`.
    - `preconditioner`: M ≈ A⁻¹: a builder of `sciml.preconditioners`, or a lineax
        operator (for instance one that was built before, to use it again). Default
        none.
    - `x0`: initial guess, of A's `in_structure()`; default zero.
    - `throw`: raise where the solve fails (default), or return what it reached with the
        `result` that says why.

    **Returns:** a `Solution`. `result` is successful only if the recomputed residual
    meets the solver's tolerance.

    **Derivatives** are those of the exact solution, by solving with A again (forward
    mode) or Aᵀ (reverse mode) with the same solver and preconditioner (transposed):
    x' = A⁻¹(b' − A'x). They flow into A's parameters and b, never into M and x0 (on
    which the exact solution does not depend) nor into the statistics. A derivative
    solve that fails raises with `throw=True` and gives NaN with `throw=False`. Works
    under `jit`, `vmap`, `jvp`, `vjp` and to second order.

    For an operator with a known null space (`StencilOperator.constant_null_space`) an
    incompatible b is `RESULTS.infeasible`, and the solution is the one of zero mean.

    !!! example

        ```python
        import jax.numpy as jnp
        import sciml

        A = sciml.linear.diffusion_operator(2.0, sciml.grids.Grid((63, 63)))
        solution = sciml.linear_solve(
            A,
            jnp.ones((63, 63)),
            sciml.CG(rtol=1e-4),
            preconditioner=sciml.preconditioners.Multigrid(),
        )
        solution.stats["num_steps"], solution.stats["relative_residual"]
        ```
    """
    if solver is None:
        solver = CG()
    if isinstance(preconditioner, AbstractPreconditioner) and preconditioner.on_host:
        preconditioner = preconditioner.build(operator)
    return _compiled(operator, vector, solver, preconditioner, x0, throw)


@eqx.filter_jit
def _compiled(operator, vector, solver, preconditioner, x0, throw) -> Solution:
    b = as_vector("vector", vector, operator.out_structure())
    if x0 is not None:
        x0 = as_vector("x0", x0, operator.in_structure())
        x0 = jtu.tree_map(jax.lax.stop_gradient, x0)
    negate = solver.check_operator(operator)
    if negate:
        operator, b = -operator, jtu.tree_map(jnp.negative, b)
    M = build_preconditioner(preconditioner, operator)
    if M is not None:
        solver.check_preconditioner(M)
    operator = lx.linearise(operator)
    # The exact solution depends on neither tolerance.
    solver = frozen(solver)
    value, status, stats = _solve(operator, b, M=M, x0=x0, solver=solver, throw=throw)
    result = our_result(status)
    solution = Solution(value, result, stats | facts_of(M))
    if throw:
        solution = result.error_if(solution, result != RESULTS.successful)
    return solution


def adjoint_solve(
    operator: lx.AbstractLinearOperator,
    vector: PyTree[ArrayLike],
    solver: AbstractKrylov | None = None,
    *,
    preconditioner: AbstractPreconditioner | lx.AbstractLinearOperator | None = None,
    x0: PyTree[ArrayLike] | None = None,
    throw: bool = True,
) -> Solution:
    """Solve Aᵀ λ = g: the adjoint, with its own result and statistics.

    What reverse-mode differentiation of `linear_solve` does out of sight; call it where
    the adjoint's iterations and residual are to be seen.

    **Arguments:** as `linear_solve`; `preconditioner` approximates A⁻¹ and is
    transposed here.
    """
    if solver is None:
        solver = CG()
    negate = solver.check_operator(operator)
    M = build_preconditioner(preconditioner, operator, negate)
    return linear_solve(
        operator.transpose(),
        vector,
        solver,
        preconditioner=None if M is None else M.transpose(),
        x0=x0,
        throw=throw,
    )


def as_vector(name: str, vector: PyTree[ArrayLike], structure) -> Vector:
    """The vector as arrays of the expected structure, or an error that names it."""
    vector = jtu.tree_map(jnp.asarray, vector)
    got = tree.structure_of(vector)
    if jtu.tree_structure(got) != jtu.tree_structure(structure):
        raise ValueError(
            f"{name}: expected the structure {jtu.tree_structure(structure)}, got "
            f"{jtu.tree_structure(got)}."
        )
    for want, have in zip(
        jtu.tree_leaves(structure), jtu.tree_leaves(got), strict=True
    ):
        if want.shape != have.shape:
            raise ValueError(
                f"{name}: expected shape {want.shape}, as the operator has, got "
                f"{have.shape}."
            )
        if want.dtype != have.dtype:
            raise ValueError(
                f"{name}: expected dtype {want.dtype}, as the operator has, got "
                f"{have.dtype}; convert one of them with `.astype`."
            )
    return vector


def _run(A, M, b, x0, operator, solver, *, checked: bool):
    """The solver on plain functions, with a known null space taken out.

    `checked`: whether an incompatible b is an error. Derivative solves project it: the
    derivative of the zero-mean solution is A⁺(b' − A'x).
    """
    null = constant_vector(operator)
    if null is None:
        return iterate(solver, A, M, b, x0)
    # As in the solvers, scaled so that squares neither over- nor underflow.
    unit = tree.max_abs(b)
    unit = jnp.where((unit > 0) & jnp.isfinite(unit), unit, 1.0)
    offset = jnp.sum(null * (b / unit))
    size = tree.norm(b / unit)
    compatible = b / unit - offset * null
    # Once more, for what rounding left of it. Where b is nothing but a constant the
    # rest is noise, in which there is nothing to solve for.
    compatible = compatible - jnp.sum(null * compatible) * null
    noise = tree.norm(compatible) <= 10 * jnp.finfo(b.dtype).eps * size
    compatible = jnp.where(noise, 0.0, unit * compatible)
    value, status, stats = iterate(solver, A, M, compatible, x0)
    value = value - jnp.sum(null * value) * null
    if checked:
        floor = 100 * jnp.finfo(b.dtype).eps * b.size**0.5
        allowed = jnp.maximum(solver.relative(b.dtype), floor) * size
        bad = jnp.abs(offset) > allowed + solver.atol.astype(b.dtype) / unit
        status = jnp.where(bad, jnp.asarray(INFEASIBLE, status.dtype), status)
        residual = tree.norm(tree.subtract(b, A(value)) / unit)
        size = jnp.where(size > 0, size, 1.0)
        stats["relative_residual"] = residual / size
        stats["tolerance"] = stats["tolerance"] * tree.norm(compatible / unit) / size
    return value, status, stats


@eqx.filter_custom_jvp
def _solve(operator, b, *, M, x0, solver, throw):
    del throw
    operator, b = frozen(operator), jtu.tree_map(jax.lax.stop_gradient, b)
    return _run(product(operator), M, b, x0, operator, solver, checked=True)


@_solve.def_jvp
def _solve_jvp(primals, tangents, *, M, x0, solver, throw):
    operator, b = primals
    d_operator, d_b = tangents
    value, status, stats = _solve(operator, b, M=M, x0=x0, solver=solver, throw=throw)
    rhs = jtu.tree_map(jnp.zeros_like, b)
    if jtu.tree_leaves(d_b):
        rhs = jtu.tree_map(
            lambda zero, d: zero if d is None else d, rhs, d_b, is_leaf=_is_none
        )
    if jtu.tree_leaves(d_operator):
        _, d_product = eqx.filter_jvp(
            lambda op: op.mv(value), (operator,), (d_operator,)
        )
        rhs = tree.subtract(rhs, d_product)
    d_value = _linear_map(operator, rhs, M, solver, throw)
    d_stats = jtu.tree_map(lambda _: None, stats)
    return (value, status, stats), (d_value, None, d_stats)


def _linear_map(operator, rhs, M, solver, throw):
    """A⁻¹ rhs for a derivative: linear in rhs, never silently wrong."""
    still = frozen(operator)

    def attempt(A, M, vector) -> Any:
        value, status, _ = _run(A, M, vector, None, still, solver, checked=False)
        failed = status != CONVERGED
        if throw:
            return eqx.error_if(
                value,
                failed,
                "The linear solve for a derivative of sciml.linear_solve failed. Call "
                "sciml.linear.adjoint_solve to see how, loosen the tolerance or raise "
                "max_steps; with throw=False the derivative is NaN instead.",
            )
        return tree.where(
            failed, jtu.tree_map(lambda v: jnp.full_like(v, jnp.nan), value), value
        )

    def forward(matvec, vector):
        return attempt(Product(matvec, still), M, vector)

    def transposed(vecmat, vector):
        M_transposed = None if M is None else M.transpose()
        return attempt(Product(vecmat, still.transpose()), M_transposed, vector)

    return jax.lax.custom_linear_solve(
        operator.mv, rhs, forward, transpose_solve=transposed
    )


def _is_none(x):
    return x is None
