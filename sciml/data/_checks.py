"""What every reader checks, and the words in which it complains."""

import difflib
import math
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ._dataset import DataError

# What one call may take of memory unless it is told otherwise.
MAX_BYTES = 16 * 2**30

_KINDS = {"b": "booleans", "i": "integers", "u": "integers", "f": "floats"}


class Place(NamedTuple):
    """Where in a file something is, for messages."""

    path: Path
    what: str

    def fail(self, message: str, cause: BaseException | None = None) -> NoReturn:
        """Raise a `DataError` that starts with the file and the place in it."""
        raise DataError(f"{self.path}, {self.what}: {message}") from cause


def regular_file(path: str | os.PathLike, kind: str) -> Path:
    """The path, if it is a file's.

    **Arguments:**

    - `path`: the path.
    - `kind`: what is expected there, for the message.

    **Raises:** `DataError`.
    """
    try:
        path = Path(path)
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise DataError(f"{path}: expected {kind}, got no such file.") from error
    except TypeError as error:
        raise DataError(f"path: expected a file's name, got {path!r}.") from error
    except (OSError, ValueError) as error:
        raise DataError(
            f"{os.fspath(path)!r}: expected {kind}, but it cannot be read ({error})."
        ) from error
    if not stat.S_ISREG(mode):
        got = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise DataError(f"{path}: expected {kind}, got {got}.")
    return path


def nearest(name: str, available: Iterable[str]) -> str:
    """What a file has instead of a name that it lacks, the nearest first."""
    names = sorted(available)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"the nearest is {close[0]!r}; " if close else ""
    more = ", …" if len(names) > 30 else ""
    return f"{hint}the file has [{', '.join(map(repr, names[:30]))}{more}]"


def check_numeric(place: Place, dtype: np.dtype) -> None:
    """Refuse what are no plain numbers: objects, text, references, records."""
    if dtype.kind not in _KINDS or dtype.itemsize > 8 or dtype.subdtype:
        place.fail(
            "expected real numbers of at most 64 bits or booleans, one per entry, got "
            f"{dtype}."
        )


def check_bytes(
    place: Place, shape: Sequence[int], itemsize: int, max_bytes: int, advice: str
) -> None:
    """Refuse what would take more memory than allowed, before it is taken."""
    needed = math.prod(shape) * itemsize
    if needed > max_bytes:
        place.fail(
            f"shape {tuple(shape)} takes {in_bytes(needed)}, more than "
            f"max_bytes = {in_bytes(max_bytes)}. {advice}"
        )


def in_bytes(number: int) -> str:
    """A number of bytes in a unit that fits."""
    value, unit = float(number), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.4g} {unit}"


def check_finite(
    place: Place, array: np.ndarray, indices: Sequence[range] | None = None
) -> None:
    """Refuse NaN and infinity; say how many there are, and where the first one is.

    **Arguments:**

    - `place`: where the array is from.
    - `array`: the values.
    - `indices`: per axis, the places in the file that were read. Default: all.
    """
    if array.dtype.kind not in "fc":
        return
    finite = np.isfinite(array)
    if finite.all():
        return
    count = int(finite.size - np.count_nonzero(finite))
    first = np.unravel_index(int(np.argmin(finite)), array.shape)
    if indices is None:
        indices = [range(n) for n in array.shape]
    where = tuple(int(along[i]) for along, i in zip(indices, first, strict=True))
    place.fail(
        f"{count} of {array.size} values that were read are NaN or infinite, the first "
        f"at index {where}. Leave out these samples."
    )


def converted(place: Place, array: np.ndarray, dtype: Any) -> np.ndarray:
    """Finite numbers in another type; an overflow is an error."""
    if dtype is None or array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):
        result = array.astype(dtype)
    if array.dtype.kind == "f" and not np.isfinite(result).all():
        largest = float(np.abs(array).max())
        place.fail(
            f"values up to {largest:.3g} do not fit {np.dtype(dtype)}; give "
            "dtype=None to keep the file's type."
        )
    return result


def target_dtype(dtype: Any) -> np.dtype | None:
    """The type to convert to, which has to be a floating one, or None."""
    if dtype is None:
        return None
    try:
        found = np.dtype(dtype)
    except TypeError as error:
        raise DataError(f"dtype: expected a type of numbers, got {dtype!r}.") from error
    if found.kind != "f" or found.itemsize > 8:
        raise DataError(
            "dtype: expected a floating-point type such as numpy.float32, or None for "
            f"the file's own, got {found}."
        )
    return found


def positive_integer(name: str, number: Any) -> int:
    """A count of at least 1."""
    if isinstance(number, bool) or not isinstance(number, int | np.integer):
        raise DataError(f"{name}: expected a whole number, got {number!r}.")
    if number < 1:
        raise DataError(f"{name}: expected at least 1, got {number}.")
    return int(number)
