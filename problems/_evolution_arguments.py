"""What time-dependent problems are made with: periodic grids, positive numbers."""

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
