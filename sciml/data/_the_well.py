"""The HDF5 layout of The Well."""

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..grids import AbstractBoundary, Periodic
from ..grids._boundary import boundary_pairs
from ._axes import check_increasing, grid_of_axes, same_axis
from ._checks import MAX_BYTES, Place, nearest
from ._dataset import DataError
from ._hdf5 import HDF5File
from ._source import HDF5Source, path_list

_AXES = ("x", "y", "z")
_GROUPS = ("t0_fields", "t1_fields", "t2_fields")


def open_the_well(
    paths: str | os.PathLike | Sequence[str | os.PathLike],
    *,
    boundary: AbstractBoundary | Sequence | None = None,
    fields: Sequence[str] | None = None,
    subsample: int | Sequence[int] = 1,
    dtype: Any = np.float32,
    max_bytes: int = MAX_BYTES,
    max_open_files: int = 8,
) -> HDF5Source:
    """Open HDF5 files in the layout of The Well, on uniform Cartesian grids.

    Fields of `t0_fields` have one channel, those of `t1_fields` one per axis of space,
    those of `t2_fields` one per pair of axes, row by row. What `time_varying` says is
    constant becomes coefficients, which are the last channels of the inputs; what does
    not vary with the sample or along an axis (`sample_varying`, `dim_varying`) is
    repeated there. Scalars and simulation parameters are in `parameters(k)`.

    **The sides.** The group `boundary_conditions` says `PERIODIC`, `WALL` or `OPEN`.
    Periodic axes are taken from there. A wall says where the domain ends, but not what
    a field does there: at one wall the velocity can be 0 (`Dirichlet()`) while the
    pressure has no slope (`Neumann()`), and a grid has one condition per side for all
    channels. An open side says even less. Both have to be given in `boundary`; what is
    given may not contradict what the file says of periodic axes. The nodes of
    `source.grid` are at the file's coordinates; whether these have nodes on the sides
    the format does not say (`Dirichlet(stored=True)` if they have).

    **Arguments:**

    - `paths`: one file, or several with the same grid, times and fields.
    - `boundary`: as for `sciml.grids.Grid`. Default: what the files say, if all axes
        are periodic.
    - `fields`: names, with or without their group, of those to read and in which order.
        Default: all.
    - `subsample`, `dtype`, `max_bytes`, `max_open_files`: as for
        `sciml.data.HDF5Source`.

    **Returns:** a `sciml.data.HDF5Source`.

    **Raises:** as `HDF5Source`; also for grids that are not Cartesian and uniform,
    coordinates or times that differ between samples or files, sides that nobody says
    anything about, and obstacles inside of the domain while `boundary` is not given
    (a grid is a box).

    !!! example

        ```python
        with sciml.data.open_the_well(
            "active_matter_L_10.0_zeta_1.0_alpha_-1.0.hdf5", fields=["velocity"]
        ) as source:
            source.parameters(0)["zeta"]
            train = source.transitions(range(4), window=2)
        ```

    Source: Ohana et al., *The Well: a Large-Scale Collection of Diverse Physics
    Simulations for Machine Learning*, NeurIPS 2024, and its description of the format.
    """
    listed = path_list(paths)
    found = []
    for path in listed:
        with HDF5File(path, max_bytes) as file:
            found.append(_Contents(file, fields))
        found[0].compare(found[-1])
    first = found[0]
    places = [Place(listed[0], f"dataset {name!r}") for name in first.axis_names]
    source = HDF5Source(
        listed,
        first.fields,
        grid=grid_of_axes(places, first.axes, first.sides(boundary)),
        coefficients=first.coefficients,
        parameters=first.parameters,
        times=first.times,
        subsample=subsample,
        dtype=dtype,
        max_bytes=max_bytes,
        max_open_files=max_open_files,
    )
    declared = tuple(contents.num_trajectories for contents in found)
    for path, count, wanted in zip(listed, source.num_samples, declared, strict=True):
        if count != wanted:
            source.close()
            raise DataError(
                f"{path}: expected {wanted} trajectories, as its attribute "
                f"'n_trajectories' says, got {count}."
            )
    return source


