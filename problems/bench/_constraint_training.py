"""Soft penalties, one hard constraint and many experts, trained without solutions."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float

import sciml
from sciml.constraints import (
    C0,
    C1,
    AbstractCoupling,
    GridPartition,
    HardConstraint,
    LinearLeastSquares,
    MixtureOfExperts,
    Uncoupled,
)
from sciml.neural_operators import FNO

from .._diffusion_sorption import DiffusionSorption
from .._surrogate import in_float32, num_parameters, short_run_optimiser
from ._sorption_task import FORMULATIONS, AbstractSorptionRows, sorption_data

Row = dict[str, Any]

# Of the sides' rows, in layers and in the loss of hard constraints.
_WEIGHT = 10.0
SOFT_WEIGHTS = (1.0, 10.0, 100.0)
HARD_METHODS: dict[str, AbstractCoupling | None] = {
    "hard": None,
    "hard, Uncoupled": Uncoupled(),
    "hard, C0": C0(),
    "hard, C1": C1(),
    "hard, C1(10, 1)": C1(10.0, 1.0),
}
CONSTRAINT_FORMULATIONS = tuple(FORMULATIONS)
CONSTRAINT_METHODS = ("soft", *HARD_METHODS)


@dataclasses.dataclass(frozen=True)
class TrainingSize:
    """Grid, network and budget.

    **Attributes:**

    - `num_points`, `num_saves`: nodes in x, and intervals in t.
    - `num_basis`: basis fields.
    - `experts`: boxes in x.
    - `width`, `depth`, `num_modes`: of the FNO.
    - `num_samples`, `num_test`: initial states.
    - `num_steps`, `batch_size`, `learning_rate`: of the training.
    """

    num_points: int = 128
    num_saves: int = 50
    num_basis: int = 16
    experts: int = 4
    width: int = 24
    depth: int = 4
    num_modes: int = 8
    num_samples: int = 200
    num_test: int = 32
    num_steps: int = 200
    batch_size: int = 4
    learning_rate: float = 2e-3


# Chalapathi, Du & Krishnapriyan's, whose learning rate has another schedule.
PAPER_SIZE = TrainingSize(
    1024, 100, width=64, depth=5, num_samples=8000, num_test=1000, num_steps=4000,
    batch_size=6, learning_rate=1e-3,
)  # fmt: skip


class Penalised(eqx.Module):
    """u by the network alone."""

    network: FNO
    rows: AbstractSorptionRows = eqx.field(static=True)

    def fields(self, u0: Float[Array, "1 t x"]) -> tuple[Array, Array | None]:
        """What the network supplies, in its envelope, and the offset."""
        rows, found = self.rows, self.network(u0.astype(jnp.float32))
        envelope = rows.envelope()
        if envelope is not None:
            found = envelope.astype(found.dtype) * found
        return found, rows.offset(u0[0])

    def __call__(self, u0: Float[Array, "1 t x"]) -> Float[Array, "1 t x"]:
        """One field."""
        found, offset = self.fields(u0)
        found = found.astype(u0.dtype)
        return found if offset is None else offset[None].astype(u0.dtype) + found


class Constrained(eqx.Module):
    """u by the best combination of fields that the network supplies."""

    penalised: Penalised
    layer: HardConstraint | MixtureOfExperts
    guess: HardConstraint | MixtureOfExperts

    def solve(self, u0: Float[Array, "1 t x"]) -> sciml.linear.Solution:
        """The layer's solution, started from that of the linear equation."""
        basis, offset = self.penalised.fields(u0)
        parameters = self.penalised.rows.parameters(u0[0])
        fixed = lax.stop_gradient((basis, parameters, offset))
        start = self.guess(fixed[0], fixed[1], offset=fixed[2], throw=False)
        weights = start.stats["weights"]
        return self.layer(basis, parameters, offset=offset, start=weights, throw=False)

    def __call__(self, u0: Float[Array, "1 t x"]) -> Float[Array, "1 t x"]:
        """One field."""
        return self.solve(u0).value[None].astype(u0.dtype)


