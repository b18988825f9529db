"""What is trained with and without solutions, on DGNO's benchmarks."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from sciml.data import Dataset
from sciml.neural_operators import FlattenedField, MgNO, MultiONet, normalised
from sciml.preconditioners import Multigrid
from sciml.training import D4Augmented, PhysicsResidual, RelativeL2
from sciml.weak_forms import (
    AbstractCoefficient,
    MixedDiffusion,
    PlainBurgers,
    PlainDiffusion,
)

from .._dgno_recipe import dgno_recipe

# Batch of MultiONets, and of models that hold the whole grid.
_BATCH, _GRID_BATCH = 100, 20
_DARCY = ("darcy-two-phase", "darcy-continuous")


class Candidate(eqx.Module):
    """A model to be trained, on what, and by which loss."""

    model: Any
    data: Dataset
    loss: Any
    batch_size: int
    learning_rate: float = 1e-2


def _multionet(media: Dataset, summed: int, key: Any) -> MultiONet:
    grid = media.grid
    sensors = FlattenedField(grid.num_points)
    return MultiONet(2, 1, 1, 100, 5, summed, grid.boundary, sensors, key=key)


class _Scaled(eqx.Module):
    """A model in units in which its input and its output are of size 1."""

    model: Any
    kind: AbstractCoefficient
    size: float = eqx.field(static=True)

    def __call__(self, x):
        return self.size * self.model(self.kind.normalised(x))


def _physical(summed: int, norm: Any = None) -> Callable[..., Candidate]:
    """By the residual of finite volumes on the same grid; no solution is used.

    Inputs are scaled as for DGNO; outputs by the solution of a medium that is the same
    everywhere, so that rivals do not have to learn the units.
    """

    def make(problem, media, labelled, key):
        loss = D4Augmented(PhysicsResidual(problem, norm))
        middle = np.full(media.grid.shape, np.exp(np.mean(np.log(media.inputs))))
        even = np.asarray(problem.solve(jnp.asarray(middle, float), rtol=1e-4).value)
        model = _multionet(media, summed, key)
        kind = problem.weak_form().coefficient
        scaled = _Scaled(model, kind, float(np.sqrt(np.mean(even**2))))
        return Candidate(scaled, media, loss, _BATCH)

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
        recipe = dgno_recipe(form(problem.weak_form()), key=key)
        return Candidate(recipe.model, media, recipe.loss, recipe.batch_size)

    return make


_PLAIN = lambda form: PlainDiffusion(form.grid, form.coefficient, form.source)
_MIXED = lambda form: MixedDiffusion(form.grid, form.coefficient, form.source)
_BALLS = lambda form: PlainBurgers(
    form.grid, form.coefficient, form.viscosity, form.final_time, form.num_times
)

# Name, whether solutions are used, for which problems, and how it is made.
DGNO_METHODS: dict[str, tuple[bool, tuple[str, ...], Callable[..., Candidate]]] = {
    "DGNO": (
        False,
        (*_DARCY, "burgers-dirichlet", "stokes-cylinder"),
        _weak(lambda form: form),
    ),
    "DGNO, mixed form": (False, _DARCY, _weak(_MIXED)),
    "DGNO, plain form": (False, ("darcy-continuous",), _weak(_PLAIN)),
    "DGNO, plain form in time": (False, ("burgers-dirichlet",), _weak(_BALLS)),
    "PI-DeepONet": (False, _DARCY, _physical(1)),
    "PI-MultiONet": (False, _DARCY, _physical(4)),
    "PI-MultiONet, norm of a V-cycle": (False, _DARCY, _physical(4, Multigrid())),
    "DeepONet": (True, _DARCY, _supervised("DeepONet")),
    "MultiONet": (True, _DARCY, _supervised("MultiONet")),
    "MgNO": (True, _DARCY, _supervised("MgNO")),
}
