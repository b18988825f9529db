"""Models that march in time, far beyond the times that they were trained on."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

import sciml
from sciml.data import Dataset
from sciml.grids import Periodic
from sciml.neural_operators import (
    FNO,
    BoundedStep,
    NoCoordinates,
    StableFNO,
    normalised,
)

from .._kuramoto_sivashinsky import KuramotoSivashinsky
from .._surrogate import as_float32, in_float32, num_parameters, short_run_optimiser

Row = dict[str, Any]

_NUM_POINTS = 64
_NUM_TESTS = 8
# How often the horizon of the training is passed in the longest rollout.
_LONGEST = 50
# Of a bounded solution, in units of the largest that there was in the data.
_DIVERGED = 5.0


class Increment(eqx.Module):
    """x + model(x): the usual form of a time step."""

    model: Any

    def __call__(self, x: Float[Array, "channels *space"]) -> Array:
        """The next state."""
        return x + self.model(x)


def _fno(num_modes: int, key) -> FNO:
    return FNO(
        1,
        1,
        1,
        num_modes=num_modes,
        boundary=Periodic(),
        coordinates=NoCoordinates(),
        key=key,
    )


# All of them see every frequency of the grid but for what their form leaves out.
_MAKERS: dict[str, Callable[[Any], Any]] = {
    "FNO": lambda key: _fno(32, key),
    "x + FNO": lambda key: Increment(_fno(32, key)),
    "BoundedStep(FNO)": lambda key: BoundedStep(_fno(32, key), 1, 1, num_modes=32),
    "StableFNO": lambda key: StableFNO(1, 1, 1, num_modes=32, key=key),
}

ROLLOUT_MODELS = tuple(_MAKERS)


def bench_rollouts(
    *,
    models: Sequence[str] = ROLLOUT_MODELS,
    interval: float = 1.0,
    horizon: int = 20,
    num_trajectories: int = 40,
    num_steps: int = 1000,
    seeds: int = 3,
    seed: int = 7,
    progress: bool = False,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Kuramoto–Sivashinsky at 64 nodes: errors, and what becomes of long rollouts.

    Trained on single steps of trajectories of `horizon` steps; then fed with its own
    output for 10 and for 50 horizons. A rollout has diverged where its root mean square
    is five times the largest of the data, or not finite.

    **Arguments:**

    - `models`: of "FNO", "x + FNO", "BoundedStep(FNO)" and "StableFNO".
    - `interval`: time of a step.
    - `horizon`: steps of a trajectory.
    - `num_trajectories`: to train on; 8 others are kept to judge by.
    - `num_steps`: updates, with 64 pairs each.
    - `seeds`: trainings of each model.
    - `seed`: the first of them, and that of the data.
    - `progress`: show bars.
    - `on_row`: called with each row when it is complete.

    **Returns:** a row per model: `parameters`, `step_error` (relative, in L2, of one
    step), `accurate_steps` (while the mean correlation is at least 0.8), how many of
    the `rollouts` have `diverged_10` and `diverged_50`, `first` (the earliest step
    where one has; None), `largest` (root mean square at the end, in units of the data's
    largest, over those that are finite) and `training_time`.
    """
    for name in models:
        if name not in _MAKERS:
            raise ValueError(f"models: no {name!r}; known are {', '.join(_MAKERS)}.")
    problem = KuramotoSivashinsky(_NUM_POINTS, final_time=horizon * interval)
    key = jr.key(seed)
    pairs = problem.transitions(num_trajectories, num_saves=horizon, key=key)
    train = as_float32(pairs)
    other = jr.fold_in(key, 1)
    test = as_float32(problem.dataset(_NUM_TESTS, num_saves=horizon, key=other))
    steps = as_float32(problem.transitions(_NUM_TESTS, num_saves=horizon, key=other))
    rows = []
    for name in models:
        found = []
        for k in range(seed, seed + seeds):
            # (One unit for both, or a bound in it would be none.)
            states = train.targets
            start = normalised(in_float32(_MAKERS[name](jr.key(k))), states, states)
            model, history = sciml.training.fit(
                start,
                train,
                loss=sciml.training.RelativeL2(),
                optimiser=short_run_optimiser(num_steps, 2e-3),
                num_steps=num_steps,
                batch_size=min(64, len(train)),
                progress=progress,
                key=jr.key(k),
            )
            found.append(_judged(model, train, steps, test, horizon))
            found[-1]["training_time"] = history.training_time
        size = num_parameters(_MAKERS[name](jr.key(seed)))
        row = {"model": name, "parameters": size, **_summary(found)}
        rows.append(row)
        if on_row is not None:
            on_row(row)
    return rows


def _judged(model, train: Dataset, steps: Dataset, test: Dataset, horizon: int) -> Row:
    size = np.sqrt(np.mean(np.asarray(train.targets, float) ** 2, axis=(1, 2))).max()
    sizes = _sizes(model, jnp.asarray(test.inputs), _LONGEST * horizon)
    sizes = np.asarray(sizes, float) / size
    diverged = ~(sizes < _DIVERGED)
    first = np.flatnonzero(diverged.any(1))
    ends = sizes[-1][np.isfinite(sizes[-1])]
    return {
        "step_error": sciml.evaluation.evaluate(model, steps)["relative_l2"],
        "accurate_steps": sciml.evaluation.rollout_errors(model, test).num_accurate,
        "rollouts": len(test),
        "diverged_10": int(diverged[: 10 * horizon].any(0).sum()),
        "diverged_50": int(diverged.any(0).sum()),
        "first": int(first[0]) + 1 if len(first) else None,
        "largest": float(ends.max()) if len(ends) else np.inf,
    }


@eqx.filter_jit
def _sizes(model, x, num_steps: int):
    """Root mean squares of each rollout after each step."""

    def step(x, _):
        x = jax.vmap(model)(x)
        return x, jnp.sqrt(jnp.mean(x**2, axis=(1, 2)))

    return jax.lax.scan(step, x, length=num_steps)[1]


def _summary(found: list[Row]) -> Row:
    """Means of errors, sums of counts, the worst of the rest."""
    firsts = [row["first"] for row in found if row["first"] is not None]
    mean = lambda key: float(np.mean([row[key] for row in found]))
    total = lambda key: sum(row[key] for row in found)
    return {
        "step_error": mean("step_error"),
        "accurate_steps": mean("accurate_steps"),
        "rollouts": total("rollouts"),
        "diverged_10": total("diverged_10"),
        "diverged_50": total("diverged_50"),
        "first": min(firsts, default=None),
        "largest": max(row["largest"] for row in found),
        "training_time": mean("training_time"),
    }
