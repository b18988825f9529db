"""From trajectories to samples: what comes before, and what comes after."""

from typing import Any

import numpy as np

from ..grids import Grid
from ._dataset import DataError, Dataset


def transitions(
    states: Any, grid: Grid, *, window: int = 1, coefficients: Any = None
) -> Dataset:
    """One-step pairs from trajectories, for models that march in time.

    Inputs are the states at times j, …, j + window − 1, the oldest first, targets are
    the state at time j + window; for every j, one trajectory after the other. The
    states' channels stay together: a window of two states (ρ, p) has the channels
    ρⱼ, pⱼ, ρⱼ₊₁, pⱼ₊₁.

    **Arguments:**

    - `states`: shape `(samples, times, channels, *space)`, at evenly spaced times.
    - `grid`: where they live.
    - `window`: how many states a model sees. Default 1.
    - `coefficients`: shape `(samples, channels, *space)`, fields that do not change.
        They are the last channels of every input. Default: none.

    **Returns:** a `Dataset` of samples · (times − window) pairs.

    **Raises:** `sciml.data.DataError` for shapes that do not fit and trajectories that
    are too short.

    !!! example

        ```python
        import numpy as np

        import sciml

        states = np.random.default_rng(0).normal(size=(3, 11, 1, 64))
        grid = sciml.grids.Grid(64, boundary=sciml.grids.Periodic())
        pairs = sciml.data.transitions(states, grid, window=2)
        pairs.inputs.shape, pairs.targets.shape  # (27, 2, 64), (27, 1, 64)
        ```
    """
    states = np.asarray(states)
    if states.ndim != 3 + grid.ndim or states.shape[3:] != grid.shape:
        raise DataError(
            "states: expected shape (samples, times, channels, "
            f"{', '.join(map(str, grid.shape))}), got {states.shape}."
        )
    samples, times, channels = states.shape[:3]
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise DataError(f"window: expected a whole number from 1 on, got {window!r}.")
    if times <= window:
        raise DataError(
            f"window: {window} states and the one after them need {window + 1} times, "
            f"got {times}."
        )
    count = times - window
    before = np.concatenate([states[:, k : k + count] for k in range(window)], axis=2)
    if coefficients is not None:
        fixed = np.asarray(coefficients)
        if fixed.ndim != 2 + grid.ndim or (len(fixed), *fixed.shape[2:]) != (
            samples,
            *grid.shape,
        ):
            raise DataError(
                f"coefficients: expected shape ({samples}, channels, "
                f"{', '.join(map(str, grid.shape))}), got {fixed.shape}."
            )
        fixed = np.broadcast_to(fixed[:, None], (samples, count, *fixed.shape[1:]))
        before = np.concatenate([before, fixed.astype(before.dtype)], axis=2)
    flat = lambda array: array.reshape(samples * count, -1, *grid.shape)
    return Dataset(flat(before), flat(states[:, window:]), grid)


def evolution(states: np.ndarray, coefficients: np.ndarray | None, grid: Grid):
    """The first state of each trajectory, and all later ones as channels.

    Of trajectories with one time only: the coefficients, and that state.
    """
    if states.shape[1] == 1:
        if coefficients is None:
            return Dataset(states[:, 0], None, grid)
        return Dataset(coefficients, states[:, 0], grid)
    first = states[:, 0]
    if coefficients is not None:
        first = np.concatenate([first, coefficients.astype(first.dtype)], axis=1)
    later = states[:, 1:].reshape(len(states), -1, *grid.shape)
    return Dataset(first, later, grid)
