"""Preconditioners for operators that are known by their products only."""

import equinox as eqx
import jax.numpy as jnp
import lineax as lx

from ..grids import Grid, SymmetricStencil
from ..linear import AbstractPreconditioner, StencilOperator, SymmetricOperator
from ._fields import block_product, check_fields, stack, unstack, weighted
from ._multigrid import Multigrid
from ._probing import probed_stencil


class _Blocks(eqx.Module):
    """Preconditioners of the fields that a vector consists of, side by side."""

    each: lx.AbstractLinearOperator
    space: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, vector):
        fields = stack(vector, self.space)
        fields = eqx.filter_vmap(lambda M, r: M.mv(r))(self.each, fields)
        return unstack(fields, vector)


class Probed(AbstractPreconditioner):
    """Multigrid, or another method for stencils, for J of which products are known.

    Built for Jacobians: those of the stages of an implicit time step, J = 1 − γ Δt
    ∂f/∂y with a Δt that changes, and of Newton's method. J couples a node to its
    3ᵈ − 1 nearest neighbours. Its entries are read off 3ᵈ products (up to 5ᵈ where a
    periodic axis is no multiple of 3) and given to `builder` as a
    `sciml.linear.StencilOperator`. All of it runs on the device, under `jit`.

    A vector may be any pytree of arrays of shape (*components, *grid.num_points), as
    in systems of equations. Each component gets the preconditioner of its own diagonal
    block, from so many products each; what couples components is left to the Krylov
    method.

    M is symmetric positive definite whatever J is: it is that of the symmetric part,
    with the diagonal raised, where needed, to the sum of the row's other entries. Of
    advection it sees nothing. Couplings to nodes further away are taken for nearer
    ones; M may then be poor, but decides the cost of a solve only, never its result.

    Where sides store their nodes (Neumann) a row there belongs to half a cell, and J
    is symmetric only with the weights W of `grid.cell_weights()`: M is the product of
    a symmetric positive definite operator and W, for `sciml.linear.GMRES`. Rows of
    stored Dirichlet nodes are taken for those of the identity.

    Compiling multigrid takes most of a short solve's time and memory; where the
    coefficient varies little, `FastDiagonalisation` has next to none of that.

    **Arguments:**

    - `grid`: where the fields live.
    - `builder`: what to make of a diagonal block. Default `Multigrid()`.

    **Raises:** `ValueError` where the vectors are not fields on the grid, or the
    builder runs on the host.

    !!! example

        ```python
        import jax
        import jax.numpy as jnp
        import lineax as lx
        import sciml
        from sciml.grids import Grid, laplacian

        grid = Grid((31, 31))
        structure = jax.ShapeDtypeStruct(grid.num_points, jnp.float32)
        J = lx.FunctionLinearOperator(lambda u: u - 0.1 * laplacian(u, grid), structure)
        M = sciml.preconditioners.Probed(grid)
        solver = sciml.linear.GMRES(rtol=1e-4)
        sciml.linear_solve(J, jnp.ones((31, 31)), solver, preconditioner=M)
        ```

    Source: Curtis, Powell & Reid, J. Inst. Math. Appl. 13 (1974) 117 (a sparse matrix
    from few products).
    """

    grid: Grid
    builder: AbstractPreconditioner = Multigrid()

    def __check_init__(self):
        if self.builder.on_host:
            raise ValueError(
                f"builder: {type(self.builder).__name__} is set up on the host, which "
                "cannot be done inside a solve; use sciml.preconditioners.Multigrid()."
            )

    def build(self, operator: lx.AbstractLinearOperator) -> lx.AbstractLinearOperator:
        """M for the diagonal blocks of this operator."""
        grid = self.grid
        space, periodic = grid.num_points, grid.periodic
        num, dtype = check_fields("Probed", operator, grid)

        def block(index):
            product = block_product(operator, grid, index)
            stencil = probed_stencil(product, space, periodic, dtype, symmetric=False)
            return self.builder.build(StencilOperator(_dominant(stencil), grid))

        each = eqx.filter_vmap(block)(jnp.arange(num, dtype=jnp.int32))
        tags = lx.positive_semidefinite_tag
        M = SymmetricOperator(_Blocks(each, space), operator.in_structure(), tags)
        return weighted(M, grid)


def _dominant(stencil: SymmetricStencil) -> SymmetricStencil:
    """The stencil with its diagonal raised until it is positive definite."""
    eps = jnp.finfo(stencil.diagonal.dtype).eps
    size = jnp.abs(stencil.diagonal)
    others = stencil.absolute_row_sums() - size
    least = (1 + 8 * eps) * others + eps * jnp.max(size)
    raised = jnp.maximum(stencil.diagonal, least)
    return eqx.tree_at(lambda s: s.diagonal, stencil, raised)
