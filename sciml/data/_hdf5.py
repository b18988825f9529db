"""HDF5 files that others wrote: what may be read, and nothing else."""

import contextlib
import importlib
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ._checks import (
    MAX_BYTES,
    Place,
    check_bytes,
    check_finite,
    check_numeric,
    nearest,
    positive_integer,
    regular_file,
)
from ._dataset import DataError

# A soft link may point to a soft link; more in a row than this is a circle.
_MAX_LINKS = 16
# Attributes hold parameters: numbers and short texts.
_MAX_ATTRIBUTE = 2**20
# Coordinates and the like, which are read whole.
_MAX_SMALL = 2**28


class HDF5File:
    """One open HDF5 file, of which only plain arrays within it can be read.

    Links are looked at before they are followed: those that leave the file are
    refused, like virtual sets, external storage, and types that are no numbers. What
    HDF5 itself complains of becomes a `DataError`.

    **Arguments:**

    - `path`: the file.
    - `max_bytes`: what one read, and one chunk, may take.
    """

    def __init__(self, path: str | os.PathLike, max_bytes: int = MAX_BYTES):
        self.h5py = hdf5_library()
        self.path = regular_file(path, "an HDF5 file")
        self.max_bytes = positive_integer("max_bytes", max_bytes)
        try:
            self.file = self.h5py.File(self.path, "r")
        except Exception as error:
            raise DataError(
                f"{self.path}: not an HDF5 file, truncated, or damaged ({error})."
            ) from error
        self.size = self.path.stat().st_size

    def close(self) -> None:
        """Close the file."""
        # Closing a damaged one may complain again.
        with contextlib.suppress(Exception):
            self.file.close()

    def __enter__(self) -> "HDF5File":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def names(self, group: str = "/") -> list[str]:
        """What is in a group."""
        place = Place(self.path, f"group {group!r}")
        found = self._find(group)
        with self._reported(place):
            if not isinstance(found, self.h5py.Group):
                place.fail("expected a group, got a dataset.")
            return [_as_text(name) for name in found]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a dataset."""
        return self._dataset(name).shape

    def dtype(self, name: str) -> np.dtype:
        """The type of a dataset, in native byte order."""
        return self._dataset(name).dtype.newbyteorder("=")

    def read(
        self, name: str, index: Sequence[slice] | None = None, *, finite: bool = True
    ) -> np.ndarray:
        """Part of a dataset, in native byte order.

        **Arguments:**

        - `name`: its path in the file.
        - `index`: a slice with a positive step per axis. Default: all of a small set.
        - `finite`: whether NaN and infinity are refused.
        """
        place, dataset = self._place(name), self._dataset(name)
        small = index is None
        index = [slice(None)] * len(dataset.shape) if index is None else index
        picked = [range(n)[part] for n, part in zip(dataset.shape, index, strict=True)]
        shape = tuple(map(len, picked))
        limit = min(self.max_bytes, _MAX_SMALL) if small else self.max_bytes
        advice = (
            "That is no vector of coordinates."
            if small
            else "Read fewer samples at once, or raise it."
        )
        check_bytes(place, shape, dataset.dtype.itemsize, limit, advice)
        with self._reported(place):
            array = np.asarray(dataset[tuple(index)])
            if array.shape != shape:
                place.fail(f"expected shape {shape}, got {array.shape}: damaged.")
            if array.dtype.kind == "b":
                # Other bytes than 0 and 1 would make a truth value that is neither.
                array = array.view(np.uint8) != 0
            array = array.astype(array.dtype.newbyteorder("="), copy=False)
        if finite:
            check_finite(place, array, picked)
        return array

    def attributes(self, name: str = "/") -> dict[str, Any]:
        """Attributes that are numbers or texts, as Python's own types where scalar."""
        place = Place(self.path, f"attributes of {name!r}")
        found, values = self._find(name), {}
        with self._reported(place):
            for key in list(found.attrs):
                value = self._attribute(place, found.attrs, key)
                if value is not None:
                    values[_as_text(key)] = value
        return values

    def _attribute(self, place: Place, attributes: Any, key: str | bytes) -> Any:
        kept = attributes.get_id(key)
        text = self.h5py.check_string_dtype(kept.dtype) is not None
        if kept.shape is None or not (text or kept.dtype.kind in "biuf"):
            return None
        size = math.prod(kept.shape) * kept.dtype.itemsize
        if size > _MAX_ATTRIBUTE:
            place.fail(f"{key!r} takes {size} bytes, more than {_MAX_ATTRIBUTE}.")
        value = attributes[key]
        if text:
            decode = lambda t: t.decode("utf-8") if isinstance(t, bytes) else str(t)
            if np.ndim(value) == 0:
                return decode(value)
            return [decode(t) for t in np.asarray(value, object).ravel()]
        return value.item() if np.ndim(value) == 0 else np.asarray(value)

    def _place(self, name: str) -> Place:
        return Place(self.path, f"dataset {name!r}")

    @contextlib.contextmanager
    def _reported(self, place: Place) -> Iterator[None]:
        try:
            yield
        except DataError:
            raise
        except Exception as error:
            # In a damaged file anything can be wrong anywhere, and which of its
            # exceptions h5py chooses then is not documented.
            place.fail(f"cannot be read: truncated or damaged ({error}).", error)

    def _find(self, name: str, links: int = 0) -> Any:
        """The object of this name, going through links one by one."""
        place = self._place(name)
        with self._reported(place):
            found, parts = self.file["/"], [part for part in name.split("/") if part]
            for k, part in enumerate(parts):
                if not isinstance(found, self.h5py.Group):
                    place.fail(f"{'/'.join(parts[:k])!r} is a dataset, no group.")
                # (`part in found` would follow an external link to see what is there.)
                key = part.encode("utf-8", "surrogateescape")
                if not found.id.links.exists(key):
                    rest = f" in {'/'.join(parts[:k])!r}" if k else ""
                    place.fail(
                        f"no {part!r}{rest}; {nearest(part, map(_as_text, found))}."
                    )
                found = self._follow(place, found, key, links)
            return found

    def _follow(self, place: Place, group: Any, key: bytes, links: int) -> Any:
        kind = group.id.links.get_info(key).type
        if kind == self.h5py.h5l.TYPE_HARD:
            return group[key]
        if kind != self.h5py.h5l.TYPE_SOFT:
            place.fail(
                f"{key.decode('utf-8', 'replace')!r} is a link out of the file, which "
                "is not followed. Copy what it points to into the file (h5repack)."
            )
        if links == _MAX_LINKS:
            place.fail("its links go round in circles.")
        target = group.id.links.get_val(key).decode("utf-8", "surrogateescape")
        if not target.startswith("/"):
            target = f"{group.name}/{target}"
        return self._find(target, links + 1)

    def _dataset(self, name: str) -> Any:
        """A dataset that holds plain numbers, all of which are in the file."""
        place, found = self._place(name), self._find(name)
        with self._reported(place):
            if isinstance(found, self.h5py.Group):
                names = nearest("", map(_as_text, found))
                place.fail(f"expected a dataset, got a group: {names}.")
            if not isinstance(found, self.h5py.Dataset):
                place.fail("expected a dataset, got a named type.")
            if found.shape is None:
                place.fail("it is empty.")
            check_numeric(place, found.dtype)
            self._check_storage(place, found)
        return found

    def _check_storage(self, place: Place, dataset: Any) -> None:
        """Compare what a dataset declares with what the file has."""
        if dataset.is_virtual:
            place.fail(
                "it is virtual: its values are elsewhere, and are not looked up."
            )
        if dataset.external:
            place.fail("its values are in other files, which are not opened.")
        number, stored = dataset.id, dataset.id.get_storage_size()
        declared = math.prod(dataset.shape) * dataset.dtype.itemsize
        if stored > self.size:
            place.fail(
                f"declares {stored} stored bytes, but the file has {self.size}: "
                "truncated or damaged."
            )
        if dataset.chunks is None:
            self._check_filters(place, number)
            offset = number.get_offset()
            if stored != declared:
                never = " It was never written." if stored == 0 else ""
                place.fail(
                    f"shape {dataset.shape} of {dataset.dtype} declares {declared} "
                    f"bytes, the file has {stored} for it.{never}"
                )
            if offset is not None and offset + stored > self.size:
                place.fail(
                    f"expected {stored} bytes from byte {offset} on, but the file has "
                    f"{self.size}: truncated."
                )
            return
        check_bytes(
            Place(place.path, f"{place.what}, one chunk"),
            dataset.chunks,
            dataset.dtype.itemsize,
            self.max_bytes,
            "Raise it, or store smaller chunks.",
        )
        self._check_filters(place, number)
        expected = math.prod(
            -(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True)
        )
        # What was never written would be read as zeros.
        if expected != (found := number.get_num_chunks()):
            place.fail(
                f"shape {dataset.shape} in chunks of {dataset.chunks} takes {expected} "
                f"chunks, the file has {found}: it was not written to the end."
            )

    def _check_filters(self, place: Place, number: Any) -> None:
        pipeline = number.get_create_plist()
        for k in range(pipeline.get_nfilters()):
            code, _, _, name = pipeline.get_filter(k)
            if not self.h5py.h5z.filter_avail(code):
                place.fail(
                    f"it is compressed by {name.decode('utf-8', 'replace')!r} (HDF5 "
                    f"filter {code}), which is not installed here. Compress it anew "
                    "with h5repack -f GZIP=4, or import a package that registers it."
                )


