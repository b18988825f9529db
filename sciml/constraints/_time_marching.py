"""One slab of time after the other."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float

from .._serialisation import register
from ._couplings import C1, AbstractCoupling, Task, check_weight
from ._expert_rows import ExpertRows, mismatch
from ._hard_constraint import HardConstraint
from ._joint_solve import FoundExperts
from ._partition import Boxes, GridPartition
from ._rows import Rows
from ._side import Side


@register
class TimeMarching(AbstractCoupling):
    """Solves for the boxes of one slab of time, and starts the next from its end.

    The last axis is time. Conditions on its first nodes hold for the first slab; each
    further one is given what the one before says in the middle of the two nodes beside
    the seam. No expert knows of those after it, as time demands.

    **Arguments:**

    - `within`: couples the boxes of one slab. Default `C1()`.
    - `weight`: of the rows for what was there before. Default 10; with weights that
        are far larger than those of the sides, errors at the end of a slab are kept.

    **Raises:** `ValueError`, when used, for a partition that does not cut time or has
    it periodic, and for overlapping boxes.
    """

    within: AbstractCoupling
    weight: float = eqx.field(static=True)

    def __init__(self, within: AbstractCoupling | None = None, weight: float = 10.0):
        self.within = C1() if within is None else within
        if isinstance(self.within, TimeMarching):
            raise TypeError("within: expected a coupling in space, got TimeMarching.")
        check_weight("weight", weight)
        self.weight = weight

    def solve(self, task: Task, history: tuple[ExpertRows, ...] = ()) -> FoundExperts:
        """Slab by slab."""
        boxes, axis = task.boxes, len(task.fields.shape) - 1
        num_slabs = boxes.parts[axis]
        if num_slabs == 1:
            raise ValueError(
                "coupling: TimeMarching needs a partition with several boxes along the "
                f"last axis, got {boxes.parts}: GridPartition(…, time=4)."
            )
        if axis in boxes.periodic:
            raise ValueError("partition: time, the last axis, is not periodic.")
        if task.partition.overlap:
            raise ValueError("partition: slabs of TimeMarching do not overlap.")
        slab_experts = jnp.arange(boxes.count).reshape(-1, num_slabs)
        found = []
        for k in range(num_slabs):
            slab = _slab(task, boxes, k, slab_experts[:, k])
            rows = history
            if found:
                before = found[-1].weights
                rows = (*history, self._before(task, boxes, slab.boxes, k, before))
            found.append(self.within.solve(slab, rows))
        # From slabs of experts to experts with time running fastest.
        together = lambda *leaves: jnp.stack(leaves, 1).reshape(
            boxes.count, *leaves[0].shape[1:]
        )
        return jtu.tree_map(together, *found)

    def _before(
        self,
        task: Task,
        boxes: Boxes,
        slab: Boxes,
        number: int,
        weights: Float[Array, "experts n"],
    ) -> ExpertRows:
        """u at the seam minus what the slab before says there, for each expert."""
        edge = boxes.edges[-1][number]
        terms, targets = [], []
        for leaf in task.matched:
            seam = (leaf[..., edge - 1] + leaf[..., edge]) / 2
            parts = [
                seam[(slice(None), *slab.across(k, len(boxes.shape) - 1))]
                for k in range(slab.count)
            ]
            own = jnp.stack([part.reshape(leaf.shape[0], -1) for part in parts])
            terms.append(own)
            targets.append(jnp.einsum("kn,knm->km", weights, own))
        one = jnp.full((slab.count,), self.weight, task.fields.solve_dtype)
        # (Offsets are the same on both sides.)
        rows = Rows(mismatch, terms, None, targets, one)
        return ExpertRows(rows, tuple(range(slab.count)))


def _slab(task: Task, boxes: Boxes, number: int, experts: Array) -> Task:
    """The task between two times."""
    low, high = boxes.edges[-1][number : number + 2]
    last = len(boxes.shape) - 1
    layer, shape = task.layer, task.fields.shape
    sides = tuple(side for side in layer.sides if _holds(side, last, number, boxes))
    cut = lambda leaf: leaf[..., low:high] if jnp.shape(leaf) == shape else leaf
    key = None if task.key is None else jr.fold_in(task.key, number)
    of_slab = HardConstraint(
        layer.residual,
        layer.solver,
        terms=layer.terms,
        sides=sides,
        num_points=layer.num_points,
        ridge=layer.ridge,
    )
    return Task(
        of_slab,
        task.fields.between(low, high),
        jtu.tree_map(cut, task.parameters),
        GridPartition(boxes.parts[:-1], periodic=boxes.periodic),
        task.ridge,
        task.start[experts],
        key,
        task.throw,
        task.match,
    )


def _holds(side: Side, last: int, number: int, boxes: Boxes) -> bool:
    if side.axis != last:
        return True
    return number == (0 if side.end == 0 else boxes.parts[last] - 1)
