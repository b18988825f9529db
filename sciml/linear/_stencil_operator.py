"""A grid's symmetric stencil as a matrix-free lineax operator on fields."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, ArrayLike, Float

from ..grids import Dirichlet, Grid, SymmetricStencil, diffusion_stencil
from ._protocol import register_operator


@register_operator
class StencilOperator(lx.AbstractLinearOperator):
    """u ↦ A u for a `sciml.grids.SymmetricStencil` on a grid.

    Acts on arrays of shape `grid.num_points`. The grid tells multigrid which nodes
    stay on coarser levels; its boundary *data* play no part in A and are dropped.

    **Arguments:**

    - `stencil`: the coefficients.
    - `grid`: where they live.
    - `tags`: lineax tags. Default positive semidefinite, as diffusion stencils are.
    - `constant_null_space`: whether A maps constants to zero (every side Neumann or
        periodic, no reaction). `sciml.linear_solve` then checks that the right-hand
        side is compatible and returns the solution of zero mean.

    !!! example

        ```python
        import jax.numpy as jnp
        import sciml

        grid = sciml.grids.Grid((31, 31))
        A = sciml.linear.diffusion_operator(1.0, grid)
        A.mv(jnp.ones(grid.shape)).shape  # (31, 31)
        ```
    """

    stencil: SymmetricStencil
    grid: Grid = eqx.field(static=True)
    tags: frozenset[object] = eqx.field(static=True)
    constant_null_space: bool = eqx.field(static=True)

    def __init__(
        self,
        stencil: SymmetricStencil,
        grid: Grid,
        tags: object | frozenset[object] = lx.positive_semidefinite_tag,
        constant_null_space: bool = False,
    ):
        if stencil.shape != grid.num_points:
            raise ValueError(
                f"stencil: expected shape {grid.num_points}, the grid's, got "
                f"{stencil.shape}."
            )
        self.stencil = stencil
        self.grid = grid.homogeneous()
        self.tags = (tags if isinstance(tags, frozenset) else frozenset([tags])) | {
            lx.symmetric_tag
        }
        self.constant_null_space = constant_null_space

    def mv(self, vector: Float[Array, "*space"]) -> Float[Array, "*space"]:
        """A vector."""
        return self.stencil(vector)

    def as_matrix(self) -> Float[Array, "n n"]:
        """The dense matrix; fields flattened in C order. For small grids only."""
        return self.stencil.dense()

    def diagonal_entries(self) -> Float[Array, "*space"]:
        """The diagonal, as a field."""
        return self.stencil.diagonal

    def absolute_row_sums(self) -> Float[Array, "*space"]:
        """Σ_j |A_ij|, as a field."""
        return self.stencil.absolute_row_sums()

    def transpose(self) -> "StencilOperator":
        """Itself: the stencil is symmetric."""
        return self

    def in_structure(self) -> jax.ShapeDtypeStruct:
        """A field of the grid."""
        return jax.ShapeDtypeStruct(self.stencil.shape, self.stencil.diagonal.dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        """A field of the grid."""
        return self.in_structure()


def diffusion_operator(
    coefficient: ArrayLike, grid: Grid, *, reaction: ArrayLike | None = None
) -> StencilOperator:
    """A u = −∇·(a∇u) + c u with homogeneous boundary data, as a lineax operator.

    **Arguments:**

    - `coefficient`: a > 0, see `sciml.grids.diffusion_stencil`.
    - `grid`: the grid. Boundary data belong into the right-hand side:
        `sciml.grids.source_vector`.
    - `reaction`: c ≥ 0, a number or a field; default none.

    **Returns:** a `StencilOperator`, tagged positive semidefinite.
    """
    stencil = diffusion_stencil(coefficient, grid, reaction=reaction)
    held = any(isinstance(c, Dirichlet) for pair in grid.boundary for c in pair)
    return StencilOperator(
        stencil, grid, constant_null_space=not held and reaction is None
    )


def constant_vector(operator: lx.AbstractLinearOperator) -> Array | None:
    """The unit vector that spans the operator's known null space, or None."""
    if isinstance(operator, StencilOperator) and operator.constant_null_space:
        field = operator.in_structure()
        return jnp.full(field.shape, field.size**-0.5, field.dtype)
    return None
