"""What each way of regularising a neural ODE saves, and what it costs."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import optax

from sciml.neural_odes import (
    Biased,
    ErrorEstimate,
    ErrorEstimateSquared,
    KineticEnergy,
    Local,
    NumSteps,
    RegularisedLoss,
    Stiffness,
    TayNODE,
    Unbiased,
    heuristics_of,
)
from sciml.training import fit

from ._neural_ode_tasks import TASKS, Task

Row = dict[str, Any]

# Penalty, coefficient and STEER's width of each method, by problem. Those of the papers
# where they state one for sums; the others were found on the first seed.
_DIGITS: dict[str, tuple[Any, float, float | None]] = {
    "vanilla": ((), 0.0, None),
    "STEER": ((), 0.0, 0.5),
    "KineticEnergy": (KineticEnergy(), 0.1, None),
    "TayNODE": (TayNODE(3), 3.02e-3, None),
    "ErrorEstimate": (ErrorEstimate(), 0.1, None),
    "ErrorEstimateSquared": (ErrorEstimateSquared(), 0.1, None),
    "NumSteps": (NumSteps(), 0.03, None),
    "Stiffness": (Stiffness(), 0.3, None),
    "Local": (Local(), 0.25, None),
    "Local, biased": (Local(Biased()), 2.5, None),
    "Local, unbiased": (Local(Unbiased()), 2.5, None),
}
_SPIRAL = _DIGITS | {
    "STEER": ((), 0.0, 0.1),
    "KineticEnergy": (KineticEnergy(), 1e-5, None),
    "TayNODE": (TayNODE(3), 1e-8, None),
    "ErrorEstimate": (ErrorEstimate(), 1e-2, None),
    "ErrorEstimateSquared": (ErrorEstimateSquared(), 1e-4, None),
    "NumSteps": (NumSteps(), 3e-4, None),
    "Stiffness": (Stiffness(), 1e-3, None),
    "Local": (Local(), 1e-2, None),
    "Local, biased": (Local(Biased()), 1e-1, None),
    "Local, unbiased": (Local(Unbiased()), 1e-1, None),
}
_METHODS: dict[str, dict[str, tuple[Any, float, float | None]]] = {
    "digits": _DIGITS,
    "spiral": _SPIRAL,
}


def bench_neural_odes(
    problems: Sequence[str] = ("digits", "spiral"),
    *,
    methods: Sequence[str] | None = None,
    rtol: float = 1e-7,
    seeds: int = 5,
    num_steps: int | None = None,
    seed: int = 7,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Train each problem's model with each method, over several seeds.

    **Arguments:**

    - `problems`: "digits" (classification; accuracy) and "spiral" (one trajectory; mean
        squared error).
    - `methods`: default all; the first is what ratios refer to.
    - `rtol`: of both tolerances, in training and in tests; the tests also take a
        hundredth of it.
    - `seeds`: initial weights, order of the samples, split of the data.
    - `num_steps`: of the training. Default the problem's own.
    - `seed`: the first of the seeds.
    - `on_row`: called with each row when it is complete.

    **Returns:** rows with `problem`, `method`, `coefficient`, means over seeds and some
    of their standard deviations (`…_sd`): `test` and `train` (of the metric), `nfe`
    (all test samples as one state, the solver and tolerance of the training),
    `nfe_each` and `nfe_most` (each sample alone: mean and maximum), `nfe SOLVER
    TOLERANCE` for others, `training_time`, `prediction_time` (seconds, compiled); and
    `ratio`, `time_ratio`, of `nfe` and of the training time to those of the first
    method, means over seeds.
    """
    rows = []
    for problem in problems:
        chosen = _METHODS[problem]
        names = list(chosen) if methods is None else list(methods)
        runs: dict[str, list[Row]] = {}
        for name in names:
            runs[name] = [
                _train(TASKS[problem], chosen[name], rtol, seed + k, num_steps)
                for k in range(seeds)
            ]
            row = _summary(problem, name, chosen[name][1], runs[name], runs[names[0]])
            rows.append(row)
            if on_row is not None:
                on_row(row)
    return rows


def neural_ode_methods() -> dict[str, list[str]]:
    """The names of the methods by problem."""
    return {problem: list(methods) for problem, methods in _METHODS.items()}


def _train(
    make: Any, method: tuple, rtol: float, seed: int, num_steps: int | None
) -> Row:
    """One model trained and measured."""
    penalty, coefficient, steer = method
    keys = jr.split(jr.key(seed), 3)
    task: Task = make(rtol, key=keys[0])
    model, history = fit(
        task.model(key=keys[1]),
        task.data(),
        loss=RegularisedLoss(task.task, penalty, coefficient, steer),
        optimiser=optax.adam(task.learning_rate),
        num_steps=task.num_steps if num_steps is None else num_steps,
        batch_size=task.batch_size,
        progress=False,
        key=keys[2],
    )
    row: Row = {**task.score(model), "training_time": history.training_time}
    for name, (solver, tolerance) in task.solvers.items():
        heuristics = heuristics_of(task.solution(model, solver, tolerance))
        row[f"nfe {name}"] = int(np.asarray(heuristics.nfe))
    name, (solver, tolerance) = next(iter(task.solvers.items()))
    row["nfe"] = row.pop(f"nfe {name}")
    each = task.one_by_one(model)
    row |= {"nfe_each": float(each.mean()), "nfe_most": int(each.max())}
    times = [_seconds(lambda: task.solution(model, solver, tolerance)) for _ in "12345"]
    row["prediction_time"] = float(np.median(times))
    return row


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
