"""What a posterior says, beside the truth where that is known."""

from typing import Any

import numpy as np

from sciml.evaluation import plot_fields
from sciml.grids import Grid
from sciml.inverse import Observations

from ._inverse_cases import InverseCase


def draw_posterior(
    found: Any, observations: Observations, truth: InverseCase | None = None
) -> Any:
    """Coefficient and solution: truth, mean, standard deviation, two samples.

    Dots are observations.

    **Arguments:**

    - `found`: a `sciml.inverse.Posterior` on a grid with two axes.
    - `observations`: what it is of.
    - `truth`: default None.

    **Returns:** a `matplotlib.figure.Figure`.
    """
    grid: Grid = found.misfit.grid
    samples = np.asarray(found.coefficients()[:2]).reshape(2, *grid.shape)
    # (A posterior keeps samples of everything; two solutions are enough here.)
    solutions = [
        np.asarray(found.misfit.solution(w, found.misfit.nodes())[0])
        for w in found.draws[:2]
    ]
    fields: dict[str, Any] = {}
    shared = []
    for name, mean, std, drawn in (
        ("a", found.coefficient_mean, found.coefficient_std, samples),
        ("u", found.mean[0], found.std[0], solutions),
    ):
        if truth is not None:
            exact = truth.coefficient if name == "a" else truth.solution
            fields[f"{name}, truth"] = exact
        fields[f"{name}, mean"] = mean
        fields[f"{name}, standard deviation"] = std
        for number, sample in enumerate(drawn, 1):
            fields[f"{name}, sample {number}"] = np.reshape(sample, grid.shape)
    # (One range of colours for all that can be compared: those of a, which has most.)
    shared = [t for t in fields if t.startswith("a") and "deviation" not in t]
    figure = plot_fields(
        {title: np.asarray(field, float) for title, field in fields.items()},
        grid,
        shared=shared,
        symmetric=(),
        columns=len(fields) // 2,
    )
    points = np.asarray(observations.points)
    panels = [axes for axes in figure.axes if axes.get_title()]
    for axes in panels:
        if axes.get_title().startswith("u") and "deviation" in axes.get_title():
            axes.plot(points[:, 0], points[:, 1], ".", color="white", markersize=3)
            axes.plot(points[:, 0], points[:, 1], ".", color="black", markersize=1.5)
    return figure
