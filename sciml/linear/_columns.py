"""Several right-hand sides for one operator."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import lineax as lx
from jaxtyping import Array, ArrayLike, Inexact, PyTree

from .._result import RESULTS
from ._builder import AbstractPreconditioner, build_preconditioner
from ._cg import CG
from ._ell_operator import PaddedRowsOperator
from ._krylov import AbstractKrylov
from ._protocol import dense_from_products, register_operator
from ._solution import Solution
from ._solve import linear_solve
from ._tree import Columns


def linear_solve_many(
    operator: lx.AbstractLinearOperator,
    vectors: PyTree[ArrayLike],
    solver: AbstractKrylov | None = None,
    *,
    preconditioner: AbstractPreconditioner | lx.AbstractLinearOperator | None = None,
    block_size: int = 1,
    throw: bool = True,
) -> Solution:
    """Solve A x_i = b_i for many right-hand sides with one A.

    The same solutions, results and statistics as `jax.vmap` of `linear_solve` over the
    right-hand sides gives. M is built once, and the right-hand sides are taken in
    blocks, within which (CG only) each product reads the matrix once for all of them
    and one whose solve has ended stands still while the others go on. (The systems do
    not share search directions.)

    **Arguments:**

    - `operator`, `solver`, `preconditioner`, `throw`: as for `linear_solve`.
    - `vectors`: the b_i along a new first axis of each array of A's `out_structure()`.
    - `block_size`: right-hand sides per block. Default 1: one after the other, whose
        vectors stay in a CPU's cache; with 16 a product with a `PaddedRowsOperator`
        costs less than half for each, but the other vectors of CG, which are then
        read from memory, cost what that saves. On an accelerator take more.

    **Returns:** a `Solution` with that axis first in `value`, `result` and `stats`.

    Derivatives, and what `throw=False` does to them, as of `linear_solve`.

    !!! example

        ```python
        import jax.numpy as jnp
        import jax.random as jr
        import sciml

        A = sciml.linear.diffusion_operator(1.0, sciml.grids.Grid((31, 31)))
        b = jr.normal(jr.key(0), (8, 31, 31))
        solution = sciml.linear.linear_solve_many(A, b, sciml.CG(rtol=1e-4))
        solution.value.shape  # (8, 31, 31)
        ```
    """
    if solver is None:
        solver = CG()
    vectors = jtu.tree_map(jnp.asarray, vectors)
    leaves = jtu.tree_leaves(vectors)
    counts = {leaf.shape[0] if leaf.ndim else 0 for leaf in leaves}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(
            "vectors: expected arrays with one common first axis, the right-hand "
            f"sides, got shapes {[leaf.shape for leaf in leaves]}."
        )
    (count,) = counts
    if block_size < 1:
        raise ValueError(f"block_size: expected an integer ≥ 1, got {block_size}.")
    if block_size > 1 and not isinstance(solver, CG):
        raise ValueError(
            f"block_size: blocks are for CG, {type(solver).__name__} takes one "
            "right-hand side at a time; leave block_size out."
        )
    negate = solver.check_operator(operator)
    M = build_preconditioner(preconditioner, operator, negate)
    if M is not None:
        solver.check_preconditioner(M)
    return _solve_many(
        operator, vectors, solver, M, min(block_size, count), count, throw
    )


@eqx.filter_jit
def _solve_many(operator, vectors, solver, M, block_size, count, throw) -> Solution:
    if block_size == 1:

        def one(b):
            found = linear_solve(operator, b, solver, preconditioner=M, throw=False)
            # (The preconditioner is one for all.)
            found.stats.pop("preconditioner", None)
            return found

        solution = jax.lax.map(one, vectors)
    else:
        # The last block is filled up with zeros, which are solved at once.
        rest = -count % block_size
        blocks = jtu.tree_map(
            lambda v: jnp.pad(v, [(0, rest)] + [(0, 0)] * (v.ndim - 1)).reshape(
                (-1, block_size) + v.shape[1:]
            ),
            vectors,
        )
        wide = ColumnsOperator(operator, block_size)
        wide_M = None if M is None else ColumnsOperator(M, block_size)

        def block(b):
            b = Columns(jtu.tree_map(lambda v: jnp.moveaxis(v, 0, -1), b))
            found = linear_solve(wide, b, solver, preconditioner=wide_M, throw=False)

            def first(v):
                v = jnp.asarray(v)
                return jnp.moveaxis(v, -1, 0) if v.ndim else jnp.full(block_size, v)

            value = jtu.tree_map(first, found.value.value)
            return Solution(value, found.result, jtu.tree_map(first, found.stats))

        solution = jax.lax.map(block, blocks)
        join = lambda v: v.reshape((-1,) + v.shape[2:])[:count]
        solution = jtu.tree_map(join, solution)
    if throw:
        failed = solution.result != RESULTS.successful
        solution = jax.vmap(lambda s, r, f: r.error_if(s, f))(
            solution, solution.result, failed
        )
    return solution


@register_operator
class ColumnsOperator(lx.AbstractLinearOperator):
    """A on each of k vectors that stand side by side, as `linear_solve_many` uses it.

    **Arguments:**

    - `operator`: A.
    - `num_columns`: k.
    """

    operator: lx.AbstractLinearOperator
    num_columns: int = eqx.field(static=True)

    @property
    def tags(self) -> frozenset[object]:
        """A's symmetry and definiteness."""
        known = (
            (lx.symmetric_tag, lx.is_symmetric),
            (lx.positive_semidefinite_tag, lx.is_positive_semidefinite),
            (lx.negative_semidefinite_tag, lx.is_negative_semidefinite),
        )
        return frozenset(tag for tag, holds in known if holds(self.operator))

    def mv(self, vector: Columns) -> Columns:
        """A x for each column."""
        if isinstance(self.operator, PaddedRowsOperator):
            return Columns(self.operator.mv_columns(vector.value))
        return Columns(
            jax.vmap(self.operator.mv, in_axes=-1, out_axes=-1)(vector.value)
        )

    def as_matrix(self) -> Inexact[Array, "m n"]:
        """The dense matrix: A ⊗ I. For small sizes only."""
        return dense_from_products(self)

    def transpose(self) -> "ColumnsOperator":
        """Aᵀ on each column."""
        return ColumnsOperator(self.operator.transpose(), self.num_columns)

    def in_structure(self) -> Columns:
        """Columns of A's vectors."""
        return self._columns(self.operator.in_structure())

    def out_structure(self) -> Columns:
        """Columns of A's vectors."""
        return self._columns(self.operator.out_structure())

    def _columns(self, structure) -> Columns:
        return Columns(
            jtu.tree_map(
                lambda s: jax.ShapeDtypeStruct((*s.shape, self.num_columns), s.dtype),
                structure,
            )
        )
