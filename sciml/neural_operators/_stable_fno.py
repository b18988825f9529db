"""A Fourier neural operator that cannot blow up, however long it is rolled out."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from .._serialisation import register
from ..grids import Periodic
from ..grids._boundary import AbstractBoundary, BoundaryPair
from ._modes import check_modes, embedded_modes, hermitian, low_modes, modes_shape
from ._sample import check_channels, check_counts, floating, grid_of, numeric_boundary


class DepthwiseSpectralConvolution(eqx.Module):
    """A linear map that turns and shrinks each low frequency of each channel:

        û_c(k) = σ(m_c(k)) e^{iφ_c(k)} f̂_c(k) for |k| < num_modes, and 0 beyond

    with the logistic function σ, so that every gain is below 1: ‖u‖ < ‖f‖ whatever the
    parameters are. The cutoff is a ball and not a box, so that no direction of the grid
    is preferred. Channels do not mix here; with one number per channel and frequency
    instead of a matrix all frequencies can be afforded.

    **Arguments:**

    - `ndim`: number of axes, 1 to 3.
    - `channels`: channels of f and u.
    - `num_modes`: frequencies per axis, see `SpectralConvolution`.
    - `key`: draws m and φ (shape `(2, channels, *modes)`) from N(0, 1), as the source
        does.

    **Raises:** `ValueError` if an axis has fewer than 2 num_modes − 1 nodes.

    !!! example

        ```python
        spectral = DepthwiseSpectralConvolution(2, 3, num_modes=8, key=jr.key(0))
        spectral(jnp.ones((3, 32, 48))).shape  # (3, 32, 48)
        ```

    Source: McCabe, Harrington, Subramanian and Brown, *Towards Stability of
    Autoregressive Neural Operators*, TMLR 2023.
    """

    weight: Float[Array, "2 channels *modes"]
    ndim: int = eqx.field(static=True)
    num_modes: int = eqx.field(static=True)

    def __init__(self, ndim: int, channels: int, num_modes: int, *, key: PRNGKeyArray):
        self.weight = jr.normal(key, (2, channels, *modes_shape(ndim, num_modes)))
        self.ndim = ndim
        self.num_modes = num_modes

    def __call__(
        self, f: Float[Array, "channels *space"]
    ) -> Float[Array, "channels *space"]:
        """The map applied to one field."""
        space = f.shape[1:]
        check_modes(space, self.num_modes)
        axes = tuple(range(1, self.ndim + 1))
        transform = jnp.fft.rfftn(f, axes=axes, norm="forward")
        magnitude, phase = self.weight.astype(f.dtype)
        inside = jnp.asarray(self._inside(), f.dtype)[None]
        gain = jax.nn.sigmoid(magnitude) * inside
        weight = lax.complex(gain * jnp.cos(phase), gain * jnp.sin(phase))
        low = hermitian(weight, 1) * low_modes(transform, self.num_modes)
        low = embedded_modes(low, space, self.num_modes)
        return jnp.fft.irfftn(low, space, axes=axes, norm="forward")

    def _inside(self) -> np.ndarray:
        """Where |k| < num_modes, among the frequencies that are kept."""
        full, half = (
            np.arange(1 - self.num_modes, self.num_modes),
            np.arange(self.num_modes),
        )
        squares = np.meshgrid(*[full**2] * (self.ndim - 1), half**2, indexing="ij")
        return np.sum(squares, axis=0) < self.num_modes**2


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
    """u ← (1 − g) K V gelu(U u + b) + g u with a gate g in (0, 1)."""

    widening: BoundedLinear
    narrowing: BoundedLinear
    spectral: DepthwiseSpectralConvolution
    gate: Float[Array, ""]

    def __call__(self, u: Float[Array, "..."]) -> Float[Array, "..."]:
        """The layer's output."""
        g = jax.nn.sigmoid(self.gate).astype(u.dtype)
        v = self.narrowing(jax.nn.gelu(self.widening(u), approximate=True))
        return (1 - g) * self.spectral(v) + g * u


