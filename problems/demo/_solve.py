"""Act three: finish the prediction to a tolerance, then solve large systems."""

from typing import Any

import equinox as eqx
import jax.random as jr
import numpy as np

import sciml
from sciml.evaluation import timed

from .._diffusion import Darcy
from ..bench import bench_linear
from ..bench._methods import result_name
from ._settings import DemoSettings


def certify(
    settings: DemoSettings, problem: Darcy, model
) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, Any]]:
    """`sciml.predict` on a coefficient that was never seen, beside a zero start."""
    # The data used the key itself; this coefficient comes from another.
    key = jr.fold_in(jr.key(settings.seed), 2**31)
    coefficient = problem.sample_coefficient(key=key)
    solve = lambda: sciml.predict(model, problem, coefficient, 1e-8, throw=False)
    # Compiled as a whole, as `predict` is.
    whole = eqx.filter_jit(lambda a: problem.solve(a, rtol=1e-8, throw=False))
    zero = lambda: whole(coefficient)
    out, out_time = _timed(solve)
    reference, zero_time = _timed(zero)
    rows = []
    for name, solution, seconds in (
        ("from the prediction", out, out_time),
        ("from zero", reference, zero_time),
    ):
        rows.append(
            {
                "start": name,
                "iterations": int(solution.stats["num_steps"]),
                "status": result_name(solution.result),
                "first_residual": float(solution.stats["residual_history"][0]),
                "relative_residual": float(solution.stats["relative_residual"]),
                "time": seconds,
            }
        )
    prediction = np.asarray(out.stats["surrogate"])
    solution = np.asarray(out.value)
    facts = {
        "surrogate_relative_residual": float(out.stats["surrogate_relative_residual"]),
        "surrogate_relative_error": float(out.stats["surrogate_relative_error"]),
        "starts": rows,
    }
    fields = {
        "coefficient": np.asarray(coefficient),
        "solution": solution,
        "prediction": prediction,
        "error": prediction - solution,
    }
    histories = {
        row["start"]: _history(solution)
        for row, solution in zip(rows, (out, reference), strict=True)
    }
    return facts, fields, histories


def large_systems(settings: DemoSettings, on_row) -> list[dict[str, Any]]:
    """The table of methods on the large grid."""
    return bench_linear(
        settings.large.points,
        [f"two-phase-{contrast:g}" for contrast in settings.large.contrasts],
        tolerances=(1e-8,),
        repeats=settings.large.repeats,
        cap=settings.large.cap,
        seed=settings.seed,
        on_row=on_row,
    )


def _timed(solve) -> tuple[sciml.Solution, float]:
    """The result, and the median time of warm calls."""
    timing = timed(lambda: solve().value, repeats=9)
    return solve(), timing.run_time


def _history(solution: sciml.Solution) -> np.ndarray:
    steps = int(solution.stats["num_steps"])
    return np.asarray(solution.stats["residual_history"])[: steps + 1]
