"""Exact boundary values, exact periodicity."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .._serialisation import register
from ..grids import Dirichlet, Grid
from ..grids._boundary import boundary_data


@register
class DirichletValues(eqx.Module):
    """The field with its stored Dirichlet nodes set to the grid's values, bit for bit.

    The nearest field that has them: nothing else is changed. A field whose Dirichlet
    nodes are not stored has them already: the stencils use them. Later axes win at
    edges and corners.

    **Arguments:**

    - `grid`: with a Dirichlet side that is stored.

    **Raises:** `ValueError` where the grid has no such side, and for fields of another
    shape than (…, `grid.num_points`).

    !!! example

        ```python
        import jax.numpy as jnp
        from sciml.constraints import DirichletValues
        from sciml.grids import Dirichlet, Grid

        grid = Grid(5, boundary=((Dirichlet(1.0, True), Dirichlet(2.0, True)),))
        DirichletValues(grid)(jnp.zeros(5))  # [1, 0, 0, 0, 2]
        ```
    """

    grid: Grid

    def __check_init__(self):
        if self.grid.dirichlet_mask() is None:
            raise ValueError(
                "grid: expected a Dirichlet side with stored=True, there is none: "
                "nodes that are not stored need not be set."
            )

    def __call__(self, field: ArrayLike) -> Float[Array, "..."]:
        """The field with its boundary values."""
        return self.grid.impose(_checked(field, self.grid))


@register
class DistanceMollifier(eqx.Module):
    """g + φ u: φ vanishes on the Dirichlet sides, g has their values.

        φ(x) = Π d_i(x),   g(x) = Σ_i g_i Π_{j≠i} d_j / Σ_i Π_{j≠i} d_j

    d_i is the distance from side i over the extent of the box, g_i its data, continued
    as a constant away from the side. Exact on the sides, stored or not; inside smooth,
    which a field that is merely set there is not. What a model gives for u then only
    has to be the rest. Linear (affine) in u.

    On an edge where data of two sides disagree, g is their mean.

    **Arguments:**

    - `grid`: with Dirichlet sides on one axis at least.

    **Raises:** `ValueError` where the grid has no Dirichlet side, and for fields of
    another shape than (…, `grid.num_points`).

    !!! example

        ```python
        import jax.numpy as jnp
        from sciml.constraints import DistanceMollifier
        from sciml.grids import Dirichlet, Grid

        grid = Grid(5, boundary=((Dirichlet(1.0, True), Dirichlet(2.0, True)),))
        DistanceMollifier(grid)(jnp.zeros(5))  # [1, 1.25, 1.5, 1.75, 2]
        ```

    Source: Lagaris, Likas and Fotiadis, IEEE Trans. Neural Networks 9, 1998; Rvachev et
    al., *Transfinite interpolation over implicitly defined sets*, CAGD 18, 2001.
    """

    grid: Grid

    def __check_init__(self):
        if not _dirichlet_sides(self.grid):
            raise ValueError("grid: expected a Dirichlet side, there is none.")

    def __call__(self, field: ArrayLike) -> Float[Array, "..."]:
        """g + φ u."""
        grid, u = self.grid, _checked(field, self.grid)
        sides = _dirichlet_sides(grid)
        distances = [_distance(grid, axis, side) for axis, side in sides]
        others = [
            math.prod(d for k, d in enumerate(distances) if k != i)
            * np.ones(grid.num_points)
            for i in range(len(sides))
        ]
        total = np.sum(others, axis=0)
        # Where two sides meet all products vanish; there each side has its share.
        meeting = total == 0
        touching = [(d == 0) & meeting for d in distances]
        total = np.where(meeting, np.sum(touching, axis=0), total)
        lift = jnp.zeros(grid.num_points, u.dtype)
        for (axis, side), other, at in zip(sides, others, touching, strict=True):
            share = jnp.asarray(np.where(meeting, at, other) / total, u.dtype)
            data = jnp.asarray(boundary_data(grid.boundary[axis][side]), u.dtype)
            data = jnp.expand_dims(data, axis) if data.ndim else data
            lift = lift + share * jnp.broadcast_to(data, grid.num_points)
        factor = jnp.asarray(math.prod(distances) * np.ones(grid.num_points), u.dtype)
        lead = (None,) * (u.ndim - grid.ndim)
        return lift[lead] + factor[lead] * u


@register
class PeriodicFeatures(eqx.Module):
    """Coordinates as sines and cosines, of which every function is periodic.

        x ↦ (cos 2πk x_i / L_i, sin 2πk x_i / L_i),   k = 1 … num_modes, per axis i

    Put it in front of a network of the coordinates: its values and all its derivatives
    agree across the box, to rounding.

    **Arguments:**

    - `extent`: the periods L, one number per axis.
    - `num_modes`: default 1, of which a network can make the rest.

    `layer(x)`, with x of shape (…, ndim), is of shape (…, 2 · num_modes · ndim).

    **Raises:** `ValueError` for periods that are not positive, and for another number
    of coordinates.

    !!! example

        ```python
        import jax.numpy as jnp
        from sciml.constraints import PeriodicFeatures

        PeriodicFeatures((1.0,))(jnp.array([0.25]))  # [0, 1]
        ```

    Source: Dong and Ni, *A method for representing periodic functions …*, Journal of
    Computational Physics 435, 2021.
    """

    extent: tuple[float, ...] = eqx.field(static=True)
    num_modes: int = eqx.field(static=True, default=1)

    def __init__(self, extent: float | Sequence[float], num_modes: int = 1):
        lengths = (extent,) if isinstance(extent, int | float) else tuple(extent)
        if not lengths or not all(0 < length < math.inf for length in lengths):
            raise ValueError(f"extent: expected positive lengths, got {lengths}.")
        if num_modes < 1:
            raise ValueError(f"num_modes: expected at least 1, got {num_modes}.")
        self.extent, self.num_modes = lengths, num_modes

    def __call__(self, coordinates: ArrayLike) -> Float[Array, "... out"]:
        """The features."""
        x = jnp.asarray(coordinates)
        if x.ndim == 0 or x.shape[-1] != len(self.extent):
            raise ValueError(
                f"coordinates: expected shape (…, {len(self.extent)}), as extent has, "
                f"got {x.shape}."
            )
        lead = (None,) * (x.ndim - 1)
        turns = x / jnp.asarray(self.extent, x.dtype)[lead]
        # A whole turn more changes nothing, not even the rounding of a large angle.
        turns = turns - jnp.floor(turns)
        modes = jnp.arange(1, self.num_modes + 1, dtype=x.dtype)
        angles = 2 * math.pi * turns[..., None] * modes[(None,) * x.ndim]
        features = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)
        return features.reshape(*x.shape[:-1], -1)


@register
class MatchedSides(eqx.Module):
    """The nearest field whose first and last layer along some axes are the same.

    For fields that store both sides of a periodic axis (a `Grid` with `Periodic` stores
    one): each layer is replaced by the mean of the two, the same bits on both sides.
    Nearest in the grid's L2 norm and in the plain one alike.

    **Arguments:**

    - `axes`: the periodic axes, counted from the end: −1 is the last. Default (−1,).

    **Raises:** `ValueError` for axes that are not negative, and fields without them.

    !!! example

        ```python
        import jax.numpy as jnp
        from sciml.constraints import MatchedSides

        MatchedSides()(jnp.array([1.0, 5.0, 7.0, 3.0]))  # [2, 5, 7, 2]
        ```
    """

    axes: tuple[int, ...] = eqx.field(static=True, default=(-1,))

    def __check_init__(self):
        if not self.axes or max(self.axes) >= 0:
            raise ValueError(f"axes: expected negative numbers, got {self.axes}.")

    def __call__(self, field: ArrayLike) -> Float[Array, "..."]:
        """The field with equal sides."""
        field = jnp.asarray(field)
        if field.ndim < -min(self.axes):
            raise ValueError(
                f"field: expected axes {self.axes}, got shape {field.shape}."
            )
        for axis in self.axes:
            first = jnp.take(field, jnp.array([0]), axis)
            last = jnp.take(field, jnp.array([-1]), axis)
            mean = (first + last) / 2
            inner = jnp.take(field, jnp.arange(1, field.shape[axis] - 1), axis)
            field = jnp.concatenate([mean, inner, mean], axis)
        return field


def _dirichlet_sides(grid: Grid) -> list[tuple[int, int]]:
    return [
        (axis, side)
        for axis, pair in enumerate(grid.boundary)
        for side, condition in enumerate(pair)
        if isinstance(condition, Dirichlet)
    ]


def _distance(grid: Grid, axis: int, side: int) -> np.ndarray:
    """From a side, over the extent; 0 exactly on it, from counting nodes."""
    n = grid.num_points[axis]
    before, after = grid.margins[axis]
    steps = np.arange(n) + before
    intervals = n - 1 + before + after
    line = (intervals - steps if side else steps) / intervals
    return np.expand_dims(line, [k for k in range(grid.ndim) if k != axis])


def _checked(field: ArrayLike, grid: Grid) -> Array:
    field = jnp.asarray(field)
    if field.shape[max(field.ndim - grid.ndim, 0) :] != grid.num_points:
        raise ValueError(
            f"field: expected trailing shape {grid.num_points}, as the grid has, got "
            f"{field.shape}."
        )
    if not jnp.issubdtype(field.dtype, jnp.floating):
        raise ValueError(f"field: expected real values, got {field.dtype}.")
    return field
