"""The HDF5 layouts of PDEBench."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..grids import AbstractBoundary
from ._axes import check_increasing, grid_of_axes, same_axis
from ._checks import MAX_BYTES, Place, nearest
from ._dataset import DataError
from ._hdf5 import HDF5File
from ._layout import sample_groups
from ._source import HDF5Source, path_list

_AXES = ("x", "y", "z")
_FIELDS = ("density", "pressure", "Vx", "Vy", "Vz")


def open_pdebench(
    paths: str | os.PathLike | Sequence[str | os.PathLike],
    *,
    boundary: AbstractBoundary | Sequence,
    fields: Sequence[str] | None = None,
    subsample: int | Sequence[int] = 1,
    dtype: Any = np.float32,
    max_bytes: int = MAX_BYTES,
    max_open_files: int = 8,
) -> HDF5Source:
    """Open HDF5 files in one of PDEBench's layouts.

    The layout is found by the names in the file:

    - `tensor`, shape (samples, times, x[, y[, z]]): states of one channel.
    - `nu`, shape (samples, x, y), and `tensor`, shape (samples, 1, x, y): the
        coefficient and the solution of Darcy flow.
    - `density`, `pressure`, `Vx`, `Vy`, `Vz`, each of shape (samples, times, x[, y[,
        z]]): states with a channel each.
    - `0000/data`, `0001/data`, … of shape (times, x[, y[, z]], channels): states, one
        group per sample. All of them are looked at when the file is opened, which takes
        a few seconds for a thousand.

    The coordinates are in `x-coordinate`, …, `t-coordinate`, or in `0000/grid/x`, …,
    `0000/grid/t`.

    **The sides.** These files hold the centres of cells, and no values on the sides. A
    grid here is nodal, and a side lies where its boundary condition says: the nodes of
    `source.grid` are at the file's coordinates, exactly, but its box depends on
    `boundary`, which the file does not say. For `Periodic()` all is exact. For
    `Neumann()` the box ends at the first and last centre, half a spacing inside the
    true side; for `Dirichlet()` it ends one spacing outside the last centre, so half a
    spacing outside the true side; `Dirichlet(stored=True)` would take the last centres
    for nodes of the boundary, which they are not. A model trained on such a set learns
    a boundary that is off by that much.

    **Arguments:**

    - `paths`: one file, or several with the same grid, times and names.
    - `boundary`: as for `sciml.grids.Grid`.
    - `fields`: for the third layout: which datasets and in which order. Default: those
        of the table that are there.
    - `subsample`, `dtype`, `max_bytes`, `max_open_files`: as for
        `sciml.data.HDF5Source`.

    **Returns:** a `sciml.data.HDF5Source`; its `parameters(k)` has the attributes of
    the PDE (`beta`, `Nu`, `eta`, …) and the `config` of a sample's group, as text.

    **Raises:** as `HDF5Source`; also where coordinates are not evenly spaced, or differ
    between files or groups.

    !!! example

        ```python
        with sciml.data.open_pdebench(
            "1D_Burgers_Sols_Nu0.01.hdf5", boundary=sciml.grids.Periodic(), subsample=8
        ) as source:
            train = source.transitions(range(9_000))
            test = source.dataset(range(9_000, 10_000))
        ```

    Source: Takamoto et al., *PDEBench: An Extensive Benchmark for Scientific Machine
    Learning*, NeurIPS 2022, and the generators beside it. Time axes in 1-D files have
    one entry more than there are states; the last is dropped.
    """
    listed = path_list(paths)
    found = []
    for path in listed:
        with HDF5File(path, max_bytes) as file:
            found.append(_Contents(file, fields))
        found[0].compare(found[-1])
    first = found[0]
    places = [Place(listed[0], f"dataset {name!r}") for name in first.axis_names]
    return HDF5Source(
        listed,
        first.fields,
        grid=grid_of_axes(places, first.axes, boundary),
        coefficients=first.coefficients,
        times=first.times,
        subsample=subsample,
        dtype=dtype,
        max_bytes=max_bytes,
        max_open_files=max_open_files,
    )


class _Contents:
    """What a file has: datasets with their axes, coordinates and times."""

    def __init__(self, file: HDF5File, fields: Sequence[str] | None):
        self.path = file.path
        self.coefficients: dict[str, str] = {}
        names = file.names()
        if any(name.isascii() and name.isdigit() for name in names):
            self._of_groups(file, fields)
            return
        self._read_axes(file, names, [f"{axis}-coordinate" for axis in _AXES])
        space = " ".join(_AXES[: len(self.axes)])
        if "tensor" in names and fields is None:
            present = ["tensor"]
        elif fields is None:
            present = [name for name in _FIELDS if name in names]
        else:
            present = list(fields)
        if not present:
            raise DataError(
                f"{file.path}: expected a dataset 'tensor', or some of "
                f"{list(_FIELDS)}, or a group per sample ('0000', …): the layouts of "
                f"PDEBench; {nearest('tensor', names)}. For another layout say what "
                "the axes are: sciml.data.HDF5Source(path, "
                "{'velocity': 'sample time x y channel'}, grid=…)."
            )
        self.fields = dict.fromkeys(present, f"sample time {space}")
        if present == ["tensor"] and "nu" in names:
            self.coefficients = {"nu": f"sample {space}"}
            self.times = None
            return
        shape = file.shape(present[0])
        if len(shape) != 2 + len(self.axes):
            Place(file.path, f"dataset {present[0]!r}").fail(
                f"expected shape (samples, times, {space.replace(' ', ', ')}), since "
                f"there are {len(self.axes)} axes of coordinates, got {shape}."
            )
        self.times = _times(file, "t-coordinate", shape[1])

    def _of_groups(self, file: HDF5File, fields: Sequence[str] | None) -> None:
        if fields is not None:
            raise DataError(
                f"{file.path}: fields: here all channels are in one dataset per "
                f"sample; pick channels after reading. Expected None, got {fields!r}."
            )
        groups = sample_groups(file)
        grid = file.names(f"{groups[0]}/grid")
        self._read_axes(file, grid, [f"{groups[0]}/grid/{axis}" for axis in _AXES])
        self.fields = {"*/data": f"time {' '.join(_AXES[: len(self.axes)])} channel"}
        self.times = _times(
            file, f"{groups[0]}/grid/t", file.shape(f"{groups[0]}/data")[0]
        )
        for group in groups[1:]:
            for axis, values in zip("xyz", self.axes, strict=False):
                _check_same(file, f"{group}/grid/{axis}", values, self.path)
            count = file.shape(f"{group}/data")[0]
            times = _times(file, f"{group}/grid/t", count)
            if not same_axis(times, self.times):
                _differs(file, f"{group}/grid/t", self.path)

    def _read_axes(self, file: HDF5File, names, wanted: list[str]) -> None:
        present = [name.rsplit("/", 1)[-1] in names for name in wanted]
        count = max(1, sum(present))
        # Read also where it is missing, for the message.
        self.axis_names = wanted[:count]
        self.axes = [file.read(name) for name in self.axis_names]

    def compare(self, other: "_Contents") -> None:
        """Refuse a file whose layout is not that of the first."""
        if (self.fields, self.coefficients) != (other.fields, other.coefficients):
            raise DataError(
                f"{other.path}: expected {[*self.fields, *self.coefficients]} as in "
                f"{self.path}, got {[*other.fields, *other.coefficients]}."
            )
        pairs = list(zip(self.axis_names, self.axes, other.axes, strict=True))
        if self.times is not None and other.times is not None:
            pairs.append(("t-coordinate", self.times, other.times))
        for name, mine, yours in pairs:
            if not same_axis(mine, yours):
                Place(other.path, f"dataset {name!r}").fail(
                    f"expected the same as in {self.path}, got shape {yours.shape}, "
                    f"{yours.flat[0]:.6g} to {yours.flat[-1]:.6g}."
                )


def _times(file: HDF5File, name: str, count: int) -> np.ndarray:
    times, place = file.read(name), Place(file.path, f"dataset {name!r}")
    check_increasing(place, times)
    if len(times) not in (count, count + 1):
        place.fail(
            f"expected {count} times, one per state (or {count + 1}, as PDEBench's "
            f"1-D files have), got {len(times)}."
        )
    return times[:count]


def _check_same(file: HDF5File, name: str, values: np.ndarray, path) -> None:
    if not same_axis(file.read(name), values):
        _differs(file, name, path)


def _differs(file: HDF5File, name: str, path) -> None:
    Place(file.path, f"dataset {name!r}").fail(
        f"expected the same coordinates as those of the first sample in {path}: all "
        "samples of a data set share one grid and its times."
    )
