"""The eight symmetries of a square grid, acting on fields."""

import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Shaped

from ._boundary import Dirichlet, Neumann, boundary_data
from ._grid import Grid


def check_square(grid: Grid) -> None:
    """**Raises:** `ValueError` unless D4 maps the grid and its sides to themselves.

    That is: two axes with one number of nodes and one extent, and the same condition,
    storage and number on all four sides.
    """

    def refuse(name: str, got: object) -> None:
        raise ValueError(
            f"grid: the symmetries of the square (D4) need two axes that are alike, "
            f"but {name}: {got}. Reflections of single axes and other groups are not "
            "offered; train without them here."
        )

    if grid.ndim != 2:
        refuse("the number of axes is another one", grid.ndim)
    if len(set(grid.shape)) > 1:
        refuse("the numbers of nodes differ", grid.shape)
    if len(set(grid.extent)) > 1:
        refuse("the extents differ, and with them the spacings", grid.extent)
    sides = [condition for pair in grid.boundary for condition in pair]
    if len({condition.kind for condition in sides}) > 1:
        refuse("the boundary conditions differ", [c.kind for c in sides])
    stored = [c.stored for c in sides if isinstance(c, Dirichlet)]
    if len(set(stored)) > 1:
        refuse(
            "the nodes of some Dirichlet sides are stored and of others are not, so "
            "that the centre of the square is not that of the nodes (low and high "
            "side, axis by axis)",
            stored,
        )
    data = [boundary_data(condition) for condition in sides]
    if any(isinstance(value, jax.core.Tracer) for value in data):
        refuse("the boundary data are being traced", "unknown values")
    if len({float(v) for value in data for v in np.ravel(np.asarray(value))}) > 1:
        name = "fluxes" if isinstance(sides[0], Neumann) else "values"
        refuse(f"the boundary {name} are not one number", data)


def reflected(field: Shaped[Array, "..."], axis: int, periodic: bool):
    """The field mirrored about the middle of the box along one axis.

    A periodic axis has its first node on the side, which is the other side as well:
    that node stays where it is.
    """
    field = jnp.flip(field, axis)
    return jnp.roll(field, 1, axis) if periodic else field


def moved_by_d4(
    field: Shaped[Array, "..."], element: Bool[Array, " 3"], periodic: bool
) -> Shaped[Array, "..."]:
    """The field moved by one of the eight elements of D4; its last two axes are space.

    **Arguments:**

    - `field`: shape `(..., n, n)`.
    - `element`: whether to swap the axes, then to mirror the first, then the second.
    - `periodic`: whether the grid is.
    """
    swap, first, second = element
    field = jnp.where(swap, jnp.swapaxes(field, -2, -1), field)
    field = jnp.where(first, reflected(field, -2, periodic), field)
    return jnp.where(second, reflected(field, -1, periodic), field)


def moved_back(
    field: Shaped[Array, "..."], element: Bool[Array, " 3"], periodic: bool
) -> Shaped[Array, "..."]:
    """The inverse of `moved_by_d4`."""
    swap, first, second = element
    field = jnp.where(second, reflected(field, -1, periodic), field)
    field = jnp.where(first, reflected(field, -2, periodic), field)
    return jnp.where(swap, jnp.swapaxes(field, -2, -1), field)


def d4_elements() -> Bool[np.ndarray, "8 3"]:
    """All eight, the identity first."""
    return np.array(list(np.ndindex(2, 2, 2)), bool)
