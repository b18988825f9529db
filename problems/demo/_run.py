"""The three acts in a row, and what they leave behind."""

import pathlib
import time
from typing import Any

import sciml
from sciml.evaluation import machine

from ..cli._common import plain_json, progress_bar, say
from ._generate import generate
from ._page import write_page
from ._settings import DemoSettings as DemoSettings
from ._solve import certify, large_systems
from ._train import train


def run_demo(
    folder: str | pathlib.Path = "runs/demo",
    settings: DemoSettings | None = None,
) -> dict[str, Any]:
    """Generate, train, solve; write the page, its pictures, the figures, the model.

    **Arguments:**

    - `folder`: receives `report.html`, PNG files, `results.json` and
        `model.safetensors`.
    - `settings`: default `DemoSettings()`. Needs JAX in float64 mode.

    **Returns:** what `results.json` holds.
    """
    settings = DemoSettings() if settings is None else settings
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    total = settings.pairs.num_train + settings.pairs.num_test
    points = settings.pairs.points
    say(f"1/3 generate: {total} pairs on {points} × {points} nodes")
    with progress_bar("solving", total) as bar:
        problem, data, generated = generate(settings, bar)
    say(
        f"    largest relative residual {generated['largest_relative_residual']:.1e}, "
        f"{generated['time']:.1f} s"
    )
    say(f"2/3 train: an MgNO, {settings.training.num_steps} steps")
    model, history, trained = train(settings, problem, data)
    for row in trained["errors"]:
        say(
            f"    {row['relative_l2']:7.2%} L2  {row['relative_h1']:7.2%} H1  "
            f"{row['method']}"
        )
    sciml.save(folder / "model.safetensors", model)
    say(
        "3/3 solve: a new coefficient, then "
        f"{settings.large.points} × {settings.large.points} systems"
    )
    certified, fields, histories = certify(settings, problem, model)
    for row in certified["starts"]:
        say(
            f"    {row['iterations']:3d} iterations {row['start']}, residual "
            f"{row['first_residual']:.1e} → {row['relative_residual']:.1e}"
        )
    rows = large_systems(settings, _tell)
    results = {
        "generate": generated,
        "train": trained,
        "predict": certified,
        "large": [{k: v for k, v in r.items() if k != "history"} for r in rows],
        "machine": machine(),
        "time": time.perf_counter() - start,
    }
    write_page(folder, settings, results, history, fields, histories, rows, problem)
    (folder / "results.json").write_text(plain_json(results) + "\n", "utf-8")
    return results


def _tell(row: dict[str, Any]) -> None:
    count = "–" if row["iterations"] is None else row["iterations"]
    say(
        f"    {row['problem']:<15} {row['method']:<36} "
        f"{count:>4} iterations  "
        f"{row['total_time']:7.3f} s  {row['ratio']:6.2f} ×  {row['status']}"
    )
