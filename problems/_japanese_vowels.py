"""Spoken vowels: time series of different lengths, with a class each."""

import os
import pathlib

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from sciml.data import DataError

from ._data_folder import find_file

_NUM_CHANNELS = 12
_NUM_CLASSES = 9


class LabelledSeries(eqx.Module):
    """Time series of different lengths, with a class each, padded to one length.

    All are sampled at the same times; `mask` says which of the values were observed.
    What was not is zero: behind a series' end, and where `drop_observations` made gaps.

    **Arguments:**

    - `times`: shape `(max_length,)`, increasing.
    - `values`: shape `(samples, max_length, channels)`.
    - `mask`: booleans of shape `(samples, max_length)`, True where there is an
        observation (of all channels).
    - `lengths`: shape `(samples,)`, how many times each series spans, gaps included.
    - `labels`: shape `(samples,)`, classes counted from 0.

    `len` counts the series.

    **Raises:** `sciml.data.DataError` for shapes that do not fit.

    !!! example

        ```python
        import numpy as np
        import problems

        series = problems.LabelledSeries(
            times=np.arange(3.0),
            values=np.array([[[1.0], [2.0], [0.0]]]),
            mask=np.array([[True, True, False]]),
            lengths=np.array([2]),
            labels=np.array([0]),
        )
        ```
    """

    times: np.ndarray
    values: np.ndarray
    mask: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray

    def __check_init__(self):
        if np.ndim(self.values) != 3:
            raise DataError(
                "values: expected shape (samples, max_length, channels), got "
                f"{np.shape(self.values)}."
            )
        samples, max_length, _ = self.values.shape
        for name, array, expected in (
            ("times", self.times, (max_length,)),
            ("mask", self.mask, (samples, max_length)),
            ("lengths", self.lengths, (samples,)),
            ("labels", self.labels, (samples,)),
        ):
            if array.shape != expected:
                raise DataError(
                    f"{name}: expected shape {expected} for values of shape "
                    f"{self.values.shape}, got {array.shape}."
                )

    def __len__(self) -> int:
        return len(self.values)

    def values_or_nan(self) -> np.ndarray:
        """The values with NaN where there is no observation.

        As `diffrax.linear_interpolation` and `diffrax.backward_hermite_coefficients`
        take them, one series at a time; with `fill_forward_nans_at_end=True` the path
        of a controlled differential equation rests behind the series' end.
        """
        missing = np.asarray(np.nan, self.values.dtype)
        return np.where(self.mask[..., None], self.values, missing)


