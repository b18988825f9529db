"""How good a model is on a data set."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..data import Dataset
from ..grids import Grid, Periodic
from ..training._losses import predict, relative_h1, relative_l2


def evaluate(model: Any, dataset: Dataset, batch_size: int = 64) -> dict[str, float]:
    """Errors of a model's predictions û against the targets u of a data set.

    - `relative_l2`: mean over samples of ‖û − u‖ / ‖u‖, in the discrete L2 norm of the
        grid (nodes on a stored side count half; without such sides it is the ratio of
        Euclidean norms that papers report).
    - `relative_h1`: the same with the norm of `sciml.training.RelativeH1`.
    - `boundary_rmse`: root mean square of the error at the boundary over the root mean
        square of all targets. At stored Dirichlet nodes the error is taken against the
        prescribed values; without any, at the outermost layer of stored nodes against
        u (of periodic axes there is none; NaN if all are).
    - `max_error`: the largest |û − u|, in the unit of u.

    Samples for which the model gives NaN make the result NaN: nothing is left out.

    **Arguments:**

    - `model`: maps one sample `(channels, *space)`.
    - `dataset`: with targets.
    - `batch_size`: samples predicted at a time; it bounds the memory and does not
        change the result beyond rounding. Default 64.

    **Returns:**

    A dict of floats.

    **Raises:** `ValueError` if the dataset has no targets, or the outputs do not fit.

    !!! example

        ```python
        sciml.evaluation.evaluate(model, test)["relative_l2"]
        ```
    """
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size!r}.")
    size = min(batch_size, len(dataset))
    parts = []
    for start in range(0, len(dataset), size):
        # The last batch is filled up, so that one compiled program serves all.
        index = np.minimum(np.arange(start, start + size), len(dataset) - 1)
        errors = jax.device_get(_errors(model, dataset[index]))
        parts.append([e[: len(dataset) - start] for e in errors])
    # In double precision: the mean over many samples adds no rounding of its own.
    l2, h1, boundary, square, largest = (
        np.concatenate(column).astype(np.float64) for column in zip(*parts, strict=True)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        boundary_rmse = np.sqrt(boundary.mean() / square.mean())
    return {
        "relative_l2": float(l2.mean()),
        "relative_h1": float(h1.mean()),
        "boundary_rmse": float(boundary_rmse),
        "max_error": float(largest.max()),
    }


@eqx.filter_jit
def _errors(model: Any, batch: Dataset) -> tuple[jax.Array, ...]:
    """Per sample: relative L2, relative H1, mean squares (boundary, u), max error."""
    predictions, targets = predict(model, batch)
    grid, size = batch.grid, jnp.abs(predictions - targets)
    axes = tuple(range(1, targets.ndim))
    # Without Dirichlet nodes `impose` changes nothing, and u is compared with itself.
    at_boundary = jnp.abs(predictions - grid.impose(targets))[..., _boundary(grid)]
    return (
        relative_l2(predictions, targets, grid),
        relative_h1(predictions, targets, grid),
        jnp.mean(at_boundary**2, axis=(1, 2)),
        jnp.mean(jnp.abs(targets) ** 2, axis=axes),
        jnp.max(size, axis=axes),
    )


def _boundary(grid: Grid) -> np.ndarray:
    """Where the boundary is looked at: stored Dirichlet nodes, else the outer layer."""
    mask = grid.dirichlet_mask()
    if mask is None:
        mask = np.zeros(grid.shape, bool)
        for axis, (low, _) in enumerate(grid.boundary):
            if not isinstance(low, Periodic):
                np.moveaxis(mask, axis, 0)[[0, -1]] = True
    return mask