class _Contents:
    """What a file has: fields with their axes, coordinates, times and sides."""

    def __init__(self, file: HDF5File, fields: Sequence[str] | None):
        self.path = file.path
        root = _Attributes(file, "/")
        if root.text("grid_type").lower() != "cartesian":
            raise DataError(
                f"{file.path}: expected the grid_type 'cartesian', got "
                f"{root.text('grid_type')!r}; other coordinates are not supported."
            )
        self.num_trajectories = root.number("n_trajectories")
        self.space = _Attributes(file, "dimensions").texts("spatial_dims")
        if len(self.space) != root.number("n_spatial_dims") or len(self.space) > 3:
            raise DataError(
                f"{file.path}: n_spatial_dims is {root.number('n_spatial_dims')}, but "
                f"dimensions has spatial_dims {self.space}."
            )
        self.axis_names = [f"dimensions/{name}" for name in self.space]
        self.axes = [self._coordinates(file, name) for name in self.axis_names]
        self.times = self._read_times(file)
        self.fields: dict[str, str] = {}
        self.coefficients: dict[str, str] = {}
        for name in _chosen(file, fields):
            axes, constant = self._field_axes(file, name)
            (self.coefficients if constant else self.fields)[name] = axes
        if not self.fields:
            raise DataError(
                f"{file.path}: expected a field that varies in time, got only "
                f"{list(self.coefficients)}."
            )
        self.parameters = {
            f"scalars/{name}": _scalar_axes(file, f"scalars/{name}")
            for name in _listed(file, "scalars")
        }
        self.conditions = _conditions(file)

    def compare(self, other: "_Contents") -> None:
        """Refuse a file that is not like the first."""
        mine, yours = ((c.fields, c.coefficients, c.space) for c in (self, other))
        if mine != yours:
            raise DataError(
                f"{other.path}: expected {[*self.fields, *self.coefficients]} as in "
                f"{self.path}, got {[*other.fields, *other.coefficients]}, or other "
                "axes of them."
            )
        names = [*self.axis_names, "dimensions/time"]
        arrays = zip((*self.axes, self.times), (*other.axes, other.times), strict=True)
        for name, (here, there) in zip(names, arrays, strict=True):
            if not same_axis(here, there):
                Place(other.path, f"dataset {name!r}").fail(
                    f"expected the same as in {self.path}, got shape {there.shape}, "
                    f"{there[0]:.6g} to {there[-1]:.6g}."
                )
        if self.conditions != other.conditions:
            Place(other.path, "group 'boundary_conditions'").fail(
                f"expected {self.conditions} as in {self.path}, got {other.conditions}."
            )

    def sides(self, boundary: Any) -> Any:
        """The boundary to use: what was given, or what the file says."""
        place = Place(self.path, "group 'boundary_conditions'")
        said = {
            axis: kinds
            for axes, kinds in self.conditions.items()
            if len(axes) == 1
            for axis in axes
        }
        if boundary is None:
            inside = [axes for axes in self.conditions if len(axes) > 1]
            if inside:
                place.fail(
                    f"it describes something across {inside[0]}, which may be an "
                    "obstacle inside; a grid is a box. Give `boundary`, to read the "
                    "fields all the same."
                )
            open_ = [a for a in self.space if said.get(a) != {"PERIODIC"}]
            if open_:
                kinds = sorted(said.get(open_[0], ())) or "nothing"
                place.fail(
                    f"it says {kinds} of axis {open_[0]!r}, which does not determine "
                    "what the fields do at its sides. Give `boundary`, one entry per "
                    f"axis {tuple(self.space)}: such as Dirichlet(), Neumann(), a pair "
                    "of them, or Periodic()."
                )
            return Periodic()
        try:
            pairs = boundary_pairs(boundary, len(self.space))
        except (ValueError, TypeError) as error:
            raise DataError(f"{self.path}: {error}") from error
        for axis, (low, _) in zip(self.space, pairs, strict=True):
            kinds = said.get(axis)
            given = isinstance(low, Periodic)
            if kinds and given != ("PERIODIC" in kinds):
                place.fail(
                    f"it says {sorted(kinds)} of axis {axis!r}, but `boundary` has "
                    f"{low.kind!r} there."
                )
        return pairs

    def _coordinates(self, file: HDF5File, name: str) -> np.ndarray:
        attributes = _Attributes(file, name)
        for varying in ("sample_varying", "time_varying"):
            if attributes.flag(varying, False):
                Place(file.path, f"dataset {name!r}").fail(
                    f"{varying} is True: expected one grid for all samples and times."
                )
        return file.read(name)

    def _read_times(self, file: HDF5File) -> np.ndarray:
        name = "dimensions/time"
        times, place = file.read(name), Place(file.path, f"dataset {name!r}")
        if _Attributes(file, name).flag("sample_varying", False) and times.ndim == 2:
            if not all(same_axis(row, times[0]) for row in times):
                place.fail("expected the same times for all samples; they differ.")
            times = times[0]
        check_increasing(place, times)
        return times

    def _field_axes(self, file: HDF5File, name: str) -> tuple[str, bool]:
        """The axes of a field, and whether it is constant in time."""
        attributes, shape = _Attributes(file, name), file.shape(name)
        place = Place(file.path, f"dataset {name!r}")
        ndim, order = len(self.space), _GROUPS.index(name.split("/")[0])
        varying = np.atleast_1d(attributes.value("dim_varying"))
        if varying.shape != (ndim,):
            place.fail(
                f"expected {ndim} entries of 'dim_varying', got {varying.tolist()}."
            )
        words = [a for a in ("sample", "time") if attributes.flag(f"{a}_varying")]
        words += [a for a, v in zip(_AXES, varying, strict=False) if v]
        components, ncomponents = shape[len(words) :], ndim**order
        if math.prod(components) != ncomponents or (
            # One axis per index, or one for all.
            len(components) not in (order, min(order, 1))
        ):
            place.fail(
                f"expected the axes ({', '.join(words)}) and {ncomponents} components, "
                f"as its attributes say, got shape {shape}."
            )
        words += ["channel"] * len(components)
        return " ".join(words), "time" not in words


