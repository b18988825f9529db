"""Where fields live: uniform nodal grids in one to three dimensions."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._alignment import coarse_alignment
from ._boundary import (
    AbstractBoundary,
    BoundaryPair,
    Dirichlet,
    Neumann,
    Periodic,
    boundary_data,
    boundary_pairs,
)


class Grid(eqx.Module):
    """A uniform nodal grid of the box Π [origin_k, origin_k + extent_k].

    A field on it is an array of shape `num_points`: the values at the stored nodes.
    Nodes on a Dirichlet side are left out unless that side says `stored=True`; nodes
    on a Neumann side are always stored; of a periodic axis the low side is stored.
    Along an axis with n stored nodes the spacing is therefore

        extent / (n + 1)   neither side stored (interior nodes only)
        extent / n         one side stored, or periodic
        extent / (n - 1)   both sides stored

    **Arguments:**

    - `num_points`: stored nodes per axis; one to three axes.
    - `extent`: length of the box, one number or one per axis. Default 1.
    - `boundary`: one condition for all sides, or per axis one condition or a
        (low, high) pair. Default homogeneous `Dirichlet()`.
    - `origin`: the corner with the smallest coordinates. Default 0.

    **Raises:** `ValueError` where sizes, extents or boundary data do not fit together.

    !!! example

        ```python
        from sciml.grids import Dirichlet, Grid, Neumann

        grid = Grid((63, 64), boundary=(Dirichlet(), (Dirichlet(1.0), Neumann())))
        grid.spacing  # (1/64, 1/64)
        ```
    """

    num_points: tuple[int, ...] = eqx.field(static=True)
    extent: tuple[float, ...] = eqx.field(static=True)
    boundary: tuple[BoundaryPair, ...]
    origin: tuple[float, ...] = eqx.field(static=True)

    def __init__(
        self,
        num_points: int | Sequence[int],
        extent: float | Sequence[float] = 1.0,
        boundary: AbstractBoundary | Sequence = Dirichlet(),
        origin: float | Sequence[float] = 0.0,
    ):
        points = (num_points,) if isinstance(num_points, int) else tuple(num_points)
        ndim = len(points)
        if not 1 <= ndim <= 3:
            raise ValueError(
                f"num_points: expected one to three axes, got {ndim} ({points})."
            )
        self.num_points = tuple(int(n) for n in points)
        self.extent = _per_axis("extent", extent, ndim)
        self.origin = _per_axis("origin", origin, ndim)
        if min(self.extent) <= 0 or not np.isfinite(self.extent).all():
            raise ValueError(f"extent: expected positive lengths, got {self.extent}.")
        self.boundary = boundary_pairs(boundary, ndim)
        for axis, (n, pair) in enumerate(
            zip(self.num_points, self.boundary, strict=True)
        ):
            fewest = 3 if isinstance(pair[0], Periodic) else 1 + sum(_ends(pair))
            if n < fewest:
                raise ValueError(
                    f"num_points: axis {axis} has {n} points, but its boundary "
                    f"conditions ({pair[0].kind}, {pair[1].kind}) need at least "
                    f"{fewest}."
                )
        self.boundary = tuple(
            tuple(self._resolved(axis, side) for side in (0, 1)) for axis in range(ndim)
        )  # pyright: ignore[reportAttributeAccessIssue]

    def _resolved(self, axis: int, side: int) -> AbstractBoundary:
        """The condition with its data evaluated (functions) and checked (arrays)."""
        condition = self.boundary[axis][side]
        data = boundary_data(condition)
        if isinstance(condition, Periodic):
            return condition
        if callable(data):
            data = jnp.asarray(data(*self.side_coordinates(axis, side)))
        shape = np.shape(data)
        if shape not in ((), self.side_shape(axis)):
            name = "value" if isinstance(condition, Dirichlet) else "flux"
            raise ValueError(
                f"boundary: {condition.kind} {name} on axis {axis}, "
                f"{('low', 'high')[side]} side: expected a number or an array of shape "
                f"{self.side_shape(axis)}, got shape {shape}."
            )
        if isinstance(condition, Dirichlet):
            return Dirichlet(data, condition.stored)
        return Neumann(data)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.num_points)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a field: the stored nodes per axis (`num_points`)."""
        return self.num_points

    @property
    def size(self) -> int:
        """Number of stored nodes."""
        return math.prod(self.num_points)

    @property
    def periodic(self) -> tuple[bool, ...]:
        """Per axis, whether it is periodic."""
        return tuple(isinstance(low, Periodic) for low, _ in self.boundary)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between neighbouring nodes, per axis, in the units of `extent`."""
        return tuple(
            length / self._intervals(axis) for axis, length in enumerate(self.extent)
        )

    def _intervals(self, axis: int) -> int:
        n = self.num_points[axis]
        return n if self.periodic[axis] else n + 1 - sum(_ends(self.boundary[axis]))

    @property
    def closed_shape(self) -> tuple[int, ...]:
        """Shape of a field that also holds the Dirichlet nodes that are not stored."""
        return tuple(
            n + sum(_margins(pair))
            for n, pair in zip(self.num_points, self.boundary, strict=True)
        )

    @property
    def margins(self) -> tuple[tuple[int, int], ...]:
        """Per axis, 1 for each side whose (Dirichlet) boundary nodes are not stored."""
        return tuple(_margins(pair) for pair in self.boundary)

    def coordinates(self, axis: int, *, closed: bool = False) -> np.ndarray:
        """Node positions along one axis (float64, on the host).

        **Arguments:**

        - `axis`: which one.
        - `closed`: also the Dirichlet boundary nodes that are not stored.
        """
        before, after = _margins(self.boundary[axis])
        index = np.arange(self.num_points[axis]) + before
        if closed:
            index = np.arange(self.num_points[axis] + before + after)
        return self.origin[axis] + index * self.spacing[axis]

    def mesh(self, *, closed: bool = False) -> tuple[np.ndarray, ...]:
        """The coordinates of every node, one array of the field's shape per axis."""
        axes = [self.coordinates(k, closed=closed) for k in range(self.ndim)]
        return tuple(np.meshgrid(*axes, indexing="ij"))

    def side_shape(self, axis: int) -> tuple[int, ...]:
        """Shape of data on a side across `axis`: `num_points` without that axis."""
        return self.num_points[:axis] + self.num_points[axis + 1 :]

    def side_coordinates(self, axis: int, side: int) -> tuple[np.ndarray, ...]:
        """Coordinates of a side's nodes, one array of `side_shape(axis)` per axis."""
        axes = [self.coordinates(k) for k in range(self.ndim)]
        axes[axis] = np.array([self.origin[axis] + side * self.extent[axis]])
        mesh = np.meshgrid(*axes, indexing="ij")
        return tuple(np.squeeze(m, axis) for m in mesh)

    def cell_weights(self) -> np.ndarray:
        """Volume of each node's cell over the volume of an interior node's cell.

        1 inside, 1/2 on a stored side, 1/4 where two stored sides meet, and so on.
        """
        weights = np.ones(self.num_points)
        for axis, pair in enumerate(self.boundary):
            line = np.ones(self.num_points[axis])
            low, high = _ends(pair)
            line[0] *= 0.5 if low else 1.0
            line[-1] *= 0.5 if high else 1.0
            weights *= np.expand_dims(line, [k for k in range(self.ndim) if k != axis])
        return weights

    def dirichlet_mask(self) -> np.ndarray | None:
        """True at stored nodes whose value is prescribed; None if there are none."""
        mask = np.zeros(self.num_points, bool)
        for axis, pair in enumerate(self.boundary):
            for side, condition in enumerate(pair):
                if isinstance(condition, Dirichlet) and condition.stored:
                    mask[side_index(self.ndim, axis, side)] = True
        return mask if mask.any() else None

    def impose(self, field: Float[Array, "..."]) -> Float[Array, "..."]:
        """Set the stored Dirichlet nodes of a field to their prescribed values.

        **Arguments:**

        - `field`: shape `num_points`, or with leading axes (channels) in front.
        """
        for axis, pair in enumerate(self.boundary):
            for side, condition in enumerate(pair):
                if isinstance(condition, Dirichlet) and condition.stored:
                    index = (..., *side_index(self.ndim, axis, side))
                    value = jnp.asarray(condition.value, field.dtype)
                    field = field.at[index].set(value)
        return field

    def homogeneous(self) -> "Grid":
        """The same grid with all boundary data zero."""

        def bare(condition: AbstractBoundary) -> AbstractBoundary:
            if isinstance(condition, Dirichlet):
                return Dirichlet(0.0, condition.stored)
            return Neumann() if isinstance(condition, Neumann) else Periodic()

        pairs = tuple((bare(low), bare(high)) for low, high in self.boundary)
        return Grid(self.num_points, self.extent, pairs, self.origin)

    def coarsen(self) -> "Grid":
        """The grid of the same box with half as many intervals per axis.

        Where the number of intervals is odd the result has (n + 1) // 2 of them; its
        nodes are then not nodes of this grid. Boundary data given as arrays are
        interpolated.
        """
        from ._transfer import coarsened_grid

        return coarsened_grid(self)

    def coarse_alignment(self, axis: int) -> tuple[int, int]:
        """First coarse node and number of coarse nodes along one axis."""
        return coarse_alignment(self.num_points[axis], self.boundary[axis])


def side_index(ndim: int, axis: int, side: int) -> tuple:
    """Index of the nodes on one side of a field with `ndim` axes."""
    index: list = [slice(None)] * ndim
    index[axis] = -1 if side else 0
    return tuple(index)


def _ends(pair: BoundaryPair) -> tuple[bool, bool]:
    """Whether nodes are stored on the low and on the high side."""
    if isinstance(pair[0], Periodic):
        return False, False
    return pair[0].stores_nodes, pair[1].stores_nodes


def _margins(pair: BoundaryPair) -> tuple[int, int]:
    return int(not pair[0].stores_nodes), int(not pair[1].stores_nodes)


def _per_axis(name: str, given: float | Sequence[float], ndim: int):
    values = (given,) * ndim if isinstance(given, int | float) else tuple(given)
    if len(values) != ndim:
        raise ValueError(
            f"{name}: expected one number or {ndim} of them, got {given!r}."
        )
    return tuple(float(v) for v in values)
