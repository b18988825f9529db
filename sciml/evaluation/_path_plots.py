"""Pictures of solutions of differential equations, and of the steps they took."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ._plots import _MAX_INSIDE, _figure, _finish, _line, _styles

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

_MAX_COLUMNS = 4
# Data are drawn in black and grey: colours are for what was computed.
_POINTS = (
    {"marker": "o", "color": "black", "markerfacecolor": "black"},
    {"marker": "o", "color": "0.35", "markerfacecolor": "white"},
)


def plot_paths(
    panels: Mapping[str, Mapping[str, Any]],
    points: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    xlabel: str = "t",
    ylabel: str = "",
    equal: bool = False,
    shared: bool = False,
    columns: int = _MAX_COLUMNS,
) -> matplotlib.figure.Figure:
    """Panels of curves beside data, with one legend for all below them.

    **Arguments:**

    - `panels`: by title, curves by name: `(x, y)`, or `(x, y, width)` for a band of
        y ± width around the curve. A name has the same colour in every panel.
    - `points`: by title, data by name: `(x, y)`, drawn as dots. The first name's are
        filled, the second's hollow. Default none.
    - `xlabel`, `ylabel`: what the axes say.
    - `equal`: whether x and y have the same scale, as in a phase plane.
    - `shared`: whether panels in a row have the same axes; those in a column should
        then have the same range of x.
    - `columns`: how many panels stand side by side. Default 4.

    **Returns:** a `matplotlib.figure.Figure`.

    **Raises:** `ImportError` without matplotlib; `ValueError` without a panel, and for
    arrays of another dimension.

    !!! example

        ```python
        import numpy as np
        from sciml.evaluation import plot_paths

        t = np.linspace(0, 6, 100)
        curves = {"sine": (t, np.sin(t)), "cosine": (t, np.cos(t), 0.1 + 0 * t)}
        figure = plot_paths({"waves": curves}, {"waves": {"data": ([0, 3], [1, -1])}})
        ```
    """
    if not panels:
        raise ValueError("panels: expected at least one, got none.")
    columns = min(len(panels), columns)
    rows = math.ceil(len(panels) / columns)
    width = 4.4 if columns == 1 else max(6.4, 2.6 * columns)
    height = 4.4 if equal and columns == 1 else 2.6 * rows + 0.4
    figure = _figure(width, height)
    styles = dict(
        zip(
            dict.fromkeys(name for curves in panels.values() for name in curves),
            _styles(),
            strict=False,
        )
    )
    found: dict[str, Any] = {}
    first = None
    for place, (title, curves) in enumerate(panels.items(), 1):
        leftmost = place % columns == 1 or columns == 1
        first = None if leftmost or not shared else first
        axes = figure.add_subplot(rows, columns, place, sharex=first, sharey=first)
        first = axes if first is None else first
        axes.set_title(title, fontsize="medium")
        for name, curve in curves.items():
            found[name] = _draw_path(axes, name, curve, styles[name])
        data = (points or {}).get(title, {})
        for (name, dots), style in zip(data.items(), _POINTS, strict=False):
            x, y = (_line("points", name, part) for part in dots)
            dotted: dict[str, Any] = {"linestyle": "", "markersize": 4, **style}
            (found[name],) = axes.plot(x, y, **dotted)
        if equal:
            axes.set_aspect("equal", "datalim")
        # (Only where there is no panel below or to the left.)
        if place + columns > len(panels):
            axes.set_xlabel(xlabel)
        elif shared:
            axes.tick_params(labelbottom=False)
        if leftmost:
            axes.set_ylabel(ylabel)
        elif shared:
            axes.tick_params(labelleft=False)
        _clean(axes)
    if len(found) > 1:
        figure.legend(
            list(found.values()),
            list(found),
            loc="outside lower center",
            ncols=min(len(found), 3 if columns == 1 else 4),
            frameon=False,
            fontsize="small",
        )
    return figure


def plot_step_sizes(
    times: Mapping[str, Any], *, xlabel: str = "t", ylabel: str = "step size"
) -> matplotlib.figure.Figure:
    """Sizes of the steps of solves over time, on a logarithmic axis.

    Each step is a line from its beginning to its end; of many only some have a marker.

    **Arguments:**

    - `times`: by the name of the solve, where its steps begin and end: increasing, one
        more than there are steps.
    - `xlabel`, `ylabel`: what the axes say.

    **Returns:** a `matplotlib.figure.Figure`; the legend counts the steps.

    **Raises:** `ImportError` without matplotlib; `ValueError` for arrays of another
    dimension, and for times that do not increase.

    !!! example

        ```python
        from sciml.evaluation import plot_step_sizes

        figure = plot_step_sizes({"vanilla": [0, 0.01, 0.1, 0.4, 1], "priced": [0, 1]})
        ```
    """
    figure = _figure(6.4 if len(times) <= _MAX_INSIDE else 8.4, 4.0)
    axes = figure.add_subplot()
    styles = list(itertools.islice(_styles(), len(times)))
    for k, (name, values) in enumerate(times.items()):
        style = styles[k]
        again = style["color"] in [earlier["color"] for earlier in styles[:k]]
        edges = _line("times", name, values)
        sizes = np.diff(edges)
        if not (sizes > 0).all():
            raise ValueError(f"times[{name!r}]: expected increasing times.")
        colour: dict[str, Any] = {"color": style["color"], "linewidth": 1.1}
        # (Dashes of lines that go up and down are no longer told apart.)
        axes.stairs(sizes, edges, baseline=None, **colour)
        axes.plot(
            (edges[1:] + edges[:-1]) / 2,
            sizes,
            linestyle="",
            markevery=max(1, len(sizes) // 15),
            markersize=5,
            marker=style["marker"],
            # Colours and markers begin anew after some: then they are hollow.
            markerfacecolor="white" if again else style["color"],
            label=f"{name}: {len(sizes)}",
            **colour,
        )
    figure = _finish(figure, axes, xlabel, ylabel, legend=False)
    if times:
        # Beside the curves, wherever they are.
        axes.legend(
            frameon=False,
            fontsize="small",
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            title="steps",
            alignment="left",
        )
    return figure


def _draw_path(
    axes: matplotlib.axes.Axes, name: str, curve: Any, style: dict[str, Any]
) -> Any:
    x, y, *band = (_line("panels", name, part) for part in curve)
    style = {key: value for key, value in style.items() if key != "marker"}
    (line,) = axes.plot(x, y, **style)
    for width in band:
        axes.fill_between(
            x, y - width, y + width, color=style["color"], alpha=0.15, linewidth=0
        )
        thin: dict[str, Any] = style | {"linewidth": 0.7}
        for edge in (y - width, y + width):
            axes.plot(x, edge, **thin)
    return line


def _clean(axes: matplotlib.axes.Axes) -> None:
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
