"""What every model asks of its boundary and of the one sample that it maps."""

from collections.abc import Callable, Sequence

import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from ..grids import Dirichlet, Grid, Neumann
from ..grids._boundary import (
    AbstractBoundary,
    BoundaryPair,
    boundary_data,
    boundary_pairs,
)


def numeric_boundary(
    boundary: AbstractBoundary | Sequence, ndim: int
) -> tuple[BoundaryPair, ...]:
    """One (low, high) pair per axis whose data are Python floats, hence static.

    **Raises:** `ValueError` for data that are arrays with axes, functions, or traced.
    """
    return tuple(
        tuple(_numeric(condition, axis) for condition in pair)  # pyright: ignore[reportReturnType]
        for axis, pair in enumerate(boundary_pairs(boundary, ndim))
    )


def _numeric(condition: AbstractBoundary, axis: int) -> AbstractBoundary:
    data = boundary_data(condition)
    if isinstance(data, Callable) or isinstance(data, jax.core.Tracer) or np.ndim(data):
        got = "a function" if isinstance(data, Callable) else f"{data!r:.60}"
        raise ValueError(
            f"boundary: a model holds its boundary data as constants, so the "
            f"{condition.kind} side of axis {axis} needs one number, got {got}. "
            "Subtract a lifting of varying data from the targets, and use 0 here."
        )
    if isinstance(condition, Dirichlet):
        return Dirichlet(value=float(np.asarray(data)), stored=condition.stored)
    if isinstance(condition, Neumann):
        return Neumann(flux=float(np.asarray(data)))
    return condition


def floating(x: Shaped[Array | np.ndarray, "..."]) -> Float[Array, "..."]:
    """Fields of booleans and integers (phases, labels) in JAX's default float type.

    **Raises:** `ValueError` for complex fields.
    """
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise ValueError(
            f"x: expected a real field, got {x.dtype}; pass its real and imaginary "
            "parts as two channels."
        )
    if jnp.issubdtype(x.dtype, jnp.floating):
        return x
    return x.astype(jnp.result_type(float))


def check_channels(x: Shaped[Array, "..."], ndim: int, in_channels: int) -> None:
    """**Raises:** `ValueError` if x is not one sample of so many axes and channels."""
    if x.ndim != ndim + 1:
        hint = " Use `jax.vmap(model)` for a batch." if x.ndim == ndim + 2 else ""
        raise ValueError(
            f"x: expected one sample (channels, *space) with {ndim} axes of space, got "
            f"shape {x.shape}.{hint}"
        )
    if x.shape[0] != in_channels:
        raise ValueError(
            f"x: expected {in_channels} channels (the first axis), got {x.shape[0]} in "
            f"shape {x.shape}. Build the model with in_channels={x.shape[0]}, or pass "
            "the channels it was built for."
        )


def check_counts(**given: int) -> None:
    """**Raises:** `ValueError` naming the first argument that is not at least 1."""
    for name, value in given.items():
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}.")


def grid_of(space: tuple[int, ...], boundary: tuple[BoundaryPair, ...]) -> Grid:
    """The unit box's grid with so many nodes."""
    return Grid(space, boundary=boundary)
