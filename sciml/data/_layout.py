"""What the axes of a dataset mean, and how they become those of a field."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..grids import Grid
from ._checks import Place
from ._dataset import DataError
from ._hdf5 import HDF5File

_SPACE = ("x", "y", "z")


class Field(NamedTuple):
    """A dataset with named axes.

    **Attributes:**

    - `name`: its path; a leading `*` stands for the group of a sample.
    - `axes`: of the dataset, in its order: `sample`, `time`, `channel` (any number of
        times), `x`, `y`, `z`.
    - `sizes`: of the axes called `channel`.
    """

    name: str
    axes: tuple[str, ...]
    sizes: list[int]

    @classmethod
    def of(
        cls, path: Path, name: str, axes: str, grid: Grid, timeless: bool = False
    ) -> "Field":
        """Parse what a user wrote."""
        words = tuple(axes.split())
        once = ("sample", "time", *_SPACE[: grid.ndim])
        unknown = [w for w in words if w not in (*once, "channel")]
        twice = [w for w in once if words.count(w) > 1]
        place = Place(path, f"dataset {name!r}")
        if unknown or twice or not words:
            place.fail(
                f"expected its axes by name, out of {(*once, 'channel')}, got {axes!r}."
            )
        if timeless and "time" in words:
            place.fail(
                f"coefficients do not change in time, but its axes are {axes!r}. Put "
                "it into `fields`."
            )
        if name.startswith("*/") and "sample" in words:
            place.fail(f"a sample's own group has no axis 'sample', got {axes!r}.")
        if "*" in name.removeprefix("*/"):
            place.fail("a star may stand only for the groups of the samples: '*/name'.")
        return cls(name, words, [])

    @property
    def grouped(self) -> bool:
        """Whether every sample has a group of its own."""
        return self.name.startswith("*/")

    @property
    def channels(self) -> list[str]:
        """A name for each channel."""
        last = self.name.rsplit("/", 1)[-1]
        if not self.sizes:
            return [last]
        return [f"{last}[{k}]" for k in range(math.prod(self.sizes))]

    def path(self, group: str = "") -> str:
        """The dataset's path, for a sample's group."""
        return f"{group}{self.name[1:]}" if self.grouped else self.name

    def index(
        self, samples: slice, saves: slice, space: tuple[slice, ...]
    ) -> list[slice]:
        """What to read of each axis."""
        parts = {"sample": samples, "time": saves, "channel": slice(None)}
        parts |= dict(zip(_SPACE, space, strict=False))
        return [parts[axis] for axis in self.axes]

    def arranged(self, array: np.ndarray, ndim: int) -> np.ndarray:
        """The array as (sample, time, channel, *space), missing axes of length 1."""
        order = ("sample", "time", "channel", *_SPACE[:ndim])
        kept = sorted(range(array.ndim), key=lambda k: order.index(self.axes[k]))
        array = array.transpose(kept)
        sizes = {a: 1 for a in order}
        for k, axis in enumerate(kept):
            sizes[self.axes[axis]] *= array.shape[k]
        return array.reshape([sizes[a] for a in order])


def sample_groups(file: HDF5File) -> list[str]:
    """The groups of a file whose names are whole numbers, in their order."""
    names = [n for n in file.names() if n.isascii() and n.isdigit()]
    if not names:
        raise DataError(
            f"{file.path}: expected a group for each sample, named '0000', '0001', …, "
            f"got {sorted(file.names())[:10]}."
        )
    return sorted(names, key=lambda name: (int(name), name))


def check_field(
    file: HDF5File,
    name: str,
    field: Field,
    grid: Grid,
    samples: int | None,
    times: int | None,
) -> tuple[int | None, int | None]:
    """Compare a dataset's shape with its axes, the grid and the other fields'.

    **Arguments:**

    - `file`, `name`: where it is.
    - `field`: its axes; the sizes of its channels are noted if they are not yet.
    - `grid`: where it lives.
    - `samples`, `times`: how many the others have, None if that is not known yet.

    **Returns:** `samples` and `times` with this one.
    """
    place, shape = Place(file.path, f"dataset {name!r}"), file.shape(name)
    if len(shape) != len(field.axes):
        place.fail(
            f"expected the axes ({', '.join(field.axes)}), got {len(shape)}, of shape "
            f"{shape}."
        )
    sizes = dict(zip(field.axes, shape, strict=True))
    known = {"sample": samples, "time": times}
    known |= dict(zip(_SPACE, grid.shape, strict=False))
    for axis, n in sizes.items():
        if n == 0 or n != (known.get(axis) or n):
            wanted = (f"{known[a]}" if known.get(a) else a for a in field.axes)
            place.fail(
                f"expected shape ({', '.join(wanted)}), got {shape}: "
                f"{n} along {axis!r}."
            )
    channels = [n for a, n in zip(field.axes, shape, strict=True) if a == "channel"]
    if field.sizes and channels != field.sizes:
        place.fail(f"expected {field.sizes} channels as before, got {channels}.")
    field.sizes[:] = channels
    return sizes.get("sample", samples), sizes.get("time", times)


def parameter_of(
    file: HDF5File, name: str, axes: str, number: int, samples: int | None = None
) -> Any:
    """The value of a small dataset for one sample of a file.

    **Arguments:**

    - `file`, `name`: where it is.
    - `axes`: any of `sample`, `time` and `channel`.
    - `number`: of the sample.
    - `samples`: how many there should be, None for any number.
    """
    place, words = Place(file.path, f"dataset {name!r}"), axes.split()
    shape = file.shape(name)
    if not set(words) <= {"sample", "time", "channel"} or len(shape) != len(words):
        place.fail(
            f"expected the axes ({', '.join(words)}), out of 'sample', 'time' and "
            f"'channel', got shape {shape}."
        )
    found = dict(zip(words, shape, strict=True)).get("sample", samples)
    if samples is not None and found != samples or 0 in shape:
        place.fail(f"expected values of {samples} samples, got shape {shape}.")
    part = lambda axis: slice(number, number + 1) if axis == "sample" else slice(None)
    value = file.read(name, [part(axis) for axis in words])
    return value.item() if value.size == 1 else value.squeeze()
