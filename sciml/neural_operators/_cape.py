"""CAPE: a time-stepping model that is told the parameters of the equation."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from .._serialisation import register
from ..grids._boundary import BoundaryPair
from ..grids._convolution import Convolution
from ..grids._depthwise import DepthwiseConvolution
from ._affine import Affine
from ._fno import SpectralConvolution
from ._normalisation import SpaceNormalisation, Standardised
from ._sample import check_channels, check_counts, floating, grid_of

Field = Float[Array, "channels *space"]


class AbstractUpdate(eqx.Module):
    """How CAPE makes its estimate û of the next state from u and the correction w."""

    @abc.abstractmethod
    def __call__(self, u: Field, w: Field) -> Field:
        """û."""


@register
class AdditiveUpdate(AbstractUpdate):
    """û = u + w."""

    def __call__(self, u: Field, w: Field) -> Field:
        """u + w."""
        return u + w


@register
class MultiplicativeUpdate(AbstractUpdate):
    """û = u (1 + w): zero stays zero."""

    def __call__(self, u: Field, w: Field) -> Field:
        """u (1 + w)."""
        return u * (1 + w)


class Attention(eqx.Module):
    """From the parameters λ to one weight per channel: W₂ gelu(W₁ λ + b₁) + b₂."""

    first: Affine
    second: Affine

    def __call__(self, parameters: Float[Array, " p"]) -> Float[Array, " width"]:
        """The weights; neither bounded nor normalised."""
        return self.second(jax.nn.gelu(self.first(parameters), approximate=True))


class Correction(eqx.Module):
    """w: three ways to look around, weighed by the parameters, and one that is not."""

    lifting: Convolution
    spectral: SpectralConvolution
    pointwise: Convolution
    depthwise: DepthwiseConvolution
    unattended: Convolution
    attention: tuple[Attention, Attention, Attention]
    projection: Convolution
    normalise: Standardised

    def __call__(self, u: Field, parameters: Float[Array, " p"]) -> Field:
        """The correction, of mean 0 and variance 1 to begin with."""
        gelu = lambda v: jax.nn.gelu(v, approximate=True)
        y = gelu(self.lifting.channels_last(jnp.moveaxis(u, 0, -1)))
        seen = (
            jnp.moveaxis(self.spectral(jnp.moveaxis(y, -1, 0)), 0, -1),
            self.pointwise.channels_last(y),
            self.depthwise.channels_last(y),
        )
        z = self.unattended.channels_last(y)
        for features, attention in zip(seen, self.attention, strict=True):
            weights = attention(parameters)
            z = z + features * weights.reshape((1,) * (z.ndim - 1) + (-1,))
        w = self.normalise(self.projection.channels_last(gelu(z)))
        return jnp.moveaxis(w, -1, 0)


@register
class CAPE(eqx.Module):
    """Channel attention by the equation's parameters, around any time-stepping model.

    For states u with C channels, the parameters λ of the equation, and d = `width`:

        y = gelu(C₅ u)                                              d/2 channels
        z = m₁(λ) K y + m₂(λ) P y + m₃(λ) D y + Q y                 d channels
        w = N(R gelu(z))                                            C channels
        û = u + w   or   û = u (1 + w)                              slot `update`
        output = E base(u, û), then stored Dirichlet nodes set to their value

    Here C₅ is a convolution, D a depthwise one (`kernel_size` nodes per axis), K a
    spectral convolution, P, Q, R and E are pointwise, and m_i are three networks
    λ → d/2 → d whose outputs multiply the channels. û is an estimate of the next state,
    which a loss may ask to be one (`sciml.training.Curriculum`): that is what makes λ
    count; `with_intermediate` returns it beside the output.

    A sample is (u, λ): the last `num_parameters` channels of the input hold λ, each
    constant in space (its mean over the nodes is taken). `sciml.neural_operators.
    Rollout` and the losses for rollouts hand them on from step to step. Parameters of
    the model follow the dtype of the input; it maps one sample.

    What differs from the paper's code, so that grids of every size and any boundary
    will do: convolutions know the sides of the grid; N standardises each channel over
    the nodes with one scale and one offset (`SpaceNormalisation`), where a LayerNorm
    over the grid has them per node; K acts on the grid itself and not on means over
    blocks of four nodes per axis, which is what it kept of its low frequencies anyway.
    K continues periodically, as in `FNO`.

    **Arguments:**

    - `base`: a model with 2 C channels in, with `ndim`, `in_channels`, `out_channels`
        and `boundary`, such as `FNO(1, 2, 2, key=key)` for one field; `MgNO`, `UNet`.
    - `num_parameters`: length of λ.
    - `width`: d, even. Default 64.
    - `num_modes`: of K, frequencies 0 … num_modes − 1 of either sign. Default 9, the
        paper's in 2-D (in 1-D it has 16); needs 17 nodes per axis.
    - `kernel_size`: of C₅ and D. Default 5.
    - `out_channels`: default C.
    - `update`: default `AdditiveUpdate()` in 1-D, else `MultiplicativeUpdate()`, as in
        the paper.
    - `squash`: applied to λ before anything. Default `jax.nn.soft_sign`, λ/(1 + |λ|),
        which is the paper's σ(log λ) in 2-D and keeps large values in bounds;
        `jax.nn.identity` is the paper's choice in 1-D. Give values that spread over
        decades by their logarithm.
    - `key`: draws the parameters.

    **Raises:** `ValueError` for arguments out of range, a base that lacks what is
    needed of it, and another number of channels or axes than asked for.

    !!! example

        ```python
        base = FNO(1, 2, 2, width=8, num_modes=5, key=jr.key(0))
        model = CAPE(base, num_parameters=1, width=8, num_modes=5, key=jr.key(1))
        u, speed = jnp.ones((1, 32)), jnp.full((1, 32), 0.4)
        model(jnp.concatenate([u, speed])).shape  # (1, 32)
        ```

    Source: Takamoto, Alesiani & Niepert, *Learning Neural PDE Solvers with
    Parameter-Guided Channel Attention*, ICML 2023.
    """

    base: Any
    correction: Correction
    mixing: Convolution
    num_parameters: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    num_modes: int = eqx.field(static=True)
    kernel_size: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    update: AbstractUpdate = eqx.field(static=True)
    squash: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        base: Any,
        num_parameters: int,
        width: int = 64,
        num_modes: int = 9,
        kernel_size: int = 5,
        out_channels: int | None = None,
        update: AbstractUpdate | None = None,
        squash: Callable[[Array], Array] = jax.nn.soft_sign,
        *,
        key: PRNGKeyArray,
    ):
        check_counts(num_parameters=num_parameters, width=width, num_modes=num_modes)
        if width % 2:
            raise ValueError(f"width: expected an even number, got {width}.")
        wanted = ("ndim", "in_channels", "out_channels", "boundary")
        missing = [name for name in wanted if not hasattr(base, name)]
        if missing or base.in_channels % 2:
            got = f"one without {', '.join(missing)}" if missing else (
                f"in_channels={base.in_channels}"
            )  # fmt: skip
            raise ValueError(
                "base: expected a model such as FNO, MgNO or UNet with twice the "
                f"channels of the state, which sees (u, û), got {got}."
            )
        ndim, boundary = base.ndim, base.boundary
        channels, half = base.in_channels // 2, width // 2
        self.base = base
        self.num_parameters = num_parameters
        self.width = width
        self.num_modes = num_modes
        self.kernel_size = kernel_size
        self.out_channels = channels if out_channels is None else out_channels
        if update is None:
            update = AdditiveUpdate() if ndim == 1 else MultiplicativeUpdate()
        self.update = update
        self.squash = squash
        keys = jr.split(key, 10)

        def pointwise(in_channels, out_channels, key):
            return Convolution(
                ndim, in_channels, out_channels, 1, use_bias=True, key=key
            )

        def attention(key):
            first, second = jr.split(key)
            return Attention(
                Affine(num_parameters, half, key=first), Affine(half, width, key=second)
            )

        self.correction = Correction(
            Convolution(ndim, channels, half, kernel_size, 1, boundary, key=keys[0]),
            SpectralConvolution(ndim, half, width, num_modes, key=keys[1]),
            pointwise(half, width, keys[2]),
            DepthwiseConvolution(ndim, half, 2, kernel_size, boundary, key=keys[3]),
            pointwise(half, width, keys[4]),
            (attention(keys[5]), attention(keys[6]), attention(keys[7])),
            pointwise(width, channels, keys[8]),
            SpaceNormalisation().build(channels),
        )
        self.mixing = pointwise(base.out_channels, self.out_channels, keys[9])

    @property
    def ndim(self) -> int:
        """Number of axes, the base's."""
        return self.base.ndim

    @property
    def in_channels(self) -> int:
        """Channels of the input: those of the state, and the parameters."""
        return self.base.in_channels // 2 + self.num_parameters

    @property
    def boundary(self) -> tuple[BoundaryPair, ...]:
        """The base's boundary conditions."""
        return self.base.boundary

    def __call__(
        self, x: Shaped[Array | np.ndarray, "in_channels *space"]
    ) -> Float[Array, "out_channels *space"]:
        """The output field of one sample.

        **Arguments:**

        - `x`: shape `(in_channels, *space)`, the state and after it the parameters.
        """
        return self.with_intermediate(x)[0]

    def with_intermediate(
        self, x: Shaped[Array | np.ndarray, "in_channels *space"]
    ) -> tuple[Field, Field]:
        """The output, and û."""
        x = floating(x)
        check_channels(x, self.ndim, self.in_channels)
        grid = grid_of(x.shape[1:], self.boundary)
        u, tiled = x[: -self.num_parameters], x[-self.num_parameters :]
        parameters = self.squash(jnp.mean(tiled, tuple(range(1, x.ndim))))
        estimate = grid.impose(self.update(u, self.correction(u, parameters)))
        out = self.mixing(self.base(jnp.concatenate([u, estimate])))
        return grid.impose(out), estimate
