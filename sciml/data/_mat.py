"""MATLAB's .mat files, as the papers on neural operators hand out their data in."""

import importlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..grids import Grid
from ._axes import subsampled
from ._checks import (
    MAX_BYTES,
    Place,
    check_bytes,
    check_finite,
    check_numeric,
    converted,
    nearest,
    positive_integer,
    regular_file,
    target_dtype,
)
from ._dataset import DataError, Dataset
from ._hdf5 import HDF5File

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ITEMSIZE = {"double": 8, "single": 4, "logical": 1, "char": 4} | {
    f"{sign}int{bits}": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)
}


def read_mat(
    path: str | os.PathLike,
    *,
    inputs: str = "coeff",
    targets: str | None = "sol",
    grid: Grid,
    subsample: int | Sequence[int] = 1,
    dtype: Any = np.float32,
    max_bytes: int = MAX_BYTES,
) -> Dataset:
    """Read a `Dataset` from a MATLAB file, of version 5 or 7.3.

    The file's first bytes tell the versions apart; 7.3 is HDF5, with the axes in
    reverse order, which is put right, and needs
    `pip install 'sciml-solvers[data]'`. No code of a file is run, and objects, cells
    and structs are refused.

    **Arguments:**

    - `path`: the file.
    - `inputs`, `targets`: names of two variables, of shape `(samples, *space)`, or
        `(samples, *space, times)`, whose times become channels. Default `coeff` and
        `sol`, as the Darcy sets of FNO's authors have; theirs in time have `a` and
        `u`. `targets=None` reads inputs only.
    - `grid`: where the fields in the file live. FNO's Darcy sets of 421 × 421 nodes
        store those of the boundary:
        `Grid((421, 421), boundary=Dirichlet(stored=True))`.
    - `subsample`: keep every s-th node, one number or one per axis. s has to divide
        the intervals of an axis, so that the sides stay where they are. Default 1.
    - `dtype`: of what is read, default float32. None keeps the file's, as a rule
        float64.
    - `max_bytes`: of a variable. Version 5 reads all of it, 7.3 only what is kept.
        Default 16 GiB.

    **Returns:** a `Dataset` on the coarse grid.

    **Raises:** `sciml.data.DataError` naming file, variable, what was expected and what
    came.

    !!! example

        ```python
        from sciml.grids import Dirichlet, Grid

        train = sciml.data.read_mat(
            "piececonst_r421_N1024_smooth1.mat",
            grid=Grid((421, 421), boundary=Dirichlet(stored=True)),
            subsample=5,
        )
        train.inputs.shape  # (1024, 1, 85, 85)
        ```

    For one-step pairs of a variable with times:

        ```python
        states = sciml.data.read_mat(path, inputs="u", targets=None, grid=grid)
        pairs = sciml.data.transitions(states.inputs[:, :, None], grid)
        ```
    """
    path = regular_file(path, "a .mat file")
    max_bytes = positive_integer("max_bytes", max_bytes)
    dtype = target_dtype(dtype)
    coarse, space = subsampled(path, grid, subsample)
    names = [inputs] if targets is None else [inputs, targets]
    read = _read_73 if _is_hdf5(path) else _read_5
    fields = [
        converted(_place(path, name), array, dtype)
        for name, array in zip(
            names, read(path, names, grid.shape, space, max_bytes), strict=True
        )
    ]
    try:
        return Dataset(fields[0], None if targets is None else fields[1], coarse)
    except DataError as error:
        raise DataError(
            f"{path} (inputs={inputs!r}, targets={targets!r}): {error}"
        ) from error


def _place(path: Path, name: str) -> Place:
    return Place(path, f"variable {name!r}")


