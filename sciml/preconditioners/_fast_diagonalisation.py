"""The inverse of α − c Δ, in the eigenvectors of each axis."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Float

from ..grids import Dirichlet, Grid
from ..linear import AbstractPreconditioner, SymmetricOperator
from ._fields import Fields, block_product, check_fields, stack, unstack, weighted


class _Spectral(eqx.Module):
    """Φ S Φᵀ for each field of a vector, S diagonal; 1 on nodes that are not free."""

    modes: tuple[Float[Array, "..."], ...]
    symbol: Float[Array, "fields *free"]
    space: tuple[int, ...] = eqx.field(static=True)
    free: tuple[slice, ...] = eqx.field(static=True)

    def __call__(self, vector):
        fields = stack(vector, self.space)
        index = (slice(None), *self.free)
        inside = fields[index].astype(self.symbol.dtype)
        inside = _along_axes([mode.T for mode in self.modes], inside)
        inside = _along_axes(self.modes, self.symbol * inside).astype(fields.dtype)
        whole = inside.shape == fields.shape
        return unstack(inside if whole else fields.at[index].set(inside), vector)


class FastDiagonalisation(AbstractPreconditioner):
    """M = (α − c Δ)⁻¹ exactly, by products with one dense n × n matrix per axis.

    On a box −Δ has the eigenvectors φ_i(x) φ_j(y) …, so that its inverse is a change of
    basis along each axis, a division and the change back: 2 d products of a field
    with an n × n matrix. Up to some hundred nodes per axis that is about as fast as a
    V-cycle.

    Built for Jacobians J that are α − c Δ or nearly so: those of the stages of an
    implicit time step, J = 1 − γ Δt ∂f/∂y with a Δt that changes, and of Newton's
    method for −Δu + g(u). The numbers α and c are read off two products with J, with
    the smoothest and with the roughest eigenvector. Where the coefficient a of ∇·(a∇u)
    varies, the number of Krylov steps grows with √(max a/min a), but not with the
    grid; for large contrasts use `Probed(grid)`, which is multigrid.

    A vector may be any pytree of arrays of shape (*components, *grid.num_points), as
    in systems of equations. Each component gets α and c of its own; what couples
    components is left to the Krylov method.

    M is symmetric positive definite whatever J is (|α + c λ| takes the place of what
    is negative). On Neumann sides, which store their nodes, J is symmetric only with
    the weights W of `grid.cell_weights()`: there M is the product of a symmetric
    positive definite operator and W, for `sciml.linear.GMRES`. Rows of stored
    Dirichlet nodes are taken for those of the identity.

    **Arguments:**

    - `grid`: where the fields live; any mixture of boundary conditions.
    - `dtype`: the precision of the products. Default `jnp.float32`, under a float64 J
        too: M is an approximation anyway. None for J's.

    **Raises:** `ValueError` where the vectors are not fields on the grid.

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
        M = sciml.preconditioners.FastDiagonalisation(grid)
        solver = sciml.linear.GMRES(rtol=1e-4)
        sciml.linear_solve(J, jnp.ones((31, 31)), solver, preconditioner=M)
        ```

    Source: Lynch, Rice & Thomas, Numer. Math. 6 (1964) 185.
    """

    grid: Grid
    dtype: Any = eqx.field(static=True)
    eigenvalues: tuple[Float[Array, "..."], ...]
    eigenvectors: tuple[Float[Array, "..."], ...]

    def __init__(self, grid: Grid, dtype: Any = jnp.float32):
        self.grid = grid
        self.dtype = dtype
        pairs = [_eigenpairs(grid, axis) for axis in range(grid.ndim)]
        self.eigenvalues = tuple(jnp.asarray(values) for values, _ in pairs)
        self.eigenvectors = tuple(jnp.asarray(vectors) for _, vectors in pairs)

    def build(self, operator: lx.AbstractLinearOperator) -> lx.AbstractLinearOperator:
        """M, with α and c of each diagonal block of this operator."""
        grid = self.grid
        num, dtype = check_fields("FastDiagonalisation", operator, grid)
        free = tuple(_free_nodes(grid, axis) for axis in range(grid.ndim))
        spectrum = _outer(jnp.add, [lam.astype(dtype) for lam in self.eigenvalues])
        lowest, highest = spectrum.min(), spectrum.max()

        def quotient(product, which: int):
            """φᵀ W J φ with φᵀ W φ = 1."""
            lines = [V[:, which].astype(dtype) for V in self.eigenvectors]
            mode = jnp.zeros(grid.num_points, dtype)
            mode = mode.at[free].set(_outer(jnp.multiply, lines))
            return jnp.sum(mode * product(mode))

        def symbol(index):
            product = block_product(operator, grid, index)
            low, high = quotient(product, 0), quotient(product, -1)
            span = highest - lowest
            c = jnp.where(span > 0, (high - low) / jnp.where(span > 0, span, 1.0), 0.0)
            c = jnp.maximum(c, 0.0)
            values = jnp.abs(low + c * (spectrum - lowest))
            least = jnp.finfo(dtype).eps * jnp.max(values)
            return 1.0 / jnp.maximum(values, least)

        symbols = jax.vmap(symbol)(jnp.arange(num, dtype=jnp.int32))
        working = dtype if self.dtype is None else self.dtype
        modes = tuple(V.astype(working) for V in self.eigenvectors)
        inverse = _Spectral(modes, symbols.astype(working), grid.num_points, free)
        tags = lx.positive_semidefinite_tag
        return weighted(SymmetricOperator(inverse, operator.in_structure(), tags), grid)


def _eigenpairs(grid: Grid, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """λ and φ of −φ'' = λ φ along one axis, φᵀWφ = 1, on the nodes that are free."""
    n = grid.num_points[axis]
    matrix = 2.0 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    weights = np.ones(n)
    if grid.periodic[axis]:
        matrix[0, -1] -= 1.0
        matrix[-1, 0] -= 1.0
    else:
        for end, condition in zip((0, -1), grid.boundary[axis], strict=True):
            if not isinstance(condition, Dirichlet):
                # Half a cell.
                matrix[end, end] = 1.0
                weights[end] = 0.5
    free = _free_nodes(grid, axis)
    scale = weights[free] ** -0.5
    matrix = scale[:, None] * matrix[free, free] * scale[None, :]
    values, vectors = np.linalg.eigh(matrix / grid.spacing[axis] ** 2)
    return np.maximum(values, 0.0), scale[:, None] * vectors


def _free_nodes(grid: Grid, axis: int) -> slice:
    """The nodes along one axis that are not stored Dirichlet nodes."""
    low, high = (isinstance(c, Dirichlet) and c.stored for c in grid.boundary[axis])
    return slice(int(low), grid.num_points[axis] - int(high))


def _outer(combine, lines: list[Array]) -> Array:
    """The field with entries combine(lines[0][i], lines[1][j], …)."""
    field = lines[0]
    for line in lines[1:]:
        field = combine(field[..., None], line.reshape((1,) * field.ndim + (-1,)))
    return field


def _along_axes(matrices, fields: Fields) -> Fields:
    """Each axis of each field multiplied by its matrix."""
    for axis, matrix in enumerate(matrices, 1):
        product = jnp.tensordot(
            fields, matrix, ((axis,), (1,)), precision=jax.lax.Precision.HIGHEST
        )
        fields = jnp.moveaxis(product, -1, axis)
    return fields
