"""Samples to train on: pairs of fields on one grid, or of other arrays."""

from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._serialisation import register
from ..grids import Grid


class DataError(ValueError):
    """Data that do not fit: the message names what came and what was expected."""


def _as_array(given: Any) -> Any:
    """NumPy and JAX arrays as they are (in native byte order), the rest as NumPy."""
    if given is None or isinstance(given, jax.Array | jax.ShapeDtypeStruct):
        return given
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise DataError(f"expected an array, got {type(given)} ({error}).") from error
    # JAX takes native byte order only; files of other machines have the other one.
    return array.astype(array.dtype.newbyteorder("="), copy=False)


@register
class Dataset(eqx.Module):
    """Samples (input, target), of an operator between fields or of another map.

    Arrays stay what they are, NumPy's on the host or JAX's on a device, and keep their
    type: a coefficient that is boolean in the file takes one byte per node here, too.
    A dataset is registered: `sciml.save` and `sciml.load` store it in one file with a
    checksum.

    **Arguments:**

    - `inputs`: shape `(samples, channels, *space)`, `space` being the grid's shape;
        numbers or booleans, all finite.
    - `targets`: the same samples and space, any number of channels. None where a loss
        needs no solutions (virtual observables, a residual).
    - `grid`: where the fields live, in the units of its extent. None for samples that
        are no fields, vectors or series or labels: then only the first axis, the
        samples, has a meaning.

    `len` counts the samples. An index (an integer, a slice, an array of integers or
    booleans) gives a `Dataset` again; one integer gives one with one sample.

    **Raises:** `sciml.data.DataError` for shapes that do not fit, values that are NaN
    or infinite (their number and the first one's place), and types that are no numbers.

    !!! example

        ```python
        grid = sciml.grids.Grid((63, 63))
        data = sciml.data.Dataset(coefficients[:, None], solutions[:, None], grid)
        train, test = data.split(1000)
        ```
    """

    inputs: Array | np.ndarray = eqx.field(converter=_as_array)
    # An array like `inputs`, or None. Any, so that who has targets need not ask.
    targets: Any = eqx.field(converter=_as_array)
    # A grid or None. Any, so that who has one need not ask.
    grid: Any = None

    def __check_init__(self):
        _check("inputs", self.inputs, self.grid)
        if self.targets is not None:
            _check("targets", self.targets, self.grid)
            if len(self.inputs) != len(self.targets):
                raise DataError(
                    f"targets: expected as many samples as inputs ({len(self)}), got "
                    f"{len(self.targets)}."
                )

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: Any) -> "Dataset":
        if isinstance(index, int | np.integer):
            if not -len(self) <= index < len(self):
                raise IndexError(f"index {index} of a dataset of {len(self)} samples.")
            index = slice(index, index + 1 or None)
        elif not isinstance(index, slice | jax.core.Tracer):
            index = _checked_index(np.asarray(index), len(self))
        return self._with(_take(self.inputs, index), _take(self.targets, index))

    def split(self, num_first: int) -> tuple["Dataset", "Dataset"]:
        """The first samples, and the rest.

        **Arguments:**

        - `num_first`: size of the first part, in 1, …, len − 1. The order is kept:
            shuffle before, where the order has a meaning.
        """
        if not 0 < num_first < len(self):
            raise DataError(
                f"split: expected a size between 1 and {len(self) - 1}, since both "
                f"parts need a sample; got {num_first}."
            )
        return self[:num_first], self[num_first:]

    def coarsen(self, factor: int = 2) -> "Dataset":
        """The same samples at the nodes of a grid that is `factor` times coarser.

        Values are kept, not averaged: with solutions of a fine grid these are data for
        a coarse one without the coarse grid's error of discretisation.

        **Arguments:**

        - `factor`: a power of two.

        **Raises:** `DataError` where coarse nodes would not be nodes of this grid, and
        without a grid.
        """
        if self.grid is None:
            raise DataError("coarsen: these samples are no fields, there is no grid.")
        if isinstance(factor, bool) or factor < 1 or factor & (factor - 1):
            raise DataError(f"factor: expected a power of two, got {factor!r}.")
        data = self
        while factor > 1:
            data = _coarsened(data)
            factor //= 2
        return data

    def as_floating(self) -> "Dataset":
        """The same with boolean and integer fields as floating-point numbers.

        They take the type of the other array if that is floating, else JAX's default.
        Complex arrays stay complex.
        """
        arrays = [a for a in (self.targets, self.inputs) if a is not None]
        dtypes = [a.dtype for a in arrays if jnp.issubdtype(a.dtype, jnp.floating)]
        dtype = dtypes[0] if dtypes else jnp.zeros(()).dtype
        return self._with(
            _to_floating(self.inputs, dtype), _to_floating(self.targets, dtype)
        )

    def _with(self, inputs: Any, targets: Any) -> "Dataset":
        # What is made from checked arrays needs no second check (and inside `jit` none
        # is possible), so this goes past the constructor.
        return eqx.tree_at(
            lambda dataset: (dataset.inputs, dataset.targets),
            self,
            (inputs, targets),
            is_leaf=lambda leaf: leaf is None,
        )


