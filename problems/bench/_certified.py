"""What a surrogate saves the solver, and whether every answer is true."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import sciml
from sciml.evaluation import paired
from sciml.grids import (
    AbstractRandomField,
    ChannelsField,
    GaussianField,
    LogNormalField,
    TwoPhaseField,
)
from sciml.neural_operators import MgNO, normalised

from .._diffusion import Diffusion
from .._surrogate import as_float32, in_float32

Row = dict[str, Any]

# A model is trained on one of them, and has never seen the others.
_CONTRAST = 10.0
CERTIFIED_CASES: dict[str, AbstractRandomField] = {
    "two-phase": TwoPhaseField(1.0, _CONTRAST),
    "smaller grains": TwoPhaseField(1.0, _CONTRAST, GaussianField(tau=10.0)),
    "contrast 1000": TwoPhaseField(1.0, 1e3),
    "log-normal": LogNormalField(GaussianField(scale=3.0)),
    "channels": ChannelsField(1.0, 100.0),
}


def bench_certified(
    *,
    trained_on: str = "two-phase",
    num_points: int = 63,
    num_samples: int = 1000,
    num_steps: int = 3000,
    num_cases: int = 100,
    rtol: float = 1e-6,
    seed: int = 7,
    progress: bool = False,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """An MgNO of Darcy flow, finished by CG, in and out of distribution.

    The rival is the same multigrid CG started from zero. Both solve in JAX's default
    type, the model computes in float32; the time of a prediction includes the model's.

    **Arguments:**

    - `trained_on`: the coefficients that the model learns, of `CERTIFIED_CASES`:
        "two-phase" (1 and 10), "smaller grains" of the same, "contrast 1000",
        "log-normal" (smooth) and "channels".
    - `num_points`: nodes per axis.
    - `num_samples`, `num_steps`: of the training.
    - `num_cases`: solves for each distribution of coefficients.
    - `rtol`: of the residual.
    - `seed`: of everything random.
    - `progress`: show a bar.
    - `on_row`: called with each row when it is complete.

    **Returns:** a row per distribution, first that of the training: `met`, how many of
    `cases` end with a residual that was recomputed here and is not above `rtol`;
    medians of the prediction's `residual`, and of its `error` in L2 and in the energy
    norm; mean `steps` and `steps_from_zero` and their `ratio`; medians of the `time` of
    a prediction and its finish and of the `plain_time`, and their `time_ratio`.

    **Raises:** `ValueError` for coefficients that there are not.
    """
    if trained_on not in CERTIFIED_CASES:
        raise ValueError(
            f"trained_on: no {trained_on!r}; known are {', '.join(CERTIFIED_CASES)}."
        )
    problem = Diffusion((num_points,) * 2, CERTIFIED_CASES[trained_on])
    model, error = _trained(problem, num_samples, num_steps, seed, progress)
    rows = []
    for name in sorted(CERTIFIED_CASES, key=lambda name: name != trained_on):
        problem = Diffusion((num_points,) * 2, CERTIFIED_CASES[name])
        found = _row(model, problem, num_cases, rtol, seed)
        row = {"trained_on": trained_on, "coefficients": name, **found}
        if not rows:
            row["test_l2"] = error
        rows.append(row)
        if on_row is not None:
            on_row(row)
    return rows


def _trained(problem, num_samples, num_steps, seed, progress):
    """An MgNO of a problem, and its relative error on samples held out."""
    key = jr.key(seed)
    num_test = max(num_samples // 10, 1)
    data = problem.dataset(num_samples + num_test, key=key)
    train, test = as_float32(data).split(num_samples)
    num_levels = max(2, int(np.log2(problem.grid.num_points[0] + 1)) - 1)
    model = MgNO(2, 1, 1, num_levels=num_levels, boundary=train.grid.boundary, key=key)
    model = normalised(in_float32(model), train.inputs, train.targets)
    # None of the media prefers a direction.
    loss = sciml.training.D4Augmented(sciml.training.RelativeH1())
    model, _ = sciml.training.fit(
        model,
        train,
        loss=loss,
        optimiser=sciml.training.muon_optimiser(num_steps),
        num_steps=num_steps,
        batch_size=min(8, num_samples),
        progress=progress,
        key=key,
    )
    return model, sciml.evaluation.evaluate(model, test)["relative_l2"]


def _row(model, problem: Diffusion, num_cases: int, rtol: float, seed: int) -> Row:
    # Other keys than those of the training data.
    keys = jr.split(jr.key(seed + 1), num_cases)
    fields = jnp.stack([problem.sample_coefficient(key=key) for key in keys])
    multigrid = sciml.preconditioners.Multigrid()
    solver = sciml.CG(rtol=rtol, max_steps=500)

    @eqx.filter_jit
    def finished(a):
        return sciml.predict(
            model, problem, a, rtol, preconditioner=multigrid, throw=False
        )

    @eqx.filter_jit
    def plain(a):
        A, b = problem.assemble(a)
        return sciml.linear_solve(A, b, solver, preconditioner=multigrid, throw=False)

    @eqx.filter_jit
    def relative_residual(a, u):
        A, b = problem.assemble(a)
        return jnp.linalg.norm(b - A.mv(u)) / jnp.linalg.norm(b)

    ours, theirs, met, times = [], [], 0, []
    for k, a in enumerate(fields):
        # The first round compiles; cases are solved once each, in turns.
        turns = {"ours": lambda a=a: finished(a), "theirs": lambda a=a: plain(a)}
        timing = paired(turns, a, repeats=1, warmup=int(k == 0))
        out, other = timing["ours"].value, timing["theirs"].value
        claimed = bool(out.result == sciml.RESULTS.successful)
        met += claimed and float(relative_residual(a, out.value)) <= rtol * (1 + 1e-6)
        ours.append(jax.device_get(out.stats))
        theirs.append(int(other.stats["num_steps"]))
        times.append((timing["ours"].run_time, timing["theirs"].run_time))
    median = lambda name: float(np.median([stats[name] for stats in ours]))
    steps = float(np.mean([stats["num_steps"] for stats in ours]))
    time, plain_time = (float(np.median(column)) for column in zip(*times, strict=True))
    return {
        "cases": num_cases,
        "met": met,
        "residual": median("surrogate_relative_residual"),
        "error": median("surrogate_relative_error"),
        "energy_error": median("surrogate_energy_error"),
        "steps": steps,
        "steps_from_zero": float(np.mean(theirs)),
        "ratio": steps / float(np.mean(theirs)),
        "time": time,
        "plain_time": plain_time,
        "time_ratio": time / plain_time,
    }
