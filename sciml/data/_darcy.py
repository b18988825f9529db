"""The small Darcy data set that the neural-operator literature trains on."""

import os
from pathlib import Path

import numpy as np

from ..grids import Dirichlet, Grid
from ._dataset import DataError, Dataset
from ._npz import read_array

# Fitted to the data, of which only source/coefficient can be identified: often this set
# is described by coefficients 12 and 3 and source 1, which is not what it holds.
_COEFFICIENT = (0.02, 0.36)


def read_darcy_small(folder: str | os.PathLike) -> tuple[Dataset, Dataset]:
    """The Darcy flow set at 16 × 16 points: 1000 samples to train with, 50 to test.

    −∇·(a∇u) = 1 on the unit square, u = 0 on its boundary, with a = 0.36 where the
    file says True and a = 0.02 where it says False. Inputs are a, targets are u, both
    float32 with one channel. Nodes are at i/16, i = 0, …, 15: row and column 0 lie on
    the boundary and are stored, the last ones lie one spacing inside.

    The stored boundary values are not quite zero in the files (0.002 in the median,
    where u reaches 2), and in 12 training samples and one test sample one of them is
    negative (down to −0.43), which no solution can be. The equation prescribes them, so
    the reader sets row and column 0 of u to 0. For the values as they are use
    `sciml.data.read_npz`.

    **Arguments:**

    - `folder`: holds `train_16.npz` and `test_16.npz`, each with `x` (boolean) and `y`
        of shape (samples, 16, 16), as the Python package neuraloperator (0.3) ships
        them.

    **Returns:**

    Two `Dataset`s, for training and for testing.

    **Raises:** `sciml.data.DataError` naming file, array, expected and got.

    !!! example

        ```python
        train, test = sciml.data.read_darcy_small("darcy_small")
        train.inputs.shape  # (1000, 1, 16, 16)
        ```
    """
    train, test = (Path(folder) / f"{name}_16.npz" for name in ("train", "test"))
    return _read(train), _read(test)


def _read(path: Path) -> Dataset:
    grid = Grid((16, 16), boundary=((Dirichlet(stored=True), Dirichlet()),) * 2)
    x, y = read_array(path, "x"), read_array(path, "y")
    for key, array, kind in (("x", x, "b"), ("y", y, "f")):
        if array.ndim != 3 or array.shape[1:] != grid.shape or array.dtype.kind != kind:
            raise DataError(
                f"{path}, array {key!r}: expected shape (samples, 16, 16) and "
                f"{'booleans' if kind == 'b' else 'floating-point numbers'}, got "
                f"{array.shape} of {array.dtype}."
            )
    y[:, 0, :] = 0
    y[:, :, 0] = 0
    coefficient = np.array(_COEFFICIENT, np.float32)[x.astype(int)]
    try:
        return Dataset(coefficient[:, None], y[:, None].astype(np.float32), grid)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