def _is_hdf5(path: Path) -> bool:
    """Whether the file is of version 7.3; refuse what is neither that nor 5."""
    try:
        with open(path, "rb") as file:
            start = file.read(520)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}).") from error
    if start.startswith(_HDF5) or start[512:].startswith(_HDF5):
        return True
    if start.startswith(b"MATLAB 5.0") and start[126:128] in (b"IM", b"MI"):
        return False
    raise DataError(
        f"{path}: expected a MATLAB file of version 5 or 7.3, got something else, or a "
        f"damaged header: it starts with {start[:20]!r}. Of version 4? Save it anew "
        "with `save -v7`."
    )


def _read_73(path: Path, names, shape, space, max_bytes) -> list[np.ndarray]:
    arrays = []
    with HDF5File(path, max_bytes) as file:
        for name in names:
            place, kind = _place(path, name), file.attributes(name)
            kind, empty = kind.get("MATLAB_class"), kind.get("MATLAB_empty")
            if empty or kind not in (None, *_ITEMSIZE) or kind == "char":
                place.fail(f"expected numbers, got {'nothing' if empty else kind}.")
            # MATLAB counts along the first axis first, HDF5 along the last.
            full = file.shape(name)[::-1]
            index = _index(place, full, shape, space)
            array = file.read(name, index[::-1], finite=False).T
            arrays.append(_as_channels(place, array, index, full, len(shape)))
    return arrays


def _read_5(path: Path, names, shape, space, max_bytes) -> list[np.ndarray]:
    # Not at the top: importing it changes Python's filters of warnings.
    matlab: Any = importlib.import_module("scipy.io")
    with warnings.catch_warnings():
        # Of unreadable variables, which are noticed below.
        warnings.simplefilter("ignore")
        try:
            listed = {name: (size, kind) for name, size, kind in matlab.whosmat(path)}
        except Exception as error:
            _damaged(path, error)
        for name in names:
            place = _place(path, name)
            if name not in listed:
                place.fail(f"no such variable; {nearest(name, listed)}.")
            size, kind = listed[name]
            if kind not in _ITEMSIZE or kind == "char":
                place.fail(f"expected numbers, got a {kind} array.")
            check_bytes(place, size, _ITEMSIZE[kind], max_bytes, "Raise it.")
            _index(place, size, shape, space)
        try:
            found = matlab.loadmat(path, variable_names=names)
        except Exception as error:
            _damaged(path, error)
    arrays = []
    for name in names:
        place, array = _place(path, name), found.get(name)
        if not isinstance(array, np.ndarray) or array.shape != tuple(listed[name][0]):
            place.fail(
                f"expected an array of shape {listed[name][0]}, got {type(array)}: "
                "damaged."
            )
        check_numeric(place, array.dtype)
        index = _index(place, array.shape, shape, space)
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        part = array[tuple(index)]
        arrays.append(_as_channels(place, part, index, array.shape, len(shape)))
    return arrays


def _damaged(path: Path, error: Exception) -> NoReturn:
    # What SciPy raises for damaged files is of any type.
    raise DataError(
        f"{path}: cannot be read as a MATLAB file: truncated or damaged ({error})."
    ) from error


def _index(place: Place, shape, expected, space) -> list[slice]:
    """What to take of each axis of a variable: samples, space, and times if any."""
    if len(shape) not in (1 + len(expected), 2 + len(expected)) or (
        tuple(shape[1 : 1 + len(expected)]) != tuple(expected)
    ):
        place.fail(
            f"expected shape (samples, {', '.join(map(str, expected))}), or the same "
            f"with times at the end, for this grid, got {tuple(shape)}."
        )
    if 0 in shape:
        place.fail(f"expected at least one sample and time, got {tuple(shape)}.")
    times = [slice(None)] * (len(shape) - 1 - len(expected))
    return [slice(None), *space, *times]


def _as_channels(
    place: Place, array: np.ndarray, index: list[slice], full, ndim: int
) -> np.ndarray:
    """The part of a variable that was read, checked, with its times as channels."""
    check_finite(place, array, [range(n)[i] for n, i in zip(full, index, strict=True)])
    return array[:, None] if array.ndim == 1 + ndim else np.moveaxis(array, -1, 1)
