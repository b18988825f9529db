"""What convolutional models do to their features between layers, on any grid."""

import abc
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._serialisation import register

Features = Float[Array, "*nodes channels"]


class AbstractNormalisation(eqx.Module):
    """How features of one sample, channels last, are brought to a common scale."""

    @abc.abstractmethod
    def build(self, num_channels: int) -> Callable[[Features], Features]:
        """The module that does it to so many channels, with parameters of its own."""


class Identity(eqx.Module):
    """u."""

    def __call__(self, u: Features) -> Features:
        """u."""
        return u


class Standardised(eqx.Module):
    """scale · (u − mean u)/√(var u + epsilon) + offset over some axes, per channel."""

    scale: Float[Array, " channels"]
    offset: Float[Array, " channels"]
    over_space: bool = eqx.field(static=True)
    epsilon: float = eqx.field(static=True)

    def __call__(self, u: Features) -> Features:
        """The standardised features."""
        axes = tuple(range(u.ndim - 1)) if self.over_space else (u.ndim - 1,)
        shifted = u - jnp.mean(u, axes, keepdims=True)
        variance = jnp.mean(shifted**2, axes, keepdims=True)
        shape = (1,) * (u.ndim - 1) + (-1,)
        scale = self.scale.astype(u.dtype).reshape(shape)
        offset = self.offset.astype(u.dtype).reshape(shape)
        return scale * shifted / jnp.sqrt(variance + self.epsilon) + offset


@register
class NoNormalisation(AbstractNormalisation):
    """Features stay as they are: amplitudes are not lost."""

    def build(self, num_channels: int) -> Identity:
        """The identity."""
        return Identity()


@register
class SpaceNormalisation(AbstractNormalisation):
    """Each channel gets mean 0, variance 1 over the nodes, then a scale and an offset.

        scale · (u − mean u)/√(var u + epsilon) + offset

    Instance normalisation: one scale and offset per channel, 1 and 0 at first. Means
    over nodes are integrals up to the order of the spacing, so that the map has a limit
    as the grid is refined; a LayerNorm over the grid has parameters per node instead,
    and works on one grid only. Shifts on a periodic grid commute with it.

    **Arguments:**

    - `epsilon`: added to the variance, in the features' unit squared. Default 1e-5,
        PyTorch's; features much smaller than its root are not brought to scale.
    """

    epsilon: float = 1e-5

    def __check_init__(self):
        _check_epsilon(self.epsilon)

    def build(self, num_channels: int) -> Standardised:
        """The standardisation over all nodes."""
        return _standardised(num_channels, True, self.epsilon)


@register
class ChannelNormalisation(AbstractNormalisation):
    """At each node the channels get mean 0 and variance 1, then a scale and an offset.

        scale · (u − mean u)/√(var u + epsilon) + offset

    with mean and variance over the channels of the node. What happens at a node does
    not depend on the grid at all.

    **Arguments:**

    - `epsilon`: as for `SpaceNormalisation`. Default 1e-5.
    """

    epsilon: float = 1e-5

    def __check_init__(self):
        _check_epsilon(self.epsilon)

    def build(self, num_channels: int) -> Standardised:
        """The standardisation over the channels."""
        return _standardised(num_channels, False, self.epsilon)


def _standardised(num_channels: int, over_space: bool, epsilon: float) -> Standardised:
    return Standardised(
        jnp.ones(num_channels), jnp.zeros(num_channels), over_space, epsilon
    )


def _check_epsilon(epsilon: float) -> None:
    if not epsilon > 0:
        raise ValueError(f"epsilon: expected a positive number, got {epsilon!r}.")
