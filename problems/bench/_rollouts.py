"""Models that march in time, far beyond the times that they were trained on."""

import dataclasses
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
from sciml.grids import Grid, Periodic
from sciml.neural_operators import (
    FNO,
    BoundedStep,
    NoCoordinates,
    StableFNO,
    normalised,
)

from .._kuramoto_sivashinsky import KuramotoSivashinsky
from .._navier_stokes import NavierStokesVorticity
from .._surrogate import as_float32, in_float32, num_parameters, short_run_optimiser

Row = dict[str, Any]

_NUM_TESTS = 8
# How often the horizon of the training is passed in the longest rollout.
_LONGEST = 50
# In units of the largest that there was in the data. (BoundedStep cannot get there with
# its defaults; `largest` says how near it came.)
_DIVERGED = 5.0


class Increment(eqx.Module):
    """x + model(x): the usual form of a time step."""

    model: Any

    def __call__(self, x: Float[Array, "channels *space"]) -> Array:
        """The next state."""
        return x + self.model(x)


@dataclasses.dataclass(frozen=True)
class Flow:
    """What marches.

    **Attributes:**

    - `make`: the problem with a final time.
    - `ndim`: its axes.
    - `num_modes`: every frequency of its grid.
    - `width`: channels of FNO.
    - `stable_width`: channels of StableFNO.
    - `num_trajectories`: to train on.
    - `batch_size`: pairs of an update.
    - `warm_up`: time before the first state, in intervals.
    """

    make: Callable[[float], Any]
    ndim: int
    num_modes: int
    width: int
    stable_width: int
    num_trajectories: int
    batch_size: int
    warm_up: int = 0

    def states(self, num_trajectories: int, horizon: int, interval: float, key):
        """Trajectories of horizon + 1 states, and their grid."""
        num_saves = self.warm_up + horizon
        problem = self.make(num_saves * interval)
        data = as_float32(
            problem.dataset(num_trajectories, num_saves=num_saves, key=key)
        )
        states = np.concatenate([data.inputs, data.targets], axis=1)
        return states[:, self.warm_up :], data.grid

    def fno(self, key) -> FNO:
        """A Fourier neural operator for it."""
        return FNO(
            self.ndim,
            1,
            1,
            width=self.width,
            num_modes=self.num_modes,
            boundary=Periodic(),
            coordinates=NoCoordinates(),
            key=key,
        )

    def model(self, name: str, key) -> Any:
        """One of `ROLLOUT_MODELS`, untrained."""
        if name == "StableFNO":
            return StableFNO(
                self.ndim,
                1,
                1,
                width=self.stable_width,
                num_modes=self.num_modes,
                key=key,
            )
        fno = self.fno(key)
        if name == "x + FNO":
            return Increment(fno)
        if name == "BoundedStep(FNO)":
            return BoundedStep(fno, self.ndim, 1, num_modes=self.num_modes)
        return fno


ROLLOUT_MODELS = ("FNO", "x + FNO", "BoundedStep(FNO)", "StableFNO")

# Both stay bounded. The second, started from nearly nothing, is driven to a turbulence;
# up to t = 200 the root mean square of the vorticity was below 2 in two runs of the
# solver, and 1.8 at most.
FLOWS = {
    "kuramoto-sivashinsky": Flow(
        lambda t: KuramotoSivashinsky(64, final_time=t), 1, 32, 32, 64, 40, 64
    ),
    "navier-stokes": Flow(
        lambda t: NavierStokesVorticity((32, 32), 3e-4, final_time=t, refine=2),
        ndim=2,
        num_modes=16,
        width=20,
        stable_width=32,
        num_trajectories=20,
        batch_size=16,
        warm_up=20,
    ),
}


