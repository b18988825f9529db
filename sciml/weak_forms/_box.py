"""Boxes: points in them, and functions that vanish on their sides."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..grids import Dirichlet, Grid
from ..grids._boundary import boundary_data
from ._ball_quadrature import AbstractBallQuadrature
from ._particles import Particles, latin_hypercube


def check_zero_sides(grid: Grid) -> None:
    """**Raises:** `ValueError` unless all sides have u = 0."""
    for pair in grid.boundary:
        for side in pair:
            data = boundary_data(side)
            if not isinstance(side, Dirichlet) or jnp.shape(data) or float(data) != 0:
                raise ValueError(
                    "grid: expected Dirichlet(0) on all sides, since u is made to "
                    f"vanish there, got {side.kind}."
                )


def random_points(
    grid: Grid, num_points: int, *, key: PRNGKeyArray
) -> Float[Array, "num_points ndim"]:
    """A Latin hypercube of the grid's box."""
    unit = latin_hypercube(num_points, grid.ndim, key=key)
    return (
        jnp.asarray(grid.origin, unit.dtype)[None]
        + unit * (jnp.asarray(grid.extent, unit.dtype)[None])
    )


def random_particles(
    grid: Grid,
    num_particles: int,
    radius: float,
    quadrature: AbstractBallQuadrature,
    *,
    key: PRNGKeyArray,
) -> Particles:
    """Balls within the box, with centres by Latin hypercube."""
    unit = latin_hypercube(num_particles, grid.ndim, key=key)
    room = jnp.asarray(grid.extent, unit.dtype)[None] - 2 * radius
    low = jnp.asarray(grid.origin, unit.dtype)[None] + radius
    return Particles(low + room * unit, radius, quadrature)


def check_radius(grid: Grid, radius: float) -> None:
    """**Raises:** `ValueError` unless balls of this radius fit into the box."""
    if not 0 < radius < min(grid.extent) / 2:
        raise ValueError(
            f"radius: expected above 0 and below {min(grid.extent) / 2}, half of the "
            f"shortest side, got {radius}."
        )


def bump(
    grid: Grid, points: Float[Array, "num ndim"]
) -> tuple[Float[Array, " num"], Float[Array, "num ndim"]]:
    """Π sin(π ξ_k), ξ running from 0 to 1 between the sides, and its gradient."""
    lengths = jnp.asarray(grid.extent, points.dtype)[None]
    angles = math.pi * (points - jnp.asarray(grid.origin, points.dtype)[None]) / lengths
    sines, cosines = jnp.sin(angles), math.pi / lengths * jnp.cos(angles)
    columns = []
    for axis in range(grid.ndim):
        others = [sines[:, k] for k in range(grid.ndim) if k != axis]
        column = cosines[:, axis]
        for other in others:
            column = column * other
        columns.append(column)
    return jnp.prod(sines, 1), jnp.stack(columns, 1)


def vanishing(
    grid: Grid,
    raw: tuple[Float[Array, "channels num"], Float[Array, "channels num ndim"]],
    points: Float[Array, "num ndim"],
) -> tuple[Float[Array, "channels num"], Float[Array, "channels num ndim"]]:
    """A field times `bump`, and the gradient of that."""
    values, gradients = raw
    bumps, slopes = bump(grid, points)
    product = gradients * bumps[None, :, None] + values[..., None] * slopes[None]
    return values * bumps[None], product
