"""Soft penalties, one hard constraint and many experts, trained without solutions."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.random as jr
import numpy as np
import optax

import sciml

from .._surrogate import num_parameters, short_run_optimiser
from ._constraint_models import (
    HARD_METHODS,
    HARD_WEIGHT,
    Constrained,
    EquationLoss,
    Penalised,
    constraint_model,
    prediction,
    with_rows,
)
from ._constraint_pictures import draw_constraints
from ._equation_rows import AbstractEquationRows, TrainingSize
from ._sorption_task import DifferenceRows, IntegratedRows
from ._vorticity_task import VorticityRows

Row = dict[str, Any]

SOFT_WEIGHTS = (1.0, 10.0, 100.0)
FORMULATIONS: dict[str, type[AbstractEquationRows]] = {
    "integrated": IntegratedRows,
    "differences": DifferenceRows,
    "vorticity": VorticityRows,
}
CONSTRAINT_FORMULATIONS = tuple(FORMULATIONS)
_NEEDS_ENDS = "hard, Schwarz"
KNOWN_METHODS = ("soft", *HARD_METHODS)
# What is for all formulations.
CONSTRAINT_METHODS = tuple(name for name in KNOWN_METHODS if name != _NEEDS_ENDS)


def constraint_sizes(
    *, paper: bool = False, num_steps: int | None = None
) -> dict[str, TrainingSize]:
    """Grid, network, samples and updates of each formulation.

    **Arguments:**

    - `paper`: the published ones, for a GPU; default those of minutes on a CPU.
    - `num_steps`: another number of updates.
    """
    sizes = {name: kind.sizes()[paper] for name, kind in FORMULATIONS.items()}
    if num_steps is None:
        return sizes
    change = lambda size: dataclasses.replace(size, num_steps=num_steps)
    return {name: change(size) for name, size in sizes.items()}


def bench_constraint_training(
    *,
    formulations: Sequence[str] = CONSTRAINT_FORMULATIONS,
    methods: Sequence[str] = CONSTRAINT_METHODS,
    until: float | None = None,
    sizes: Mapping[str, TrainingSize] | None = None,
    seeds: int = 5,
    seed: int = 7,
    plot: str | None = None,
    progress: bool = False,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """An equation alone teaches: penalties, one solve, and experts.

    An FNO sees u(0) and supplies one field (soft) or `num_basis` fields, whose weights
    a layer finds (hard), in all of space or in each of `experts` parts. All have the
    same layers, loss, optimiser, samples and number of updates; no solution is used.

    **Arguments:**

    - `formulations`: of diffusion–sorption "integrated": exact initial values and
        inflow, residual integrated in time (`IntegratedRows`), and "differences": all
        conditions are rows or penalties, derivatives are differences, as published
        (`DifferenceRows`); "vorticity": Navier–Stokes on a torus (`VorticityRows`).
    - `methods`: of "soft" (with penalties on sides for each of three weights), "hard",
        "hard, Uncoupled" (as published), "hard, C0", "hard, C1", and "hard, C1(10, 1)",
        "hard, C1(1, 0.1)", "hard, C1(100, 100)": weights of values and slopes at seams;
        "hard, Schwarz": ten sweeps, not for "vorticity".
    - `until`: training sees the equation up to this time, default the final one;
        errors after it are extra.
    - `sizes`: of each formulation; default `constraint_sizes()`, of minutes.
    - `seeds`: trainings: weights and order of samples.
    - `seed`: the first of them, and that of the data.
    - `plot`: a folder for pictures of the first test sample, by the first seed.
    - `progress`: show bars.
    - `on_row`: called with each row when it is complete.

    **Returns:** a row per formulation and method: `weight` of the penalties, medians
    over seeds of the mean over unseen samples of `relative_l2`, and `after`, the same
    at t > `until` (NaN if none), `each` of the first, root mean squares `residual` and
    `sides`, `seam_jump`, `num_steps` of the solves, the share that `converged`, times
    `training_time` of an update and `inference_time` of a sample, in seconds.

    **Raises:** `ValueError` for formulations and methods that there are not.
    """
    sizes = constraint_sizes() if sizes is None else sizes
    check_constraint_training(formulations, methods, until, sizes)
    rows: list[Row] = []
    for formulation in formulations:
        size = sizes[formulation]
        task = FORMULATIONS[formulation].of(size, until)
        total = size.num_samples + size.num_test
        inputs, reference = task.data(total, jr.key(seed))
        train = sciml.data.Dataset(inputs[: size.num_samples], None, task.grid)
        test = inputs[size.num_samples :], reference[size.num_samples :]
        # (One object: what is compiled for one model serves all.)
        whole = task.until_the_end()
        pictures: dict[str, Any] = {}
        soft_weights = SOFT_WEIGHTS if task.sides(1.0) else (1.0,)
        for method in methods:
            for weight in soft_weights if method == "soft" else (HARD_WEIGHT,):
                loss = EquationLoss(task, weight)
                optimiser = short_run_optimiser(size.num_steps, size.learning_rate)
                runs = []
                soft = f"soft, weight {weight:g}"
                name = soft if method == "soft" else method
                for number in range(seed, seed + seeds):
                    model, update = _trained(
                        constraint_model(method, task, size, jr.key(number)),
                        train,
                        loss,
                        optimiser,
                        size,
                        jr.key(seed + number),
                        progress,
                    )
                    model = with_rows(model, whole, size.experts)
                    found = _judged(model, test, task)
                    runs.append(found | {"training_time": update})
                    pictures.setdefault(name, model)
                row = {
                    "formulation": formulation,
                    "until": task.final_time if until is None else until,
                    "method": method,
                    "weight": weight,
                    "parameters": num_parameters(pictures[name]),
                    "updates": size.num_steps,
                    **_medians(runs),
                }
                rows.append(row)
                if on_row is not None:
                    on_row(row)
        if plot is not None:
            draw_constraints(formulation, whole, pictures, test, size.experts, plot)
    return rows


def check_constraint_training(
    formulations: Sequence[str],
    methods: Sequence[str],
    until: float | None = None,
    sizes: Mapping[str, TrainingSize] | None = None,
) -> None:
    """`ValueError` for a formulation, a method or a time that there is not."""
    for name, given, known in (
        ("formulations", formulations, tuple(FORMULATIONS)),
        ("methods", methods, KNOWN_METHODS),
    ):
        for item in given:
            if item not in known:
                raise ValueError(f"{name}: no {item!r}; known are {'; '.join(known)}.")
    if "vorticity" in formulations and _NEEDS_ENDS in methods:
        raise ValueError(
            f"methods: {_NEEDS_ENDS!r} is not for 'vorticity': boxes that overlap do "
            "not reach across the ends of a torus."
        )
    sizes = constraint_sizes() if sizes is None else sizes
    for name in formulations:
        last = FORMULATIONS[name].of(sizes[name]).final_time
        if until is not None and not 0 < until <= last:
            raise ValueError(
                f"until: expected above 0, at most {last:g}, the final time of "
                f"{name!r}, got {until}."
            )


def _trained(
    model: Penalised | Constrained,
    train: sciml.data.Dataset,
    loss: EquationLoss,
    optimiser: optax.GradientTransformation,
    size: TrainingSize,
    key: Any,
    progress: bool,
) -> tuple[Penalised | Constrained, float]:
    """With seconds per update."""
    model, history = sciml.training.fit(
        model,
        train,
        loss=loss,
        optimiser=optimiser,
        num_steps=size.num_steps,
        batch_size=size.batch_size,
        progress=progress,
        key=key,
    )
    return model, history.training_time / size.num_steps


def _judged(
    model: Penalised | Constrained,
    test: tuple[np.ndarray, np.ndarray],
    rows: AbstractEquationRows,
) -> Row:
    """Means over unseen samples, at all times and at those after the training's."""
    late = rows.seen() == 0
    found: list[Row] = []
    for u0, exact in zip(*test, strict=True):
        # (Twice, as the first call may compile.)
        jax.block_until_ready(prediction(model, u0))
        start = time.perf_counter()
        told = jax.block_until_ready(prediction(model, u0))
        seconds = time.perf_counter() - start
        u = np.asarray(told.pop("u"))
        row = {name: float(value) for name, value in told.items()}
        row["relative_l2"] = _relative(u, exact)
        row["after"] = _relative(u[late], exact[late])
        row["inference_time"] = seconds
        found.append(row)
    return {name: float(np.mean([row[name] for row in found])) for name in found[0]}


def _relative(u: np.ndarray, exact: np.ndarray) -> float:
    if not exact.size:
        return float("nan")
    return float(np.linalg.norm(u - exact) / np.linalg.norm(exact))


def _medians(runs: Sequence[Row]) -> Row:
    row: Row = {k: float(np.median([run[k] for run in runs])) for k in runs[0]}
    return row | {"each": [run["relative_l2"] for run in runs]}
