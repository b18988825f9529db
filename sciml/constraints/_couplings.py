"""How experts know of each other: not at all, or by matching at their seams."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ..linear import frozen
from ..linear._status import CONVERGED, NONFINITE
from ._basis import Expansion
from ._coupled_least_squares import Chain, CoupledLeastSquares, chain
from ._execution import AbstractExecution, default_execution
from ._expert_rows import ExpertRows, expert_rows
from ._hard_constraint import HardConstraint, solved
from ._least_squares import floored, whitening
from ._links import Links, seams
from ._optimum import WeightSolver, optimum
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


class FoundExperts(eqx.Module):
    """Weights of all experts, and how each was found."""

    weights: Float[Array, "experts n"]
    status: Int[Array, " experts"]
    num_steps: Int[Array, " experts"]
    residual_norm: Float[Array, " experts"]
    relative_gradient: Float[Array, " experts"]


class AbstractCoupling(eqx.Module):
    """How the fields of neighbouring experts are made one."""

    @abc.abstractmethod
    def solve(self, task: Task, history: tuple[ExpertRows, ...] = ()) -> FoundExperts:
        """The weights of all experts; `history` are further rows of them."""


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


class C1(AbstractCoupling):
    """As `C0`, with the slope across the seams as well: for second-order equations.

    The slope is the difference of the two nodes beside a seam, per length of a box.

    **Arguments:** `weight`: as of `C0`; `slope_weight`: of the slopes, default 100.
    """

    weight: float = eqx.field(static=True, default=100.0)
    slope_weight: float = eqx.field(static=True, default=100.0)

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
    return _solved(
        groups,
        links,
        chain(boxes.places, boxes.parts),
        square,
        task.ridge,
        task.start,
        task.layer.solver,
        task.throw,
    )


@eqx.filter_jit
def _solved(
    groups: tuple[ExpertRows, ...],
    links: tuple[Links, ...],
    order: Chain,
    square: Float[Array, ""],
    ridge: Float[Array, ""],
    start: Float[Array, "experts n"],
    solver: WeightSolver,
    throw: bool,
) -> FoundExperts:
    experts, count = start.shape
    products = jnp.zeros((experts, count, count), start.dtype)
    alive, inner = jnp.ones((experts,), bool), products
    for number, group in enumerate(groups):
        rows, jacobian = group.linearise(start)
        members = jnp.array(group.members)
        finite = jnp.isfinite(rows).all(1) & jnp.isfinite(jacobian).all((1, 2))
        alive = alive.at[members].set(alive[members] & finite)
        products = products.at[members].add(
            jnp.einsum("kim,kjm->kij", jacobian, jacobian)
        )
        if number == 0:
            inner = products
    mean = jnp.trace(inner, axis1=1, axis2=2) / count
    scales = jnp.sqrt(mean / jnp.where(square > 0, square, 1))
    number_alive = jnp.sum(alive.astype(start.dtype))
    typical = jnp.sum(jnp.where(alive, scales, 0)) / jnp.maximum(number_alive, 1)
    links = tuple(link.scaled(jnp.where(alive, scales, typical)) for link in links)
    for link in links:
        for side, seam in ((link.lefts, link.left), (link.rights, link.right)):
            products = products.at[jnp.array(side)].add(
                jnp.einsum("pim,pjm->pij", seam, seam)
            )
    identity = jnp.eye(count, dtype=start.dtype)[None]
    size = jax.vmap(floored)(jnp.where(alive[:, None, None], products, identity))
    P = jax.vmap(whitening)(size)
    R = ridge**2 * jnp.einsum("kia,kij,kjb->kab", P, size, P)
    groups = tuple(group.transformed(P) for group in groups)
    links = tuple(link.transformed(P) for link in links)
    problem = CoupledLeastSquares(groups, links, R, alive, order)
    first = jnp.linalg.solve(P, start[..., None])[..., 0]
    blocks, report = optimum(
        problem, order.blocks(first), solver=frozen(solver), throw=throw
    )
    own = order.experts(blocks)
    squares = jnp.zeros((experts,), start.dtype)
    for group in groups:
        added = jnp.sum(group.of(own) ** 2, 1)
        squares = squares.at[jnp.array(group.members)].add(added)
    nan = jnp.asarray(jnp.nan, start.dtype)
    return FoundExperts(
        jnp.where(alive[:, None], jnp.einsum("kij,kj->ki", P, own), nan),
        jnp.where(alive, report.status, NONFINITE).astype(jnp.int32),
        jnp.broadcast_to(report.num_steps, (experts,)),
        jnp.where(alive, jnp.sqrt(squares), nan),
        jnp.where(alive, report.relative_gradient, nan),
    )


def failing(found: FoundExperts) -> Any:
    """Whether any expert failed, and the number of the first that did."""
    failed = found.status != CONVERGED
    return jnp.any(failed), jnp.argmax(failed)