def _coarsened(data: Dataset) -> Dataset:
    """Every second node per axis, of grids that are nested."""
    grid = data.grid
    coarse = grid.coarsen()
    index: list[Any] = [slice(None), slice(None)]
    for axis in range(grid.ndim):
        fine, wanted = grid.coordinates(axis), coarse.coordinates(axis)
        start = int(np.argmin(np.abs(fine - wanted[0])))
        kept = slice(start, start + 2 * len(wanted), 2)
        found = fine[kept]
        if (
            len(found) != len(wanted)
            or np.abs(found - wanted).max() > 1e-9 * (grid.extent[axis])
        ):
            raise DataError(
                f"coarsen: axis {axis} with {len(fine)} nodes has an odd number of "
                "intervals, so that the nodes of the coarser grid are not among them."
            )
        index.append(kept)
    keep = tuple(index)
    targets = None if data.targets is None else data.targets[keep]
    return Dataset(data.inputs[keep], targets, coarse)


def _to_floating(array: Any, dtype: Any) -> Any:
    if array is None or jnp.issubdtype(array.dtype, jnp.inexact):
        return array
    return array.astype(dtype)


def _take(array: Any, index: Any) -> Any:
    if array is None:
        return None
    # NumPy arrays cannot be indexed by a traced index.
    return (jnp.asarray(array) if isinstance(index, jax.core.Tracer) else array)[index]


def _checked_index(index: np.ndarray, size: int) -> np.ndarray:
    if index.ndim == 1 and index.dtype == bool and len(index) == size:
        return np.flatnonzero(index)
    if index.ndim != 1 or not np.issubdtype(index.dtype, np.integer):
        raise IndexError(
            "expected an integer, a slice, a vector of integers, or one boolean per "
            f"sample ({size}); got shape {index.shape} of {index.dtype}."
        )
    # JAX would clip silently where NumPy raises.
    if index.size and not -size <= index.min() <= index.max() < size:
        raise IndexError(f"an index is out of range for {size} samples.")
    return index


def _check(name: str, array: Any, grid: Grid | None) -> None:
    if not jnp.issubdtype(array.dtype, jnp.number) and array.dtype != bool:
        raise DataError(f"{name}: expected numbers or booleans, got {array.dtype}.")
    if grid is None:
        if array.ndim == 0:
            raise DataError(f"{name}: expected samples along the first axis, got one.")
    else:
        _check_shape(name, array, grid)
    if 0 in array.shape:
        raise DataError(
            f"{name}: expected at least one sample, and no empty axis, got shape "
            f"{array.shape}."
        )
    _check_finite(name, array)


def _check_shape(name: str, array: Any, grid: Grid) -> None:
    expected = f"(samples, channels, {', '.join(map(str, grid.shape))})"
    if array.ndim != 2 + grid.ndim or array.shape[2:] != grid.shape:
        hint = ""
        if array.shape[1:] == grid.shape:
            hint = f" Add the axis of channels: {name}[:, None]."
        raise DataError(
            f"{name}: expected shape {expected} for this grid, got {array.shape}.{hint}"
        )


def _check_finite(name: str, array: Any) -> None:
    if isinstance(array, jax.core.Tracer | jax.ShapeDtypeStruct):
        return
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        return
    numpy = jnp if isinstance(array, jax.Array) else np
    finite = numpy.isfinite(array)
    if not finite.all():
        bad = np.argwhere(~np.asarray(finite))
        first = tuple(int(i) for i in bad[0])
        raise DataError(
            f"{name}: {len(bad)} of {array.size} values are NaN or infinite, the first "
            f"at index {first} (sample {first[0]}). Remove these samples."
        )
