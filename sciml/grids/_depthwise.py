"""A convolution that keeps channels apart, and knows the sides of the grid."""

import itertools
import math
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from ._boundary import AbstractBoundary, BoundaryPair, Dirichlet
from ._convolution import (
    check_input,
    check_kernel,
    check_sizes,
    continued,
    kinds,
    uniform,
)

Given = Shaped[Array, "in_channels *nodes"]
GivenLast = Shaped[Array, "*nodes in_channels"]
Result = Float[Array, "out_channels *nodes"]
ResultLast = Float[Array, "*nodes out_channels"]


class DepthwiseConvolution(eqx.Module):
    """A convolution in which each channel of the output sees one of the input.

        out[m i + k, J] = Σ_t weight[m i + k, t] · in[i, J + t − reach],  k = 0 … m − 1

    with m = `multiplier` and per axis t = 0 … kernel_size − 1, reach =
    (kernel_size − 1)/2. Beyond a side the input is continued as in `Convolution`.
    Linear in the input; channels are not mixed.

    **Arguments:**

    - `ndim`: number of axes, 1 to 3.
    - `in_channels`: channels of the input.
    - `multiplier`: m, channels of the output per channel of the input. Default 1.
    - `kernel_size`: odd; the same along every axis. Default 3.
    - `boundary`: as in `Convolution`.
    - `key`: draws weight (shape `(m · in_channels, *kernel)`) uniformly from
        ±kernel_size^(−ndim/2).

    **Raises:** `ValueError` as `Convolution`.

    !!! example

        ```python
        blur = DepthwiseConvolution(2, 3, multiplier=2, kernel_size=5, key=jr.key(0))
        blur(jnp.ones((3, 32, 48))).shape  # (6, 32, 48)
        ```
    """

    weight: Float[Array, "out_channels *kernel"]
    ndim: int = eqx.field(static=True)
    in_channels: int = eqx.field(static=True)
    multiplier: int = eqx.field(static=True)
    kernel_size: int = eqx.field(static=True)
    boundary: tuple[BoundaryPair, ...] = eqx.field(static=True)

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        multiplier: int = 1,
        kernel_size: int = 3,
        boundary: AbstractBoundary | Sequence = Dirichlet(),
        *,
        key: PRNGKeyArray,
    ):
        check_sizes(ndim, in_channels, 1)
        check_kernel(kernel_size)
        if multiplier < 1:
            raise ValueError(f"multiplier: expected at least 1, got {multiplier}.")
        limit = 1 / math.sqrt(kernel_size**ndim)
        shape = (multiplier * in_channels, *(kernel_size,) * ndim)
        self.weight = uniform(key, shape, limit)
        self.ndim = ndim
        self.in_channels = in_channels
        self.multiplier = multiplier
        self.kernel_size = kernel_size
        self.boundary = kinds(boundary, ndim)

    def __call__(self, x: Given) -> Result:
        """The convolution of a field whose channels come first."""
        check_input(x, self.ndim, self.in_channels, channel_axis=0)
        return jnp.moveaxis(self.channels_last(jnp.moveaxis(x, 0, -1)), -1, 0)

    def channels_last(self, x: GivenLast) -> ResultLast:
        """The same for an array whose channels come last."""
        check_input(x, self.ndim, self.in_channels, channel_axis=-1)
        space, reach = x.shape[:-1], self.kernel_size // 2
        widths = [(reach, reach)] * self.ndim
        mirrors = [("reflect", "reflect")] * self.ndim
        padded = continued(x, self.boundary, widths, mirrors)
        padded = jnp.repeat(padded, self.multiplier, axis=-1)
        weight = self.weight.astype(x.dtype)
        # Shifted and added: the gradient of XLA's grouped convolutions takes fifty
        # times as long on CPUs.
        total = jnp.zeros((*space, weight.shape[0]), x.dtype)
        for place in itertools.product(range(self.kernel_size), repeat=self.ndim):
            stop = [t + n for t, n in zip(place, space, strict=True)]
            shifted = lax.slice(padded, (*place, 0), (*stop, weight.shape[0]))
            column = weight[(slice(None), *place)]
            total = total + shifted * column.reshape((1,) * self.ndim + (-1,))
        return total
