"""A Fourier neural operator whose parts are kept from amplifying."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from .._serialisation import register
from ..grids import Periodic
from ..grids._boundary import AbstractBoundary, BoundaryPair
from ._depthwise_spectral import DepthwiseSpectralConvolution
from ._sample import check_channels, check_counts, floating, grid_of, numeric_boundary


class BoundedLinear(eqx.Module):
    """Channels ← W/max(1, σ(W)) · channels + b, σ the largest singular value.

    The map is never larger than 1 and is left alone where it is smaller.

    **Arguments:**

    - `in_channels`, `out_channels`: of the map.
    - `use_bias`: whether b, zero at first, is there.
    - `key`: draws W uniformly from ±1/√in_channels.
    """

    weight: Float[Array, "out_channels in_channels"]
    bias: Float[Array, " out_channels"] | None

    def __init__(
        self, in_channels: int, out_channels: int, use_bias: bool, *, key: PRNGKeyArray
    ):
        limit = 1 / math.sqrt(in_channels)
        shape = (out_channels, in_channels)
        self.weight = jr.uniform(key, shape, minval=-limit, maxval=limit)
        self.bias = jnp.zeros(out_channels) if use_bias else None

    def __call__(
        self, u: Float[Array, "in_channels *space"]
    ) -> Float[Array, "out_channels *space"]:
        """The map at each node."""
        weight = self.weight.astype(u.dtype)
        weight = weight / jnp.maximum(1, jnp.linalg.norm(weight, 2))
        v = jnp.tensordot(weight, u, 1)
        if self.bias is None:
            return v
        return v + self.bias.astype(u.dtype).reshape(-1, *(1,) * (u.ndim - 1))


class StableLayer(eqx.Module):
    """u ← u + K V silu(U u + b)."""

    widening: BoundedLinear
    narrowing: BoundedLinear
    spectral: DepthwiseSpectralConvolution

    def __call__(self, u: Float[Array, "..."]) -> Float[Array, "..."]:
        """The layer's output."""
        return u + self.spectral(self.narrowing(jax.nn.silu(self.widening(u))))


@register
class StableFNO(eqx.Module):
    """A neural operator for time steps that is slow to amplify errors.

        u₀ = √(width/in) E x
        u_k = u_{k−1} + K_k V_k silu(U_k u_{k−1} + b_k),  k = 1 … depth
        output = √(in/width) D u_depth

    with depthwise spectral convolutions K_k, whose gains are below 1 and which cut at a
    ball of frequencies (`DepthwiseSpectralConvolution`), and pointwise E, V_k, U_k (to
    4 · width channels) and D that are divided by their largest singular value where
    that exceeds 1: soft bounds, which leave smaller maps alone. Stored Dirichlet nodes
    are set to the boundary's value.

    A layer can still double its input: rollouts are not bounded by construction. Where
    they have to be, wrap this, or any other model, in `BoundedStep`.

    **Arguments:**

    - `ndim`: number of axes, 1 to 3.
    - `in_channels`, `out_channels`: channels of the input and of the output.
    - `width`: channels of the layers. Default 64 (the source: 128).
    - `depth`: number of layers. Default 4.
    - `num_modes`: frequencies per axis, see `SpectralConvolution`; default 16. They
        cost a number per channel each, so that most of a grid's can be had.
    - `boundary`: see `FNO`. Default `Periodic()`; spectral convolutions continue their
        input periodically, whatever it is.
    - `key`: draws the parameters.

    **Raises:** `ValueError` for arguments out of range, a grid with fewer modes than
    asked for, and another number of channels or axes than asked for.

    !!! example

        ```python
        model = sciml.neural_operators.StableFNO(1, 1, 1, width=16, key=jr.key(0))
        model(jnp.ones((1, 64))).shape  # (1, 64)
        ```

    Source: McCabe, Harrington, Subramanian and Brown, *Towards Stability of
    Autoregressive Neural Operators*, TMLR 2023, the network for Navier–Stokes.
    """

    encoder: BoundedLinear
    layers: tuple[StableLayer, ...]
    decoder: BoundedLinear
    ndim: int = eqx.field(static=True)
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    depth: int = eqx.field(static=True)
    num_modes: int = eqx.field(static=True)
    boundary: tuple[BoundaryPair, ...] = eqx.field(static=True)

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        out_channels: int,
        width: int = 64,
        depth: int = 4,
        num_modes: int = 16,
        boundary: AbstractBoundary | Sequence = Periodic(),  # noqa: B008
        *,
        key: PRNGKeyArray,
    ):
        check_counts(
            in_channels=in_channels,
            out_channels=out_channels,
            width=width,
            depth=depth,
            num_modes=num_modes,
        )
        self.ndim = ndim
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.width = width
        self.depth = depth
        self.num_modes = num_modes
        self.boundary = numeric_boundary(boundary, ndim)
        encoder_key, decoder_key, *layer_keys = jr.split(key, depth + 2)
        self.encoder = BoundedLinear(in_channels, width, False, key=encoder_key)
        self.decoder = BoundedLinear(width, out_channels, False, key=decoder_key)
        layers = []
        for layer_key in layer_keys:
            wide_key, narrow_key, spectral_key = jr.split(layer_key, 3)
            layers.append(
                StableLayer(
                    BoundedLinear(width, 4 * width, True, key=wide_key),
                    BoundedLinear(4 * width, width, False, key=narrow_key),
                    DepthwiseSpectralConvolution(
                        ndim, width, num_modes, key=spectral_key
                    ),
                )
            )
        self.layers = tuple(layers)

    def __call__(
        self, x: Shaped[Array | np.ndarray, "in_channels *space"]
    ) -> Float[Array, "out_channels *space"]:
        """The output field of one input field.

        **Arguments:**

        - `x`: shape `(in_channels, *space)`.
        """
        x = floating(x)
        check_channels(x, self.ndim, self.in_channels)
        scale = math.sqrt(self.width / self.in_channels)
        u = scale * self.encoder(x)
        for layer in self.layers:
            u = layer(u)
        y = self.decoder(u) / scale
        return grid_of(y.shape[1:], self.boundary).impose(y)
