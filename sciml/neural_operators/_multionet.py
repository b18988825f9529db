"""MultiONet and DeepONet: inner products of what is known of x and of the input."""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from .._serialisation import register
from ..grids import Dirichlet
from ..grids._boundary import AbstractBoundary, BoundaryPair, Periodic
from ._affine import SiLUIdentity, TanhSin
from ._encoders import AbstractEncoder, ConvolutionalEncoder, Encoded
from ._multionet_decoder import MultiONetDecoder, check_axes
from ._sample import check_channels, check_counts, floating, grid_of, numeric_boundary

Activation = Callable[[Array], Array]


@register
class MultiONet(eqx.Module):
    """Maps a field to a function of x: averaged inner products of two networks' layers.

        t⁰ = σ_t(W⁰ x + c⁰),  t^k = σ_t(W^k t^{k−1} + c^k)      trunk, of the place
        b⁰ = σ_b(V⁰ β + d⁰),  b^k = σ_b(V^k b^{k−1} + d^k)      branch, of the input
        u(x) = (1/l) Σ_{k = K−l}^{K−1} w_k ⟨t^k(x), b^k(β)⟩ + b_0

    for k = 1 … K − 1, β being the vector that the slot `encoder` makes of the input
    field. The scalars w_k and b_0 start as 0, so that an untrained model is the zero
    function. With l = 1 it is DeepONet, the last layers of which are activated here and
    whose scale is learned; it wants a smaller learning rate than sums do (1e-3 instead
    of 4e-3 on the small Darcy set).

    Called with a field it gives the field of u at the nodes of the same grid, with
    exact values at stored Dirichlet nodes; `at` gives u at any points of the unit box.
    Of a periodic axis the trunk sees cos 2πx and sin 2πx instead of x, so that u is
    periodic and smooth there. It maps one sample and is batched by `jax.vmap` (the
    trunk is then computed once); parameters follow the dtype of the input.

    With several output channels, entries 1 … width/out_channels of t^k and b^k make the
    inner product of the first channel, the next ones that of the second, and so on;
    each channel has its own w_k and b_0. Branch and trunk have
    width (latent + 1) + width (places + 1) + 2 (K − 1) width (width + 1) parameters,
    besides (l + 1) out_channels: 114,206 for the defaults with two axes and a latent
    vector of 128, as DGenNO has for Burgers' equation.

    **Arguments:**

    - `ndim`: number of axes, 1 to 3.
    - `in_channels`, `out_channels`: channels of the input and of the output.
    - `width`: of all layers of branch and trunk; a multiple of `out_channels`.
        Default 100.
    - `depth`: K, the number of layers of each of the two, at least 2. Default 6.
    - `num_summed_layers`: l, from 1 to K − 1. Default 5, all but the first.
    - `boundary`: one condition for all sides, or per axis one condition or a
        (low, high) pair; values must be numbers. They hold for all output channels.
        Default `Dirichlet()`.
    - `encoder`: `ConvolutionalEncoder()` (default), or `FlattenedField(num_points)`,
        the sensors of the original DeepONet.
    - `activations`: σ_t and σ_b. Default `(TanhSin(), SiLUIdentity())`, DGenNO's for
        smooth fields.
    - `key`: draws the parameters.

    **Raises:** `ValueError` for arguments out of range, boundary data that are no
    numbers, a grid that the encoder does not take, and another number of channels or
    axes than asked for.

    !!! example

        ```python
        model = sciml.neural_operators.MultiONet(2, 1, 1, width=64, key=jr.key(0))
        x = jnp.ones((1, 31, 32))
        model(x).shape  # (1, 31, 32)
        model.at(x, jnp.array([[0.5, 0.5], [0.2, 0.71]])).shape  # (1, 2)
        ```

    Source: Zang & Koutsourelakis, *DGenNO: a novel physics-aware neural operator*,
    J. Comput. Phys. 538 (2025) 114137; l = 1: Lu, Jin, Pang, Zhang & Karniadakis,
    *Learning nonlinear operators via DeepONet*, Nature Machine Intelligence 3 (2021),
    218–229. Channels by blocks: Lu et al., *A comprehensive and fair comparison of two
    neural operators*, Comput. Methods Appl. Mech. Eng. 393 (2022) 114778.
    """

    encode: Encoded
    decoder: MultiONetDecoder
    ndim: int = eqx.field(static=True)
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    depth: int = eqx.field(static=True)
    num_summed_layers: int = eqx.field(static=True)
    boundary: tuple[BoundaryPair, ...] = eqx.field(static=True)
    encoder: AbstractEncoder = eqx.field(static=True)
    activations: tuple[Activation, Activation] = eqx.field(static=True)

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        out_channels: int,
        width: int = 100,
        depth: int = 6,
        num_summed_layers: int = 5,
        boundary: AbstractBoundary | Sequence = Dirichlet(),
        encoder: AbstractEncoder = ConvolutionalEncoder(),  # noqa: B008
        activations: tuple[Activation, Activation] = (TanhSin(), SiLUIdentity()),  # noqa: B008
        *,
        key: PRNGKeyArray,
    ):
        check_counts(in_channels=in_channels)
        check_axes(ndim)
        self.ndim = ndim
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.width = width
        self.depth = depth
        self.num_summed_layers = num_summed_layers
        self.boundary = numeric_boundary(boundary, ndim)
        self.encoder = encoder
        self.activations = tuple(activations)  # pyright: ignore[reportAttributeAccessIssue]
        encoder_key, decoder_key = jr.split(key)
        self.encode, latent_dim = encoder.build(
            in_channels, self.boundary, key=encoder_key
        )
        self.decoder = MultiONetDecoder(
            ndim,
            latent_dim,
            out_channels,
            width,
            depth,
            num_summed_layers,
            self.activations,
            tuple(
                axis
                for axis, (low, _) in enumerate(self.boundary)
                if isinstance(low, Periodic)
            ),
            key=decoder_key,
        )

    def __call__(
        self, x: Shaped[Array | np.ndarray, "in_channels *space"]
    ) -> Float[Array, "out_channels *space"]:
        """The output field of one input field, at the nodes of the same grid.

        **Arguments:**

        - `x`: shape `(in_channels, *space)`.
        """
        x = self._checked(x)
        grid = grid_of(x.shape[1:], self.boundary)
        points = np.stack([axis.reshape(-1) for axis in grid.mesh()], -1)
        u = self.decode(self.encode(x), jnp.asarray(points, x.dtype))
        return grid.impose(u.reshape(self.out_channels, *grid.shape))

    def at(
        self,
        x: Shaped[Array | np.ndarray, "in_channels *space"],
        points: Shaped[Array | np.ndarray, "num ndim"],
    ) -> Float[Array, "out_channels num"]:
        """u at any points, for one input field.

        No boundary value is imposed here, since points need not be nodes.

        **Arguments:**

        - `x`: shape `(in_channels, *space)`.
        - `points`: positions in the unit box, shape `(num, ndim)`.
        """
        x = self._checked(x)
        return self.decode(self.encode(x), jnp.asarray(points).astype(x.dtype))

    def decode(
        self, latent: Float[Array, " latent"], points: Float[Array, "num ndim"]
    ) -> Float[Array, "out_channels num"]:
        """u at points, from the vector β; differentiable in both.

        **Arguments:**

        - `latent`: β, what `encode` made of a field.
        - `points`: positions in the unit box, shape `(num, ndim)`, in β's dtype.
        """
        return self.decoder(latent, points)

    def _checked(self, x: Array | np.ndarray) -> Array:
        x = floating(x)
        check_channels(x, self.ndim, self.in_channels)
        return x
