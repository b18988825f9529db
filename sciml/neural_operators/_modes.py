"""The low frequencies of a field, out of its transform and back into it.

Transforms are those of `jnp.fft.rfftn` along all axes but the first. Of the last axis
the frequencies 0 … num_modes − 1 are kept, of the others also the negative ones.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array


def modes_shape(ndim: int, num_modes: int) -> tuple[int, ...]:
    """How many frequencies are kept per axis."""
    return (2 * num_modes - 1,) * (ndim - 1) + (num_modes,)


def check_modes(space: tuple[int, ...], num_modes: int) -> None:
    """**Raises:** `ValueError` unless a grid carries so many modes."""
    for axis, n in enumerate(space):
        if n < 2 * num_modes - 1:
            raise ValueError(
                f"num_modes: {num_modes} modes need at least {2 * num_modes - 1} nodes "
                f"per axis, but axis {axis} has {n}. Build the model with "
                f"num_modes={(n + 1) // 2} or fewer."
            )


def low_modes(transform: Array, num_modes: int) -> Array:
    """The kept frequencies, from the most negative to the most positive."""
    m = num_modes
    for axis in range(1, transform.ndim - 1):
        n = transform.shape[axis]
        negative = lax.slice_in_dim(transform, n - m + 1, n, axis=axis)
        positive = lax.slice_in_dim(transform, 0, m, axis=axis)
        transform = jnp.concatenate([negative, positive], axis)
    return transform[..., :m]


def embedded_modes(low: Array, space: tuple[int, ...], num_modes: int) -> Array:
    """The inverse of `low_modes`, with zeros for the other frequencies."""
    m = num_modes
    rest = space[-1] // 2 + 1 - m
    transform = jnp.pad(low, [(0, 0)] * len(space) + [(0, rest)])
    for axis, n in enumerate(space[:-1], start=1):
        negative = lax.slice_in_dim(transform, 0, m - 1, axis=axis)
        positive = lax.slice_in_dim(transform, m - 1, 2 * m - 1, axis=axis)
        shape = list(transform.shape)
        shape[axis] = n - (2 * m - 1)
        zeros = jnp.zeros(shape, low.dtype)
        transform = jnp.concatenate([positive, zeros, negative], axis)
    return transform


def hermitian(weight: Array, num_leading: int) -> Array:
    """Factors of the frequencies that map transforms of real fields to such.

    The half of the frequencies that is stored holds pairs k, −k where that of the last
    axis is 0: there weight(k) and conj(weight(−k)) are averaged.
    """
    zero = weight[..., 0]
    opposite = jnp.conj(jnp.flip(zero, tuple(range(num_leading, zero.ndim))))
    return weight.at[..., 0].set((zero + opposite) / 2)
