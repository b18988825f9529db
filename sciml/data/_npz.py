"""NumPy archives of fields."""

import lzma
import math
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ..grids import Grid
from ._checks import (
    MAX_BYTES,
    Place,
    check_bytes,
    check_finite,
    nearest,
    positive_integer,
    regular_file,
)
from ._dataset import DataError, Dataset


def read_npz(
    path: str | os.PathLike,
    *,
    inputs: str = "x",
    targets: str | None = "y",
    grid: Grid,
    max_bytes: int = MAX_BYTES,
) -> Dataset:
    """Read a `Dataset` from a NumPy `.npz` archive.

    Nothing is unpickled, and the size that an array declares is compared with the
    bytes that are there before memory is taken for it.

    **Arguments:**

    - `path`: the file.
    - `inputs`, `targets`: names of two arrays in it, of shape
        `(samples, channels, *space)`, or `(samples, *space)` for one channel. Default
        `x` and `y`. `targets=None` reads inputs only.
    - `grid`: where the fields live. A file does not say: whether boundary nodes are
        among the values has to be known.
    - `max_bytes`: of an array. Default 16 GiB.

    **Raises:** `sciml.data.DataError` naming file, key, what was expected and what
    came.

    !!! example

        ```python
        data = sciml.data.read_npz("darcy.npz", inputs="a", targets="u", grid=grid)
        ```
    """
    fields = [read_array(path, inputs, max_bytes)]
    if targets is not None:
        fields.append(read_array(path, targets, max_bytes))
    fields = [f[:, None] if f.ndim == 1 + grid.ndim else f for f in fields]
    try:
        return Dataset(fields[0], fields[1] if targets is not None else None, grid)
    except DataError as error:
        raise DataError(
            f"{Path(path)} (inputs={inputs!r}, targets={targets!r}): {error}"
        ) from error


def read_array(
    path: str | os.PathLike, key: str, max_bytes: int = MAX_BYTES
) -> np.ndarray:
    """One array of an `.npz` archive, without pickle; its values are finite.

    **Arguments:**

    - `path`: the file.
    - `key`: the array's name.
    - `max_bytes`: that it may take.

    **Raises:** `sciml.data.DataError`.
    """
    path = regular_file(path, "an .npz archive")
    place = Place(path, f"array {key!r}")
    max_bytes = positive_integer("max_bytes", max_bytes)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            info = members.get(f"{key}.npy")
            if info is None:
                names = [m.removesuffix(".npy") for m in members]
                place.fail(f"no such array; {nearest(key, names)}.")
            with archive.open(info) as file:
                array = _read_member(place, file, info.file_size, max_bytes)
    except zipfile.BadZipFile as error:
        raise DataError(
            f"{path}: not an .npz archive, truncated, or damaged ({error})."
        ) from error
    except (OSError, EOFError, zlib.error, lzma.LZMAError, MemoryError) as error:
        place.fail(f"cannot be read ({error}).", error)
    except (NotImplementedError, RuntimeError) as error:
        # Encrypted members, and methods of compression that Python lacks.
        place.fail(f"cannot be unpacked ({error}).", error)
    check_finite(place, array)
    return array


def _read_member(place: Place, file, size: int, max_bytes: int) -> np.ndarray:
    """An array in NumPy's .npy format from an open member of `size` bytes."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(file)
        if version not in readers:
            raise ValueError(f"version {version} of the .npy format")
        shape, fortran_order, dtype = readers[version](file)
    except ValueError as error:
        place.fail(f"not an array in NumPy's format ({error}).", error)
    if dtype.hasobject:
        place.fail(
            "an array of Python objects is a pickle, which could run code; save plain "
            "numbers instead."
        )
    expected, actual = math.prod(shape) * dtype.itemsize, size - file.tell()
    if expected != actual or min(shape, default=0) < 0:
        place.fail(
            f"expected {expected} bytes for {dtype} of shape {shape}, got {actual}."
        )
    check_bytes(place, shape, dtype.itemsize, max_bytes, "Raise it.")
    content = file.read()
    if len(content) != expected:
        place.fail(f"expected {expected} bytes, got {len(content)}: truncated.")
    # A bytearray, because arrays over bytes cannot be written to.
    flat = np.frombuffer(bytearray(content), dtype)
    return flat.reshape(shape, order="F" if fortran_order else "C")
