"""Media from a few noisy values: errors, calibration, times; adjoint solves beside."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.random as jr
import numpy as np

from sciml import RESULTS
from sciml.inverse import (
    NUTS,
    AbstractPosteriorMethod,
    Laplace,
    PointEstimate,
    TotalVariation,
    TrainedDGNO,
    posterior,
)

from .._inverse_cases import InverseCase, inverse_case, judged, problem_of
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
    grid, values are taken at random nodes. All methods see the first of the same cases:

    - "Laplace": in the model's latent space;
    - "NUTS": the same posterior, sampled; the check of the former;
    - "point estimate, as published": `PointEstimate()`;
    - "total variation": adjoint solves until the observations are met, without any
      training; and one step of that, with the median of the λ that were found, as next
      to no more fits into the time that Laplace's method takes.

    **Arguments:**

    - `model`: of `problems.TwoPhaseDarcy`.
    - `settings`: numbers of observations, and decibels of signal to noise.
    - `cases`, `nuts_cases`, `variation_cases`: for Laplace's method, for NUTS, and for
        the others; of 0 none.
    - `seed`: of the cases.
    - `on_row`: called with each row when it is complete.

    **Returns:** rows with `method`, `observations`, `snr`, `cases`, and means over them
    of what `judged` gives; `run_time`, the median of seconds without the first case;
    `converged`, and `flagged` as another kind; `laplace_coefficient_error` and
    `laplace_solution_error`, those of Laplace's method on the cases of the row. Where
    probabilities are meant as such, `coverage`, `brier`, `reliability`, the share of
    the higher phase where its probability is in each tenth, and `calibration_error`,
    their mean distance weighted by how often that is. For NUTS also `r_hat` (worst),
    `effective_sample_size` (least), `acceptance` (mean), and `std_of_laplace`, its mean
    standard deviation of u over that of Laplace's method.

    **Raises:** `ValueError` for a model of another problem.
    """
    problem = problem_of(model)
    if not isinstance(problem, TwoPhaseDarcy):
        raise ValueError("model: expected one of problems.TwoPhaseDarcy.")
    kind = problem.weak_form().coefficient
    rows: list[Row] = []

    for number, snr in settings:
        most = max(cases, nuts_cases, variation_cases)
        drawn = inverse_cases(problem, most, number, snr, seed)
        laplace = None
        if cases:
            laplace = _all(model, drawn[:cases], Laplace(), kind, seed)
        for name, judged_cases in _methods(
            model, problem, laplace, drawn[:nuts_cases], drawn[:variation_cases], seed
        ):
            row = {"method": name, "observations": number, "snr": snr}
            row |= judged_cases.row(name in ("Laplace", "NUTS"))
            if laplace is not None and judged_cases is not laplace:
                count = len(judged_cases.found)
                for error in ("coefficient_error", "solution_error"):
                    row[f"laplace_{error}"] = laplace.mean(error, count)
                if name == "NUTS":
                    ratio = judged_cases.mean("spread") / laplace.mean("spread", count)
                    row["std_of_laplace"] = ratio
            rows.append(row)
            if on_row is not None:
                on_row(row)
    return rows


def _methods(
    model: TrainedDGNO,
    problem: TwoPhaseDarcy,
    laplace: "_Judged | None",
    for_nuts: Sequence[InverseCase],
    for_others: Sequence[InverseCase],
    seed: int,
) -> Iterator[tuple[str, "_Judged"]]:
    """Each method's name, and its cases when they are done."""
    kind = problem.weak_form().coefficient
    if laplace is not None:
        yield "Laplace", laplace
    if for_nuts:
        yield "NUTS", _all(model, for_nuts, NUTS(), kind, seed)
    if for_others:
        found = _all(model, for_others, PointEstimate(), kind, seed)
        yield "point estimate, as published", found
        found = _all(problem, for_others, TotalVariation(kind), kind, seed)
        yield "total variation", found
        # One update, with the λ that the whole searches have ended with: what there is
        # time for is not to be lost on finding it.
        strength = float(np.median([one["strength"] for one in found.stats]))
        short = TotalVariation(kind, strength, max_steps=1)
        found = _all(problem, for_others, short, kind, seed)
        yield "total variation, one step", found


class _Judged(NamedTuple):
    """Of each case: what `judged` gives and the mean spread of u, statistics, seconds.

    (The first case is compiled.)
    """

    found: list[Row]
    stats: list[dict[str, float]]
    seconds: list[float]

    def mean(self, name: str, count: int | None = None) -> float:
        """Over the first cases, by default all."""
        return float(np.mean([one[name] for one in self.found[:count]]))

    def row(self, calibrated: bool) -> Row:
        """Means; of calibration where probabilities are meant as such."""
        names = ["coefficient_error", "solution_error", "phase_right"]
        row: Row = {"cases": len(self.found)}
        shares: list[float | None] = []
        row |= {name: self.mean(name) for name in names}
        if calibrated:
            shares, error = reliability(
                np.concatenate([one["probability"] for one in self.found]),
                np.concatenate([one["phase"] for one in self.found]),
            )
            row |= {
                "coverage": self.mean("coverage"),
                "brier": self.mean("brier"),
                "calibration_error": error,
            }
        row |= {
            "run_time": float(np.median(self.seconds[1:] or self.seconds)),
            "converged": int(sum(one["converged"] for one in self.stats)),
            "flagged": int(sum(one["out_of_distribution"] for one in self.stats)),
        }
        if calibrated:
            row["reliability"] = shares
        of = lambda name: [one[name] for one in self.stats]
        if "r_hat" in self.stats[0]:
            row["r_hat"] = float(np.max(of("r_hat")))
            row["effective_sample_size"] = float(np.min(of("effective_sample_size")))
            row["acceptance"] = float(np.mean(of("acceptance")))
        if "num_steps" in self.stats[0]:
            row["num_steps"] = float(np.mean(of("num_steps")))
        return row


def inverse_cases(
    problem: TwoPhaseDarcy, count: int, number: int, snr: float, seed: int
) -> list[InverseCase]:
    """Those of the benchmark.

    **Arguments:**

    - `problem`: the media's.
    - `count`: of cases.
    - `number`: of observations of each.
    - `snr`: in decibels.
    - `seed`: of all.
    """
    first = _FIRST_SEED + 10_000 * seed
    return [
        inverse_case(problem, first + k, num_observations=number, snr=snr)
        for k in range(count)
    ]


def _all(
    model: Any,
    cases: Sequence[InverseCase],
    method: AbstractPosteriorMethod,
    kind: Any,
    seed: int,
) -> _Judged:
    found, stats, seconds = [], [], []
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
        spread = float(np.mean(np.asarray(answer.std)))
        found.append({**judged(case, answer, kind.low, kind.high), "spread": spread})
        converged = bool(answer.result == RESULTS.successful)
        numbers = {name: float(x) for name, x in answer.stats.items()}
        stats.append({**numbers, "converged": converged})
    return _Judged(found, stats, seconds)


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
