"""UNet: an encoder and a decoder of convolutions, joined on every level."""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from .._serialisation import register
from ..grids import Dirichlet
from ..grids._boundary import AbstractBoundary, BoundaryPair
from ..grids._convolution import Convolution, TransposedConvolution
from ._fno import AbstractCoordinates, NoCoordinates
from ._mgno import check_levels
from ._normalisation import AbstractNormalisation, Features, NoNormalisation
from ._sample import check_channels, check_counts, floating, grid_of, numeric_boundary
from ._transferred import Transferred


class Block(eqx.Module):
    """u ← gelu(N(C u + b)) twice, with 3-node convolutions C and normalisations N."""

    convolutions: tuple[Convolution, ...]
    normalisations: tuple[Callable[[Features], Features], ...]

    def __call__(self, u: Float[Array, "..."]) -> Float[Array, "..."]:
        """The block's output, channels last."""
        for convolution, normalise in zip(
            self.convolutions, self.normalisations, strict=True
        ):
            u = jax.nn.gelu(normalise(convolution.channels_last(u)), approximate=True)
        return u


@register
class UNet(eqx.Module):
    """The U-Net: a baseline of plain convolutions that maps fields to fields.

        e_0 = B_0(input, coordinates)
        e_l = B_l(R_l e_{l−1}),              l = 1 … L − 1      on coarser grids
        d_{L−1} = e_{L−1}
        d_l = B′_l(e_l, P_l d_{l+1}),        l = L − 2 … 0
        output = D d_0 + b, then stored Dirichlet nodes set to the boundary's value

    with level 0 the finest. A block B is gelu(N(C u + b)) twice, C being a 3-node
    convolution and N the slot `normalisation`; R_l are 3-node convolutions of stride 2,
    P_l 4-node transposed convolutions, both linear, and D is pointwise. Level l has
    c_l = width · 2^l channels, B′_l sees the 2 c_l of its two inputs.

    The sides are part of the model as they are in `MgNO`: every convolution continues
    its input as the condition on that side says, coarse nodes keep a Dirichlet boundary
    a multiple of their spacing away, grids of every size that have `num_levels` levels
    will do, odd or even, and Dirichlet values are exact in the output. With periodic
    sides and sizes that are multiples of 2^(L−1), shifts by such multiples commute with
    the model. Kernels count in nodes: on another grid it is another map between
    functions, which has to be measured.

    It maps one sample and is batched by `jax.vmap`; parameters follow the dtype of the
    input. With k = 3^ndim, p = 4^ndim and c_{in} the channels of input and coordinates
    their number is, without those of the normalisation,

        k c_{in} c_0 + k Σ_{l≥1} c_{l−1} c_l + Σ_l (k c_l² + 2 c_l)          blocks B
        + k Σ_{l<L−1} c_l² + p Σ_{l<L−1} c_l c_{l+1}                         R and P
        + Σ_{l<L−1} (3 k c_l² + 2 c_l) + (c_0 + 1) out_channels              B′ and D

    **Arguments:**

    - `ndim`: number of axes, 1 to 3.
    - `in_channels`, `out_channels`: channels of the input and of the output.
    - `width`: channels of the finest level, c_0. Default 16; parameters and time grow
        with its square.
    - `num_levels`: L. Default 4; 2-D with 16 channels then has 659,041 parameters for
        one channel in and one out.
    - `boundary`: one condition for all sides, or per axis one condition or a
        (low, high) pair, e.g. `dataset.grid.boundary`; values must be numbers. They
        hold for all output channels. Default `Dirichlet()`.
    - `normalisation`: `NoNormalisation()` (default), `ChannelNormalisation()` or
        `SpaceNormalisation()`, all of which work on every grid. The last one, of which
        image networks have a relative, takes amplitudes away that a PDE's solution
        depends on: on the small Darcy set it made errors larger by a third.
    - `coordinates`: what the model is told of the place of a node. Default
        `NoCoordinates()`; `NodeCoordinates()` for problems that differ from place to
        place.
    - `key`: draws the parameters.

    **Raises:** `ValueError` for arguments out of range, boundary data that are no
    numbers, a grid too small for `num_levels`, and another number of channels or axes
    than asked for.

    !!! example

        ```python
        model = sciml.neural_operators.UNet(
            2, in_channels=1, out_channels=1, width=8, num_levels=3, key=jr.key(0)
        )
        model(jnp.ones((1, 63, 64))).shape  # (1, 63, 64)
        ```

    Source: Ronneberger, Fischer & Brox, *U-Net: Convolutional Networks for Biomedical
    Image Segmentation*, MICCAI 2015, there with pooling for R, without continuation at
    the sides, and with ReLU.
    """

    encoder: tuple[Block, ...]
    restrictions: tuple[Convolution, ...]
    prolongations: tuple[TransposedConvolution, ...]
    decoder: tuple[Block, ...]
    output: Convolution
    ndim: int = eqx.field(static=True)
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    num_levels: int = eqx.field(static=True)
    boundary: tuple[BoundaryPair, ...] = eqx.field(static=True)
    normalisation: AbstractNormalisation = eqx.field(static=True)
    coordinates: AbstractCoordinates = eqx.field(static=True)

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        out_channels: int,
        width: int = 16,
        num_levels: int = 4,
        boundary: AbstractBoundary | Sequence = Dirichlet(),
        normalisation: AbstractNormalisation = NoNormalisation(),  # noqa: B008
        coordinates: AbstractCoordinates = NoCoordinates(),  # noqa: B008
        *,
        key: PRNGKeyArray,
    ):
        check_counts(width=width, num_levels=num_levels)
        self.ndim = ndim
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.width = width
        self.num_levels = num_levels
        self.boundary = numeric_boundary(boundary, ndim)
        self.normalisation = normalisation
        self.coordinates = coordinates

        def convolution(in_channels, out_channels, stride, key):
            biased = stride == 1
            return Convolution(
                ndim, in_channels, out_channels, 3, stride, self.boundary, biased,
                key=key,
            )  # fmt: skip

        def block(in_channels, out_channels, key):
            first_key, second_key = jr.split(key)
            return Block(
                (
                    convolution(in_channels, out_channels, 1, first_key),
                    convolution(out_channels, out_channels, 1, second_key),
                ),
                tuple(normalisation.build(out_channels) for _ in range(2)),
            )

        output_key, *level_keys = jr.split(key, num_levels + 1)
        channels = [width * 2**l for l in range(num_levels)]
        before = in_channels + coordinates.num_channels(ndim)
        encoder, restrictions, prolongations, decoder = [], [], [], []
        for l, level_key in enumerate(level_keys):
            down_key, restrict_key, prolong_key, up_key = jr.split(level_key, 4)
            here = channels[l]
            encoder.append(block(before, here, down_key))
            before = here
            if l == num_levels - 1:
                break
            restrictions.append(convolution(here, here, 2, restrict_key))
            prolongations.append(
                TransposedConvolution(
                    ndim, channels[l + 1], here, self.boundary, key=prolong_key
                )
            )
            decoder.append(block(2 * here, here, up_key))
        self.encoder = tuple(encoder)
        self.restrictions = tuple(restrictions)
        self.prolongations = tuple(prolongations)
        self.decoder = tuple(decoder)
        self.output = Convolution(
            ndim, width, out_channels, 1, use_bias=True, key=output_key
        )

    def __call__(
        self, x: Shaped[Array | np.ndarray, "in_channels *space"]
    ) -> Float[Array, "out_channels *space"]:
        """The output field of one input field.

        **Arguments:**

        - `x`: shape `(in_channels, *space)`.
        """
        x = floating(x)
        check_channels(x, self.ndim, self.in_channels)
        check_levels(x.shape[1:], self.boundary, self.num_levels)
        grid = grid_of(x.shape[1:], self.boundary)
        place = jnp.asarray(self.coordinates(grid), x.dtype)
        u = jnp.moveaxis(jnp.concatenate([x, place]), 0, -1)
        encoded = [self.encoder[0](u)]
        for restrict, block in zip(self.restrictions, self.encoder[1:], strict=True):
            encoded.append(block(restrict.channels_last(encoded[-1])))
        u = encoded.pop()
        for prolong, block in zip(
            reversed(self.prolongations), reversed(self.decoder), strict=True
        ):
            fine = encoded.pop()
            coarse = prolong.channels_last(u, fine.shape[:-1])
            u = block(jnp.concatenate([fine, coarse], -1))
        return grid.impose(jnp.moveaxis(self.output.channels_last(u), -1, 0))

    def transfer(self, factor: int = 2) -> Transferred:
        """The same operator on grids whose spacing is `factor` times finer.

        See `Transferred`, whose shortcut this is.
        """
        return Transferred(self, factor)
