"""Linear systems: our preconditioned CG beside PyAMG, a direct and an FFT solve."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sciml.linear import to_scipy

from ._memory import peak_memory
from ._methods import Method, methods_for, symmetric_lu, timed
from ._systems import System, make_system

Row = dict[str, Any]


def bench_linear(
    points: int = 511,
    problems: Sequence[str] = ("two-phase-10", "two-phase-1000"),
    *,
    tolerances: Sequence[float] = (1e-2, 1e-4, 1e-6, 1e-8),
    repeats: int = 5,
    cap: int = 500,
    every: bool = False,
    seed: int = 7,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Set-up and solve times of each method on each system.

    Every method gets the same matrix and right-hand side in float64 and solves it to
    each tolerance from zero; the residual ‖b − A x‖/‖b‖ is recomputed here with SciPy's
    CSR product, whoever solved. One round runs all methods in turn; times are medians
    over rounds.

    **Arguments:**

    - `points`: interior nodes per axis; meshes take the refinement with about points²
        unknowns.
    - `problems`: names of systems, see `make_system`.
    - `tolerances`: relative ones; the last is the one that rows are about.
    - `repeats`: rounds after the first (cold) one.
    - `cap`: maximal number of steps of the methods that need hundreds or thousands.
    - `every`: also the preconditioners that are not meant to win.
    - `seed`: of the coefficients.
    - `on_row`: called with each row when it is complete.

    **Returns:** rows with `problem`, `unknowns`, `method`, `iterations`, `status`,
    `relative_residual`, `energy_error` (‖x − x*‖_A/‖x*‖_A against SuperLU's refined
    solution, None where there is none), `setup_time`, `solve_time`, `total_time` (warm
    medians), `cold_time` (the first set-up and solve, compilation included), `ratio`
    (total over that of the first method, medians over the same rounds), `peak_memory`
    (MB of main memory for set-up and solve, beyond the matrix that is given),
    `iterations_to` and `time_to` (set-up included; None where it was not reached), one
    entry per tolerance, and `history`.
    """
    rows = []
    for problem in problems:
        system = make_system(problem, points, seed)
        methods = methods_for(system, cap=cap, every=every, workers=_threads() or 1)
        matrix = to_scipy(system.operator)
        vector = np.asarray(system.vector).ravel()
        reference = _reference(system, matrix, vector)
        rounds = [
            {name: _measure(method, tolerances) for name, method in methods.items()}
            for _ in range(repeats + 1)
        ]
        first = next(iter(methods))
        ours = np.array([_total(runs[first]) for runs in rounds[1:]])
        for name in methods:
            of_method = [runs[name] for runs in rounds]
            row = {
                "problem": problem,
                "unknowns": vector.size,
                "method": name,
                **_facts(of_method[-1]["runs"], matrix, vector, reference, tolerances),
                **_times(of_method, ours),
                "peak_memory": _peak(methods[name], tolerances[-1]),
                "history": of_method[-1]["runs"][-1]["history"],
            }
            row["time_to"] = [
                None if steps is _MISSED else seconds
                for steps, seconds in zip(
                    row["iterations_to"], _times_to(of_method[1:]), strict=True
                )
            ]
            row["iterations_to"] = [
                None if steps is _MISSED else steps for steps in row["iterations_to"]
            ]
            rows.append(row)
            if on_row is not None:
                on_row(row)
    return rows


# (A direct solve has no iterations, and reaches every tolerance.)
_MISSED = object()


def _measure(method: Method, tolerances: Sequence[float]) -> Row:
    state, setup = timed(method.set_up)
    runs, seconds = [], []
    for rtol in tolerances:
        run, spent = timed(lambda rtol=rtol: method.solve(state, rtol))
        runs.append(run)
        seconds.append(spent)
    return {"setup": setup, "seconds": seconds, "runs": runs}


def _peak(method: Method, rtol: float) -> float | None:
    """MB for set-up and solve, the matrix that is given not counted."""
    size = peak_memory(lambda: method.solve(method.set_up(), rtol))
    return None if size is None else round(size / 1e6, 1)


def _total(run: Row) -> float:
    return run["setup"] + run["seconds"][-1]


def _facts(runs, matrix, vector, reference, tolerances) -> Row:
    """What the solutions are worth, by residuals and errors computed here."""
    size = np.linalg.norm(vector)
    residuals = [np.linalg.norm(vector - matrix @ run["value"]) / size for run in runs]
    error = None
    if reference is not None:
        difference = runs[-1]["value"] - reference
        energy = difference @ (matrix @ difference) / (reference @ (matrix @ reference))
        error = float(np.sqrt(max(energy, 0.0)))
    return {
        "iterations": runs[-1]["iterations"],
        "status": runs[-1]["status"],
        "relative_residual": float(residuals[-1]),
        "energy_error": error,
        "iterations_to": [
            run["iterations"] if residual <= rtol * (1 + 1e-6) else _MISSED
            for run, residual, rtol in zip(runs, residuals, tolerances, strict=True)
        ],
    }


def _times(of_method: list[Row], ours: np.ndarray) -> Row:
    warm = of_method[1:]
    totals = np.array([_total(run) for run in warm])
    return {
        "setup_time": float(np.median([run["setup"] for run in warm])),
        "solve_time": float(np.median([run["seconds"][-1] for run in warm])),
        "total_time": float(np.median(totals)),
        # The first tolerance's solve compiled the program of all.
        "cold_time": of_method[0]["setup"] + of_method[0]["seconds"][0],
        "ratio": float(np.median(totals / ours)),
    }


def _times_to(warm: list[Row]) -> list[float]:
    setup = np.array([run["setup"] for run in warm])
    solves = np.array([run["seconds"] for run in warm])
    return np.median(setup[:, None] + solves, axis=0).tolist()


def _reference(system: System, matrix, vector) -> np.ndarray | None:
    """A direct solution, refined once: some digits beyond every tolerance here."""
    if not system.suits_direct:
        return None
    factor = symmetric_lu(matrix.tocsc())
    x = factor.solve(vector)
    return x + factor.solve(vector - matrix @ x)


def _threads() -> int | None:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()
