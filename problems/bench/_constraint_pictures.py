"""Pictures of what constraints make of a sample."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from sciml.constraints import GridPartition, MixtureOfExperts
from sciml.evaluation import plot_fields, png
from sciml.grids import Grid

from ._constraint_models import prediction
from ._equation_rows import AbstractEquationRows


def draw_constraints(
    name: str,
    task: AbstractEquationRows,
    models: Mapping[str, Any],
    test: tuple[np.ndarray, np.ndarray],
    experts: tuple[int, ...],
    folder: str,
) -> pathlib.Path:
    """Prediction, error and residual of each model for the first sample.

    Dashed lines are the seams between experts.

    **Arguments:**

    - `name`: of the file, `constraints-NAME.png`.
    - `task`: rows that the residual is of.
    - `models`: trained, by method.
    - `test`: u(0) and reference solutions.
    - `experts`: boxes along the axes of space of the models that have some.
    - `folder`: made if need be.

    **Returns:** the file.
    """
    u0, exact = jnp.asarray(test[0][0]), test[1][0]
    fields: dict[str, np.ndarray] = {}
    seams: list[bool] = []
    for method, model in models.items():
        u = np.asarray(prediction(model, u0)["u"], float)
        terms = task.terms(task.completed(jnp.asarray(u)))
        residual = np.asarray(task.residual(terms, task.parameters(u0[0])))
        shown = (task.symbol, u), ("error", u - exact), ("residual", residual)
        for title, field in shown:
            fields[f"{method}: {title}"] = task.panel(field)
        parted = isinstance(getattr(model, "layer", None), MixtureOfExperts)
        seams += [parted] * 3
    plain = [title for title in fields if title.endswith(f": {task.symbol}")]
    figure = plot_fields(
        fields,
        task.panel_grid,
        shared=plain,
        symmetric=[title for title in fields if title not in plain],
        columns=3,
    )
    panels = [axes for axes in figure.axes if axes.get_title()]
    for axes, parted in zip(panels, seams, strict=True):
        first, second = task.panel_axes
        axes.set_xlabel(first)
        axes.set_ylabel(second)
        axes.set_aspect("auto")
        if parted:
            _draw_seams(axes, task.panel_grid, experts)
    target = pathlib.Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    file = target / f"constraints-{name}.png"
    file.write_bytes(png(figure))
    return file


def _draw_seams(axes: Any, grid: Grid, experts: tuple[int, ...]) -> None:
    """Lines half way between the nodes on either side."""
    boxes = GridPartition(experts).boxes(grid.shape)
    for axis, line in zip(
        range(len(experts)), (axes.axvline, axes.axhline), strict=False
    ):
        nodes = grid.coordinates(axis)
        for edge in boxes.edges[axis][1:-1]:
            place = (nodes[edge - 1] + nodes[edge]) / 2
            line(place, color="black", linestyle="--", linewidth=0.8)
