"""From a field to a vector of fixed length, on grids of any size: a slot."""

import abc
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._serialisation import register
from ..grids._boundary import BoundaryPair
from ..grids._convolution import Convolution
from ._affine import Affine
from ._mgno import check_levels
from ._sample import check_counts

Encoded = Callable[[Array], Array]


class AbstractEncoder(eqx.Module):
    """How `MultiONet` turns its input field into a vector."""

    @abc.abstractmethod
    def build(
        self,
        in_channels: int,
        boundary: tuple[BoundaryPair, ...],
        *,
        key: PRNGKeyArray,
    ) -> tuple[Encoded, int]:
        """The module that maps `(in_channels, *space)` to a vector, and its length.

        **Arguments:**

        - `in_channels`: channels of the field.
        - `boundary`: of the grid, one pair per axis.
        - `key`: draws the parameters.
        """


class FlatField(eqx.Module):
    """The means over boxes of equal size, flattened."""

    num_boxes: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, x: Float[Array, "in_channels *space"]) -> Float[Array, " size"]:
        """The vector, channel by channel."""
        return box_means(x, self.num_boxes).reshape(-1)


class ConvolutionalFeatures(eqx.Module):
    """Strided convolutions, means over boxes, one affine layer; silu after each."""

    convolutions: tuple[Convolution, ...]
    affine: Affine
    num_boxes: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, x: Float[Array, "in_channels *space"]) -> Float[Array, " size"]:
        """The vector."""
        boundary = self.convolutions[0].boundary
        check_levels(x.shape[1:], boundary, len(self.convolutions) + 1)
        u = jnp.moveaxis(x, 0, -1)
        for convolution in self.convolutions:
            u = jax.nn.silu(convolution.channels_last(u))
        means = box_means(jnp.moveaxis(u, -1, 0), self.num_boxes)
        return jax.nn.silu(self.affine(means.reshape(-1)))


@register
class FlattenedField(AbstractEncoder):
    """The values of the field at its nodes, one after the other: DeepONet's sensors.

    On the grid that it is made for these are the values themselves. On another one they
    are means over as many boxes of nodes, equal shares of each axis, so that the model
    runs there as well. It has no parameters.

    **Arguments:**

    - `num_points`: nodes per axis of the grid that the model is for.
    """

    num_points: tuple[int, ...]

    def __init__(self, num_points: Sequence[int]):
        self.num_points = tuple(int(n) for n in num_points)
        if not self.num_points or min(self.num_points) < 1:
            raise ValueError(
                f"num_points: expected a positive number per axis, got {num_points!r}."
            )

    def build(self, in_channels, boundary, *, key) -> tuple[FlatField, int]:
        """The flattening, and the number of nodes times channels."""
        if len(self.num_points) != len(boundary):
            raise ValueError(
                f"num_points: expected one number for each of the {len(boundary)} "
                f"axes, got {self.num_points}."
            )
        size = in_channels * int(np.prod(self.num_points))
        return FlatField(self.num_points), size


class DenseFeatures(eqx.Module):
    """Affine layers on the flattened field; silu after each."""

    flat: FlatField
    layers: tuple[Affine, ...]

    def __call__(self, x: Float[Array, "in_channels *space"]) -> Float[Array, " size"]:
        """The vector."""
        u = self.flat(x)
        for layer in self.layers:
            u = jax.nn.silu(layer(u))
        return u


@register
class DenseEncoder(AbstractEncoder):
    """Affine layers on all values of the field, those of `FlattenedField`.

        u ← silu(W⁰ (values) + b⁰),   u ← silu(W^k u + b^k)

    The shortest way from a field to a vector for small grids; it knows nothing of
    which nodes are neighbours.

    **Arguments:**

    - `num_points`: nodes per axis of the grid that the model is for.
    - `widths`: lengths of the layers' outputs. Default (256, 128).
    """

    num_points: tuple[int, ...]
    widths: tuple[int, ...]

    def __init__(self, num_points: Sequence[int], widths: Sequence[int] = (256, 128)):
        self.num_points = FlattenedField(num_points).num_points
        self.widths = tuple(int(width) for width in widths)
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths: expected positive numbers, got {widths!r}.")

    def build(self, in_channels, boundary, *, key) -> tuple[DenseFeatures, int]:
        """The layers, and the last one's width."""
        flat, size = FlattenedField(self.num_points).build(
            in_channels, boundary, key=key
        )
        sizes = (size, *self.widths)
        keys = jr.split(key, len(self.widths))
        layers = tuple(
            Affine(before, after, key=layer_key)
            for before, after, layer_key in zip(sizes, self.widths, keys, strict=False)
        )
        return DenseFeatures(flat, layers), self.widths[-1]


@register
class ConvolutionalEncoder(AbstractEncoder):
    """Convolutions of stride 2, means over a few boxes, and an affine layer.

        u ← silu(C u + b)   num_levels times, each on the coarse nodes of the last
        vector = silu(W (means of u over num_boxes boxes per axis) + b)

    with 3-node convolutions that know the sides of the grid. It runs on grids of every
    size that can be halved `num_levels` times; the boxes are equal shares of each axis.

    **Arguments:**

    - `latent_dim`: length of the vector. Default 128.
    - `width`: channels of the convolutions. Default 32.
    - `num_levels`: how many convolutions. Default 2.
    - `num_boxes`: per axis. Default 8; the affine layer has `width` · num_boxes^ndim
        inputs. Fewer boxes see less of where something is.

    Source: the encoder is of the kind that DGenNO uses for Darcy flow (Zang &
    Koutsourelakis, J. Comput. Phys. 538 (2025) 114137), there for one grid only.
    """

    latent_dim: int = 128
    width: int = 32
    num_levels: int = 2
    num_boxes: int = 8

    def __check_init__(self):
        check_counts(
            latent_dim=self.latent_dim,
            width=self.width,
            num_levels=self.num_levels,
            num_boxes=self.num_boxes,
        )

    def build(self, in_channels, boundary, *, key) -> tuple[ConvolutionalFeatures, int]:
        """The convolutions and the affine layer, and `latent_dim`."""
        ndim = len(boundary)
        affine_key, *keys = jr.split(key, self.num_levels + 1)
        convolutions = tuple(
            Convolution(
                ndim,
                self.width if l else in_channels,
                self.width,
                stride=2,
                boundary=boundary,
                use_bias=True,
                key=level_key,
            )
            for l, level_key in enumerate(keys)
        )
        features = self.width * self.num_boxes**ndim
        affine = Affine(features, self.latent_dim, key=affine_key)
        boxes = (self.num_boxes,) * ndim
        return ConvolutionalFeatures(convolutions, affine, boxes), self.latent_dim


def box_means(
    field: Float[Array, "channels *space"], num_boxes: tuple[int, ...]
) -> Float[Array, "channels *boxes"]:
    """Means over equal shares of each axis, every node being a cell of its own.

    Cells that lie in two boxes count in each by the part that lies there.
    """
    for axis, (n, m) in enumerate(zip(field.shape[1:], num_boxes, strict=True), 1):
        if n == m:
            continue
        cells, boxes = np.arange(n + 1) / n, np.arange(m + 1) / m
        low = np.maximum(cells[None, :-1], boxes[:-1, None])
        high = np.minimum(cells[None, 1:], boxes[1:, None])
        weights = jnp.asarray(m * np.maximum(high - low, 0), field.dtype)
        field = jnp.moveaxis(jnp.tensordot(field, weights, (axis, 1)), -1, axis)
    return field
