"""Second-order gradient, divergence and Laplacian of nodal fields."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ._check import check_field
from ._diffusion import boundary_source, diffusion_stencil
from ._grid import Grid
from ._transfer import close_field


def gradient(field: Float[Array, "*space"], grid: Grid) -> Float[Array, "ndim *space"]:
    """∇u at the nodes: central differences, one-sided of second order at stored ends.

    Where a Dirichlet side does not store its nodes, its data are used.

    **Arguments:**

    - `field`: u, of shape `grid.num_points`.

    **Returns:** shape (ndim, `grid.num_points`), in units of u per unit of length.
    """
    field = check_field("field", field, grid.num_points)
    closed = close_field(field, grid)
    parts = []
    for axis in range(grid.ndim):
        line = closed
        for k, (before, _) in enumerate(grid.margins):
            if k != axis:
                line = _window(line, k, before, grid.num_points[k])
        slope = _central(line, axis, grid.spacing[axis], grid.periodic[axis])
        before = grid.margins[axis][0]
        parts.append(_window(slope, axis, before, grid.num_points[axis]))
    return jnp.stack(parts)


def divergence(
    vector_field: Float[Array, "ndim *space"], grid: Grid
) -> Float[Array, "*space"]:
    """∇·v at the nodes: central differences, one-sided of second order at the ends.

    Boundary conditions are those of scalar fields: only periodicity plays a part.

    **Arguments:**

    - `vector_field`: v, of shape (ndim, `grid.num_points`).

    **Returns:** shape `grid.num_points`.
    """
    shape = (grid.ndim, *grid.num_points)
    vector_field = check_field("vector_field", vector_field, shape)
    total = jnp.zeros(grid.num_points, vector_field.dtype)
    for axis in range(grid.ndim):
        total = total + _central(
            vector_field[axis], axis, grid.spacing[axis], grid.periodic[axis]
        )
    return total


def laplacian(field: Float[Array, "*space"], grid: Grid) -> Float[Array, "*space"]:
    """Δu at the nodes with the grid's boundary data, by the (2d + 1)-point stencil.

    At stored Dirichlet nodes, where no equation holds, the result is 0.

    **Arguments:**

    - `field`: u, of shape `grid.num_points`.
    """
    field = check_field("field", field, grid.num_points)
    one = jnp.ones((), field.dtype)
    balance = diffusion_stencil(one, grid)(field) - boundary_source(one, grid)
    out = -balance / jnp.asarray(grid.cell_weights(), field.dtype)
    mask = grid.dirichlet_mask()
    return out if mask is None else jnp.where(mask, 0.0, out)


def _central(field: Array, axis: int, h: float, periodic: bool) -> Array:
    if periodic:
        return (jnp.roll(field, -1, axis) - jnp.roll(field, 1, axis)) / (2 * h)
    n = field.shape[axis]
    if n < 3:
        raise ValueError(
            f"A derivative along axis {axis} needs at least 3 nodes, boundary nodes "
            f"included; there are {n}."
        )
    at = lambda i: _window(field, axis, i, 1)
    inner = _window(field, axis, 2, n - 2) - _window(field, axis, 0, n - 2)
    first = -3 * at(0) + 4 * at(1) - at(2)
    last = 3 * at(n - 1) - 4 * at(n - 2) + at(n - 3)
    return jnp.concatenate([first, inner, last], axis) / (2 * h)


def _window(field: Array, axis: int, start: int, count: int) -> Array:
    index = [slice(None)] * field.ndim
    index[axis] = slice(start, start + count)
    return field[tuple(index)]
