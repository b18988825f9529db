"""Sweeps in which overlapping experts pass on their values."""

import math

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .._serialisation import register
from ..linear._status import CONVERGED, MAX_STEPS
from ._coupled_least_squares import chain
from ._couplings import AbstractCoupling, Task, check_weight
from ._expert_rows import ExpertRows, mismatch
from ._joint_solve import FoundExperts, joint_solve, residual_scales
from ._rows import Rows


@register
class Schwarz(AbstractCoupling):
    """Every expert for itself, with the values of its neighbours at its ends, in turns.

    Boxes have to overlap. In each sweep all experts are solved for at once, each with
    rows that hold its field, on the faces of its box, to what those said there that
    these nodes belong to. For linear equations that is the parallel Schwarz method: the
    error falls by a factor that depends on the overlap, slower with more boxes.
    `C1` needs no sweeps and no overlap; what this one offers is that experts are
    independent within a sweep.

    The result is `RESULTS.max_steps_reached` where the values on faces still change,
    as they always do where a basis is too poor to take up all of them: the sweeps then
    diverge, on a plane sooner than on a line.
    Derivatives go through all sweeps, and take as much memory.

    **Arguments:**

    - `num_sweeps`: static, default 30.
    - `weight`: of the rows on faces, in the units of `C0`. Default 100.
    - `rtol`: change of the values on faces from the last sweep but one, relative to
        them, that counts as none. Default 1e-6; static.

    **Raises:** `ValueError`, when used, for a partition without overlap, or periodic.

    Source: Lions, *On the Schwarz alternating method*, in the first of the conferences
    on domain decomposition, SIAM 1988.
    """

    num_sweeps: int = eqx.field(static=True, default=30)
    weight: float = eqx.field(static=True, default=100.0)
    rtol: float = eqx.field(static=True, default=1e-6)

    def __check_init__(self):
        if not isinstance(self.num_sweeps, int) or self.num_sweeps < 1:
            raise ValueError(
                f"num_sweeps: expected an integer ≥ 1, got {self.num_sweeps!r}."
            )
        check_weight("weight", self.weight)
        check_weight("rtol", self.rtol)

    def solve(self, task: Task, history: tuple[ExpertRows, ...] = ()) -> FoundExperts:
        """Sweep by sweep."""
        boxes = task.boxes
        groups = (*task.rows(whole_sides=False), *history)
        if boxes.count > 1 and not task.partition.overlap:
            raise ValueError(
                "partition: boxes of Schwarz have to overlap: GridPartition(…, "
                "overlap=2)."
            )
        if boxes.periodic:
            raise ValueError(
                "partition: Schwarz passes no values across the ends of periodic axes; "
                "take C1."
            )
        square = jnp.stack([jnp.mean(leaf**2) for leaf in task.matched]).mean()
        _, jacobian = groups[0].linearise(task.start)
        sizes = jnp.sum(jacobian**2, (1, 2))
        scales = residual_scales(sizes, task.start.shape[-1], square)
        places = _Faces(task)

        def sweep(before: tuple[Array, Float[Array, "..."]], _):
            weights, old = before
            targets = places.values(weights)
            faces = places.rows(targets, self.weight * scales)
            found = joint_solve(
                (*groups, *faces),
                (),
                chain(boxes),
                square,
                task.ridge,
                weights,
                task.layer.solver,
                task.throw,
            )
            flat = jnp.concatenate([x.ravel() for x in targets]) if targets else old
            change = jnp.sqrt(jnp.sum((flat - old) ** 2))
            size = jnp.sqrt(jnp.sum(flat**2))
            still = change <= self.rtol * size
            return (found.weights, flat), (found, still)

        none = jnp.zeros((places.size,), task.start.dtype)
        (_, _), (found, still) = lax.scan(
            sweep, (task.start, none), None, length=self.num_sweeps
        )
        status = found.status[-1]
        unsettled = (status == CONVERGED) & ~still[-1] & (places.size > 0)
        return FoundExperts(
            found.weights[-1],
            jnp.where(unsettled, MAX_STEPS, status).astype(jnp.int32),
            jnp.sum(found.num_steps, 0).astype(jnp.int32),
            found.residual_norm[-1],
            found.relative_gradient[-1],
        )


class _Faces:
    """The faces of boxes that lie within others: who has them, and where they are."""

    def __init__(self, task: Task):
        self.boxes, self.matched = task.boxes, task.matched
        # For each axis and end: members, and the slices of each.
        self.groups: list[tuple[tuple[int, ...], list[tuple]]] = []
        boxes = self.boxes
        for axis, parts in enumerate(boxes.parts):
            for end in (0, 1) if parts > 1 else ():
                members, slices = [], []
                for number, place in enumerate(boxes.places):
                    if place[axis] == (0 if end == 0 else parts - 1):
                        continue
                    where = []
                    for other, k in enumerate(place):
                        start, size = boxes.starts[other][k], boxes.size[other]
                        low = start + (size - 1) * end if other == axis else start
                        high = low + 1 if other == axis else start + size
                        where.append(slice(low, high))
                    members.append(number)
                    slices.append(tuple(where))
                self.groups.append((tuple(members), slices))

    @property
    def size(self) -> int:
        """Nodes on all faces, of all fields."""
        faces = [where for _, slices in self.groups for where in slices]
        nodes = [math.prod(axis.stop - axis.start for axis in where) for where in faces]
        return sum(nodes) * len(self.matched)

    def values(self, weights: Float[Array, "experts n"]) -> list[Array]:
        """What is said there by those that the nodes belong to, group by group."""
        found = []
        for leaf in self.matched:
            field = self.boxes.combined(leaf, weights)
            for _, slices in self.groups:
                found.append(jnp.stack([field[where].ravel() for where in slices]))
        return found

    def rows(
        self, values: list[Array], weights: Float[Array, " experts"]
    ) -> tuple[ExpertRows, ...]:
        """The fields of members minus these values."""
        rows, values = [], list(values)
        for leaf in self.matched:
            count = leaf.shape[0]
            for members, slices in self.groups:
                cut = [leaf[(slice(None), *w)].reshape(count, -1) for w in slices]
                own = weights[jnp.array(members)]
                rows.append(
                    ExpertRows(
                        Rows(mismatch, [jnp.stack(cut)], None, [values.pop(0)], own),
                        members,
                    )
                )
        return tuple(rows)
