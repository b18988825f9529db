"""Vectors as pytrees of arrays: inner products, norms and updates."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PyTree, Shaped

Vector = PyTree[Any]
# One per column for columns.
RealScalar = Shaped[Array, "..."]


class Columns(eqx.Module):
    """Several vectors at once: every leaf has one more axis at its end.

    Their inner products and norms, and the scalars that they are multiplied with, are
    arrays of one number per column.
    """

    value: Vector


def batch_shape(vector: Vector) -> tuple[int, ...]:
    """The shape of scalars: () for a vector, (k,) for k columns."""
    if not isinstance(vector, Columns):
        return ()
    return jnp.shape(jtu.tree_leaves(vector)[0])[-1:]


def full(vector: Vector, value: Any, dtype: Any) -> Array:
    """A scalar, or one for each column."""
    return jnp.full(batch_shape(vector), value, dtype)


def _spread(scalar: Array, leaf: Array) -> Array:
    """A scalar, or one per column, so that it multiplies a leaf."""
    scalar = jnp.asarray(scalar)
    return scalar.reshape((1,) * (leaf.ndim - scalar.ndim) + scalar.shape)


def _axes(vector: Vector, leaf: Array) -> tuple[int, ...]:
    """The axes that a sum over the entries of a vector takes."""
    return tuple(range(leaf.ndim - len(batch_shape(vector))))


def real_dtype(vector: Vector):
    """The widest real floating-point type among the leaves."""
    leaves = jtu.tree_leaves(vector)
    kinds = [jnp.finfo(jnp.result_type(leaf)).dtype for leaf in leaves]
    return max(kinds, key=lambda d: jnp.finfo(d).bits)


def size(vector: Vector) -> int:
    """Number of scalars (in each column)."""
    total = sum(math.prod(jnp.shape(leaf)) for leaf in jtu.tree_leaves(vector))
    return total // math.prod(batch_shape(vector))


def inner(x: Vector, y: Vector) -> RealScalar:
    """Re ⟨x, y⟩ with x conjugated, as a real scalar of the widest type."""
    dtype = real_dtype(x)
    total = full(x, 0, dtype)
    for a, b in zip(jtu.tree_leaves(x), jtu.tree_leaves(y), strict=True):
        # A sum of products rather than vdot: XLA fuses it with what made a and b, and
        # it never runs at the reduced precision that GPUs use for matrix products.
        part = jnp.real(jnp.conj(a) * b) if jnp.iscomplexobj(a) else a * b
        total = total + jnp.sum(part, axis=_axes(x, part)).astype(dtype)
    return total


def norm(x: Vector) -> RealScalar:
    """The 2-norm over all leaves."""
    return jnp.sqrt(inner(x, x))


def max_abs(x: Vector) -> RealScalar:
    """max |x_i|; NaN if there is one."""
    dtype = real_dtype(x)
    total = full(x, 0, dtype)
    for leaf in jtu.tree_leaves(x):
        if leaf.size:
            largest = jnp.max(jnp.abs(leaf), axis=_axes(x, leaf))
            total = jnp.maximum(total, largest.astype(dtype))
    return total


def axpy(scalar: RealScalar, x: Vector, y: Vector) -> Vector:
    """scalar · x + y, leaf by leaf in each leaf's type."""
    return jtu.tree_map(lambda a, b: _spread(scalar, a).astype(a.dtype) * a + b, x, y)


def scale(scalar: RealScalar, x: Vector) -> Vector:
    """scalar · x."""
    return jtu.tree_map(lambda a: _spread(scalar, a).astype(a.dtype) * a, x)


def subtract(x: Vector, y: Vector) -> Vector:
    """x − y."""
    return jtu.tree_map(jnp.subtract, x, y)


def random_signs(x: Vector) -> Vector:
    """Every entry with a pseudo-random sign, the same at each call."""

    def signed(leaf):
        # A hash of the index; a generator would cost more than an operator product.
        index = jnp.arange(leaf.size, dtype=jnp.uint32).reshape(leaf.shape)
        index = index * jnp.uint32(0x9E3779B1)
        index = (index ^ (index >> 15)) * jnp.uint32(0x85EBCA6B)
        return jnp.where((index >> 16) & 1, leaf, -leaf)

    return jtu.tree_map(signed, x)


def where(condition: Any, x: Vector, y: Vector) -> Vector:
    """x where the condition holds, a scalar or one per column, else y."""
    return jtu.tree_map(lambda a, b: jnp.where(_spread(condition, a), a, b), x, y)


def while_loop(condition, body, initial):
    """`jax.lax.while_loop`; columns stand still once their own condition fails.

    **Arguments:**

    - `condition`: maps the carry to a boolean, or to one for each column.
    - `body`: maps the carry to the next one. Every leaf of the carry of columns ends in
        their axis.
    """

    def frozen(carry):
        live = condition(carry)
        new = body(carry)
        if jnp.ndim(live) == 0:
            return new
        # (While all go on, nothing is read again.)
        return jax.lax.cond(jnp.all(live), lambda: new, lambda: where(live, new, carry))

    return jax.lax.while_loop(lambda c: jnp.any(condition(c)), frozen, initial)


def zeros_like(structure: Vector) -> Vector:
    """The zero vector of a structure of arrays or `jax.ShapeDtypeStruct`s."""
    return jtu.tree_map(lambda s: jnp.zeros(s.shape, s.dtype), structure)


def structure_of(vector: Vector) -> Vector:
    """The `jax.ShapeDtypeStruct`s of a vector."""
    return jax.eval_shape(lambda: vector)
