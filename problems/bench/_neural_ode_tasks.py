"""What neural ODEs are trained on in the benchmark, and how they are judged."""

import abc
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from sciml.data import Dataset
from sciml.neural_odes import (
    NeuralODE,
    ODEClassifier,
    TimeMLP,
    cross_entropy,
    heuristics_of,
)

from .._digits import load_digits
from .._spirals import Spiral

# Solvers that the trained models are solved with, at their tolerances.
Solvers = dict[str, tuple[dfx.AbstractSolver, float]]


class Task(abc.ABC):
    """A data set, a model for it, and what is measured of the trained model."""

    name: str
    learning_rate: float
    num_steps: int
    batch_size: int
    # Where evaluations of the field are counted: the first is what is trained with.
    solvers: Solvers

    @abc.abstractmethod
    def data(self) -> Dataset:
        """What is trained on."""

    @abc.abstractmethod
    def model(self, *, key: PRNGKeyArray) -> Any:
        """An untrained model."""

    @abc.abstractmethod
    def task(self, model: Any, batch: Dataset, **solve: Any) -> tuple:
        """As `RegularisedLoss` wants it."""

    @abc.abstractmethod
    def score(self, model: Any) -> dict[str, float]:
        """The metrics of the task."""

    @abc.abstractmethod
    def solution(self, model: Any, solver: dfx.AbstractSolver, rtol: float) -> Any:
        """One solve of everything that is tested on, as one state."""

    @abc.abstractmethod
    def one_by_one(self, model: Any) -> np.ndarray:
        """Evaluations of the field for each test sample alone."""


class Digits(Task):
    """Handwritten digits: 64 → neural ODE → 10, the published model for MNIST."""

    name = "digits"
    learning_rate = 2e-3
    num_steps = 440
    batch_size = 128

    def __init__(self, rtol: float, *, key: PRNGKeyArray):
        (images, labels), self.test = load_digits(key=key)
        self.train = Dataset(images, labels)
        self.rtol, self.solvers = rtol, _solvers(rtol)

    def data(self):
        return self.train

    def model(self, *, key):
        field, head = jr.split(key)
        ode = NeuralODE(TimeMLP(64, 100, key=field), rtol=self.rtol, atol=self.rtol)
        return ODEClassifier(ode, 64, 10, key=head)

    def task(self, model, batch, **solve):
        return cross_entropy(model, batch, **solve)

    def score(self, model):
        def accuracy(images, labels):
            logits, *_ = _classify(model, jnp.asarray(images))
            return float(np.mean(np.argmax(logits, 1) == labels))

        return {
            "test": accuracy(*self.test),
            "train": accuracy(self.train.inputs, self.train.targets),
        }

    def solution(self, model, solver, rtol):
        ode = model.ode.with_tolerances(rtol, solver=solver).jointly()
        return _solve(ode, jnp.asarray(self.test[0]))

    def one_by_one(self, model):
        images = jnp.asarray(self.test[0])
        return np.asarray(_each(model.ode, images))


class SpiralTask(Task):
    """A spiral's trajectory at thirty times, from its initial value."""

    name = "spiral"
    learning_rate = 1e-2
    num_steps = 2000
    batch_size = 1

    def __init__(self, rtol: float, *, key: PRNGKeyArray):
        del key
        spiral = Spiral()
        self.ts = jnp.asarray(spiral.ts)
        self.y0 = jnp.asarray(spiral.y0)
        exact = dfx.diffeqsolve(
            spiral.term(),
            dfx.Dopri8(),
            spiral.t0,
            spiral.t1,
            0.01,
            self.y0,
            spiral.args,
            saveat=dfx.SaveAt(ts=self.ts),
            stepsize_controller=dfx.PIDController(rtol=1e-10, atol=1e-10),
        )
        self.exact = jnp.asarray(exact.ys)
        self.t1, self.rtol, self.solvers = float(spiral.t1), rtol, _solvers(rtol)

    def data(self):
        return Dataset(self.y0[None], self.exact[None])

    def model(self, *, key):
        field = Cubed(eqx.nn.MLP(2, 2, 50, 1, activation=jnp.tanh, key=key))
        return NeuralODE(field, rtol=self.rtol, atol=self.rtol, t1=self.t1)

    def task(self, model, batch, **solve):
        # (After a random end that comes early there is nothing to compare.)
        end = jnp.asarray(solve.pop("t1", model.t1), self.ts.dtype)
        saveat = dfx.SaveAt(ts=jnp.minimum(self.ts, end), t1=True)
        solution, price = model.solve(self.y0, t1=end, saveat=saveat, **solve)
        ys = solution.ys[:-1]
        errors = jnp.where((self.ts <= end)[:, None], ys - self.exact, 0.0)
        return jnp.mean(errors**2), {}, solution, price

    def score(self, model):
        saveat = dfx.SaveAt(ts=self.ts)
        solution, _ = eqx.filter_jit(lambda m: m.solve(self.y0, saveat=saveat))(model)
        return {"test": float(jnp.mean((solution.ys - self.exact) ** 2))}

    def solution(self, model, solver, rtol):
        return _solve(model.with_tolerances(rtol, solver=solver), self.y0)

    def one_by_one(self, model):
        return np.asarray(_each(model, self.y0[None]))


class Cubed(eqx.Module):
    """f(y) = network(y³), as published for the spiral."""

    network: eqx.nn.MLP

    def __call__(self, t, y, args):
        """f(y)."""
        del t, args
        return self.network(y**3)


def _solvers(rtol: float) -> Solvers:
    return {
        f"Tsit5 {rtol:.0e}": (dfx.Tsit5(), rtol),
        f"Tsit5 {rtol / 100:.0e}": (dfx.Tsit5(), rtol / 100),
        f"Dopri8 {rtol:.0e}": (dfx.Dopri8(), rtol),
        f"Bosh3 {rtol:.0e}": (dfx.Bosh3(), rtol),
    }


TASKS = {"digits": Digits, "spiral": SpiralTask}


@eqx.filter_jit
def _classify(model, images):
    return model.classify(images)


@eqx.filter_jit
def _solve(ode, y0):
    solution, _ = ode.solve(y0)
    return solution


@eqx.filter_jit
def _each(ode, y0s):
    return jax.vmap(lambda y0: heuristics_of(ode.solve(y0)[0]).nfe)(y0s)
