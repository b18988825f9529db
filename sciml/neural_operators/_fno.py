"""FNO: the Fourier neural operator."""

import abc
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
from ..grids import Dirichlet, Grid
from ..grids._boundary import AbstractBoundary, BoundaryPair
from ..grids._convolution import Convolution
from ._modes import check_modes, hermitian, low_field, low_transform, modes_shape
from ._sample import check_channels, check_counts, floating, grid_of, numeric_boundary
from ._transferred import Transferred


class AbstractCoordinates(eqx.Module):
    """What a model is told of the place of a node: extra channels of its input."""

    @abc.abstractmethod
    def num_channels(self, ndim: int) -> int:
        """How many channels there are on a grid with so many axes."""

    @abc.abstractmethod
    def __call__(self, grid: Grid) -> np.ndarray:
        """The channels, shape `(num_channels, *space)`."""


@register
class NodeCoordinates(AbstractCoordinates):
    """The position x_1 … x_ndim of each node in the unit box, from 0 to 1.

    Positions count the boundary in: the first of n interior nodes is at 1/(n + 1).
    """

    def num_channels(self, ndim: int) -> int:
        """One per axis."""
        return ndim

    def __call__(self, grid: Grid) -> np.ndarray:
        """The positions, shape `(ndim, *space)`."""
        return np.stack(grid.mesh())


@register
class NoCoordinates(AbstractCoordinates):
    """Nothing: a model of a problem that looks the same everywhere (periodic)."""

    def num_channels(self, ndim: int) -> int:
        """None."""
        return 0

    def __call__(self, grid: Grid) -> np.ndarray:
        """No channels, shape `(0, *space)`."""
        return np.zeros((0, *grid.shape))


class SpectralConvolution(eqx.Module):
    """A linear map that multiplies each low frequency by a matrix of its own.

        û(k) = weight(k) f̂(k) for |k_1|, …, |k_ndim| < num_modes, and 0 beyond

    with the real discrete Fourier transform divided by the number of nodes, so that
    û(k) are Fourier coefficients on every grid. Real fields have û(−k) = conj(û(k)).
    The half of the frequencies with k_ndim ≥ 0 that is stored holds such pairs at
    k_ndim = 0; there weight(k) and conj(weight(−k)) are averaged, so that the result is
    the transform of a real field and not only taken for one.

    **Arguments:**

    - `ndim`: number of axes, 1 to 3.
    - `in_channels`, `out_channels`: channels of f and of u.
    - `num_modes`: frequencies 0 … num_modes − 1 per axis, of either sign.
    - `key`: draws the real and imaginary parts of the weights (shape `(2,
        out_channels, in_channels, 2 num_modes − 1, …, num_modes)`; two real arrays, so
        that every optimiser handles them) from normal distributions with variance
        1/(in_channels + out_channels).

    **Raises:** `ValueError` if an axis has fewer than 2 num_modes − 1 nodes.

    !!! example

        ```python
        spectral = SpectralConvolution(2, 3, 4, num_modes=8, key=jr.key(0))
        spectral(jnp.ones((3, 32, 48))).shape  # (4, 32, 48)
        ```

    Source: Li et al., *Fourier Neural Operator for Parametric Partial Differential
    Equations*, ICLR 2021, section 4.
    """

    weight: Float[Array, "2 out_channels in_channels *modes"]
    ndim: int = eqx.field(static=True)
    num_modes: int = eqx.field(static=True)

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        out_channels: int,
        num_modes: int,
        *,
        key: PRNGKeyArray,
    ):
        modes = modes_shape(ndim, num_modes)
        deviation = math.sqrt(1 / (in_channels + out_channels))
        shape = (2, out_channels, in_channels, *modes)
        self.weight = jr.normal(key, shape) * deviation
        self.ndim = ndim
        self.num_modes = num_modes

    def __call__(
        self, f: Float[Array, "in_channels *space"]
    ) -> Float[Array, "out_channels *space"]:
        """The map applied to one field."""
        space = f.shape[1:]
        check_modes(space, self.num_modes)
        weight = hermitian(lax.complex(*self.weight.astype(f.dtype)), 2)
        low = low_transform(f, self.num_modes)
        # Products of real numbers are the ones that processors are fast at.
        with_real, with_imaginary = (
            jnp.einsum("oi...,ri...->ro...", part, low)
            for part in (jnp.real(weight), jnp.imag(weight))
        )
        real = with_real[0] - with_imaginary[1]
        imaginary = with_real[1] + with_imaginary[0]
        return low_field(jnp.stack([real, imaginary]), space, self.num_modes)


class FourierLayer(eqx.Module):
    """K u + C u + b with a spectral convolution K and a pointwise C."""

    spectral: SpectralConvolution
    pointwise: Convolution

    def __call__(self, u: Float[Array, "..."]) -> Float[Array, "..."]:
        """The sum; the activation is the model's."""
        return self.spectral(u) + self.pointwise(u)