@register
class StableFNO(eqx.Module):
    """A neural operator for time steps whose rollouts are bounded by construction.

        u₀ = √(width/in) E x
        u_k = (1 − g_k) K_k V_k gelu(U_k u_{k−1} + b_k) + g_k u_{k−1},  k = 1 … depth
        output = rate · ((1 − g) √(in/width) D u_depth + g · (last channels of x))

    with depthwise spectral convolutions K_k (`DepthwiseSpectralConvolution`), pointwise
    E, V_k, U_k (to 4 · width channels), D that are divided by their largest singular
    value where that exceeds 1, and gates g, g_k in (0, 1). Since |gelu(v)| ≤ |v|, every
    part shrinks its input, up to the biases b_k. Hence for every value of the
    parameters, in exact arithmetic and with as many channels out as in,

        ‖output‖ ≤ rate · ‖x‖ + offset,  rate < 1            (`growth_offset`)

    in the root mean square over the nodes, and a rollout of any length stays within
    ‖u‖ ≤ max(‖x‖, offset/(1 − rate)): the dissipative systems that it is meant for
    (Kuramoto–Sivashinsky, Kolmogorov flow) have such a ball, too. Within it the model
    can be as wrong as any; measure it.

    The reference has gains below 1 and bounded matrices as well, but adds its blocks to
    the identity, which can grow; the gates are those of its model for the sphere, and
    the rate is new.

    **Arguments:**

    - `ndim`: number of axes, 1 to 3.
    - `in_channels`, `out_channels`: as for `MgNOStepper`.
    - `width`: channels of the layers. Default 64.
    - `depth`: number of layers. Default 4.
    - `num_modes`: frequencies per axis, see `SpectralConvolution`; default 16.
    - `boundary`: see `FNO`. Default `Periodic()`; spectral convolutions continue their
        input periodically, whatever it is.
    - `rate`: in (0, 1), by how much a state far outside of the ball shrinks per step.
        Default 0.99.
    - `key`: draws the parameters.

    **Raises:** `ValueError` for arguments out of range, a grid with fewer modes than
    asked for, and another number of channels or axes than asked for.

    !!! example

        ```python
        model = sciml.neural_operators.StableFNO(1, 1, 1, width=16, key=jr.key(0))
        radius = model.growth_offset() / (1 - model.rate)
        ```

    Source: McCabe, Harrington, Subramanian and Brown, *Towards Stability of
    Autoregressive Neural Operators*, TMLR 2023.
    """

    encoder: BoundedLinear
    layers: tuple[StableLayer, ...]
    decoder: BoundedLinear
    gate: Float[Array, ""]
    ndim: int = eqx.field(static=True)
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    depth: int = eqx.field(static=True)
    num_modes: int = eqx.field(static=True)
    boundary: tuple[BoundaryPair, ...] = eqx.field(static=True)
    rate: float = eqx.field(static=True)

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        out_channels: int,
        width: int = 64,
        depth: int = 4,
        num_modes: int = 16,
        boundary: AbstractBoundary | Sequence = Periodic(),  # noqa: B008
        rate: float = 0.99,
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
        if not 0 < rate < 1:
            raise ValueError(f"rate: expected a number between 0 and 1, got {rate}.")
        if out_channels > in_channels:
            raise ValueError(
                f"out_channels: the output is mixed with the last {out_channels} "
                f"channels of the input, which has {in_channels}."
            )
        self.ndim = ndim
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.width = width
        self.depth = depth
        self.num_modes = num_modes
        self.boundary = numeric_boundary(boundary, ndim)
        self.rate = float(rate)
        encoder_key, decoder_key, *layer_keys = jr.split(key, depth + 2)
        self.encoder = BoundedLinear(in_channels, width, False, key=encoder_key)
        self.decoder = BoundedLinear(width, out_channels, False, key=decoder_key)
        self.gate = jnp.zeros(())
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
                    jnp.zeros(()),
                )
            )
        self.layers = tuple(layers)

    def __call__(
        self, x: Shaped[Array | np.ndarray, "in_channels *space"]
    ) -> Float[Array, "out_channels *space"]:
        """The next state of one input field.

        **Arguments:**

        - `x`: shape `(in_channels, *space)`.
        """
        x = floating(x)
        check_channels(x, self.ndim, self.in_channels)
        scale = math.sqrt(self.width / self.in_channels)
        u = scale * self.encoder(x)
        for layer in self.layers:
            u = layer(u)
        state = x[self.in_channels - self.out_channels :]
        g = jax.nn.sigmoid(self.gate).astype(x.dtype)
        y = self.rate * ((1 - g) / scale * self.decoder(u) + g * state)
        return grid_of(y.shape[1:], self.boundary).impose(y)

    def growth_offset(self) -> Float[Array, ""]:
        """The offset for which ‖output‖ ≤ rate · ‖x‖ + offset.

        ‖x‖² is the mean over the nodes of the sum over the channels of x². Values that
        are imposed at Dirichlet nodes are not counted.
        """
        offset = jnp.zeros(())
        for layer in self.layers:
            bias = jnp.linalg.norm(layer.widening.bias)  # pyright: ignore[reportArgumentType]
            offset = offset + (1 - jax.nn.sigmoid(layer.gate)) * bias
        scale = math.sqrt(self.width / self.in_channels)
        return self.rate * (1 - jax.nn.sigmoid(self.gate)) * offset / scale