class EquationLoss(eqx.Module):
    """mean over samples of rms(residual) + weight · Σ over sides of rms(its rows)."""

    rows: AbstractSorptionRows = eqx.field(static=True)
    weight: float = eqx.field(static=True)

    def parts(self, u: Float[Array, "t x"], u0: Float[Array, "t x"]) -> list[Array]:
        """Root mean squares: of the residual, then of each side's rows."""
        rows = self.rows
        terms, parameters = rows.terms(u), rows.parameters(u0)
        found = [_rms(rows.residual(terms, parameters))]
        for side in rows.sides(1.0):
            pick = lambda field, side=side: jnp.take(field, side.end, side.axis)
            picked = jax.tree.map(pick, (terms, parameters))
            found.append(_rms(side.residual(*picked)))
        return found

    def __call__(self, model: Any, batch: Any, key: Any = None):
        """The loss, of inputs alone."""
        del key

        def one(u0):
            residual, *sides = self.parts(model(u0)[0], u0[0])
            return residual + self.weight * sum(sides)

        # (Each in turn: solves take their own numbers of steps.)
        return jnp.mean(lax.map(one, jnp.asarray(batch.inputs))), {}


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
        pictures: dict[str, Any] = {}
        for method in methods:
            for weight in SOFT_WEIGHTS if method == "soft" else (_WEIGHT,):
                loss = EquationLoss(task, weight)
                optimiser = short_run_optimiser(size.num_steps, size.learning_rate)
                runs = []
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
                    found = _judged(model, test, task, size.experts)
                    runs.append(found | {"training_time": update})
                    if number == seed:
                        soft = f"soft, weight {weight:g}"
                        name = soft if method == "soft" else method
                        pictures[name] = model
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
            from ._constraint_pictures import draw_constraints

            draw_constraints(formulation, task, pictures, test, size.experts, plot)
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


def constraint_model(
    method: str, rows: AbstractSorptionRows, size: TrainingSize, key: Any
) -> Penalised | Constrained:
    """A method's model, untrained."""
    channels = 1 if method == "soft" else size.num_basis
    network = in_float32(
        FNO(
            2,
            1,
            channels,
            width=size.width,
            depth=size.depth,
            num_modes=size.num_modes,
            boundary=rows.grid.boundary,
            key=key,
        )
    )
    penalised = Penalised(network, rows)
    if method == "soft":
        return penalised
    return _constrained(penalised, rows, HARD_METHODS[method], size.experts)


def with_rows(
    model: Penalised | Constrained, rows: AbstractSorptionRows, experts: int
) -> Penalised | Constrained:
    """The model with other rows, for example those of all times."""
    if isinstance(model, Penalised):
        return Penalised(model.network, rows)
    coupling = None
    if isinstance(model.layer, MixtureOfExperts):
        coupling = model.layer.coupling
    return _constrained(
        Penalised(model.penalised.network, rows), rows, coupling, experts
    )


def _constrained(
    penalised: Penalised,
    rows: AbstractSorptionRows,
    coupling: AbstractCoupling | None,
    experts: int,
) -> Constrained:
    sides = rows.sides(_WEIGHT)
    layers: list[Any] = [
        HardConstraint(rows.residual, terms=rows.terms, sides=sides),
        HardConstraint(
            rows.linear, LinearLeastSquares(), terms=rows.terms, sides=sides
        ),
    ]
    if coupling is not None:
        partition = GridPartition((1, experts))
        layers = [MixtureOfExperts(layer, partition, coupling) for layer in layers]
    return Constrained(penalised, *layers)


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


@eqx.filter_jit
def prediction(model: Penalised | Constrained, u0: Float[Array, "1 t x"]) -> Row:
    """u of one sample and what is told of its solve."""
    if isinstance(model, Penalised):
        u, stats = model(u0)[0], {}
        rows = model.rows
    else:
        out, rows = model.solve(u0), model.penalised.rows
        good = out.result == sciml.RESULTS.successful
        u = out.value
        stats = {
            "num_steps": jnp.mean(out.stats["num_steps"].astype(u.dtype)),
            "converged": jnp.mean(good.astype(u.dtype)),
            "seam_jump": out.stats.get("seam_jump", jnp.zeros(())),
        }
    residual, *sides = EquationLoss(rows, 1.0).parts(u, u0[0])
    return {"u": u, "residual": residual, "sides": sum(sides), **stats}


def _judged(
    model: Penalised | Constrained,
    test: tuple[np.ndarray, np.ndarray],
    task: AbstractSorptionRows,
    experts: int,
) -> Row:
    """Means over unseen samples, at all times."""
    model = with_rows(model, task.until_the_end(), experts)
    times = np.linspace(0.0, task.problem.final_time, task.shape[0])
    late = times > task.until
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


def _rms(rows: Array) -> Array:
    """Root mean square, with a derivative at zero."""
    return jnp.sqrt(jnp.mean(rows**2) + jnp.finfo(rows.dtype).tiny)
