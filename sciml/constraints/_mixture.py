"""Many experts, each with its own weights of one basis in its part of the grid."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..linear import Solution
from ..linear._status import our_result
from ._basis import checked_ridge, expansion, in_precision
from ._couplings import C1, AbstractCoupling, Task
from ._hard_constraint import HardConstraint, checked_start
from ._joint_solve import FoundExperts, failing
from ._links import seams
from ._partition import Boxes, GridPartition


class MixtureOfExperts(eqx.Module):
    """A hard constraint that is solved for in parts, which share a basis.

        u = offset + Σ_n ω_kn basis_n   in box k of a partition

    Each expert has weights of its own: K experts can represent what one basis cannot,
    and the equations for K sets of n weights cost K times those for n, not K³ times.

    **Arguments:**

    - `layer`: residual, terms, sides, ridge and solver. `num_points` are nodes of each
        box.
    - `partition`: default one box.
    - `coupling`: `C1()` (default), `C0()`, `Uncoupled()`, `Schwarz()` for boxes that
        overlap, or `TimeMarching()` for boxes in time.
    - `matched`: which part of the basis has to fit together at seams, where it is a
        tree in which not all leaves have to: `lambda basis: basis["u"]`. Default all.

    With one box it is the layer itself.

    !!! example

        ```python
        import jax.numpy as jnp
        import sciml

        x = jnp.linspace(0.0, 1.0, 64)
        basis = jnp.stack([x**k for k in range(6)])
        slope = lambda u: jnp.gradient(u, x[1] - x[0])
        layer = sciml.constraints.HardConstraint(
            lambda t, p: t["u_x"] - t["u"],
            sciml.constraints.LinearLeastSquares(),
            terms=lambda u: {"u": u, "u_x": slope(u)},
            sides=(sciml.constraints.Side(lambda t, p: t["u"] - 1.0, axis=0),),
        )
        experts = sciml.constraints.MixtureOfExperts(
            layer, sciml.constraints.GridPartition(4), sciml.constraints.C0()
        )
        out = experts(basis)  # exp x
        out.stats["residual_norm"], out.stats["seam_jump"]
        ```

    Source: the mixture is that of Chalapathi, Du & Krishnapriyan, ICLR 2024 (arXiv
    2402.13412), whose experts are `Uncoupled`; the couplings are ours.
    """

    layer: HardConstraint
    partition: GridPartition
    coupling: AbstractCoupling
    matched: Callable[[Any], Any] | None

    def __init__(
        self,
        layer: HardConstraint,
        partition: GridPartition | None = None,
        coupling: AbstractCoupling | None = None,
        *,
        matched: Callable[[Any], Any] | None = None,
    ):
        for name, value, kind in (
            ("layer", layer, HardConstraint),
            ("partition", partition, GridPartition | None),
            ("coupling", coupling, AbstractCoupling | None),
        ):
            if not isinstance(value, kind):
                raise TypeError(f"{name}: unexpected type {type(value).__name__}.")
        self.layer = layer
        self.partition = GridPartition() if partition is None else partition
        self.coupling = C1() if coupling is None else coupling
        self.matched = matched

    def __call__(
        self,
        basis: PyTree[Array],
        parameters: PyTree = None,
        *,
        offset: PyTree[Array] | None = None,
        start: Float[Array, "..."] | None = None,
        key: PRNGKeyArray | None = None,
        throw: bool = True,
    ) -> Solution:
        """The field that is put together from the experts' boxes.

        **Arguments:** as of `HardConstraint`; `start` has a row for each expert.

        **Returns:** a `Solution` whose `result` has an item for each expert, and whose
        `stats` have a number for each: `weights`, `num_steps`, `residual_norm` (of the
        rows in its box and on its sides), `relative_gradient` (of the problem they
        share, where there is one); and `seam_jump`, the root mean square of what jumps
        at seams over that of the field.

        An expert whose rows are not finite is left out: its box is NaN, its result
        `RESULTS.nonfinite`, and the others are solved without it, but for those that
        `Schwarz` or `TimeMarching` would give its values to: they fail with it.
        """
        layer = self.layer
        fields = expansion(basis, offset, layer.terms)
        parameters = in_precision(parameters, fields.solve_dtype)
        ridge = checked_ridge(layer.ridge, fields.solve_dtype)
        boxes = self.partition.boxes(fields.shape)
        start = checked_start(start, (boxes.count, fields.count), fields.solve_dtype)
        task = Task(layer, fields, parameters, self.partition, ridge, start, key, throw)
        with jax.default_matmul_precision("highest"):
            found = self.coupling.solve(task)
            value, jump = put_together(task, found.weights)
        stats = {
            "weights": found.weights,
            "num_steps": found.num_steps,
            "residual_norm": found.residual_norm,
            "relative_gradient": found.relative_gradient,
            "seam_jump": jump,
        }
        solution = Solution(value, our_result(found.status), stats)
        return _raising(solution, found, boxes) if throw else solution


@eqx.filter_jit
def put_together(
    task: Task, weights: Float[Array, "experts n"]
) -> tuple[Any, Float[Array, ""]]:
    """The field, and how far it jumps at seams, relative to its size."""
    fields, boxes = task.fields, task.boxes

    value = jtu.tree_map(lambda leaf: boxes.combined(leaf, weights), fields.basis)
    if fields.offset is not None:
        value = jtu.tree_map(jnp.add, value, fields.offset)
    size = jnp.stack([jnp.sum(leaf**2) for leaf in jtu.tree_leaves(value)])
    size = jnp.sum(size) / sum(leaf.size for leaf in jtu.tree_leaves(value))
    jumps = []
    for axis in range(len(fields.shape)):
        links = seams(task.matched, boxes, axis, (1.0,))
        if links is not None:
            jumps.append(jnp.sum(links.rows(weights) ** 2) / len(links.lefts))
    jump = jnp.sqrt(jnp.stack(jumps).mean()) if jumps else jnp.zeros_like(size)
    value = jtu.tree_map(lambda leaf: leaf.astype(fields.dtype), value)
    return value, jump / jnp.sqrt(jnp.where(size > 0, size, 1))


def _raising(solution: Solution, found: FoundExperts, boxes: Boxes) -> Solution:
    any_failed, first = failing(found)
    messages = [
        f"Expert {k} (box {place}) found no optimum: with throw=False its result, and "
        "those of all others, are returned."
        for k, place in enumerate(boxes.places)
    ]
    return eqx.branched_error_if(solution, any_failed, first, messages)
