"""Media from a few noisy values: errors, calibration, times; adjoint solves beside."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.random as jr
import numpy as np

from sciml import RESULTS
from sciml.inverse import (
    NUTS,
    AbstractPosteriorMethod,
    Laplace,
    TotalVariation,
    TrainedDGNO,
    posterior,
)

from .._inverse_cases import InverseCase, inverse_case, judged
from .._two_phase_darcy import TwoPhaseDarcy

Row = dict[str, Any]
_BINS = 10
# Cases are drawn apart from what `sciml train dgno` draws.
_FIRST_SEED = 500_000


def bench_inverse(
    model: TrainedDGNO,
    *,
    settings: Sequence[tuple[int, float]] = ((100, 25.0),),
    cases: int = 100,
    nuts_cases: int = 5,
    variation_cases: int = 20,
    seed: int = 7,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Posteriors of two-phase media with known truth.

    Media are drawn from the problem's distribution, solutions are those of a finer
    grid, values are taken at random nodes. Methods see the same cases:

    - "Laplace": in the model's latent space;
    - "NUTS": the same posterior, sampled; the check of the former, on the first cases;
    - "total variation": adjoint solves until the observations are met, without any
      training; and "…, as long as Laplace", with as many steps as fit into the time of
      Laplace's method, one at least.

    **Arguments:**

    - `model`: of `problems.TwoPhaseDarcy`.
    - `settings`: numbers of observations, and decibels of signal to noise.
    - `cases`, `nuts_cases`, `variation_cases`: for each method; of 0 none.
    - `seed`: of the cases.
    - `on_row`: called with each row when it is complete.

    **Returns:** rows with `method`, `observations`, `snr`, `cases`, and means over them
    of what `judged` gives; `reliability`, the share of the higher phase where its
    probability is in each tenth, `calibration_error`, their mean distance weighted by
    how often that is; `run_time`, the median of seconds without the first case;
    `converged`, and `flagged` as another kind. For NUTS also `r_hat` (worst),
    `effective_sample_size` (least), `acceptance` (mean), and `std_of_laplace`, its mean
    standard deviation of u over that of Laplace's method.
    """
    form: Any = model.model.weak_form
    kind = form.coefficient
    problem = TwoPhaseDarcy(form.grid.num_points, kind.low, kind.high, form.source)
    rows: list[Row] = []

    def report(row: Row) -> None:
        rows.append(row)
        if on_row is not None:
            on_row(row)

    for number, snr in settings:
        first = _FIRST_SEED + 10_000 * seed
        drawn = [
            inverse_case(problem, first + k, num_observations=number, snr=snr)
            for k in range(max(cases, nuts_cases, variation_cases))
        ]
        facts, spreads = {"observations": number, "snr": snr}, []
        if cases:
            row, spreads = _all(model, drawn[:cases], Laplace(), seed)
            report({"method": "Laplace", **facts, **row})
        if nuts_cases:
            row, sampled = _all(model, drawn[:nuts_cases], NUTS(), seed)
            if cases:
                ratio = np.mean(sampled) / np.mean(spreads[:nuts_cases])
                row["std_of_laplace"] = float(ratio)
            report({"method": "NUTS", **facts, **row})
        if variation_cases:
            some = drawn[:variation_cases]
            row, _ = _all(problem, some, TotalVariation(kind), seed)
            report({"method": "total variation", **facts, **row})
            if cases:
                step_time = row["run_time"] / row["num_steps"]
                laplace_time = next(
                    r["run_time"] for r in reversed(rows) if r["method"] == "Laplace"
                )
                steps = max(int(laplace_time / step_time), 1)
                short = TotalVariation(kind, max_steps=steps)
                row, _ = _all(problem, some, short, seed)
                name = "total variation, as long as Laplace"
                report({"method": name, **facts, **row})
    return rows


def _all(
    model: Any, cases: Sequence[InverseCase], method: AbstractPosteriorMethod, seed: int
) -> tuple[Row, list[float]]:
    """One row, and the mean standard deviation of u in each case."""
    low, high = (float(f([c.coefficient for c in cases])) for f in (np.min, np.max))
    found, seconds, spreads = [], [], []
    stats: list[dict[str, float]] = []
    converged = 0
    for number, case in enumerate(cases):
        start = time.perf_counter()
        answer = posterior(
            model,
            case.observations,
            method=method,
            throw=False,
            key=jr.fold_in(jr.key(seed), number),
        )
        jax.block_until_ready(answer.std)
        seconds.append(time.perf_counter() - start)
        found.append(judged(case, answer, low, high))
        spreads.append(float(np.mean(np.asarray(answer.std))))
        stats.append({name: float(x) for name, x in answer.stats.items()})
        converged += bool(answer.result == RESULTS.successful)
    mean = lambda name: float(np.mean([one[name] for one in found]))
    names = (
        "coefficient_error",
        "solution_error",
        "phase_right",
        "coverage",
        "brier",
    )
    shares, error = reliability(
        np.concatenate([one["probability"] for one in found]),
        np.concatenate([one["phase"] for one in found]),
    )
    row: Row = {"cases": len(cases), **{name: mean(name) for name in names}}
    row |= {
        "calibration_error": error,
        "run_time": float(np.median(seconds[1:] or seconds)),
        "converged": converged,
        "flagged": int(sum(one["out_of_distribution"] for one in stats)),
        "reliability": shares,
    }
    of = lambda name: [one[name] for one in stats]
    if "r_hat" in stats[0]:
        row["r_hat"] = float(np.max(of("r_hat")))
        row["effective_sample_size"] = float(np.min(of("effective_sample_size")))
        row["acceptance"] = float(np.mean(of("acceptance")))
    if "num_steps" in stats[0]:
        row["num_steps"] = float(np.mean(of("num_steps")))
    return row, spreads


def reliability(
    probability: np.ndarray, phase: np.ndarray
) -> tuple[list[float | None], float]:
    """How often the higher phase is there, by tenths of the probability of it.

    **Arguments:**

    - `probability`, `phase`: flat, the latter 0 or 1.

    **Returns:** the shares, None for a tenth that no probability is in; and the mean of
    |share − mean probability| over all nodes.
    """
    tenth = np.clip((probability * _BINS).astype(int), 0, _BINS - 1)
    shares: list[float | None] = []
    error = 0.0
    for number in range(_BINS):
        inside = tenth == number
        if not inside.any():
            shares.append(None)
            continue
        share = float(phase[inside].mean())
        shares.append(round(share, 4))
        error += inside.mean() * abs(share - float(probability[inside].mean()))
    return shares, float(error)
