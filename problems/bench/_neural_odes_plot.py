"""Pictures of what `bench_neural_odes` trained."""

import pathlib
from collections.abc import Mapping
from typing import Any

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np

from sciml.evaluation import plot_paths, plot_step_sizes, png

from ._digits_task import DigitsTask
from ._neural_ode_task import Task
from ._spiral_sde_task import SpiralSDETask
from ._spiral_task import SpiralTask
from ._vowels_task import VowelsTask

# More curves than that are not told apart; of more methods those that are drawn are the
# first one and then these.
_MAX_SHOWN = 4
_TELLING = ("ErrorEstimate", "NumSteps", "KineticEnergy", "Local")
_NUM_TIMES = 200


def plot_neural_odes(
    task: Task, models: Mapping[str, Any], folder: str
) -> list[pathlib.Path]:
    """What the models of a task make of it, and the sizes of the steps they take.

    **Arguments:**

    - `task`: with the data.
    - `models`: trained on it, by method. Steps are drawn of all, paths of at most four.
    - `folder`: where the PNG files go, `PROBLEM-paths.png` and `PROBLEM-steps.png`;
        made if need be.

    **Returns:** the files.
    """
    target = pathlib.Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    solver, rtol = next(iter(task.solvers.values()))
    steps = plot_step_sizes(
        {name: task.step_times(model) for name, model in models.items()},
        xlabel="t",
        ylabel=f"step size ({type(solver).__name__}, tolerance {rtol:g})",
    )
    draw = _PATHS[task.name]
    written = []
    for kind, figure in (("paths", draw(task, _telling(models))), ("steps", steps)):
        file = target / f"{task.name}-{kind}.png"
        file.write_bytes(png(figure))
        written.append(file)
    return written


def _telling(models: Mapping[str, Any]) -> dict[str, Any]:
    first, *rest = models
    chosen = [name for name in _TELLING if name in rest]
    chosen += [name for name in rest if name not in chosen]
    return {name: models[name] for name in (first, *chosen[: _MAX_SHOWN - 1])}


def _path(task: Task, model: Any, ts: np.ndarray) -> np.ndarray:
    """The solution of everything that is tested on, at some times."""
    solver, rtol = next(iter(task.solvers.values()))
    saveat = dfx.SaveAt(ts=jnp.asarray(ts))
    return np.asarray(task.solution(model, solver, rtol, saveat=saveat).ys)


def _spiral(task: SpiralTask, models: Mapping[str, Any]) -> Any:
    """The phase plane."""
    ts = np.linspace(0, task.t1, _NUM_TIMES)
    title = "trajectory, first seed"
    curves = {name: _path(task, model, ts).T for name, model in models.items()}
    return plot_paths(
        {title: curves},
        {title: {"data": np.asarray(task.exact).T}},
        xlabel="$y_1$",
        ylabel="$y_2$",
        equal=True,
    )


def _spiral_sde(task: SpiralSDETask, models: Mapping[str, Any]) -> Any:
    """Mean and standard deviation of both components over time."""
    ts = np.asarray(task.ts)
    panels, points = {}, {}
    found = {name: np.asarray(task.trajectories(m)) for name, m in models.items()}
    for i in range(2):
        title = f"$y_{i + 1}$: mean ± standard deviation"
        panels[title] = {
            name: (ts, ys[..., i].mean(axis=1), ys[..., i].std(axis=1, ddof=1))
            for name, ys in found.items()
        }
        mean, deviation = task.mean[:, i], np.sqrt(task.variance[:, i])
        both = np.concatenate([mean - deviation, mean + deviation])
        points[title] = {
            "mean learned from": (ts, mean),
            "± standard deviation": (np.concatenate([ts, ts]), both),
        }
    return plot_paths(panels, points, ylabel="$y$", columns=2)


def _digits(task: DigitsTask, models: Mapping[str, Any]) -> Any:
    """Two principal components of one test digit of each of five classes."""
    ts = np.linspace(0, 1, _NUM_TIMES)
    labels = task.test[1]
    digits = [d for d in range(5) if (labels == d).any()]
    samples = [int(np.argmax(labels == d)) for d in digits]
    paths = {n: _path(task, m, ts)[:, samples] for n, m in models.items()}
    # Of all that is drawn together: panels have the same axes.
    states = np.concatenate([p.reshape(-1, p.shape[-1]) for p in paths.values()])
    centre = states.mean(axis=0)
    axes = np.linalg.svd(states - centre, full_matrices=False)[2][:2]
    panels = {}
    for k, axis in enumerate(axes, 1):
        for name, path in paths.items():
            along = (path - centre) @ axis
            panels[f"{name}, component {k}"] = {
                f"digit {digit}": (ts, along[:, i]) for i, digit in enumerate(digits)
            }
    return plot_paths(
        panels, ylabel="principal component", columns=len(paths), shared=True
    )


def _vowels(task: VowelsTask, models: Mapping[str, Any]) -> Any:
    """The first channel of the three longest test series."""
    values, seen, hidden = task.test
    frames = np.arange(len(task.ts))
    longest = np.argsort(-(seen | hidden).sum(axis=1), kind="stable")[:3]
    ts = np.linspace(0, 1, _NUM_TIMES)
    panels, points = {}, {}
    decoded = {name: _decoded(task, m, ts) for name, m in models.items()}
    for k in longest:
        title = f"test utterance {k}"
        last = int((seen | hidden)[k].sum()) - 1
        inside = ts * frames[-1] <= last
        panels[title] = {
            name: (ts[inside] * frames[-1], found[inside, k])
            for name, found in decoded.items()
        }
        points[title] = {
            "seen": (frames[seen[k]], values[k, seen[k], 0]),
            "hidden": (frames[hidden[k]], values[k, hidden[k], 0]),
        }
    return plot_paths(
        panels,
        points,
        xlabel="frame",
        ylabel="channel 1 (standard deviations)",
        shared=True,
    )


def _decoded(task: VowelsTask, model: Any, ts: np.ndarray) -> np.ndarray:
    """The first channel of all test series, shape `(times, series)`."""
    z = jnp.asarray(_path(task, model, ts))
    return np.asarray(jax.vmap(jax.vmap(model.decoder))(z)[..., 0])


_PATHS: dict[str, Any] = {
    "digits": _digits,
    "spiral": _spiral,
    "vowels": _vowels,
    "spiral-sde": _spiral_sde,
}
