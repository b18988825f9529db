"""What is trained with and without solutions, on DGNO's benchmarks."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import problems
from sciml.data import Dataset
from sciml.neural_operators import (
    DGNO,
    FixedPrecision,
    FlattenedField,
    MgNO,
    MultiONet,
    VirtualObservables,
    normalised,
)
from sciml.preconditioners import Multigrid
from sciml.training import D4Augmented, PhysicsResidual, RelativeL2
from sciml.weak_forms import MixedDiffusion, PlainBurgers, PlainDiffusion

DGNO_PROBLEMS = {
    "two-phase": problems.TwoPhaseDarcy,
    "continuous": problems.ContinuousDarcy,
    "burgers": problems.DirichletBurgers,
}
# Batch of DGNO and of MultiONets, and of models that hold the whole grid.
_BATCH, _GRID_BATCH = 100, 20
_DARCY = ("two-phase", "continuous")


class Candidate(eqx.Module):
    """A model to be trained, on what, and by which loss."""

    model: Any
    data: Dataset
    loss: Any
    batch_size: int


def _dgno(problem: Any, form: Any, media: Dataset, square: bool, key: Any) -> Candidate:
    depth, summed = (5, 4) if square else (6, 5)
    loss: Any = VirtualObservables(FixedPrecision(50.0))
    loss = D4Augmented(loss) if square else loss
    model = DGNO(form, depth=depth, num_summed_layers=summed, key=key)
    return Candidate(model, media, loss, _BATCH if square else _BATCH // 2)


def _multionet(media: Dataset, summed: int, key: Any) -> MultiONet:
    grid = media.grid
    sensors = FlattenedField(grid.num_points)
    return MultiONet(2, 1, 1, 100, 5, summed, grid.boundary, sensors, key=key)


def _physical(summed: int, norm: Any = None) -> Callable[..., Candidate]:
    def make(problem, media, labelled, key):
        loss = D4Augmented(PhysicsResidual(problem, norm))
        return Candidate(_multionet(media, summed, key), media, loss, _BATCH)

    return make


def _supervised(kind: str) -> Callable[..., Candidate]:
    def make(problem, media, labelled, key):
        pairs = labelled()
        if kind == "MgNO":
            boundary = media.grid.boundary
            model: Any = MgNO(
                2, 1, 1, width=24, depth=4, num_levels=4, boundary=boundary, key=key
            )
            batch = _GRID_BATCH
        else:
            model = _multionet(media, 4 if kind == "MultiONet" else 1, key)
            batch = _BATCH
        model = normalised(model, pairs.inputs, pairs.targets)
        return Candidate(model, pairs, D4Augmented(RelativeL2()), batch)

    return make


def _weak(form: Callable[[Any], Any]) -> Callable[..., Candidate]:
    def make(problem, media, labelled, key):
        square = media.grid.ndim == 2
        return _dgno(problem, form(problem.weak_form()), media, square, key)

    return make


_PLAIN = lambda form: PlainDiffusion(form.grid, form.coefficient, form.source)
_MIXED = lambda form: MixedDiffusion(form.grid, form.coefficient, form.source)
_BALLS = lambda form: PlainBurgers(form.grid, form.coefficient, form.viscosity)

# Name, whether solutions are used, for which problems, and how it is made.
DGNO_METHODS: dict[str, tuple[bool, tuple[str, ...], Callable[..., Candidate]]] = {
    "DGNO": (False, (*_DARCY, "burgers"), _weak(lambda form: form)),
    "DGNO, mixed form": (False, _DARCY, _weak(_MIXED)),
    "DGNO, plain form": (False, ("continuous",), _weak(_PLAIN)),
    "DGNO, plain form in time": (False, ("burgers",), _weak(_BALLS)),
    "PI-DeepONet": (False, _DARCY, _physical(1)),
    "PI-MultiONet": (False, _DARCY, _physical(4)),
    "PI-MultiONet, norm of a V-cycle": (False, _DARCY, _physical(4, Multigrid())),
    "DeepONet": (True, _DARCY, _supervised("DeepONet")),
    "MultiONet": (True, _DARCY, _supervised("MultiONet")),
    "MgNO": (True, _DARCY, _supervised("MgNO")),
}


def exact_solutions(problem: Any, inputs: Any) -> np.ndarray:
    """References for (samples, 1, *space), in double precision."""
    with jax.enable_x64(True):
        fields = jnp.asarray(inputs[:, 0], jnp.float64)
        return np.asarray(jax.lax.map(problem.reference, fields))


def media_of(problem: Any, count: int, seed: int) -> Dataset:
    """Random coefficients in single precision."""
    drawn = problem.coefficients(count, key=jr.key(seed))
    return Dataset(np.asarray(drawn.inputs, np.float32), None, drawn.grid)