@register
class FNO(eqx.Module):
    """The Fourier neural operator: maps fields to fields on any one grid.

        u₀ = P (input, coordinates)
        u_k = gelu(K_k u_{k−1} + C_k u_{k−1} + b_k), without gelu for k = depth
        output = Q₂ gelu(Q₁ u_depth), then stored Dirichlet nodes set to their value

    with pointwise affine P, Q₁ (4 · width channels), Q₂ and C_k, and spectral
    convolutions K_k (`SpectralConvolution`). It maps one sample and is batched by
    `jax.vmap`; parameters do not depend on the grid and follow the input's dtype.
    Inputs of booleans or integers are taken in JAX's default float type.

    K_k continues its input periodically, whatever the boundary is: the boundary only
    decides where the nodes are and which values are imposed. On a periodic grid,
    without coordinates, the spectral layers give the same function on every grid that
    resolves their input.

    **Arguments:**

    - `ndim`: number of axes, 1 to 3.
    - `in_channels`, `out_channels`: channels of the input and of the output.
    - `width`: channels of the layers. Default 32.
    - `depth`: number of spectral layers. Default 4.
    - `num_modes`: frequencies 0 … num_modes − 1 per axis, of either sign. Default 16;
        needs 31 nodes per axis. Parameters grow with its power `ndim`.
    - `boundary`: one condition for all sides, or per axis one condition or a
        (low, high) pair; values must be numbers. Default `Dirichlet()`.
    - `coordinates`: what the model is told of the place of a node. Default
        `NodeCoordinates()` as in the reference; `NoCoordinates()` keeps a periodic
        model equivariant under shifts.
    - `key`: draws the parameters.

    **Raises:** `ValueError` for arguments out of range, boundary data that are no
    numbers, a grid with fewer modes than asked for, and another number of channels or
    axes than asked for.

    !!! example

        ```python
        model = sciml.neural_operators.FNO(
            2, in_channels=1, out_channels=1, width=16, num_modes=8, key=jr.key(0)
        )
        model(jnp.ones((1, 63, 64))).shape  # (1, 63, 64)
        ```

    Source: Li et al., *Fourier Neural Operator for Parametric Partial Differential
    Equations*, ICLR 2021. The reference keeps one negative frequency more per axis.
    """

    lifting: Convolution
    layers: tuple[FourierLayer, ...]
    hidden: Convolution
    output: Convolution
    ndim: int = eqx.field(static=True)
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    depth: int = eqx.field(static=True)
    num_modes: int = eqx.field(static=True)
    boundary: tuple[BoundaryPair, ...] = eqx.field(static=True)
    coordinates: AbstractCoordinates = eqx.field(static=True)

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        out_channels: int,
        width: int = 32,
        depth: int = 4,
        num_modes: int = 16,
        boundary: AbstractBoundary | Sequence = Dirichlet(),
        coordinates: AbstractCoordinates = NodeCoordinates(),  # noqa: B008
        *,
        key: PRNGKeyArray,
    ):
        check_counts(width=width, depth=depth, num_modes=num_modes)
        self.ndim = ndim
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.width = width
        self.depth = depth
        self.num_modes = num_modes
        self.boundary = numeric_boundary(boundary, ndim)
        self.coordinates = coordinates

        def pointwise(in_channels, out_channels, key):
            return Convolution(
                ndim, in_channels, out_channels, 1, use_bias=True, key=key
            )

        lifting_key, hidden_key, output_key, layers_key = jr.split(key, 4)
        lifted = in_channels + coordinates.num_channels(ndim)
        self.lifting = pointwise(lifted, width, lifting_key)
        layers = []
        for layer_key in jr.split(layers_key, depth):
            spectral_key, pointwise_key = jr.split(layer_key)
            spectral = SpectralConvolution(
                ndim, width, width, num_modes, key=spectral_key
            )
            layers.append(
                FourierLayer(spectral, pointwise(width, width, pointwise_key))
            )
        self.layers = tuple(layers)
        self.hidden = pointwise(width, 4 * width, hidden_key)
        self.output = pointwise(4 * width, out_channels, output_key)

    def __call__(
        self, x: Shaped[Array | np.ndarray, "in_channels *space"]
    ) -> Float[Array, "out_channels *space"]:
        """The output field of one input field.

        **Arguments:**

        - `x`: shape `(in_channels, *space)`.
        """
        x = floating(x)
        check_channels(x, self.ndim, self.in_channels)
        grid = grid_of(x.shape[1:], self.boundary)
        place = jnp.asarray(self.coordinates(grid), x.dtype)
        u = self.lifting(jnp.concatenate([x, place]))
        for layer in self.layers[:-1]:
            u = jax.nn.gelu(layer(u), approximate=True)
        u = self.layers[-1](u)
        u = self.output(jax.nn.gelu(self.hidden(u), approximate=True))
        return grid.impose(u)

    def transfer(self, factor: int = 2) -> Transferred:
        """The same operator on grids whose spacing is `factor` times finer.

        A Fourier neural operator may be called on them as it is; this has no aliases of
        finer details and linear interpolation instead. See `Transferred`.
        """
        return Transferred(self, factor)