class _Attributes:
    """The attributes of something, asked for by name."""

    def __init__(self, file: HDF5File, name: str):
        self.values = file.attributes(name)
        self.place = Place(file.path, f"attributes of {name!r}")

    def value(self, name: str) -> Any:
        if name not in self.values:
            self.place.fail(f"no {name!r}; {nearest(name, self.values)}.")
        return self.values[name]

    def text(self, name: str) -> str:
        value = self.value(name)
        if not isinstance(value, str):
            self.place.fail(f"{name!r}: expected a text, got {value!r}.")
        return value

    def texts(self, name: str) -> list[str]:
        value = self.value(name)
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list):
            if np.size(value) == 0:
                return []  # An empty list of texts is written as one of numbers.
            self.place.fail(f"{name!r}: expected a list of texts, got {value!r}.")
        return value

    def number(self, name: str) -> int:
        value = np.asarray(self.value(name))
        if value.size != 1 or value.dtype.kind not in "iuf":
            self.place.fail(f"{name!r}: expected a number, got {self.value(name)!r}.")
        return int(value.ravel()[0])

    def flag(self, name: str, default: bool | None = None) -> bool:
        if default is not None and name not in self.values:
            return default
        value = np.asarray(self.value(name))
        if value.size != 1 or value.dtype.kind not in "biu":
            self.place.fail(f"{name!r}: expected True or False, got {value!r}.")
        return bool(value.ravel()[0])


def _listed(file: HDF5File, group: str) -> list[str]:
    """The datasets of a group in the order of its attribute `field_names`."""
    if group not in file.names():
        return []
    names, attributes = file.names(group), _Attributes(file, group)
    listed = attributes.texts("field_names") if names else []
    for name in listed:
        if name not in names:
            attributes.place.fail(
                f"'field_names' lists {name!r}, which is not there; "
                f"{nearest(name, names)}."
            )
    return listed


def _chosen(file: HDF5File, fields: Sequence[str] | None) -> list[str]:
    """Paths of the fields to read."""
    every = [f"{group}/{name}" for group in _GROUPS for name in _listed(file, group)]
    if not every:
        raise DataError(
            f"{file.path}: expected fields in {', '.join(_GROUPS)}; "
            f"{nearest('t0_fields', file.names())}. This is not a file of The Well."
        )
    if fields is None:
        return every
    chosen = []
    for wanted in fields:
        matches = [p for p in every if wanted in (p, p.split("/", 1)[1])]
        if len(matches) != 1:
            few = (
                f"it is in {matches}; say which" if matches else nearest(wanted, every)
            )
            raise DataError(f"{file.path}: fields: no single {wanted!r}; {few}.")
        chosen += matches
    return chosen


def _scalar_axes(file: HDF5File, name: str) -> str:
    attributes, shape = _Attributes(file, name), file.shape(name)
    words = [a for a in ("sample", "time") if attributes.flag(f"{a}_varying", False)]
    words += ["channel"] * max(len(shape) - len(words), 0)
    return " ".join(words)


def _conditions(file: HDF5File) -> dict[tuple[str, ...], set[str]]:
    """The kinds of sides that the file has, by the axes they are across."""
    kinds: dict[tuple[str, ...], set[str]] = {}
    if "boundary_conditions" not in file.names():
        return kinds
    for name in file.names("boundary_conditions"):
        attributes = _Attributes(file, f"boundary_conditions/{name}")
        axes = tuple(attributes.texts("associated_dims"))
        kind = attributes.text("bc_type").upper()
        if kind not in ("PERIODIC", "WALL", "OPEN"):
            attributes.place.fail(
                f"'bc_type': expected 'PERIODIC', 'WALL' or 'OPEN', got {kind!r}."
            )
        kinds.setdefault(axes, set()).add(kind)
    return kinds
