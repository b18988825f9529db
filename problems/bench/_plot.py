"""Pictures of what `bench_linear` measured."""

import pathlib
from typing import Any

import numpy as np

from sciml.evaluation import plot_bars, plot_convergence, png

_SECONDS = "seconds, set-up and solve"


def plot_linear(rows: list[dict[str, Any]], folder: str) -> list[pathlib.Path]:
    """Per problem residuals against iterations, and the times to the last tolerance.

    **Arguments:**

    - `rows`: as `bench_linear` returns them.
    - `folder`: where the PNG files go; made if need be.

    **Returns:** the files.
    """
    target = pathlib.Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for problem in dict.fromkeys(row["problem"] for row in rows):
        own = [row for row in rows if row["problem"] == problem]
        curves = {
            row["method"]: row["history"] for row in own if row["history"] is not None
        }
        times = {
            row["method"]: np.nan if row["time_to"][-1] is None else row["time_to"][-1]
            for row in own
        }
        # (A colon does not belong into a file's name everywhere.)
        stem = problem.replace(":", "-")
        for kind, figure in (
            ("convergence", plot_convergence(curves)),
            ("time", plot_bars(times, xlabel=_SECONDS, missing="not reached")),
        ):
            file = target / f"{stem}-{kind}.png"
            file.write_bytes(png(figure))
            written.append(file)
    return written
