"""MgNO, FNO and UNet with as many parameters and as much time, beside solvers."""

import bisect
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import sciml
from sciml.data import Dataset
from sciml.evaluation import paired
from sciml.grids import Grid
from sciml.neural_operators import FNO, MgNO, UNet, normalised

from .._surrogate import in_float32, num_parameters, short_run_optimiser
from ._surrogate_rivals import classical_rows
from ._surrogate_tasks import TASKS, task_data

Row = dict[str, Any]

# Muon, and with a name of its own AdamW at its best after a minute of the rough
# problem, of 1e-3, 2e-3, 4e-3, 8e-3 and for FNO 16e-3. (For MgNO 4e-3 is a little
# better then, and unstable in longer runs.) For Muon 0.01 was worse than 0.02.
_RATES: dict[str, tuple[str, float]] = {
    "MgNO": ("Muon", 0.02),
    "FNO": ("Muon", 0.02),
    "UNet": ("Muon", 0.02),
    "MgNO, AdamW": ("AdamW", 2e-3),
    "FNO, AdamW": ("AdamW", 16e-3),
    "UNet, AdamW": ("AdamW", 2e-3),
}

SURROGATE_MODELS = ("MgNO", "FNO", "UNet")


def bench_surrogates(
    *,
    problems: Sequence[str] = ("rough", "multiscale", "helmholtz"),
    models: Sequence[str] = SURROGATE_MODELS,
    minutes: float = 4.0,
    num_samples: int = 1000,
    num_test: int = 100,
    batch_size: int = 8,
    seeds: int = 3,
    seed: int = 7,
    folder: str | os.PathLike | None = None,
    progress: bool = False,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Errors after equal training time, with about as many parameters.

    Widths of FNO and UNet are those whose number of parameters is nearest to MgNO's.
    How many steps a model gets is its share of the time: the updates of the models of a
    problem are timed in turns before.

    **Arguments:**

    - `problems`: "two-phase", "smooth", "rough", "multiscale", "helmholtz".
    - `models`: of "MgNO", "FNO", "UNet", by Muon, and "MgNO, AdamW", "FNO, AdamW" and
        "UNet, AdamW".
    - `minutes`: of training, for each run.
    - `num_samples`, `num_test`: to train on, and held out. Own generators.
    - `batch_size`: samples of a step.
    - `seeds`: trainings of each: initial weights and order of the samples.
    - `seed`: the first of them, and that of the data.
    - `folder`: where data, checkpoints and results are kept, so that the same call goes
        on where it was stopped; needs `pip install 'sciml-solvers[train]'`.
    - `progress`: show bars.
    - `on_row`: called with each row when it is complete.

    **Returns:** for each problem a row per model (`problem`, `method`, `points`,
    `parameters`, `steps`, `training_time`, `latency` of one sample in seconds, errors
    `relative_l2`, `relative_l2_sd` over the seeds, `relative_h1`, `boundary_rmse`, and
    those of `each` seed), and those of the classical solver, see `classical_rows`.

    **Raises:** `ValueError` for problems and models that there are not, and for a
    folder with the results of other arguments.
    """
    check_surrogates(problems, models)
    place = None if folder is None else pathlib.Path(folder)
    arguments = {
        "minutes": minutes,
        "num_samples": num_samples,
        "num_test": num_test,
        "batch_size": batch_size,
        "seed of the data": seed,
        "optimisers": {m: f"{name} {rate}" for m, (name, rate) in _RATES.items()},
    }
    rows = []
    for name in problems:
        # Results of another loss or other rates are other results.
        arguments["loss"] = repr(TASKS[name].loss)
        data = task_data(name, num_samples + num_test, seed, folder=place)
        train, test = data.split(num_samples)
        makers = surrogate_models(train.grid, models)
        steps = _remembered(
            place and place / f"{name}-steps-{'-'.join(models)}.json",
            arguments,
            lambda: _shares(makers, name, train, batch_size, minutes),  # noqa: B023
        )
        trained = []
        for model in models:
            row = _row(
                name,
                model,
                makers[model],
                (train, test),
                (steps[model], batch_size, range(seed, seed + seeds)),
                (place, arguments),
                progress,
            )
            trained.append(row)
            if on_row is not None:
                on_row(row)
        errors = [row["relative_l2"] for row in trained]
        # Other coefficients than those of the training.
        rivals = classical_rows(name, seed + 1, errors)
        for row in rivals:
            if on_row is not None:
                on_row(row)
        rows += trained + rivals
    return rows


def check_surrogates(problems: Sequence[str], models: Sequence[str]) -> None:
    """`ValueError` for a problem or a model that there is not."""
    for what, names, known in (
        ("problems", problems, TASKS),
        ("models", models, _RATES),
    ):
        for name in names:
            if name not in known:
                raise ValueError(
                    f"{what}: no {name!r}; known are {', '.join(map(repr, known))}."
                )


def surrogate_models(
    grid: Grid, names: Sequence[str] = SURROGATE_MODELS
) -> dict[str, Callable[[jax.Array], Any]]:
    """Makers of models for a grid, from a key, all with about MgNO's parameters."""
    boundary = grid.homogeneous().boundary
    num_levels = min(6, (min(grid.num_points) + 1).bit_length() - 1)

    def mgno(key):
        return MgNO(
            2,
            1,
            1,
            width=24,
            depth=4,
            num_levels=num_levels,
            boundary=boundary,
            key=key,
        )

    def fno(width):
        return lambda key: FNO(
            2, 1, 1, width=width, depth=4, num_modes=12, boundary=boundary, key=key
        )

    def unet(width):
        return lambda key: UNet(2, 1, 1, width=width, boundary=boundary, key=key)

    wanted = _size(mgno)

    def nearest(make):
        # Sizes grow with the width.
        size = lambda width: _size(make(width))
        above = bisect.bisect_left(range(64), wanted, lo=2, key=size)
        return make(min(above - 1, above, key=lambda w: abs(size(w) - wanted)))

    makers = {"MgNO": lambda: mgno}
    makers |= {"FNO": lambda: nearest(fno), "UNet": lambda: nearest(unet)}
    return {name: makers[name.split(",")[0]]() for name in names}


def _size(make: Callable[[jax.Array], Any]) -> int:
    shapes = eqx.filter_eval_shape(make, jr.key(0))
    leaves = jax.tree.leaves(shapes)
    return sum(x.size for x in leaves if hasattr(x, "size"))


def _optimiser(model: str, num_steps: int) -> optax.GradientTransformation:
    name, rate = _RATES[model]
    if name == "Muon":
        return sciml.training.muon_optimiser(num_steps, rate)
    return short_run_optimiser(num_steps, rate)


def _shares(makers, name, train, batch_size, minutes) -> dict[str, int]:
    """How many steps each model makes in its time."""
    loss, batch = TASKS[name].loss, train[:batch_size]

    def step_of(model):
        optimiser = _optimiser(model, 1000)

        @eqx.filter_jit
        def step(parameters, state, rest, batch, key):
            value = lambda p: loss(eqx.combine(p, rest), batch, key)[0]
            # (As in `fit`: schedules of optax mix types.)
            with jax.numpy_dtype_promotion("standard"):
                gradient = jax.grad(value)(parameters)
                updates, state = optimiser.update(gradient, state, parameters)
                return optax.apply_updates(parameters, updates), state

        first = in_float32(makers[model](jr.key(0)))
        first = normalised(first, train.inputs, train.targets)
        parameters, rest = eqx.partition(first, eqx.is_inexact_array)
        state = optimiser.init(parameters)
        return lambda: step(parameters, state, rest, batch, jr.key(0))

    turns = {model: step_of(model) for model in makers}
    timing = paired(turns)
    return {m: max(1, round(60 * minutes / timing[m].run_time)) for m in makers}


def _row(name, model, make, data, plan, kept, progress) -> Row:
    train, test = data
    num_steps, batch_size, numbers = plan
    folder, arguments = kept
    results = []
    for k in numbers:
        place = folder and folder / f"{name}-{model}-{num_steps}-{k}"
        file = place and place.with_suffix(".json")
        train_it = lambda k=k, place=place: _trained(
            name, model, make, data, (num_steps, batch_size, k), place, progress
        )
        results.append(_remembered(file, arguments, train_it))
    mean = lambda key: float(np.mean([result[key] for result in results]))
    each = [result["relative_l2"] for result in results]
    first = in_float32(make(jr.key(0)))
    return {
        "problem": name,
        "method": model,
        "points": train.grid.num_points[0],
        "parameters": num_parameters(first),
        "steps": num_steps,
        "training_time": mean("training_time"),
        "relative_l2": mean("relative_l2"),
        "relative_l2_sd": float(np.std(each, ddof=min(1, len(each) - 1))),
        "relative_h1": mean("relative_h1"),
        "boundary_rmse": mean("boundary_rmse"),
        "latency": _latency(first, test),
        "each": each,
    }


def _trained(name, model, make, data, plan, checkpoint_dir, progress) -> Row:
    train, test = data
    num_steps, batch_size, k = plan
    key = jr.key(k)
    start = normalised(in_float32(make(key)), train.inputs, train.targets)
    trained, history = sciml.training.fit(
        start,
        train,
        loss=TASKS[name].loss,
        optimiser=_optimiser(model, num_steps),
        num_steps=num_steps,
        batch_size=batch_size,
        checkpoint_dir=checkpoint_dir,
        checkpoint_every=200,
        progress=progress,
        key=key,
    )
    errors = sciml.evaluation.evaluate(trained, test)
    return {**errors, "training_time": history.training_time}


def _latency(model: Any, test: Dataset) -> float:
    """Seconds for one sample, which a person waits for."""
    predict = eqx.filter_jit(model)
    x = jnp.asarray(test.inputs[0])
    return paired({"": lambda: predict(x)}, repeats=11)[""].run_time


def _remembered(file, arguments: Row, compute: Callable[[], Row]) -> Row:
    """What a file holds, or else what is computed, which is then put there."""
    if file is None:
        return compute()
    if file.is_file():
        found = json.loads(file.read_text())
        if found["arguments"] != arguments:
            raise ValueError(
                f"folder: {file} is of other arguments, {found['arguments']}; name "
                "another folder."
            )
        return found["values"]
    values = compute()
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"arguments": arguments, "values": values})
    part = file.with_suffix(".part")
    part.write_text(text)
    part.replace(file)
    return values
