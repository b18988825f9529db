"""What was measured, where, and how well."""

from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from ..grids import Grid

_TRACED = "Observations: made outside of jit, since they are checked."


class Observations(eqx.Module):
    """Values of a solution at points, with independent normal errors.

        values_i = u(points_i) + ε_i,   ε_i ~ N(0, std²)

    **Arguments:**

    - `points`: anywhere in the domain, shape `(num, ndim)`.
    - `values`: shape `(num,)`.
    - `std`: of the errors, a number or one for each value.
    - `snr`: in its place the ratio of signal to noise in decibels,
        std² = mean(values²)/10^(snr/10), the mean being over all values.
    - `channels`: which component of u was measured, a number or one for each value.
        Default 0, the first.

    **Raises:** `ValueError` for shapes that do not fit, values or points that are NaN
    or infinite, no point at all, the same point with the same value twice (a copy, most
    likely: independent measurements differ), and unless either `std` or `snr` is given.

    !!! example

        ```python
        points = jnp.array([[0.25, 0.5], [0.5, 0.5], [0.75, 0.5]])
        seen = sciml.inverse.Observations(points, jnp.array([0.06, 0.1, 0.06]), snr=25)
        ```
    """

    points: Array
    values: Array
    std: Array
    channels: Array

    def __init__(
        self,
        points: ArrayLike,
        values: ArrayLike,
        *,
        std: ArrayLike | None = None,
        snr: float | None = None,
        channels: ArrayLike = 0,
    ):
        if any(isinstance(x, jax.core.Tracer) for x in (std, snr, channels)):
            raise TypeError(_TRACED)
        values, points = _floating(values), _floating(points)
        if points.ndim != 2 or values.shape != points.shape[:1] or not len(values):
            raise ValueError(
                "points, values: expected shapes (num, ndim) and (num,) with at least "
                f"one point, got {points.shape} and {values.shape}."
            )
        for name, array in (("points", points), ("values", values)):
            bad = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(1))
            if bad.size:
                raise ValueError(
                    f"{name}: {bad.size} of {len(array)} are not finite, the first is "
                    f"number {bad[0]}. Leave out what was not measured."
                )
        which = np.asarray(channels)
        if which.dtype.kind not in "iu" or which.shape not in ((), values.shape):
            raise ValueError(
                f"channels: expected a whole number or one for each of {len(values)} "
                f"values, got {which.dtype} of shape {which.shape}."
            )
        which = np.broadcast_to(which, values.shape).astype(np.int32)
        rows = np.concatenate([points, values[:, None], which[:, None]], 1)
        _, first, counts = np.unique(
            rows, axis=0, return_index=True, return_counts=True
        )
        if np.any(counts > 1):
            k = int(np.argmax(counts > 1))
            raise ValueError(
                f"points: number {first[k]} is there {counts[k]} times with "
                "the same value and channel, and would count as often."
            )
        if (std is None) == (snr is None):
            raise ValueError(
                "std, snr: expected one of them, the errors' standard deviation or the "
                "ratio of signal to noise in decibels."
            )
        if snr is not None:
            if not np.isfinite(snr):
                raise ValueError(f"snr: expected a finite number, got {snr!r}.")
            size = np.sqrt(np.mean(values**2) / 10 ** (snr / 10))
        else:
            size = np.asarray(std, values.dtype)
        if size.shape not in ((), values.shape):
            raise ValueError(
                f"std: expected a number or one for each of {len(values)} values, got "
                f"shape {size.shape}."
            )
        if not np.all(np.isfinite(size) & (size > 0)):
            raise ValueError(
                "std: expected positive numbers (is all of `values` zero?)."
            )
        self.points, self.values = jnp.asarray(points), jnp.asarray(values)
        full = np.broadcast_to(size, values.shape).astype(values.dtype)
        self.std = jnp.asarray(full)
        self.channels = jnp.asarray(which)

    def __len__(self) -> int:
        return len(self.values)

    def check_channels(self, num_channels: int) -> None:
        """**Raises:** `ValueError` for channels that u has not."""
        channels = np.asarray(self.channels)
        bad = channels[(channels < 0) | (channels >= num_channels)]
        if bad.size:
            raise ValueError(
                f"channels: u has {num_channels}, counted from 0, got {bad[0]}."
            )

    def check_inside(self, grid: Grid) -> None:
        """**Raises:** `ValueError` for points outside of the grid's box."""
        if self.points.shape[1] != grid.ndim:
            raise ValueError(
                f"points: expected {grid.ndim} coordinates each, got "
                f"{self.points.shape[1]}."
            )
        points = np.asarray(self.points)
        low = np.asarray(grid.origin)
        high = low + np.asarray(grid.extent)
        slack = 1e-6 * (high - low)
        bad = np.flatnonzero(
            ~((points >= low - slack) & (points <= high + slack)).all(1)
        )
        if bad.size:
            raise ValueError(
                f"points: {bad.size} of {len(points)} are outside of the domain "
                f"{[tuple(map(float, side)) for side in zip(low, high, strict=True)]}, "
                f"the first is number {bad[0]} at {points[bad[0]].tolist()}."
            )


def _floating(given: Any) -> np.ndarray:
    if isinstance(given, jax.core.Tracer):
        raise TypeError(_TRACED)
    array = np.asarray(given)
    if not np.issubdtype(array.dtype, np.floating):
        array = array.astype(jnp.result_type(float))
    return array
