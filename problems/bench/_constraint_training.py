"""Soft penalties, one hard constraint and many experts, trained without solutions."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.random as jr
import numpy as np
import optax

import sciml

from .._diffusion_sorption import DiffusionSorption
from .._surrogate import num_parameters, short_run_optimiser
from ._constraint_models import (
    HARD_METHODS,
    HARD_WEIGHT,
    BasisNetwork,
    Constrained,
    EquationLoss,
    Penalised,
    TrainingSize,
    constraint_model,
    prediction,
    with_rows,
)
from ._constraint_pictures import draw_constraints
from ._sorption_task import FORMULATIONS, AbstractSorptionRows, sorption_data

Row = dict[str, Any]

SOFT_WEIGHTS = (1.0, 10.0, 100.0)
CONSTRAINT_FORMULATIONS = tuple(FORMULATIONS)
CONSTRAINT_METHODS = ("soft", *HARD_METHODS)


# Chalapathi, Du & Krishnapriyan's, whose learning rate has another schedule.
PAPER_SIZE = TrainingSize(
    1024,
    100,
    network=BasisNetwork(width=64, depth=5),
    num_samples=8000,
    num_test=1000,
    num_steps=4000,
    batch_size=6,
    learning_rate=1e-3,
)


def bench_constraint_training(
    *,
    formulations: Sequence[str] = CONSTRAINT_FORMULATIONS,
    methods: Sequence[str] = CONSTRAINT_METHODS,
    until: float = 500.0,
    size: TrainingSize | None = None,
    seeds: int = 5,
    seed: int = 7,
    plot: str | None = None,
    progress: bool = False,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Diffusion–sorption from its equation alone: penalties, one solve, and experts.

    An FNO sees u(0) and supplies one field (soft) or `num_basis` fields, whose weights
    a layer finds (hard), for all x or for each of `experts` parts. All have the same
    layers, loss, optimiser, samples and number of updates; no solution is used.

    **Arguments:**

    - `formulations`: "integrated": exact initial values and inflow, residual integrated
        in time (`IntegratedRows`); "differences": all conditions are rows or penalties,
        derivatives are differences, as published (`DifferenceRows`).
    - `methods`: of "soft" (once for each of three weights of its penalties), "hard",
        "hard, Uncoupled" (as published), "hard, C0", "hard, C1", "hard, C1(10, 1)"
        (weights of values and slopes at seams; default 100 for both).
    - `until`: training sees the equation up to this time; errors after it are extra.
    - `size`: grid, network, samples and updates; default `TrainingSize()`, of minutes.
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
    check_constraint_training(formulations, methods)
    size = TrainingSize() if size is None else size
    problem = DiffusionSorption(size.num_points)
    rows: list[Row] = []
    for formulation in formulations:
        task = FORMULATIONS[formulation](problem, size.num_saves, float(until))
        total = size.num_samples + size.num_test
        inputs, reference = sorption_data(task, total, jr.key(seed))
        train = sciml.data.Dataset(inputs[: size.num_samples], None, task.grid)
        test = inputs[size.num_samples :], reference[size.num_samples :]
        # (One object: what is compiled for one model serves all.)
        whole = task.until_the_end()
        pictures: dict[str, Any] = {}
        for method in methods:
            for weight in SOFT_WEIGHTS if method == "soft" else (HARD_WEIGHT,):
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
                    found = _judged(model, test, whole, until)
                    runs.append(found | {"training_time": update})
                    pictures.setdefault(name, model)
                row = {
                    "formulation": formulation,
                    "until": until,
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
    formulations: Sequence[str], methods: Sequence[str]
) -> None:
    """`ValueError` for a formulation or a method that there is not."""
    for name, given, known in (
        ("formulations", formulations, tuple(FORMULATIONS)),
        ("methods", methods, CONSTRAINT_METHODS),
    ):
        for item in given:
            if item not in known:
                raise ValueError(f"{name}: no {item!r}; known are {'; '.join(known)}.")


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
    rows: AbstractSorptionRows,
    until: float,
) -> Row:
    """Means over unseen samples, at all times and at those after the training's."""
    late = np.linspace(0.0, rows.problem.final_time, rows.shape[0]) > until
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
