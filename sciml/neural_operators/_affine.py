"""Affine maps between vectors of features, and the activations between them."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._serialisation import register
from ..grids._convolution import uniform


class Affine(eqx.Module):
    """y = W x + b along the last axis; parameters follow the dtype of x.

    W (shape `(out_size, in_size)`) and b are drawn uniformly from ±1/√in_size,
    PyTorch's default.
    """

    weight: Float[Array, "out_size in_size"]
    bias: Float[Array, " out_size"]

    def __init__(self, in_size: int, out_size: int, *, key: PRNGKeyArray):
        weight_key, bias_key = jr.split(key)
        limit = 1 / math.sqrt(in_size)
        self.weight = uniform(weight_key, (out_size, in_size), limit)
        self.bias = uniform(bias_key, (out_size,), limit)

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """W x + b."""
        y = x @ self.weight.T.astype(x.dtype)
        return y + self.bias.astype(x.dtype).reshape((1,) * (y.ndim - 1) + (-1,))


@register
class TanhSin(eqx.Module):
    """x ↦ tanh(sin(π (x + 1))) + x: oscillates about the identity.

    For the trunk of `MultiONet`, whose inputs are coordinates.

    Source: Zang & Koutsourelakis, *DGenNO*, J. Comput. Phys. 538 (2025) 114137, the
    accompanying code.
    """

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The activation at each entry."""
        return jnp.tanh(jnp.sin(math.pi * (x + 1))) + x


@register
class SiLUSin(eqx.Module):
    """x ↦ silu(sin(π (x + 1))) + x: as `TanhSin`, less symmetric.

    Source: as for `TanhSin`, for coefficients of two phases.
    """

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The activation at each entry."""
        return jax.nn.silu(jnp.sin(math.pi * (x + 1))) + x


@register
class SiLUIdentity(eqx.Module):
    """x ↦ silu(x) + x: slope 1/2 and more almost everywhere, for deep branches.

    Source: as for `TanhSin`.
    """

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The activation at each entry."""
        return jax.nn.silu(x) + x
