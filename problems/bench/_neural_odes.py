"""What each way of regularising a neural ODE saves, and what it costs."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np

from sciml.neural_odes import RegularisedLoss
from sciml.training import fit

from ._digits_task import DigitsTask
from ._neural_ode_task import Method, Task
from ._neural_odes_plot import plot_neural_odes
from ._spiral_sde_task import SpiralSDETask
from ._spiral_task import SpiralTask
from ._vowels_task import VowelsTask

Row = dict[str, Any]

TASKS: dict[str, type[Task]] = {
    task.name: task for task in (DigitsTask, SpiralTask, VowelsTask, SpiralSDETask)
}


def bench_neural_odes(
    problems: Sequence[str] | None = None,
    *,
    methods: Sequence[str] | None = None,
    rtol: float | None = None,
    seeds: int = 5,
    num_steps: int | None = None,
    strength: float = 1.0,
    seed: int = 7,
    plot: str | None = None,
    on_run: Callable[[Row], None] | None = None,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Train each problem's model with each method, over several seeds.

    Each seed trains all methods one after the other: a machine that gets slower does so
    for all of them.

    **Arguments:**

    - `problems`: "digits" (classification; accuracy), "spiral" (one trajectory; mean
        squared error), "vowels" (a latent ODE for irregular series; mean squared error
        of what was hidden) and "spiral-sde" (moments of a neural SDE; squared error
        summed). Default all whose data are there.
    - `methods`: default all of each problem; the first is what ratios refer to. Those
        that a problem does not have are left out of it.
    - `rtol`: of both tolerances, in training and in tests. Default the problem's own:
        1e-7, and 2e-3 for the SDE. The tests also take a hundredth of it, for the SDE a
        tenth.
    - `seeds`: initial weights, order of the samples, the data or their split.
    - `num_steps`: of the training. Default the problem's own.
    - `strength`: what every method's coefficient is multiplied by: how much accuracy
        is given for how many evaluations.
    - `seed`: the first of the seeds.
    - `plot`: a folder for pictures of the first seed's models, see `plot_neural_odes`.
        Default none are drawn.
    - `on_run`: called with what was measured of each training: `problem`, `method`,
        `seed` and the numbers of one seed.
    - `on_row`: called with each row when it is complete: those of a problem come
        together, after its last seed.

    **Returns:** rows with `problem`, `method`, `coefficient`, means over seeds and some
    of their standard deviations (`…_sd`): `test` and `train` (of the metric), `nfe` and
    `steps` (evaluations of the field and accepted steps for all test samples as one
    state, by the solver and tolerance of the training), `nfe_each` and `nfe_most` (each
    sample alone: mean and maximum), `nfe SOLVER TOLERANCE` for others, `training_time`,
    `prediction_time` (seconds, compiled); and `ratio`, `time_ratio`, of `nfe` and of
    the training time to those of the first method, means over seeds.

    **Raises:** `ValueError` for a problem or a method that there is not;
    `FileNotFoundError` for a problem whose data are missing, before anything is
    trained.
    """
    chosen = {
        problem: {
            name: method._replace(coefficient=strength * method.coefficient)
            for name, method in own.items()
        }
        for problem, own in choose_neural_odes(problems, methods).items()
    }
    rows = []
    for problem, own in chosen.items():
        runs: dict[str, list[Row]] = {name: [] for name in own}
        for k in range(seeds):
            task = TASKS[problem](rtol, key=_keys(seed + k)[0])
            models = {}
            for name, method in own.items():
                models[name], run = _train(task, method, seed + k, num_steps)
                runs[name].append(run)
                if on_run is not None:
                    on_run(
                        {"problem": problem, "method": name, "seed": seed + k, **run}
                    )
            if plot is not None and k == 0:
                plot_neural_odes(task, models, plot)
        first = next(iter(runs.values()))
        for name, found in runs.items():
            row = _summary(problem, name, own[name].coefficient, found, first)
            rows.append(row)
            if on_row is not None:
                on_row(row)
    return rows


def choose_neural_odes(
    problems: Sequence[str] | None = None, methods: Sequence[str] | None = None
) -> dict[str, dict[str, Method]]:
    """What `bench_neural_odes` trains, by problem and name; raises as it does."""
    if problems is None:
        problems = [name for name, task in TASKS.items() if task.missing() is None]
    chosen = {name: _chosen(name, methods) for name in problems}
    for name in problems:
        missing = TASKS[name].missing()
        if missing is not None:
            raise missing
    return chosen


def _chosen(problem: str, methods: Sequence[str] | None) -> dict[str, Method]:
    if problem not in TASKS:
        raise ValueError(f"problems: no {problem!r}; known are {', '.join(TASKS)}.")
    known = TASKS[problem].methods
    if methods is None:
        return dict(known)
    for name in methods:
        if not any(name in task.methods for task in TASKS.values()):
            raise ValueError(f"methods: no {name!r}; known are {', '.join(known)}.")
    found = {name: known[name] for name in methods if name in known}
    if not found:
        raise ValueError(
            f"methods: {problem} has none of {', '.join(methods)}; it has "
            f"{', '.join(known)}."
        )
    return found


def _keys(seed: int) -> Any:
    """For the data, the initial weights and the training."""
    return jr.split(jr.key(seed), 3)


def _train(
    task: Task, method: Method, seed: int, num_steps: int | None
) -> tuple[Any, Row]:
    """One model trained, and measured."""
    num_steps = task.num_steps if num_steps is None else num_steps
    _, model_key, fit_key = _keys(seed)
    model, history = fit(
        task.model(key=model_key),
        task.data(),
        loss=RegularisedLoss(task.task, *method),
        optimiser=task.optimiser(num_steps),
        num_steps=num_steps,
        batch_size=task.batch_size,
        progress=False,
        key=fit_key,
    )
    row: Row = {**task.score(model), "training_time": history.training_time}
    (name, (solver, tolerance)), *others = task.solvers.items()
    row["nfe"], row["steps"] = task.counts(model, solver, tolerance)
    each = task.one_by_one(model)
    row |= {"nfe_each": float(each.mean()), "nfe_most": int(each.max())}
    for name, other in others:
        row[f"nfe {name}"], _ = task.counts(model, *other)
    times = [_seconds(lambda: task.solution(model, solver, tolerance)) for _ in "12345"]
    row["prediction_time"] = float(np.median(times))
    return model, row


def _seconds(solve: Callable[[], Any]) -> float:
    started = time.perf_counter()
    jax.block_until_ready(eqx.filter(solve(), eqx.is_array))
    return time.perf_counter() - started


def _summary(
    problem: str, name: str, coefficient: float, runs: list[Row], first: list[Row]
) -> Row:
    row: Row = {"problem": problem, "method": name, "coefficient": coefficient}
    for key in runs[0]:
        values = np.array([run[key] for run in runs], float)
        row[key] = float(values.mean())
        if key in ("test", "train", "nfe"):
            row[f"{key}_sd"] = float(values.std(ddof=min(1, len(values) - 1)))
    for key, of in (("ratio", "nfe"), ("time_ratio", "training_time")):
        pairs = zip(runs, first, strict=True)
        row[key] = float(np.mean([run[of] / base[of] for run, base in pairs]))
    return row
