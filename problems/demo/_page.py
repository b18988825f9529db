"""The page and the pictures."""

import pathlib
from typing import Any

import numpy as np

from sciml.evaluation import (
    Column,
    Report,
    Table,
    plot_convergence,
    plot_fields,
    plot_training,
    png,
)

from ._settings import DemoSettings

# Iterations in the pictures: what converges has done so by then.
_SHOWN = 60
_ERRORS = (
    Column("method"),
    Column("relative_l2", "relative L2 error", format=".2%"),
    Column("relative_h1", "relative H1 error", format=".2%"),
    Column("milliseconds", "time per sample", "ms", format=".2f"),
)
_STARTS = (
    Column("start"),
    Column("iterations"),
    Column("first_residual", "relative residual at the start", format=".1e"),
    Column("relative_residual", "true relative residual at the end", format=".1e"),
    Column("time", "time", "s", format=".4f"),
    Column("status"),
)
_LARGE = (
    Column("method"),
    Column("iterations"),
    Column("setup_time", "set-up", "s", format=".3f"),
    Column("solve_time", "solve", "s", format=".3f"),
    Column("total_time", "both", "s", format=".3f"),
    Column("ratio", "ratio", format=".2f"),
    Column("cold_time", "cold", "s", format=".2f"),
    Column("relative_residual", "true residual", format=".1e"),
    Column("status"),
)


def write_page(
    folder: pathlib.Path,
    settings: DemoSettings,
    results: dict[str, Any],
    history: Any,
    fields: dict[str, np.ndarray],
    histories: dict[str, np.ndarray],
    large: list[dict[str, Any]],
    problem,
) -> None:
    """Write `report.html` and the PNG files that it shows."""
    page = Report("Solvers you can train and trust", results["machine"])
    page.add_paragraph(
        "Two-phase Darcy flow, −∇·(a∇u) = 1 on the unit square with u = 0 around it. a "
        f"is 1 or {settings.pairs.contrast:g}, by the sign of a Gaussian field with "
        "covariance (−Δ + τ²)⁻², τ = 3. Made by sciml demo in "
        f"{results['time']:.0f} s."
    )
    _generate(page, results["generate"])
    pictures = {
        "fields": plot_fields(fields, problem.grid, shared=("solution", "prediction")),
        "training": plot_training({"training": np.asarray(history.loss)}),
        "start": plot_convergence(histories, tolerance=1e-8),
    }
    for contrast in settings.large.contrasts:
        curves = {
            row["method"]: np.asarray(row["history"])[: _SHOWN + 1]
            for row in large
            if row["problem"] == f"two-phase-{contrast:g}"
            and row["history"] is not None
        }
        pictures[f"large-{contrast:g}"] = plot_convergence(curves, tolerance=1e-8)
    images = {name: png(figure) for name, figure in pictures.items()}
    for name, image in images.items():
        (folder / f"{name}.png").write_bytes(image)
    _train(page, results["train"], images)
    _predict(page, results["predict"], images)
    _large(page, settings, large, images)
    page.write(folder / "report.html")


def _generate(page: Report, facts: dict[str, Any]) -> None:
    page.add_heading("Generate")
    size = " × ".join(map(str, facts["num_points"]))
    page.add_paragraph(
        f"{facts['pairs']} coefficients and solutions on {size} nodes, solved by "
        "conjugate gradients with multigrid side by side in batches: "
        f"{facts['time']:.1f} s, compilation included. The residual of each solution "
        "was recomputed from its operator; the largest is "
        f"{facts['largest_relative_residual']:.1e} of the right-hand side."
    )


def _train(page: Report, facts: dict[str, Any], images: dict[str, bytes]) -> None:
    page.add_heading("Train")
    page.add_paragraph(
        f"An MgNO with {facts['parameters']:,} parameters sees the coefficient only. "
        f"{facts['num_steps']} steps of {facts['batch_size']} samples took "
        f"{facts['training_time']:.0f} s, and {facts['compile_time']:.0f} s to "
        "compile. "
        "Errors are means over test samples that it never saw, against the "
        "finite-volume solution on the same grid."
    )
    rows = [{**r, "milliseconds": 1e3 * r["time_per_sample"]} for r in facts["errors"]]
    page.add_table(Table(rows, _ERRORS, caption="Test errors"))
    page.add_paragraph(_verdict(facts["errors"]))
    page.add_figure(
        images["training"],
        alt="The training loss falls with the number of steps.",
        caption="Relative H1 loss of each step's batch.",
    )


def _verdict(rows: list[dict[str, Any]]) -> str:
    """Who wins, in words: the table's last row solves the problem itself."""
    model, solver = rows[0], rows[-1]
    coarse = min(rows[2:-1], key=lambda row: row["relative_l2"])
    ratio = model["time_per_sample"] / solver["time_per_sample"]
    better = "below" if model["relative_l2"] < coarse["relative_l2"] else "above"
    faster = (
        f"takes {ratio:.1f} times as long as"
        if ratio >= 1
        else f"is {1 / ratio:.1f} times faster than"
    )
    return (
        f"The network's error is {better} that of the classical solver at half the "
        f"resolution. On this machine a prediction {faster} solving the full problem "
        "to 1e-8 with multigrid"
        + ("; the solver wins on a grid of this size." if ratio >= 1 else ".")
    )


def _predict(page: Report, facts: dict[str, Any], images: dict[str, bytes]) -> None:
    page.add_heading("Predict, with a certificate")
    page.add_paragraph(
        "A coefficient that is in none of the sets. The prediction's true relative "
        f"residual is {facts['surrogate_relative_residual']:.2e}, its error "
        f"{facts['surrogate_relative_error']:.2%}; conjugate gradients with multigrid "
        "finish from it to 1e-8 (sciml.predict). A residual weighs roughness that an "
        "error hardly shows, which is why a good prediction can start above 1."
    )
    page.add_table(Table(facts["starts"], _STARTS, caption="What the start is worth"))
    page.add_figure(
        images["fields"],
        alt="Coefficient, solution, prediction and the prediction's error.",
        caption="Coefficient, solution, prediction, and prediction − solution.",
    )
    page.add_figure(
        images["start"],
        alt="Residual against iterations from the prediction and from zero.",
        caption="Relative residual, from the prediction and from zero.",
    )


def _large(
    page: Report,
    settings: DemoSettings,
    rows: list[dict[str, Any]],
    images: dict[str, bytes],
) -> None:
    page.add_heading("Solve large systems")
    page.add_paragraph(
        f"{settings.large.points} × {settings.large.points} unknowns, float64, to a "
        "relative residual of 1e-8, recomputed from the matrix for every method. "
        "Methods take turns in one process; times are medians of "
        f"{settings.large.repeats} rounds after the first. Plain and Jacobi-CG are "
        f"capped at {settings.large.cap} steps. "
        "PyAMG and SuperLU run on one core, XLA on all that the process may use. "
        "Cold is the first set-up and solve, compilation included; ratio is set-up and "
        "solve over those of our multigrid."
    )
    for contrast in settings.large.contrasts:
        page.add_heading(f"Contrast {contrast:g}", 3)
        of_contrast = [
            row for row in rows if row["problem"] == f"two-phase-{contrast:g}"
        ]
        page.add_table(Table(of_contrast, _LARGE, caption="Large systems"))
        page.add_figure(
            images[f"large-{contrast:g}"],
            alt="Residual against iterations for each iterative method.",
            caption=f"Relative residual as each method's own recurrence reports it, "
            f"first {_SHOWN} iterations.",
        )
