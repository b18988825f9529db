"""From coordinates in a file to a grid, and from a grid to every s-th node of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..grids import Dirichlet, Grid, Neumann, Periodic
from ..grids._boundary import AbstractBoundary, boundary_data, boundary_pairs
from ._checks import Place, positive_integer
from ._dataset import DataError

# How far a node may be from its place on a uniform grid, in units of the spacing.
_UNIFORM = 1e-3


def rounding(values: np.ndarray) -> float:
    """What rounding in their own type may have changed numbers by."""
    eps = np.finfo(values.dtype).eps if values.dtype.kind == "f" else 0.0
    return float(eps) * float(np.abs(values).max())


def check_increasing(place: Place, values: np.ndarray) -> None:
    """Refuse coordinates or times that are no increasing vector."""
    if values.ndim != 1 or len(values) == 0:
        place.fail(f"expected a vector of coordinates, got shape {values.shape}.")
    steps = np.diff(values.astype(np.float64))
    if not (steps > 0).all():
        k = int(np.argmin(steps > 0))
        place.fail(
            f"expected increasing numbers, got {values[k]:.6g} and then "
            f"{values[k + 1]:.6g} at index {k + 1}."
        )


def check_uniform(place: Place, values: np.ndarray) -> float:
    """The spacing of increasing, evenly spaced numbers; refuse all others."""
    check_increasing(place, values)
    if len(values) < 2:
        place.fail("expected at least two numbers, got one.")
    exact = values.astype(np.float64)
    spacing = (exact[-1] - exact[0]) / (len(exact) - 1)
    away = np.abs(exact - exact[0] - spacing * np.arange(len(exact)))
    k = int(np.argmax(away))
    if away[k] > _UNIFORM * spacing + 4 * rounding(values):
        place.fail(
            f"expected even spacing, {spacing:.6g} on average, but index {k} is at "
            f"{exact[k]:.6g} instead of {exact[0] + spacing * k:.6g}. Only uniform "
            "grids are supported; interpolate first."
        )
    return float(spacing)


def grid_of_axes(places: Sequence[Place], axes: Sequence[np.ndarray], boundary) -> Grid:
    """The grid whose stored nodes are at the given coordinates.

    **Arguments:**

    - `places`: where each axis is from.
    - `axes`: the coordinates along each.
    - `boundary`: as for `Grid`.
    """
    try:
        pairs = boundary_pairs(boundary, len(axes))
    except (ValueError, TypeError) as error:
        raise DataError(f"{places[0].path}: {error}") from error
    origin, extent = [], []
    for place, values, pair in zip(places, axes, pairs, strict=True):
        spacing = check_uniform(place, values)
        intervals, first = _intervals(len(values), pair)
        origin.append(float(values[0]) - spacing * first)
        extent.append(_shortest(spacing * intervals, rounding(values)))
    num_points = tuple(len(values) for values in axes)
    try:
        return Grid(num_points, extent, pairs, origin)
    except ValueError as error:
        raise DataError(f"{places[0].path}: {error}") from error


def same_axis(values: np.ndarray, others: np.ndarray) -> bool:
    """Whether two axes are the same but for rounding."""
    if values.shape != others.shape:
        return False
    slack = 4 * max(rounding(values), rounding(others))
    away = np.abs(values.astype(np.float64) - others.astype(np.float64))
    return bool((away <= slack).all())


def subsampled(
    path: Path, grid: Grid, stride: int | Sequence[int]
) -> tuple[Grid, tuple[slice, ...]]:
    """Every s-th node such that the box and its sides stay where they are.

    **Arguments:**

    - `path`: of the file, for messages.
    - `grid`: the file's.
    - `stride`: s, one number or one per axis.

    **Returns:** the grid of the nodes that are kept, and their slice per axis.
    """
    strides = tuple(stride) if isinstance(stride, Sequence) else (stride,) * grid.ndim
    if len(strides) != grid.ndim:
        raise DataError(
            f"subsample: expected one number or {grid.ndim}, got {strides}."
        )
    strides = tuple(positive_integer("subsample", s) for s in strides)
    if max(strides) == 1:
        return grid, (slice(None),) * grid.ndim
    slices = []
    for axis, (n, s, pair) in enumerate(
        zip(grid.shape, strides, grid.boundary, strict=True)
    ):
        intervals, first = _intervals(n, pair)
        if intervals % s:
            divisors = [d for d in range(1, intervals + 1) if intervals % d == 0]
            raise DataError(
                f"{path}: subsample: axis {axis} has {n} nodes and so {intervals} "
                f"intervals between its two sides, which {s} does not divide: one side "
                f"would move. These numbers do: {divisors}. (If that is not how many "
                "intervals it has, `boundary` says wrongly which sides are stored.)"
            )
        slices.append(slice(s - 1 if first else 0, None, s))
    shape = tuple(
        len(range(n)[part]) for n, part in zip(grid.shape, slices, strict=True)
    )
    pairs = tuple(
        tuple(_subsampled_side(grid, axis, c, slices) for c in pair)
        for axis, pair in enumerate(grid.boundary)
    )
    try:
        return Grid(shape, grid.extent, pairs, grid.origin), tuple(slices)
    except ValueError as error:
        raise DataError(f"{path}: subsample={strides}: {error}") from error


def _intervals(num_points: int, pair: tuple) -> tuple[int, int]:
    """How many intervals an axis has, and the first stored node's number."""
    if isinstance(pair[0], Periodic):
        return num_points, 0
    low, high = (condition.stores_nodes for condition in pair)
    return num_points + 1 - low - high, int(not low)


def _subsampled_side(
    grid: Grid, axis: int, condition: AbstractBoundary, slices: list[slice]
) -> AbstractBoundary:
    data: Any = boundary_data(condition)
    if np.ndim(data) == 0:
        return condition
    data = data[tuple(s for k, s in enumerate(slices) if k != axis)]
    if isinstance(condition, Dirichlet):
        return Dirichlet(data, condition.stored)
    return Neumann(data)


def _shortest(value: float, slack: float) -> float:
    """The decimal number with the fewest digits that rounding cannot tell apart."""
    # A length of 1 whose coordinates are in float32 comes out as 0.99999997.
    return next(
        short
        for digits in range(1, 18)
        if abs((short := float(f"{value:.{digits}g}")) - value) <= slack
    )
