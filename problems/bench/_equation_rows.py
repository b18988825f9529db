"""What a layer and a loss ask of a field, whatever the equation: sizes and rows."""

import abc
import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from sciml.constraints import GridPartition, Side
from sciml.grids import Grid
from sciml.neural_operators import AbstractCoordinates, NodeCoordinates


@dataclasses.dataclass(frozen=True)
class BasisNetwork:
    """An FNO's sizes.

    **Attributes:**

    - `num_basis`: basis fields.
    - `width`, `depth`, `num_modes`: of the FNO.
    """

    num_basis: int = 16
    width: int = 24
    depth: int = 4
    num_modes: int = 8


@dataclasses.dataclass(frozen=True)
class TrainingSize:
    """Grid, network and budget.

    **Attributes:**

    - `num_points`, `num_saves`: nodes along each axis of space, and intervals in t.
    - `experts`: boxes along each axis of space.
    - `network`: what supplies the basis.
    - `num_samples`, `num_test`: initial states.
    - `num_steps`, `batch_size`, `learning_rate`: of the training.
    """

    num_points: int = 128
    num_saves: int = 50
    experts: tuple[int, ...] = (4,)
    network: BasisNetwork = BasisNetwork()
    num_samples: int = 200
    num_test: int = 32
    num_steps: int = 150
    batch_size: int = 4
    learning_rate: float = 2e-3


@dataclasses.dataclass(frozen=True, eq=False)
class AbstractEquationRows(abc.ABC):
    """What is asked of a field on the nodes of a grid: terms, rows, sides.

    No module: nothing in it is to be trained, whoever holds it. Rows at t > `until`
    have no weight, neither in a layer nor in a loss.

    **Attributes:**

    - `problem`: with the nodes in space.
    - `num_saves`: intervals in t.
    - `until`: the last time that training sees; None: all of them.
    """

    problem: Any
    num_saves: int
    until: float | None = None

    @classmethod
    @abc.abstractmethod
    def of(
        cls, size: TrainingSize, until: float | None = None
    ) -> "AbstractEquationRows":
        """The rows on a grid of this size."""

    @classmethod
    @abc.abstractmethod
    def sizes(cls) -> tuple[TrainingSize, TrainingSize]:
        """One for minutes on a CPU, and the published one."""

    @abc.abstractmethod
    def data(self, num_samples: int, key: Any) -> tuple[np.ndarray, np.ndarray]:
        """Initial states at all nodes, (samples, 1, *shape), and the solutions."""

    @property
    @abc.abstractmethod
    def grid(self) -> Grid:
        """Space and time."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a field."""
        return self.grid.shape

    @property
    def final_time(self) -> float:
        """The problem's."""
        return self.problem.final_time

    @property
    def coordinates(self) -> AbstractCoordinates:
        """What the network is told of places."""
        return NodeCoordinates()

    @property
    @abc.abstractmethod
    def times(self) -> Float[np.ndarray, "..."]:
        """t of the nodes, in a shape that broadcasts against a field."""

    @abc.abstractmethod
    def partition(self, experts: tuple[int, ...], overlap: int = 0) -> GridPartition:
        """Boxes in space."""

    def until_the_end(self) -> "AbstractEquationRows":
        """The same with a weight for all rows."""
        return dataclasses.replace(self, until=None)

    def seen(self) -> Float[np.ndarray, "..."]:
        """1 where t ≤ `until`, else 0; of the grid's shape."""
        until = self.final_time if self.until is None else self.until
        return np.broadcast_to(self.times <= until, self.shape).astype(float)

    @abc.abstractmethod
    def parameters(self, u0: Float[Array, "*shape"]) -> dict[str, Array]:
        """What rows need besides u: fields of the grid's shape."""

    @abc.abstractmethod
    def offset(self, u0: Float[Array, "*shape"]) -> Float[Array, "*shape"] | None:
        """A field that has the values that are known, or None."""

    @abc.abstractmethod
    def envelope(self) -> Float[Array, "*shape"] | None:
        """What basis fields are multiplied by, zero where values are known."""

    def completed(self, u: Float[Array, "*shape"]) -> Any:
        """The field and what belongs to it that has to fit together at seams."""
        return u

    def field(self, completed: Any) -> Float[Array, "*shape"]:
        """The field of those."""
        return completed

    @abc.abstractmethod
    def terms(self, completed: Any) -> dict[str, Array]:
        """What rows are made of, linear in u."""

    @abc.abstractmethod
    def residual(self, terms: Any, parameters: Any) -> Array:
        """The equation's rows, without unit."""

    @abc.abstractmethod
    def linear(self, terms: Any, parameters: Any) -> Array:
        """Rows of a linear equation nearby: where a nonlinear solve starts from."""

    def sides(self, weight: float) -> tuple[Side, ...]:
        """Conditions on sides of the grid, as rows."""
        del weight
        return ()

    @property
    def symbol(self) -> str:
        """What the field is called."""
        return "u"

    @abc.abstractmethod
    def panel(self, u: np.ndarray) -> np.ndarray:
        """What a picture shows of a field."""

    @property
    @abc.abstractmethod
    def panel_grid(self) -> Grid:
        """The grid of that."""

    @property
    @abc.abstractmethod
    def panel_axes(self) -> tuple[str, str]:
        """The names of its axes."""
