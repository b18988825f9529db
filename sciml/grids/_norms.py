"""Discrete norms of fields on a grid."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from ._boundary import Dirichlet, Periodic
from ._grid import Grid


def l2_norm(field: Inexact[Array, "..."], grid: Grid) -> Float[Array, ""]:
    """(∫ |u|²)^½ by the trapezoidal rule: each node weighs its cell's volume.

    **Arguments:**

    - `field`: shape `grid.num_points`, or with leading axes (channels), summed over.
    - `grid`: the grid.
    """
    return jnp.sqrt(squared_l2(field, grid))


def h1_seminorm(field: Inexact[Array, "..."], grid: Grid) -> Float[Array, ""]:
    """(∫ |∇u|²)^½ from the differences between neighbouring nodes.

    Dirichlet sides that store no nodes take part with the grid's data; the error of a
    field vanishes there and belongs on `grid.homogeneous()`.

    **Arguments:** as `l2_norm`.
    """
    return jnp.sqrt(squared_h1_seminorm(field, grid))


def h1_norm(field: Inexact[Array, "..."], grid: Grid) -> Float[Array, ""]:
    """(∫ |u|² + |∇u|²)^½, see `l2_norm` and `h1_seminorm`."""
    return jnp.sqrt(squared_l2(field, grid) + squared_h1_seminorm(field, grid))


def squared_l2(field: Inexact[Array, "..."], grid: Grid) -> Float[Array, ""]:
    """∫ |u|², see `l2_norm`; differentiable at 0."""
    square = _square(field)
    total = jnp.sum(square * _weights(grid.cell_weights(), square))
    return total * math.prod(grid.spacing)


def squared_h1_seminorm(field: Inexact[Array, "..."], grid: Grid) -> Float[Array, ""]:
    """∫ |∇u|², see `h1_seminorm`; differentiable at 0."""
    total = jnp.zeros((), jnp.finfo(field.dtype).dtype)
    lead = field.ndim - grid.ndim
    for axis, (low, high) in enumerate(grid.boundary):
        place = lead + axis
        if isinstance(low, Periodic):
            jumps = jnp.roll(field, -1, place) - field
        else:
            parts = [field]
            if isinstance(low, Dirichlet) and not low.stored:
                parts.insert(0, _side(field, axis, place, low.value))
            if isinstance(high, Dirichlet) and not high.stored:
                parts.append(_side(field, axis, place, high.value))
            jumps = jnp.diff(jnp.concatenate(parts, place), axis=place)
        square = _square(jumps / grid.spacing[axis])
        # The part of the cell's weight that comes from the other axes.
        transverse = np.take(grid.cell_weights(), [0], axis)
        if low.stores_nodes and not isinstance(low, Periodic):
            transverse = 2 * transverse
        total = total + jnp.sum(square * _weights(transverse, square))
    return total * math.prod(grid.spacing)


def _weights(weights: np.ndarray, like: Array) -> Array:
    return jnp.asarray(weights, like.dtype)[(None,) * (like.ndim - weights.ndim)]


def _square(field: Array) -> Array:
    return jnp.real(field * jnp.conj(field)) if jnp.iscomplexobj(field) else field**2


def _side(field: Array, axis: int, place: int, value) -> Array:
    """The values on a side across `axis`, in the shape of one layer of the field."""
    shape = list(field.shape)
    shape[place] = 1
    data = jnp.asarray(value, field.dtype)
    if data.ndim:
        data = jnp.expand_dims(data, axis)
    return jnp.broadcast_to(data[(None,) * (field.ndim - data.ndim)], shape)
