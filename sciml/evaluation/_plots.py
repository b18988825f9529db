"""Pictures of fields and of convergence, as matplotlib figures without global state."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..grids import Grid

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

# Told apart in grey and by readers who see colours differently (after Okabe & Ito); the
# dashes and markers say the same a second time.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#555555", "#E69F00", "#56B4E9")
_DASHES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# A longer legend would lie on the curves.
_MAX_INSIDE = 6


def plot_fields(
    fields: Mapping[str, Any],
    grid: Grid | None = None,
    *,
    shared: Sequence[str] = (),
    symmetric: Sequence[str] = ("error",),
    units: Mapping[str, str] | None = None,
    columns: int = 4,
) -> matplotlib.figure.Figure:
    """Panels of fields side by side, each with its colour bar.

    Fields of one dimension are drawn as curves; of those of three dimensions the middle
    slice across the last axis is shown. The first axis of an array is x, to the right,
    the second is y, upwards. Values that are not finite are left blank.

    **Arguments:**

    - `fields`: arrays of the grid's shape, by title.
    - `grid`: where they live; sets the axes. Default: the axes count nodes.
    - `shared`: titles of the fields that share one range of colours, so that they can
        be compared by eye: a solution and its prediction.
    - `symmetric`: titles of the fields of either sign, drawn in blue and red with white
        at zero. Default `("error",)`.
    - `units`: what the colour bars say, by title. Default nothing.
    - `columns`: panels in a row, at most. Default 4.

    **Returns:** a `matplotlib.figure.Figure`.

    **Raises:** `ImportError` without matplotlib; `ValueError` for no column, if a field
    does not have the grid's shape, is complex, or a title is not among the fields.

    !!! example

        ```python
        import numpy as np
        from sciml.evaluation import plot_fields
        from sciml.grids import Grid

        grid = Grid((31, 31))
        x, y = grid.mesh()
        u = np.sin(np.pi * x) * np.sin(np.pi * y)
        figure = plot_fields({"solution": u, "error": 1e-3 * u * (x - y)}, grid)
        ```
    """
    arrays = {title: _slice(title, field, grid) for title, field in fields.items()}
    if not arrays:
        raise ValueError("fields: expected at least one field, got none.")
    for title in shared:
        if title not in arrays:
            raise ValueError(
                f"shared: {title!r} is not among the fields {list(arrays)}."
            )
    if columns < 1:
        raise ValueError(f"columns: expected at least 1, got {columns}.")
    columns = min(len(arrays), columns)
    rows = math.ceil(len(arrays) / columns)
    figure = _figure(2.9 * columns, 2.5 * rows)
    common = _range([arrays[title] for title in shared])
    for place, (title, array) in enumerate(arrays.items(), 1):
        axes = figure.add_subplot(rows, columns, place)
        axes.set_title(title, fontsize="medium")
        unit = (units or {}).get(title, "")
        if array.ndim == 1:
            _draw_curve(axes, array, grid, unit)
            continue
        if title in symmetric:
            top = max(map(abs, _range([array])))
            limits, colours = (-top, top), "RdBu_r"
        else:
            limits = common if title in shared else _range([array])
            colours = "viridis"
        image = axes.imshow(
            array.T,
            origin="lower",
            extent=_edges(array, grid),
            cmap=colours,
            vmin=limits[0],
            vmax=limits[1],
            # Cells keep their edges: what is drawn is what was computed.
            interpolation="nearest",
        )
        axes.set_xlabel("x")
        axes.set_ylabel("y")
        bar = figure.colorbar(image, ax=axes, shrink=0.85, label=unit)
        bar.formatter.set_powerlimits((-3, 4))  # pyright: ignore[reportAttributeAccessIssue]
    return figure


def plot_convergence(
    histories: Mapping[str, Any],
    *,
    tolerance: float | None = None,
    xlabel: str = "iterations",
    ylabel: str = "relative residual",
) -> matplotlib.figure.Figure:
    """Residual histories on a logarithmic axis.

    Entry k of a history is the residual after k iterations. Entries that are not finite
    or not positive are not drawn, so that histories padded with NaN can be given as
    they are.

    **Arguments:**

    - `histories`: one-dimensional arrays, by the name of the method.
    - `tolerance`: where a line is drawn. Default none.
    - `xlabel`, `ylabel`: what the axes say.

    **Returns:** a `matplotlib.figure.Figure`.

    **Raises:** `ImportError` without matplotlib; `ValueError` for an array of another
    dimension.

    !!! example

        ```python
        from sciml.evaluation import plot_convergence

        figure = plot_convergence(
            {"CG": [1, 0.5, 0.2, 0.06], "multigrid-CG": [1, 1e-3, 1e-6]}, tolerance=1e-6
        )
        ```
    """
    figure = _figure(6.4 if len(histories) <= _MAX_INSIDE else 9.6, 4.0)
    axes = figure.add_subplot()
    for (name, values), style in zip(histories.items(), _styles(), strict=False):
        history = _line("histories", name, values)
        drawn = np.where(np.isfinite(history) & (history > 0), history, np.nan)
        style |= {"markevery": max(1, int(np.isfinite(drawn).sum()) // 12)}
        axes.plot(np.arange(len(drawn)), drawn, label=name, markersize=5, **style)
    if tolerance is not None:
        axes.axhline(tolerance, color="0.4", linewidth=1, linestyle=(0, (1, 2)))
        axes.annotate(
            "tolerance",
            (1, tolerance),
            xycoords=axes.get_yaxis_transform(),
            xytext=(-3, 3),
            textcoords="offset points",
            ha="right",
            fontsize="small",
            color="0.3",
        )
    return _finish(figure, axes, xlabel, ylabel, legend=bool(histories))


def plot_training(
    curves: Mapping[str, Any],
    *,
    xlabel: str = "steps",
    ylabel: str = "loss",
) -> matplotlib.figure.Figure:
    """Losses and errors over the steps of training, on a logarithmic axis.

    A long curve is drawn pale, with its running median on top: a batch's loss is noisy.

    **Arguments:**

    - `curves`: by name, an array with one entry per step, such as `history.loss` of
        `sciml.training.fit`, or a pair `(steps, values)`.
    - `xlabel`, `ylabel`: what the axes say.

    **Returns:** a `matplotlib.figure.Figure`.

    **Raises:** `ImportError` without matplotlib; `ValueError` for an array of another
    dimension, or steps and values of different lengths.

    !!! example

        ```python
        import numpy as np
        from sciml.evaluation import plot_training

        loss, error = np.exp(-np.linspace(0, 3, 500)), [1.0, 0.3, 0.1]
        figure = plot_training({"training": loss, "test": ([0, 250, 500], error)})
        ```
    """
    figure = _figure(6.4, 4.0)
    axes = figure.add_subplot()
    for (name, curve), style in zip(curves.items(), _styles(), strict=False):
        if isinstance(curve, tuple):
            steps, values = (_line("curves", name, part) for part in curve)
        else:
            values = _line("curves", name, curve)
            steps = np.arange(1, len(values) + 1)
        if len(steps) != len(values):
            raise ValueError(
                f"curves[{name!r}]: {len(steps)} steps but {len(values)} values."
            )
        values = np.where(np.isfinite(values) & (values > 0), values, np.nan)
        if len(values) < 50:
            axes.plot(steps, values, label=name, **style, markersize=5)
            continue
        del style["marker"]
        axes.plot(steps, values, color=style["color"], linewidth=0.8, alpha=0.3)
        axes.plot(steps, _running_median(values), label=name, **style)
    return _finish(figure, axes, xlabel, ylabel, legend=bool(curves))


def plot_bars(
    values: Mapping[str, float],
    *,
    xlabel: str,
    digits: int = 3,
    missing: str = "none",
) -> matplotlib.figure.Figure:
    """Horizontal bars with their numbers, to compare a few methods.

    **Arguments:**

    - `values`: one number per method, the first on top. Those that are not finite get
        no bar, and the word `missing` instead.
    - `xlabel`: what is compared, with its unit.
    - `digits`: significant digits of the numbers. Default 3.
    - `missing`: what stands for a number that is not finite. Default "none".

    **Returns:** a `matplotlib.figure.Figure`.

    **Raises:** `ImportError` without matplotlib.
    """
    figure = _figure(6.4, 0.9 + 0.42 * max(len(values), 1))
    axes = figure.add_subplot()
    numbers = np.asarray([float(value) for value in values.values()])
    names = list(values)
    shown = np.where(np.isfinite(numbers), numbers, 0.0)
    bars = axes.barh(np.arange(len(names)), shown, color=_COLOURS[0], height=0.6)
    labels = [f"{n:.{digits}g}" if np.isfinite(n) else missing for n in numbers]
    axes.bar_label(bars, labels, padding=4)
    axes.set_yticks(np.arange(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(xlabel)
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def png(figure: matplotlib.figure.Figure, dpi: int = 150) -> bytes:
    """A figure as the bytes of a PNG file.

    **Arguments:**

    - `figure`: from one of the functions of this namespace, or any other.
    - `dpi`: dots per inch. Default 150, sharp on screens with dense pixels.
    """
    buffer = io.BytesIO()
    # The version of the drawing library would make equal pictures differ.
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def _figure(width: float, height: float) -> matplotlib.figure.Figure:
    """A figure in inches. No pyplot: that keeps every figure in a global list."""
    try:
        import matplotlib.figure
    except ImportError as error:
        raise ImportError(
            "Drawing needs matplotlib: pip install 'sciml-solvers[cli]'"
        ) from error
    return matplotlib.figure.Figure(figsize=(width, height), layout="constrained")


def _styles() -> Iterator[dict[str, Any]]:
    for k in itertools.count():
        yield {
            "color": _COLOURS[k % len(_COLOURS)],
            "linestyle": _DASHES[k % len(_DASHES)],
            "marker": _MARKERS[k % len(_MARKERS)],
            "linewidth": 1.6,
        }


def _finish(
    figure: matplotlib.figure.Figure,
    axes: matplotlib.axes.Axes,
    xlabel: str,
    ylabel: str,
    legend: bool,
) -> matplotlib.figure.Figure:
    axes.set_yscale("log")
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if legend:
        entries = len(axes.get_legend_handles_labels()[1])
        beside = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
        place = beside if entries > _MAX_INSIDE else {}
        axes.legend(frameon=False, fontsize="small", **place)
    return figure


def _slice(title: str, field: Any, grid: Grid | None) -> np.ndarray:
    array = np.asarray(field)
    if grid is not None and array.shape != grid.shape:
        raise ValueError(
            f"fields[{title!r}]: expected the grid's shape {grid.shape}, got "
            f"{array.shape}. Channels are drawn one by one, e.g. field[0]."
        )
    if not 1 <= array.ndim <= 3 or array.dtype.kind not in "biuf":
        raise ValueError(
            f"fields[{title!r}]: expected a real field in one to three dimensions, got "
            f"shape {array.shape} and dtype {array.dtype}."
        )
    array = array.astype(np.float64)
    return array[..., array.shape[2] // 2] if array.ndim == 3 else array


def _range(arrays: Sequence[np.ndarray]) -> tuple[float, float]:
    finite = [array[np.isfinite(array)] for array in arrays]
    values = np.concatenate([np.zeros(0), *finite])
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    # A constant field has no range of colours of its own.
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _edges(array: np.ndarray, grid: Grid | None) -> tuple[float, float, float, float]:
    """Outer edges of the pixels: half a spacing beyond the outermost nodes."""
    edges = []
    for axis in range(2):
        h = 1.0 if grid is None else grid.spacing[axis]
        first = 0.0 if grid is None else float(grid.coordinates(axis)[0])
        edges += [first - h / 2, first + h * (array.shape[axis] - 0.5)]
    return edges[0], edges[1], edges[2], edges[3]


def _draw_curve(
    axes: matplotlib.axes.Axes, array: np.ndarray, grid: Grid | None, unit: str
) -> None:
    x = np.arange(len(array)) if grid is None else grid.coordinates(0)
    axes.plot(x, array, color=_COLOURS[0])
    axes.set_xlabel("x")
    axes.set_ylabel(unit)
    axes.grid(color="0.9")


def _line(argument: str, name: str, values: Any) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise ValueError(
            f"{argument}[{name!r}]: expected one dimension, got shape {array.shape}."
        )
    return array


def _running_median(values: np.ndarray) -> np.ndarray:
    window = max(5, len(values) // 50) | 1
    padded = np.pad(values, window // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, window)
    return np.median(windows, axis=-1)