def drop_observations(
    series: LabelledSeries, fraction: float, *, key: PRNGKeyArray
) -> LabelledSeries:
    """The same series with gaps: a part of each one's observations is taken away.

    A time is dropped with all its channels, independently in every series; the first
    observation stays, because a controlled differential equation starts from it. What
    a model loses when sampling becomes irregular is measured by fractions 0.3, 0.5 and
    0.7.

    **Arguments:**

    - `series`: what was observed. It may have gaps already.
    - `fraction`: the part of each series' observations that goes, in [0, 1), rounded
        to whole observations.
    - `key`: draws which.

    **Returns:** the series with fewer True in `mask` and zeros in `values` there;
    `times`, `lengths` and `labels` are the same. On the host, in NumPy.

    **Raises:** `ValueError` for a fraction that is out of its range.

    !!! example

        ```python
        import os
        import jax.random as jr
        import problems

        if "SCIML_DATA" in os.environ:
            train, test = problems.load_japanese_vowels()
            sparse = problems.drop_observations(train, 0.5, key=jr.key(0))
        ```

    !!! cite "Reference"

        P. Kidger, J. Morrill, J. Foster and T. Lyons, Neural controlled differential
        equations for irregular time series, NeurIPS 2020, section 4.1, for the
        fractions.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction: expected a number in [0, 1), got {fraction}.")
    mask = series.mask
    first = mask & (np.cumsum(mask, axis=1) == 1)
    scores = np.asarray(jr.uniform(key, mask.shape))
    # Those that may go are in front, in an order that the key has drawn.
    scores = np.where(mask & ~first, scores, 2.0)
    rank = np.argsort(np.argsort(scores, axis=1), axis=1)
    observed = mask.sum(axis=1)
    number = np.minimum(np.rint(fraction * observed), observed - 1)
    kept = mask & (rank >= number[:, None])
    return LabelledSeries(
        times=series.times,
        values=np.where(kept[..., None], series.values, np.zeros_like(series.values)),
        mask=kept,
        lengths=series.lengths,
        labels=series.labels,
    )


def load_japanese_vowels(
    folder: str | os.PathLike | None = None,
) -> tuple[LabelledSeries, LabelledSeries]:
    """Two vowels spoken by nine men: which of them is it?

    A classification task for models of time series: 270 utterances to train on and 370
    to test, of 7 to 29 frames with 12 cepstral coefficients each (linear prediction
    analysis). Nothing is normalised; the times count frames from 0. The package does
    not ship the data: they are `JapaneseVowels_TRAIN.ts` and `JapaneseVowels_TEST.ts`
    of the UEA archive, in the format of aeon and sktime.

    **Arguments:**

    - `folder`: where the two files are. Default: the folder "time_series" of the one
        that the environment variable `SCIML_DATA` names.

    **Returns:** `(train, test)`, both padded to the longest of all, labels 0 to 8.
    NumPy arrays, values and times in JAX's default floating type.

    **Raises:** `FileNotFoundError` where there is no folder, or one of the files is
    not in it; `sciml.data.DataError` for a file that holds something else, with its
    line.

    !!! example

        ```python
        import os
        import problems

        if "SCIML_DATA" in os.environ:
            train, test = problems.load_japanese_vowels()
            train.values.shape  # (270, 29, 12)
        ```

    !!! cite "Reference"

        M. Kudo, J. Toyama and M. Shimbo, Multidimensional curve classification using
        passing-through regions, Pattern Recognition Letters 20 (1999), 1103–1111.
    """
    parts = []
    for part in ("TRAIN", "TEST"):
        name = f"JapaneseVowels_{part}.ts"
        path = find_file(name, folder, "time_series", "the Japanese vowels")
        parts.append(_read(path))
    longest = max(len(series) for found, _ in parts for series in found)
    train, test = (_padded(found, labels, longest) for found, labels in parts)
    return train, test


def _read(path: pathlib.Path) -> tuple[list[np.ndarray], list[int]]:
    """Series of shape (length, channels), and their classes from 0."""
    lines = path.read_text("utf-8", errors="replace").splitlines()
    start = next((k for k, x in enumerate(lines) if x.strip() == "@data"), len(lines))
    found, labels = [], []
    for number, line in enumerate(lines[start + 1 :], start + 2):
        if not line.strip():
            continue
        *channels, label = line.strip().split(":")
        try:
            series = np.array([c.split(",") for c in channels], np.float64).T
            labels.append(int(label) - 1)
        except ValueError as error:
            raise DataError(
                f"{path}, line {number}: not a series of numbers with a class, equally "
                f"long in every channel ({error})."
            ) from error
        if series.ndim != 2 or series.shape[1] != _NUM_CHANNELS:
            raise DataError(
                f"{path}, line {number}: expected {_NUM_CHANNELS} channels, got "
                f"{len(channels)}."
            )
        if not 0 <= labels[-1] < _NUM_CLASSES or not np.isfinite(series).all():
            raise DataError(
                f"{path}, line {number}: expected finite numbers and a class from 1 to "
                f"{_NUM_CLASSES}, got the class {label}."
            )
        found.append(series)
    if not found:
        raise DataError(f"{path}: there is no series below a line '@data'.")
    return found, labels


def _padded(
    found: list[np.ndarray], labels: list[int], max_length: int
) -> LabelledSeries:
    dtype = jnp.result_type(float)
    lengths = np.array([len(series) for series in found], np.int32)
    values = np.zeros((len(found), max_length, _NUM_CHANNELS), dtype)
    for row, series in zip(values, found, strict=True):
        row[: len(series)] = series
    return LabelledSeries(
        times=np.arange(max_length).astype(dtype),
        values=values,
        mask=np.arange(max_length) < lengths[:, None],
        lengths=lengths,
        labels=np.array(labels, np.int32),
    )
