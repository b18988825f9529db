"""The rows of all experts, stacked."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ._basis import Expansion
from ._hard_constraint import HardConstraint, on_side
from ._partition import Boxes
from ._rows import Rows
from ._side import Side


class ExpertRows(eqx.Module):
    """Rows of one kind, of some experts: every array of `rows` has them first."""

    rows: Rows
    members: tuple[int, ...] = eqx.field(static=True)

    def of(self, weights: Float[Array, "experts n"]) -> Float[Array, "members m"]:
        """The rows of each member."""
        return _each(lambda rows, w: rows(w))(self.rows, self.own(weights))

    def linearise(
        self, weights: Float[Array, "experts n"]
    ) -> tuple[Float[Array, "members m"], Float[Array, "members n m"]]:
        """Rows and transposed Jacobian of each member."""
        return _each(lambda rows, w: rows.linearise(w))(self.rows, self.own(weights))

    def hessian(self, weights: Float[Array, "experts n"]) -> Float[Array, "_ n n"]:
        """Of each member's half sum of squares."""
        return _each(lambda rows, w: rows.hessian(w))(self.rows, self.own(weights))

    def transformed(self, P: Float[Array, "experts n n"]) -> "ExpertRows":
        """For weights ω̃ with ω = P ω̃."""
        changed = _each(lambda rows, P: rows.transformed(P))(self.rows, self.own(P))
        return ExpertRows(changed, self.members)

    def own(self, of_all: Array) -> Array:
        """What belongs to the members."""
        return of_all[np.array(self.members)]


def _each(function: Any) -> Any:
    return eqx.filter_vmap(function)


def expert_rows(
    layer: HardConstraint,
    fields: Expansion,
    parameters: PyTree,
    boxes: Boxes,
    key: PRNGKeyArray | None,
    *,
    whole_sides: bool,
) -> tuple[ExpertRows, ...]:
    """The residual in each box, and the conditions on sides.

    **Arguments:** `whole_sides` gives every expert all nodes of every side; otherwise a
    side belongs to the experts whose boxes touch it.
    """
    terms, offset, split = fields.pick(boxes.split, parameters)
    # (Terms have the basis' axis first.)
    terms = jtu.tree_map(lambda leaf: jnp.moveaxis(leaf, 1, 0), terms)
    shared = _is_shared(parameters, fields.shape)
    one = jnp.ones((boxes.count,), fields.solve_dtype)
    residual = _copies_of(layer.residual, boxes.count)
    inner = Rows(residual, terms, offset, split, one)
    everyone = tuple(range(boxes.count))
    if layer.num_points is not None:
        inner = _sampled(inner, shared, boxes, layer.num_points, key)
    inner = _repeated(inner, shared, boxes.count)
    groups = [ExpertRows(inner, everyone)]
    for side in layer.sides:
        rows = on_side(side, fields, parameters)
        if whole_sides:
            groups.append(ExpertRows(_copies_of(rows, boxes.count), everyone))
        else:
            groups.append(_cut_side(side, rows, parameters, fields, boxes))
    return tuple(groups)


def _cut_side(
    side: Side, rows: Rows, parameters: PyTree, fields: Expansion, boxes: Boxes
) -> ExpertRows:
    """The rows of a side, given to the experts that touch it."""
    members = boxes.on_side(side.axis, side.end)

    def split(face: Array) -> Array:
        parts = [face[boxes.across(member, side.axis)] for member in members]
        return jnp.stack(parts)

    terms = jtu.tree_map(
        lambda leaf: jnp.moveaxis(jax.vmap(split)(leaf), 1, 0), rows.terms
    )
    offset = None if rows.offset is None else jtu.tree_map(split, rows.offset)
    shared = _is_shared(parameters, fields.shape)
    own = jtu.tree_map(
        lambda leaf, common: leaf if common else split(leaf), rows.parameters, shared
    )
    residual, weight = _copies_of((side.residual, rows.weight), len(members))
    own = Rows(residual, terms, offset, own, weight)
    return ExpertRows(_repeated(own, shared, len(members)), tuple(members))


def _sampled(
    rows: Rows, shared: PyTree, boxes: Boxes, count: int, key: PRNGKeyArray | None
) -> Rows:
    """Some nodes of each box, others for each."""
    size = math.prod(boxes.size)
    if key is None:
        raise ValueError("key: needed to draw num_points nodes.")
    if count > size:
        raise ValueError(f"num_points: {count}, but a box has {size} nodes.")
    draw = lambda key: jr.choice(key, size, (count,), replace=False)
    nodes = jax.vmap(draw)(jr.split(key, boxes.count))
    pick = jax.vmap(lambda field, nodes: field.ravel()[nodes])
    terms = jtu.tree_map(
        lambda leaf: jax.vmap(pick, (1, None), 1)(leaf, nodes), rows.terms
    )
    at_nodes = lambda leaf: pick(leaf, nodes)
    offset = None if rows.offset is None else jtu.tree_map(at_nodes, rows.offset)
    parameters = jtu.tree_map(
        lambda leaf, common: leaf if common else at_nodes(leaf), rows.parameters, shared
    )
    return Rows(rows.residual, terms, offset, parameters, rows.weight)


def _is_shared(parameters: PyTree, shape: tuple[int, ...]) -> PyTree:
    return jtu.tree_map(lambda leaf: jnp.shape(leaf) != shape, parameters)


def _repeated(rows: Rows, shared: PyTree, count: int) -> Rows:
    """With those parameters that are no fields of the grid once for each expert."""
    parameters = jtu.tree_map(
        lambda leaf, common: _copies_of(leaf, count) if common else leaf,
        rows.parameters,
        shared,
    )
    return Rows(rows.residual, rows.terms, rows.offset, parameters, rows.weight)


def _copies_of(tree: Any, count: int) -> Any:
    """Every array of a tree once for each expert."""
    arrays, rest = eqx.partition(tree, eqx.is_array)
    copy = lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape))
    return eqx.combine(jtu.tree_map(copy, arrays), rest)


def mismatch(values: list[Array], targets: list[Array]) -> list[Array]:
    """A residual: fields minus what they are to be."""
    return [value - target for value, target in zip(values, targets, strict=True)]