def _as_text(name: str | bytes) -> str:
    """A name in a file; h5py gives bytes where it is not in UTF-8."""
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name


class FilePool:
    """Open files, at most so many; the one not used for longest is closed first.

    **Arguments:**

    - `max_open_files`: how many.
    - `max_bytes`: as of `HDF5File`.
    """

    def __init__(self, max_open_files: int, max_bytes: int):
        self.max_open_files, self.max_bytes = max_open_files, max_bytes
        self.closed = False
        self._files: OrderedDict[Path, HDF5File] = OrderedDict()
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def opened(self, path: Path) -> Iterator[HDF5File]:
        """A file of the pool, for use by one thread at a time."""
        with self._lock:
            if self.closed:
                raise DataError(f"{path}: its source is closed; make a new one.")
            file = self._files.pop(path, None)
            if file is None:
                while len(self._files) >= self.max_open_files:
                    self._files.popitem(last=False)[1].close()
                file = HDF5File(path, self.max_bytes)
            self._files[path] = file
            yield file

    def close(self) -> None:
        """Close all of them."""
        with self._lock:
            self.closed = True
            while self._files:
                self._files.popitem()[1].close()


def hdf5_library() -> Any:
    """h5py, or an error with the line that installs it."""
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        raise ImportError(
            "HDF5 files need h5py. Install it with pip install 'sciml-solvers[data]'"
        ) from error