def bench_rollouts(
    *,
    problem: str = "kuramoto-sivashinsky",
    models: Sequence[str] = ROLLOUT_MODELS,
    interval: float = 1.0,
    horizon: int = 20,
    num_trajectories: int | None = None,
    num_steps: int = 1000,
    seeds: int = 3,
    seed: int = 7,
    progress: bool = False,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Errors of time steps, and what becomes of long rollouts.

    Trained on single steps of trajectories of `horizon` steps; then fed with its own
    output for 10 and for 50 horizons. A rollout has diverged where its root mean square
    is five times the largest of the data, or not finite.

    **Arguments:**

    - `problem`: "kuramoto-sivashinsky" at 64 nodes, or "navier-stokes", the forced
        vorticity at 32 × 32 nodes with viscosity 3e-4.
    - `models`: of "FNO", "x + FNO", "BoundedStep(FNO)" and "StableFNO".
    - `interval`: time of a step.
    - `horizon`: steps of a trajectory.
    - `num_trajectories`: to train on, default 40 and 20; 8 others are kept to judge by.
    - `num_steps`: updates, with 64 and 16 pairs each.
    - `seeds`: trainings of each model.
    - `seed`: the first of them, and that of the data.
    - `progress`: show bars.
    - `on_row`: called with each row when it is complete.

    **Returns:** a row per model: `problem`, `parameters`, `step_error` (relative, in
    L2, of one step), `accurate_steps` (while the mean correlation is at least 0.8), how
    many of the `rollouts` have `diverged_10` and `diverged_50`, `first` (the earliest
    step where one has; None), `largest` (root mean square at the end, in units of the
    data's largest, over those that are finite; infinite where none is) and
    `training_time`.

    **Raises:** `ValueError` for a problem or a model that there is not.
    """
    check_rollouts(problem, models)
    flow, key = FLOWS[problem], jr.key(seed)
    num_trajectories = num_trajectories or flow.num_trajectories
    states, grid = flow.states(num_trajectories, horizon, interval, key)
    others, _ = flow.states(_NUM_TESTS, horizon, interval, jr.fold_in(key, 1))
    train, steps = (_pairs(found, grid) for found in (states, others))
    test = Dataset(others[:, :1], others[:, 1:], grid)
    rows = []
    for name in models:
        found = []
        for k in range(seed, seed + seeds):
            # (One unit for both, or a bound in it would be none.)
            start = in_float32(flow.model(name, jr.key(k)))
            start = normalised(start, train.targets, train.targets)
            model, history = sciml.training.fit(
                start,
                train,
                loss=sciml.training.RelativeL2(),
                optimiser=short_run_optimiser(num_steps, 2e-3),
                num_steps=num_steps,
                batch_size=min(flow.batch_size, len(train)),
                progress=progress,
                key=jr.key(k),
            )
            found.append(_judged(model, train, steps, test, horizon))
            found[-1]["training_time"] = history.training_time
        size = num_parameters(flow.model(name, jr.key(seed)))
        row = {"problem": problem, "model": name, "parameters": size, **_summary(found)}
        rows.append(row)
        if on_row is not None:
            on_row(row)
    return rows


def check_rollouts(problem: str, models: Sequence[str]) -> None:
    """`ValueError` for a problem or a model that there is not."""
    if problem not in FLOWS:
        raise ValueError(f"problem: no {problem!r}; known are {', '.join(FLOWS)}.")
    for name in models:
        if name not in ROLLOUT_MODELS:
            raise ValueError(
                f"models: no {name!r}; known are {', '.join(ROLLOUT_MODELS)}."
            )


def _pairs(states: np.ndarray, grid: Grid) -> Dataset:
    """Each state and the one after it."""
    before, after = (
        part.reshape(-1, 1, *grid.shape) for part in (states[:, :-1], states[:, 1:])
    )
    return Dataset(before, after, grid)


def _judged(model, train: Dataset, steps: Dataset, test: Dataset, horizon: int) -> Row:
    states = np.asarray(train.targets, float).reshape(len(train), -1)
    size = np.sqrt(np.mean(states**2, axis=1)).max()
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
        return x, jnp.sqrt(jnp.mean(x**2, axis=range(1, x.ndim)))

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
