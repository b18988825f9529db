"""Vectors as pytrees of arrays: inner products, norms and updates."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PyTree, Shaped

Vector = PyTree[Any]
RealScalar = Shaped[Array, ""]


def real_dtype(vector: Vector):
    """The widest real floating-point type among the leaves."""
    leaves = jtu.tree_leaves(vector)
    kinds = [jnp.finfo(jnp.result_type(leaf)).dtype for leaf in leaves]
    return max(kinds, key=lambda d: jnp.finfo(d).bits)


def size(vector: Vector) -> int:
    """Number of scalars."""
    return sum(math.prod(jnp.shape(leaf)) for leaf in jtu.tree_leaves(vector))


def inner(x: Vector, y: Vector) -> RealScalar:
    """Re ⟨x, y⟩ with x conjugated, as a real scalar of the widest type."""
    dtype = real_dtype(x)
    total = jnp.zeros((), dtype)
    for a, b in zip(jtu.tree_leaves(x), jtu.tree_leaves(y), strict=True):
        # A sum of products rather than vdot: XLA fuses it with what made a and b, and
        # it never runs at the reduced precision that GPUs use for matrix products.
        part = jnp.real(jnp.conj(a) * b) if jnp.iscomplexobj(a) else a * b
        total = total + jnp.sum(part).astype(dtype)
    return total


def norm(x: Vector) -> RealScalar:
    """The 2-norm over all leaves."""
    return jnp.sqrt(inner(x, x))


def max_abs(x: Vector) -> RealScalar:
    """max |x_i|; NaN if there is one."""
    dtype = real_dtype(x)
    total = jnp.zeros((), dtype)
    for leaf in jtu.tree_leaves(x):
        if leaf.size:
            total = jnp.maximum(total, jnp.max(jnp.abs(leaf)).astype(dtype))
    return total


def axpy(scalar: RealScalar, x: Vector, y: Vector) -> Vector:
    """scalar · x + y, leaf by leaf in each leaf's type."""
    return jtu.tree_map(lambda a, b: scalar.astype(a.dtype) * a + b, x, y)


def scale(scalar: RealScalar, x: Vector) -> Vector:
    """scalar · x."""
    return jtu.tree_map(lambda a: scalar.astype(a.dtype) * a, x)


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
    """x where the scalar condition holds, else y."""
    return jtu.tree_map(lambda a, b: jnp.where(condition, a, b), x, y)


def zeros_like(structure: Vector) -> Vector:
    """The zero vector of a structure of arrays or `jax.ShapeDtypeStruct`s."""
    return jtu.tree_map(lambda s: jnp.zeros(s.shape, s.dtype), structure)


def structure_of(vector: Vector) -> Vector:
    """The `jax.ShapeDtypeStruct`s of a vector."""
    return jax.eval_shape(lambda: vector)
