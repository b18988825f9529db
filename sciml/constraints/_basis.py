"""Fields that are linear in weights, and what a residual needs of them."""

import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, PyTree

_RIDGES = {"float64": 1e-6, "float32": 1e-2}
_SINGLE = (
    "HardConstraint: double precision is not enabled in JAX, so the equations of the "
    "weights are solved in single precision: derivatives carry two or three digits at "
    "most, and the ridge is larger. Enable it by "
    "jax.config.update('jax_enable_x64', True); networks may stay in float32."
)


class Expansion(eqx.Module):
    """u = offset + Σ_n ω_n basis_n and its terms, in the precision of the solve.

    - `basis`, `terms`: leaves `(n, *shape)`; `offset`, `offset_terms` without n.
    - `shape`: of the grid.
    """

    basis: PyTree[Array]
    offset: PyTree[Array] | None
    terms: PyTree[Array]
    offset_terms: PyTree[Array] | None
    shape: tuple[int, ...] = eqx.field(static=True)
    count: int = eqx.field(static=True)
    dtype: Any = eqx.field(static=True)

    @property
    def solve_dtype(self) -> Any:
        """The precision of weights and rows."""
        return jtu.tree_leaves(self.terms)[0].dtype

    def value(self, weights: Float[Array, " n"]) -> PyTree[Array]:
        """u, in the basis' own precision."""
        combined = lambda leaf: jnp.tensordot(weights, leaf, 1)
        total = jtu.tree_map(combined, self.basis)
        if self.offset is not None:
            total = jtu.tree_map(jnp.add, total, self.offset)
        return jtu.tree_map(lambda leaf: leaf.astype(self.dtype), total)

    def pick(
        self, choose: Callable[[Array], Array], parameters: PyTree
    ) -> tuple[PyTree[Array], PyTree[Array] | None, PyTree]:
        """Terms, offset's terms and parameters at some nodes.

        **Arguments:** `choose` takes a field of the grid's shape to those nodes.
        """
        for leaf in jtu.tree_leaves(self.terms):
            if leaf.shape[1:] != self.shape:
                raise ValueError(
                    "terms: to be taken at some nodes of the grid they need its shape "
                    f"{self.shape}, got {leaf.shape[1:]}. Leave out num_points, sides "
                    "and partitions, or give terms at all nodes."
                )
        terms = jtu.tree_map(jax.vmap(choose), self.terms)
        offset = None
        if self.offset_terms is not None:
            offset = jtu.tree_map(choose, self.offset_terms)
        at_nodes = lambda leaf: choose(leaf) if jnp.shape(leaf) == self.shape else leaf
        return terms, offset, jtu.tree_map(at_nodes, parameters)

    def between(self, low: int, high: int) -> "Expansion":
        """The same on some nodes of the last axis."""
        self.pick(lambda field: field, None)
        cut = lambda tree: jtu.tree_map(lambda leaf: leaf[..., low:high], tree)
        return Expansion(
            cut(self.basis),
            cut(self.offset),
            cut(self.terms),
            cut(self.offset_terms),
            (*self.shape[:-1], high - low),
            self.count,
            self.dtype,
        )


def expansion(
    basis: PyTree[Array],
    offset: PyTree[Array] | None,
    terms: Callable[[Any], Any] | None,
) -> Expansion:
    """The terms of each basis field.

    **Raises:** `ValueError` for shapes and types that do not fit.
    """
    leaves = [jnp.asarray(leaf) for leaf in jtu.tree_leaves(basis)]
    if not leaves:
        raise ValueError("basis: expected at least one array, got none.")
    for leaf in leaves:
        if leaf.ndim < 2 or leaf.shape[0] != leaves[0].shape[0] or leaf.size == 0:
            raise ValueError(
                "basis: expected fields with one first axis for the basis functions, "
                f"got shapes {', '.join(str(x.shape) for x in leaves)}."
            )
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(f"basis: expected real numbers, got {leaf.dtype}.")
    dtype = jnp.result_type(*leaves)
    wide = jnp.result_type(float)
    if wide == jnp.float32:
        warnings.warn(_SINGLE, stacklevel=4)
    basis = in_precision(basis, wide)
    if offset is not None:
        offset = in_precision(offset, wide)
        expected = jtu.tree_map(lambda leaf: leaf.shape[1:], basis)
        found = jtu.tree_map(jnp.shape, offset)
        if expected != found:
            raise ValueError(
                f"offset: expected a field like those of the basis, {expected}, got "
                f"{found}."
            )
    of_field = (lambda field: field) if terms is None else terms
    return Expansion(
        basis,
        offset,
        jax.vmap(of_field)(basis),
        None if offset is None else of_field(offset),
        leaves[0].shape[1:],
        leaves[0].shape[0],
        dtype,
    )


def in_precision(tree: PyTree, dtype: Any) -> PyTree:
    """The real arrays and numbers of a tree in this type, all else as it is."""
    arrays = (jax.Array, np.ndarray, np.floating)
    real = lambda x: (
        isinstance(x, float)
        or (isinstance(x, arrays) and jnp.issubdtype(x.dtype, jnp.floating))
    )
    return jtu.tree_map(lambda x: jnp.asarray(x, dtype) if real(x) else x, tree)


def checked_ridge(ridge: float | None, dtype: Any) -> Float[Array, ""]:
    """The ridge for a precision.

    **Raises:** `ValueError` for one whose square is rounding.
    """
    least = float(jnp.finfo(dtype).eps) ** 0.5
    if ridge is None:
        ridge = _RIDGES[jnp.dtype(dtype).name]
    if ridge < least:
        raise ValueError(
            f"ridge: {ridge:.2g} is below {least:.2g}, the root of the rounding error "
            f"of {jnp.dtype(dtype).name}: derivatives would be rounding. Take a larger "
            "one, or enable double precision."
        )
    return jnp.asarray(ridge, dtype)
