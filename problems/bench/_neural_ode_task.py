"""What the benchmark of neural ODEs asks of a task."""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax
import numpy as np
import optax
from jaxtyping import PRNGKeyArray

from sciml.data import Dataset
from sciml.neural_odes import heuristics_of

# Solvers that the trained models are solved with, at their tolerances.
Solvers = dict[str, tuple[dfx.AbstractSolver, float]]


class Method(NamedTuple):
    """A way of regularising: what a solve is charged with, and STEER's width."""

    penalty: Any = ()
    coefficient: float = 0.0
    steer: float | None = None


class Task(abc.ABC):
    """A data set, a model for it, and what is measured of the trained model.

    **Arguments:**

    - `rtol`: both tolerances of the training. Default the task's own, `tolerance`.
    - `key`: draws the data, or how they are split.
    """

    name: ClassVar[str]
    # What `test` and `train` of the rows are.
    metric: ClassVar[str]
    tolerance: ClassVar[float]
    methods: ClassVar[Mapping[str, Method]]
    learning_rate: ClassVar[float]
    num_steps: ClassVar[int]
    batch_size: int
    # Over how many solves evaluations and steps are averaged: those of noise differ.
    num_draws: ClassVar[int] = 1

    def __init__(self, rtol: float | None = None, *, key: PRNGKeyArray):
        self.rtol = self.tolerance if rtol is None else rtol
        # Where evaluations of the field are counted: the first is what is trained with.
        self.solvers = self.make_solvers()
        self.load(key=key)

    @classmethod
    def missing(cls) -> FileNotFoundError | None:
        """What says which data are missing, if any are."""
        return None

    def make_solvers(self) -> Solvers:
        """By name: Tsit5 at two tolerances, an order above and one below."""
        rtol = self.rtol
        return {
            f"Tsit5 {rtol:.0e}": (dfx.Tsit5(), rtol),
            f"Tsit5 {rtol / 100:.0e}": (dfx.Tsit5(), rtol / 100),
            f"Dopri8 {rtol:.0e}": (dfx.Dopri8(), rtol),
            f"Bosh3 {rtol:.0e}": (dfx.Bosh3(), rtol),
        }

    def optimiser(self, num_steps: int) -> optax.GradientTransformation:
        """Default Adam at the learning rate."""
        del num_steps
        return optax.adam(self.learning_rate)

    @abc.abstractmethod
    def load(self, *, key: PRNGKeyArray) -> None:
        """Get the data."""

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
    def solution(
        self,
        model: Any,
        solver: dfx.AbstractSolver,
        rtol: float,
        *,
        draw: int = 0,
        saveat: dfx.SaveAt | None = None,
    ) -> dfx.Solution:
        """One solve of everything that is tested on, as one state."""

    @abc.abstractmethod
    def one_by_one(self, model: Any) -> np.ndarray:
        """Evaluations of the field for each test sample alone."""

    def counts(
        self, model: Any, solver: dfx.AbstractSolver, rtol: float
    ) -> tuple[float, float]:
        """Evaluations of the field, and accepted steps, of `solution`."""
        found = []
        for draw in range(self.num_draws):
            heuristics = heuristics_of(self.solution(model, solver, rtol, draw=draw))
            found.append((np.asarray(heuristics.nfe), np.asarray(heuristics.num_steps)))
        nfe, steps = np.mean(found, axis=0)
        return float(nfe), float(steps)

    def step_times(self, model: Any) -> np.ndarray:
        """Where the accepted steps of `solution` begin and end, as it is trained."""
        solver, rtol = next(iter(self.solvers.values()))
        saveat = dfx.SaveAt(t0=True, t1=True, steps=True)
        times = np.asarray(self.solution(model, solver, rtol, saveat=saveat).ts)
        # (Diffrax pads with infinity. The end is saved twice.)
        return np.unique(times[np.isfinite(times)])


@eqx.filter_jit
def solved(ode: Any, y0: Any, saveat: dfx.SaveAt | None = None) -> dfx.Solution:
    """One compiled solve."""
    solution, _ = ode.solve(y0, saveat=saveat)
    return solution


@eqx.filter_jit
def evaluations_of_each(ode: Any, y0s: Any) -> Any:
    """Evaluations of the field for every initial value alone."""
    return jax.vmap(lambda y0: heuristics_of(ode.solve(y0)[0]).nfe)(y0s)
