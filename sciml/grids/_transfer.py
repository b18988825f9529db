"""Fields from one grid to another of the same box."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._boundary import Dirichlet, Neumann, boundary_data
from ._grid import Grid


def coarsened_grid(grid: Grid) -> Grid:
    """The grid of the same box with half as many intervals per axis, rounded up."""
    points = []
    for axis, pair in enumerate(grid.boundary):
        intervals = round(grid.extent[axis] / grid.spacing[axis])
        coarse = (intervals + 1) // 2
        ends = 1 if grid.periodic[axis] else pair[0].stores_nodes + pair[1].stores_nodes
        points.append(coarse - 1 + ends)
    try:
        coarse = Grid(points, grid.extent, grid.homogeneous().boundary, grid.origin)
    except ValueError as error:
        raise ValueError(
            f"coarsen: a grid of {grid.num_points} points has no coarser one ({error})"
        ) from error
    pairs = tuple(
        tuple(_moved(grid, coarse, axis, side) for side in (0, 1))
        for axis in range(grid.ndim)
    )
    return eqx.tree_at(lambda g: g.boundary, coarse, pairs)


def _moved(grid: Grid, coarse: Grid, axis: int, side: int):
    """A side's condition with its data interpolated to the coarse side's nodes."""
    condition = grid.boundary[axis][side]
    data = boundary_data(condition)
    if np.ndim(data) == 0:
        return condition
    for k in range(grid.ndim):
        if k != axis:
            place = k if k < axis else k - 1
            data = _interpolate_axis(
                jnp.asarray(data), place, grid.coordinates(k), coarse.coordinates(k)
            )
    if isinstance(condition, Dirichlet):
        return Dirichlet(data, condition.stored)
    return Neumann(data)


def interpolate(
    field: Float[Array, "..."], source: Grid, target: Grid
) -> Float[Array, "..."]:
    """Multilinear interpolation of a field between two grids of the same box.

    Values beyond the last stored node are the Dirichlet data of that side; at Dirichlet
    nodes that the target stores, its own data. Second-order accurate, exact for fields
    that are linear in each coordinate, for any two sizes.

    **Arguments:**

    - `field`: shape `source.num_points`, or with leading axes in front.
    - `source`, `target`: grids with the same extent, origin and periodic axes.

    **Returns:** the field on the target, of shape (…, `target.num_points`).
    """
    _check_grids("interpolate", field, source, target)
    closed = close_field(field, source)
    return target.impose(_interpolated(closed, source, target, closed=True))


def resample(
    field: Float[Array, "..."], source: Grid, target: Grid
) -> Float[Array, "..."]:
    """Multilinear interpolation of a coefficient, which has no boundary data.

    As `interpolate`, but what the boundary conditions say of the solution is not used:
    beyond the last stored node of a side the field is continued as a constant. Where
    the target's nodes are among the source's the values there are kept bit for bit.

    **Arguments:**

    - `field`: shape `source.num_points`, or with leading axes in front.
    - `source`, `target`: grids with the same extent, origin and periodic axes.

    **Returns:** the field on the target, of shape (…, `target.num_points`).
    """
    _check_grids("resample", field, source, target)
    return _interpolated(field, source, target, closed=False)


def _check_grids(name: str, field: Array, source: Grid, target: Grid) -> None:
    if (source.extent, source.origin, source.periodic) != (
        target.extent,
        target.origin,
        target.periodic,
    ):
        raise ValueError(
            f"{name}: the grids cover different boxes: extent "
            f"{source.extent} and {target.extent}, origin {source.origin} and "
            f"{target.origin}, periodic {source.periodic} and {target.periodic}."
        )
    if field.shape[field.ndim - source.ndim :] != source.num_points:
        raise ValueError(
            f"field: expected trailing shape {source.num_points}, got {field.shape}."
        )


def _interpolated(field: Array, source: Grid, target: Grid, closed: bool) -> Array:
    """Axis by axis, from the stored nodes or from all of them."""
    lead = field.ndim - source.ndim
    for axis in range(source.ndim):
        old = source.coordinates(axis, closed=closed)
        if source.periodic[axis]:
            first = field[(slice(None),) * (lead + axis) + (slice(0, 1),)]
            field = jnp.concatenate([field, first], lead + axis)
            old = np.append(old, source.origin[axis] + source.extent[axis])
        field = _interpolate_axis(field, lead + axis, old, target.coordinates(axis))
    return field


def close_field(field: Float[Array, "..."], grid: Grid) -> Float[Array, "..."]:
    """A field with the Dirichlet nodes that the grid does not store put around it.

    Edges and corners between two such sides continue the data of the later axis
    linearly.

    **Returns:** shape (…, `grid.closed_shape`).
    """
    lead = field.ndim - grid.ndim
    for axis, pair in enumerate(grid.boundary):
        for side, condition in enumerate(pair):
            if not isinstance(condition, Dirichlet) or condition.stored:
                continue
            value = jnp.asarray(condition.value, field.dtype)
            shape = list(field.shape)
            shape[lead + axis] = 1
            if value.ndim:
                # Axes that were closed before have one or two nodes more by now.
                for k, (before, after) in enumerate(grid.margins[:axis]):
                    value = _extended(value, k, before, after)
                value = jnp.expand_dims(value, axis)
            layer = jnp.broadcast_to(
                value.reshape((1,) * (len(shape) - value.ndim) + value.shape), shape
            )
            parts = [field, layer] if side else [layer, field]
            field = jnp.concatenate(parts, lead + axis)
    return field


def _extended(field: Array, axis: int, before: int, after: int) -> Array:
    """A field with one node more at an end, on the line through its last two."""
    at = lambda i: jnp.take(field, jnp.array([i]), axis)
    n = field.shape[axis]
    next_to_last = min(1, n - 1)
    parts = [2 * at(0) - at(next_to_last)] * before + [field]
    parts += [2 * at(n - 1) - at(n - 1 - next_to_last)] * after
    return jnp.concatenate(parts, axis)


def _interpolate_axis(field: Array, axis: int, old, new) -> Array:
    """Linear interpolation along one axis; constant beyond the ends."""
    if len(old) == 1:
        return jnp.repeat(field, len(new), axis)
    low = np.clip(np.searchsorted(old, new, side="right") - 1, 0, len(old) - 2)
    share = np.clip((new - old[low]) / (old[low + 1] - old[low]), 0.0, 1.0)
    # Coinciding nodes keep their value bit for bit.
    share = np.where(np.abs(share - np.round(share)) < 1e-9, np.round(share), share)
    shape = [1] * field.ndim
    shape[axis] = len(new)
    weight = jnp.asarray(share.reshape(shape), field.dtype)
    left = jnp.take(field, jnp.asarray(low), axis)
    right = jnp.take(field, jnp.asarray(low + 1), axis)
    return (1 - weight) * left + weight * right
