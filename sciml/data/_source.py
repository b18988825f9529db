"""Trajectories and fields in HDF5 files, read sample by sample."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..grids import Grid
from ._axes import check_increasing, check_uniform, subsampled
from ._checks import (
    MAX_BYTES,
    Place,
    check_bytes,
    converted,
    positive_integer,
    target_dtype,
)
from ._dataset import DataError, Dataset, _checked_index
from ._hdf5 import FilePool, HDF5File
from ._layout import Field, check_field, parameter_of, sample_groups
from ._windows import evolution, transitions

# Long stretches of samples are read in pieces, so that what is on its way to another
# type or order of axes takes little memory beside the result.
_PIECE = 2**26

Names = Mapping[str, str]


class HDF5Source:
    """Fields in HDF5 files of any layout, read by samples and never whole.

    A layout says, for each dataset, what its axes are: `sample`, `time`, `x`, `y`, `z`
    and `channel`, in the order that they have in the file. An axis that is missing has
    no effect on the field: without `sample` all samples share it, without `x` it does
    not depend on x. `sciml.data.open_pdebench` and `sciml.data.open_the_well` find
    these things out by themselves, for their layouts.

    Opening looks at every file: that datasets are there, have shapes that fit, hold
    numbers, all of them in the file. Values are checked when they are read: NaN and
    infinity are refused. A context manager: leaving it closes the files.

    **Arguments:**

    - `paths`: one file, or several with the same layout, whose samples follow each
        other.
    - `fields`: axes by dataset, `{"group/u": "sample time x y"}`: what evolves, or
        what a steady problem is solved for. Under `"*/u"` every sample has a group of
        its own, whose name is a whole number. Channels are in this order.
    - `grid`: where all the fields in the files live.
    - `coefficients`: the same for fields that are given and do not change in time.
    - `parameters`: the same for numbers, with the axes `sample`, `time`, `channel`.
    - `times`: when the states were saved. Default 0, 1, 2, …
    - `subsample`: keep every s-th node, one number or one per axis. s has to divide
        the intervals of an axis, so that the sides stay where they are; `grid` and
        what is read are then the coarse ones. Default 1.
    - `dtype`: of what is read, default float32. None keeps the files' own.
    - `max_bytes`: of one read. What a set declares is compared with this and with the
        file before memory is taken. Default 16 GiB.
    - `max_open_files`: the file that was not used for longest is closed first.
        Default 8.

    **Attributes:** `paths`; `grid`; `times`, with the first; `fields` and
    `coefficients`, the names of the channels; `num_samples`, per file. `len` is their
    sum.

    **Raises:** `sciml.data.DataError` naming file, dataset, what was expected and what
    came: for anything missing (with the nearest name), of another shape or type, not
    finite, truncated, compressed by an unknown filter; for links out of the file,
    virtual sets and external storage. `ImportError` without h5py, which comes with
    `pip install 'sciml-solvers[data]'`.

    !!! example

        ```python
        import h5py
        import numpy as np

        import sciml

        with h5py.File("waves.h5", "w") as file:
            file["u"] = np.random.default_rng(0).normal(size=(20, 11, 64))

        grid = sciml.grids.Grid(64, boundary=sciml.grids.Periodic())
        with sciml.data.HDF5Source("waves.h5", {"u": "sample time x"}, grid=grid) as s:
            len(s), s.fields  # 20, ("u",)
            pairs = s.transitions(range(16))  # 160 pairs u(t), u(t + Δt)
            test = s.dataset(range(16, 20))  # u(0), and 10 channels: the later ones
        ```
    """

    def __init__(
        self,
        paths: str | os.PathLike | Sequence[str | os.PathLike],
        fields: Names,
        *,
        grid: Grid,
        coefficients: Names | None = None,
        parameters: Names | None = None,
        times: Any = None,
        subsample: int | Sequence[int] = 1,
        dtype: Any = np.float32,
        max_bytes: int = MAX_BYTES,
        max_open_files: int = 8,
    ):
        self.paths = path_list(paths)
        self._full_grid, self._dtype = grid, target_dtype(dtype)
        self._max_bytes = positive_integer("max_bytes", max_bytes)
        max_open_files = positive_integer("max_open_files", max_open_files)
        self.grid, self._space = subsampled(self.paths[0], grid, subsample)
        first = self.paths[0]
        self._fields = [Field.of(first, n, a, grid) for n, a in fields.items()]
        coefficients = coefficients or {}
        self._coefficients = [
            Field.of(first, n, a, grid, timeless=True) for n, a in coefficients.items()
        ]
        self._parameters = dict(parameters or {})
        if not self._fields:
            raise DataError(f"{first}: fields: expected at least one, got none.")
        self._pool = FilePool(max_open_files, self._max_bytes)
        self._groups: list[list[str]] = []
        self.num_samples: tuple[int, ...] = ()
        self._num_times, self._types = 0, []
        try:
            for path in self.paths:
                with self._pool.opened(path) as file:
                    self._inspect(file)
            self.times = self._checked_times(times)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the files; nothing can be read any more."""
        self._pool.close()

    def __enter__(self) -> "HDF5Source":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        return sum(self.num_samples)

    def __repr__(self) -> str:
        return (
            f"HDF5Source({len(self.paths)} files, {len(self)} samples, "
            f"{len(self.times)} times, fields={self.fields}, "
            f"coefficients={self.coefficients}, shape={self.grid.shape})"
        )

    @property
    def fields(self) -> tuple[str, ...]:
        """The channels of a state."""
        return tuple(name for field in self._fields for name in field.channels)

    @property
    def coefficients(self) -> tuple[str, ...]:
        """The channels of what does not change in time."""
        return tuple(name for field in self._coefficients for name in field.channels)

    def parameters(self, sample: int) -> dict[str, Any]:
        """The numbers and texts that a file says of a sample.

        Attributes of the file, of the sample's own group if it has one, and the
        datasets that were named as parameters.
        """
        (sample,) = self._checked_samples(sample)
        path, number, groups = self._locate(sample)
        with self._pool.opened(path) as file:
            values = file.attributes()
            if groups:
                values |= file.attributes(groups[number])
            for name, axes in self._parameters.items():
                values[name.rsplit("/", 1)[-1]] = parameter_of(file, name, axes, number)
        return values

    def read(
        self, samples: Any = None, saves: slice = slice(None)
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """States and coefficients as arrays.

        **Arguments:**

        - `samples`: which ones, in any order: a number, a slice, a range or a sequence
            of them. Default: all.
        - `saves`: which times. Default: all.

        **Returns:** states, shape `(samples, times, channels, *space)`, and
        coefficients, shape `(samples, channels, *space)`, or None if there are none.
        """
        wanted = self._checked_samples(samples)
        saves = slice(*saves.indices(self._num_times))
        num_saves = len(range(self._num_times)[saves])
        if saves.step < 1 or num_saves == 0:
            raise DataError(
                f"saves: expected at least one of {self._num_times} times, in "
                f"increasing order, got {saves}."
            )
        dtype = self._dtype or np.result_type(*self._types)
        channels = len(self.fields), len(self.coefficients)
        shape = (len(wanted), num_saves, channels[0], *self.grid.shape)
        check_bytes(
            Place(self.paths[0], f"{len(wanted)} samples of {num_saves} times"),
            (len(wanted), num_saves * channels[0] + channels[1], *self.grid.shape),
            dtype.itemsize,
            self._max_bytes,
            "Read fewer (`samples=range(100)`), or raise it.",
        )
        states = np.empty(shape, dtype)
        fixed = np.empty((len(wanted), 1, channels[1], *self.grid.shape), dtype)
        one = math.prod(shape[1:]) * 8
        for first, part in _runs(wanted, self.num_samples, max(1, _PIECE // one)):
            path, number, groups = self._locate(part[0])
            here = slice(first, first + len(part))
            numbers = range(number, number + len(part))
            with self._pool.opened(path) as file:
                self._fill(states[here], file, self._fields, numbers, groups, saves)
                self._fill(
                    fixed[here], file, self._coefficients, numbers, groups, slice(0, 1)
                )
        return states, fixed[:, 0] if channels[1] else None

    def dataset(self, samples: Any = None, num_saves: int | None = None) -> Dataset:
        """First states, and what becomes of them.

        **Arguments:**

        - `samples`: as for `read`. Default: all.
        - `num_saves`: later states, evenly spaced and up to the last. Has to divide
            the intervals that the file has. Default: all of them.

        **Returns:** a `Dataset`. Inputs are the first state's channels, then the
        coefficients; targets the later states' channels, time by time: with one
        channel as of `dataset` of the problems that make their own data. Where there
        is one time only, inputs are the coefficients and targets that state.
        """
        states, fixed = self.read(samples, self._saves(num_saves))
        return evolution(states, fixed, self.grid)

    def transitions(
        self, samples: Any = None, num_saves: int | None = None, *, window: int = 1
    ) -> Dataset:
        """Pairs of states one saving interval apart, see `sciml.data.transitions`.

        **Arguments:**

        - `samples`, `num_saves`: as for `dataset`; Δt is the time between those saves.
        - `window`: how many states a model sees. Default 1.
        """
        saves = self._saves(num_saves)
        times = self.times[saves]
        if len(times) > 1:
            check_uniform(Place(self.paths[0], "times"), times)
        states, fixed = self.read(samples, saves)
        return transitions(states, self.grid, window=window, coefficients=fixed)

    def _inspect(self, file: HDF5File) -> None:
        """Check one file against the layout, and against the files before it."""
        every = [*self._fields, *self._coefficients]
        groups = sample_groups(file) if any(f.grouped for f in every) else []
        samples, times = len(groups) or None, None
        for field in every:
            name = field.path(groups[0] if groups else "")
            samples, times = check_field(
                file, name, field, self._full_grid, samples, times
            )
        for name, axes in self._parameters.items():
            parameter_of(file, name, axes, 0, samples)
        types = [file.dtype(f.path(groups[0] if groups else "")) for f in every]
        self._types = [*self._types, *types]
        times = 1 if times is None else times
        if self._num_times not in (0, times):
            raise DataError(
                f"{file.path}: expected {self._num_times} times as in {self.paths[0]}, "
                f"got {times}."
            )
        self._num_times = times
        self._groups.append(groups)
        self.num_samples = (*self.num_samples, samples or 1)

    def _checked_times(self, times: Any) -> np.ndarray:
        if times is None:
            return np.arange(self._num_times, dtype=np.float64)
        times = np.asarray(times)
        place = Place(self.paths[0], "times")
        if times.shape != (self._num_times,) or times.dtype.kind not in "iuf":
            place.fail(
                f"expected {self._num_times} numbers, one per state, got shape "
                f"{times.shape} of {times.dtype}."
            )
        check_increasing(place, times)
        return times

    def _checked_samples(self, samples: Any) -> list[int]:
        if samples is None:
            samples = slice(None)
        if isinstance(samples, slice):
            wanted = list(range(len(self))[samples])
        else:
            array = np.atleast_1d(np.asarray(samples))
            try:
                index = _checked_index(array, len(self))
            except IndexError as error:
                raise DataError(f"samples: {error}") from error
            wanted = [int(i) % len(self) for i in index]
        if not wanted:
            raise DataError(f"samples: none of {len(self)} is in {samples!r}.")
        return wanted

    def _locate(self, sample: int) -> tuple[Path, int, list[str]]:
        """The file of a sample, its number there, and the groups of that file."""
        for path, count, groups in zip(
            self.paths, self.num_samples, self._groups, strict=True
        ):
            if sample < count:
                return path, sample, groups
            sample -= count
        raise AssertionError("a sample beyond the last")

    def _saves(self, num_saves: int | None) -> slice:
        intervals = self._num_times - 1
        if num_saves is None or intervals == 0:
            return slice(None)
        num_saves = positive_integer("num_saves", num_saves)
        if intervals % num_saves:
            divisors = [d for d in range(1, intervals + 1) if intervals % d == 0]
            raise DataError(
                f"num_saves: the file has {intervals} intervals of time, which "
                f"{num_saves} does not divide. These numbers do: {divisors}."
            )
        return slice(None, None, intervals // num_saves)

    def _fill(self, out, file, fields, numbers, groups, saves) -> None:
        start = 0
        for field in fields:
            width = len(field.channels)
            part = out[:, :, start : start + width]
            if field.grouped:
                for k, number in enumerate(numbers):
                    name = field.path(groups[number])
                    check_field(
                        file, name, field, self._full_grid, None, self._num_times
                    )
                    part[k : k + 1] = self._piece(file, name, field, numbers, saves)
            else:
                part[...] = self._piece(file, field.path(), field, numbers, saves)
            start += width

    def _piece(self, file, name, field, numbers, saves) -> np.ndarray:
        samples = slice(numbers[0], numbers[-1] + 1)
        array = file.read(name, field.index(samples, saves, self._space))
        array = converted(Place(file.path, f"dataset {name!r}"), array, self._dtype)
        return field.arranged(array, self.grid.ndim)


def path_list(paths: Any) -> list[Path]:
    """One path or several, as a list without repetitions."""
    single = isinstance(paths, str | os.PathLike)
    found = [Path(path) for path in ([paths] if single else paths)]
    if not found or len(set(found)) != len(found):
        raise DataError(f"paths: expected files, each of them once, got {paths!r}.")
    return found


def _runs(
    wanted: list[int], counts: Sequence[int], longest: int
) -> Iterator[tuple[int, list[int]]]:
    """Stretches of consecutive samples within one file, and where each starts."""
    ends = set(np.cumsum(counts).tolist())
    start = 0
    for k in range(1, len(wanted) + 1):
        if (
            k == len(wanted)
            or wanted[k] != wanted[k - 1] + 1
            or wanted[k] in ends
            or k - start == longest
        ):
            yield start, wanted[start:k]
            start = k
