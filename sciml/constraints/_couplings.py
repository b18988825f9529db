"""How experts know of each other: not at all, or by matching at their seams."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._serialisation import register
from ._basis import Expansion
from ._coupled_least_squares import chain
from ._execution import AbstractExecution, default_execution
from ._expert_rows import ExpertRows, expert_rows
from ._hard_constraint import HardConstraint, solved
from ._joint_solve import FoundExperts, joint_solve
from ._links import seams
from ._partition import Boxes, GridPartition


class Task(eqx.Module):
    """What a coupling solves: a layer on a grid that is cut into boxes."""

    layer: HardConstraint
    fields: Expansion
    parameters: PyTree
    partition: GridPartition
    ridge: Float[Array, ""]
    start: Float[Array, "experts n"]
    key: PRNGKeyArray | None
    throw: bool = eqx.field(static=True)
    match: Callable[[Any], Any] | None = None

    @property
    def matched(self) -> list[Array]:
        """Basis fields that are to fit together at seams."""
        basis = self.fields.basis
        return jtu.tree_leaves(basis if self.match is None else self.match(basis))

    @property
    def boxes(self) -> Boxes:
        """Of the grid."""
        return self.partition.boxes(self.fields.shape)

    def rows(self, *, whole_sides: bool) -> tuple[ExpertRows, ...]:
        """The rows of all experts, of each kind."""
        return expert_rows(
            self.layer,
            self.fields,
            self.parameters,
            self.boxes,
            self.key,
            whole_sides=whole_sides,
        )


class AbstractCoupling(eqx.Module):
    """How the fields of neighbouring experts are made one."""

    @abc.abstractmethod
    def solve(self, task: Task, history: tuple[ExpertRows, ...] = ()) -> FoundExperts:
        """The weights of all experts; `history` are further rows of them."""


@register
class Uncoupled(AbstractCoupling):
    """Every expert for itself, with all nodes of all sides: as published.

    Nothing ties the fields of two experts together. For an elliptic equation their
    problems are underdetermined, and the fields have nothing to do with the solution
    unless the basis meets the sides and fits together by itself, as a trained one may.

    **Arguments:**

    - `execution`: in which order the experts are solved for. Default one after the
        other on a CPU (`MapExperts`), all at once elsewhere (`VmapExperts`);
        `ShardExperts` for several devices.

    Source: Chalapathi, Du & Krishnapriyan, ICLR 2024 (arXiv 2402.13412).
    """

    execution: AbstractExecution | None = None

    def solve(self, task: Task, history: tuple[ExpertRows, ...] = ()) -> FoundExperts:
        """One problem for each expert."""
        groups = (*task.rows(whole_sides=True), *history)
        execution = default_execution() if self.execution is None else self.execution
        throw = task.throw and execution.can_raise

        def one(rows, start):
            return solved(rows, task.ridge, start, task.layer.solver, throw)

        found = execution.run(one, tuple(group.rows for group in groups), task.start)
        report = found.report
        return FoundExperts(
            found.weights,
            report.status,
            report.num_steps,
            found.residual_norm,
            report.relative_gradient,
        )


@register
class C0(AbstractCoupling):
    """One problem for all experts, with rows for what jumps at their seams.

    The mean of the field at the two nodes beside a seam is to be the same for both
    experts. Enough for equations of first order across the seams. Sides of the grid
    belong to the experts that touch them.

    The normal equations are block tridiagonal along the axis with most boxes: their
    cost grows with the number of experts, not with a power of it.

    **Arguments:**

    - `weight`: of these rows, in units of what the residual makes of the basis (the
        root mean square of its derivatives by the weights, over that of the basis), so
        that it has no unit. Default 100: seams then are met about as well as the
        equation can be anyway, also where a basis is poor.
    """

    weight: float = eqx.field(static=True, default=100.0)

    def __check_init__(self):
        check_weight("weight", self.weight)

    def solve(self, task: Task, history: tuple[ExpertRows, ...] = ()) -> FoundExperts:
        """All experts together."""
        return _matched(task, history, (self.weight,))


@register
class C1(AbstractCoupling):
    """As `C0`, with the slope across the seams as well: for second-order equations.

    The slope is the difference of the two nodes beside a seam, per length of a box.

    **Arguments:**

    - `weight`: as of `C0`, default 10.
    - `slope_weight`: of the slopes, default 10.

    In units in which the residual is 1 both are to be 1 by theory (least squares for
    pieces of polynomials). A poor basis needs more; much more leaves it no freedom
    where a seam has more nodes than an expert has weights: all experts then become one.
    """

    weight: float = eqx.field(static=True, default=10.0)
    slope_weight: float = eqx.field(static=True, default=10.0)

    def __check_init__(self):
        check_weight("weight", self.weight)
        check_weight("slope_weight", self.slope_weight)

    def solve(self, task: Task, history: tuple[ExpertRows, ...] = ()) -> FoundExperts:
        """All experts together."""
        return _matched(task, history, (self.weight, self.slope_weight))


def check_weight(name: str, weight: float) -> None:
    """**Raises:** `ValueError` unless it is positive and finite."""
    if not 0 < weight < float("inf"):
        raise ValueError(f"{name}: expected a positive number, got {weight!r}.")


def _matched(
    task: Task, history: tuple[ExpertRows, ...], weights: tuple[float, ...]
) -> FoundExperts:
    boxes, fields = task.boxes, task.fields
    groups = (*task.rows(whole_sides=False), *history)
    axes = range(len(fields.shape))
    found = (seams(task.matched, boxes, axis, weights) for axis in axes)
    links = tuple(link for link in found if link is not None)
    square = jnp.stack([jnp.mean(leaf**2) for leaf in task.matched]).mean()
    return joint_solve(
        groups,
        links,
        chain(boxes),
        square,
        task.ridge,
        task.start,
        task.layer.solver,
        task.throw,
    )
