"""The low frequencies of a field, out of its transform and back into it.

Transforms are those of `jnp.fft.rfftn` along all axes but the first, divided by the
number of nodes. Of the last axis the frequencies 0 … num_modes − 1 are kept, of the
others also the negative ones, from the most negative to the most positive.

Where few frequencies are kept they are products with matrices of cosines and sines,
axis by axis: those take a half to a third of the time of fast transforms, which compute
all frequencies (on a CPU, with 6 to 32 of them and up to 512 nodes per axis).
"""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

# More frequencies than this are left to fast transforms, and more than a quarter of the
# nodes of an axis (where there are not so few that it does not matter).
_MOST = 32
_FEW = 8


def low_transform(f: Array, num_modes: int) -> Array:
    """Real and imaginary parts of the kept frequencies of (channels, *space).

    **Returns:** shape `(2, channels, *modes_shape(ndim, num_modes))`.
    """
    axes = tuple(range(1, f.ndim))
    if not _by_products(f.shape[1:], num_modes):
        transform = jnp.fft.rfftn(f, axes=axes, norm="forward")
        low = low_modes(transform, num_modes)
        return jnp.stack([jnp.real(low), jnp.imag(low)])
    n = f.shape[-1]
    cosine, sine = _waves(n, np.arange(num_modes))
    basis = jnp.asarray(np.stack([cosine, -sine], 1) / n, f.dtype)
    low = jnp.einsum("...y,yrk->r...k", f, basis, precision=lax.Precision.HIGHEST)
    for axis in axes[:-1]:
        n = f.shape[axis]
        cosine, sine = _waves(n, np.arange(1 - num_modes, num_modes))
        # exp(−iκx) (a + ib) in its real and imaginary parts.
        turn = np.stack([np.stack([cosine, -sine], 1), np.stack([sine, cosine], 1)]) / n
        low = _turned(low, turn, axis)
    return low


def low_field(low: Array, space: tuple[int, ...], num_modes: int) -> Array:
    """The field (channels, *space) that has these frequencies, and no others."""
    axes = tuple(range(1, len(space) + 1))
    if not _by_products(space, num_modes):
        transform = embedded_modes(lax.complex(low[0], low[1]), space, num_modes)
        return jnp.fft.irfftn(transform, space, axes=axes, norm="forward")
    for axis, n in zip(axes[:-1], space[:-1], strict=True):
        waves = _waves(n, np.arange(1 - num_modes, num_modes))
        cosine, sine = (wave.T for wave in waves)
        turn = np.stack([np.stack([cosine, sine], 1), np.stack([-sine, cosine], 1)])
        low = _turned(low, turn, axis)
    cosine, sine = _waves(space[-1], np.arange(num_modes))
    # Each stands for its opposite frequency as well.
    count = np.where(np.arange(num_modes) == 0, 1.0, 2.0)
    basis = jnp.asarray(np.stack([cosine * count, -sine * count]), low.dtype)
    return jnp.einsum("r...k,ryk->...y", low, basis, precision=lax.Precision.HIGHEST)


def _by_products(space: tuple[int, ...], num_modes: int) -> bool:
    return num_modes <= min(_MOST, max(_FEW, min(space) // 4))


def _waves(n: int, frequencies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of the angles at n nodes, shape (n, frequencies)."""
    # (Of whole turns nothing is left but their rounding.)
    angles = 2 * np.pi * (np.arange(n)[:, None] * frequencies % n) / n
    return np.cos(angles), np.sin(angles)


def _turned(low: Array, turn: np.ndarray, axis: int) -> Array:
    """Σ_{r, x} turn[r, x, s, k] low[r, …, x, …] with (s, k) in the places of (r, x)."""
    matrix = jnp.asarray(turn, low.dtype)
    contracted = ((0, 1 + axis), (0, 1))
    found = jnp.tensordot(low, matrix, contracted, precision=lax.Precision.HIGHEST)
    return jnp.moveaxis(found, (-2, -1), (0, 1 + axis))


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
