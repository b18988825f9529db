"""Vectors that consist of fields on one grid, and products with one field of them."""

import math
from collections.abc import Callable

import jax.numpy as jnp
import jax.tree_util as jtu
import lineax as lx
from jaxtyping import Array, Shaped

from ..grids import Grid

Field = Shaped[Array, "*space"]
Fields = Shaped[Array, "fields *space"]


def check_fields(name: str, operator: lx.AbstractLinearOperator, grid: Grid):
    """The number of fields in an operator's vectors and their dtype, or an error."""
    leaves = jtu.tree_leaves(operator.in_structure())
    space = grid.num_points
    for leaf in leaves:
        if leaf.shape[len(leaf.shape) - len(space) :] != space:
            raise ValueError(
                f"operator: {name} needs vectors of fields on its grid, arrays of "
                f"shape (…, {', '.join(map(str, space))}), and this operator takes one "
                f"of shape {leaf.shape}."
            )
    dtypes = {leaf.dtype for leaf in leaves}
    if len(dtypes) != 1 or not jnp.issubdtype(leaves[0].dtype, jnp.floating):
        raise ValueError(
            f"operator: {name} needs real fields of one precision, got "
            f"{', '.join(sorted(map(str, dtypes)))}."
        )
    return sum(_num_fields(leaf, space) for leaf in leaves), dtypes.pop()


def stack(vector, space: tuple[int, ...]) -> Fields:
    """All fields of a vector in one array."""
    leaves = [leaf.reshape(-1, *space) for leaf in jtu.tree_leaves(vector)]
    return leaves[0] if len(leaves) == 1 else jnp.concatenate(leaves)


def unstack(fields: Fields, like):
    """A vector of the structure of `like` from all its fields."""
    leaves, structure = jtu.tree_flatten(like)
    parts, first = [], 0
    for leaf in leaves:
        count = _num_fields(leaf, fields.shape[1:])
        parts.append(fields[first : first + count].reshape(leaf.shape))
        first += count
    return jtu.tree_unflatten(structure, parts)


def weights_of(grid: Grid, dtype) -> Field | None:
    """What rows on sides that store their nodes are weighted with; None if all 1.

    W J is symmetric for J = 1 − c Δ. Stored Dirichlet nodes, which nothing else knows,
    have weight 1.
    """
    weights, mask = grid.cell_weights(), grid.dirichlet_mask()
    if mask is not None:
        weights[mask] = 1.0
    return None if (weights == 1.0).all() else jnp.asarray(weights, dtype)


def weighted(M: lx.AbstractLinearOperator, grid: Grid) -> lx.AbstractLinearOperator:
    """M W, an approximate inverse of J for an M that approximates that of W J."""
    structure = M.in_structure()
    weights = weights_of(grid, jtu.tree_leaves(structure)[0].dtype)
    if weights is None:
        return M
    everywhere = jtu.tree_map(lambda s: jnp.broadcast_to(weights, s.shape), structure)
    return M @ lx.DiagonalLinearOperator(everywhere)


def block_product(
    operator: lx.AbstractLinearOperator, grid: Grid, index: Array
) -> Callable[[Field], Field]:
    """u ↦ W J u for the diagonal block of field number `index`.

    Stored Dirichlet nodes are left alone.
    """
    space, structure = grid.num_points, operator.in_structure()
    mask = grid.dirichlet_mask()
    num = sum(_num_fields(leaf, space) for leaf in jtu.tree_leaves(structure))
    chosen = jnp.arange(num, dtype=index.dtype) == index
    chosen = chosen.reshape(-1, *(1,) * len(space))

    def product(field: Field) -> Field:
        free = field if mask is None else jnp.where(mask, 0.0, field)
        vector = unstack(jnp.where(chosen, free, 0.0), structure)
        out = stack(operator.mv(vector), space)[index]
        weights = weights_of(grid, out.dtype)
        out = out if weights is None else weights * out
        return out if mask is None else jnp.where(mask, field, out)

    return product


def _num_fields(leaf, space: tuple[int, ...]) -> int:
    return math.prod(leaf.shape[: len(leaf.shape) - len(space)])
