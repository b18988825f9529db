"""What time-dependent problems are given: grids, numbers, fields, times, places."""

import math
from collections.abc import Sequence

import jax
import jax.core
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from sciml.grids import Grid, Periodic


def periodic_grid(
    num_points: int | Sequence[int],
    extent: float | Sequence[float],
    origin: float | Sequence[float] = 0.0,
    *,
    axes: tuple[int, ...] = (1, 2, 3),
) -> Grid:
    """A periodic grid with one of these numbers of axes."""
    grid = Grid(num_points, extent, Periodic(), origin)
    if grid.ndim not in axes:
        known = " or ".join(map(str, axes))
        raise ValueError(
            f"num_points: expected nodes for {known} axes, got {grid.num_points}."
        )
    return grid


def positive(name: str, given: float) -> float:
    """A positive, finite number."""
    if not 0 < given < math.inf:
        raise ValueError(f"{name}: expected a positive number, got {given}.")
    return float(given)


def coefficient(
    name: str, given: ArrayLike, *, at_least_zero: bool = False
) -> Float[Array, ""]:
    """A positive scalar, as an array: one can differentiate with respect to it."""
    found = jnp.asarray(given, jnp.result_type(float))
    if found.shape != ():
        raise ValueError(
            f"{name}: expected one number, got shape {found.shape}; for several, "
            "use jax.vmap."
        )
    if isinstance(found, jax.core.Tracer):
        return found
    if not 0 <= found < math.inf or (found == 0 and not at_least_zero):
        expected = "a number ≥ 0" if at_least_zero else "a positive number"
        raise ValueError(f"{name}: expected {expected}, got {given}.")
    return found


def refinement(given: int) -> int:
    """A positive integer."""
    if int(given) != given or given < 1:
        raise ValueError(f"refine: expected a positive integer, got {given}.")
    return int(given)


def same_shapes(**fields: Array) -> None:
    """An equation holds node by node: its terms have one shape, not one they share."""
    shapes = {name: jnp.shape(field) for name, field in fields.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"Expected arrays of one shape, got {shapes}.")


def times_and_places(
    grid: Grid, times: ArrayLike, coordinates: Sequence[ArrayLike]
) -> tuple[Array, list[Array]]:
    """t and x, in shapes that broadcast to (*times, *places).

    x are the nodes where no coordinates are given. The dtype is that of the
    coordinates, else that of the times, and JAX's own for integers.
    """
    if coordinates and len(coordinates) != grid.ndim:
        raise ValueError(
            f"coordinates: expected one array per axis, {grid.ndim} of them, or none "
            f"for the nodes of the grid, got {len(coordinates)}."
        )
    dtype = jnp.result_type(*(coordinates or (times,)))
    if not jnp.issubdtype(dtype, jnp.floating):
        dtype = jnp.result_type(float)
    places = [jnp.asarray(x, dtype) for x in coordinates or grid.mesh()]
    same_shapes(**{f"coordinates[{k}]": x for k, x in enumerate(places)})
    t = jnp.asarray(times, dtype)
    if not isinstance(t, jax.core.Tracer) and bool((t < 0).any()):
        raise ValueError(f"times: expected numbers ≥ 0, got {times}.")
    ones = (1,) * t.ndim
    shape = (*t.shape, *(1,) * places[0].ndim)
    return t.reshape(shape), [x.reshape((*ones, *x.shape)) for x in places]
