"""The eigenvectors of −d²/dx² on a line of nodes, by fast Fourier transforms."""

import abc

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact

from ..grids import Grid, Neumann, Periodic

Values = Inexact[Array, "..."]


class AbstractTransform(eqx.Module):
    """Q of the three-point −d²/dx² = W^{1/2} Q Λ Qᴴ W^{1/2} for n free nodes.

    W holds the cells' sizes in units of h: 1/2 at a Neumann end, 1 elsewhere.
    """

    size: eqx.AbstractVar[int]

    @abc.abstractmethod
    def eigenvalues(self) -> np.ndarray:
        """h² Λ, in the order of the coefficients."""

    @abc.abstractmethod
    def forward(self, u: Values, axis: int) -> Values:
        """Qᴴ u along an axis."""

    @abc.abstractmethod
    def backward(self, u: Values, axis: int) -> Values:
        """Q u along an axis."""


class Fourier(AbstractTransform):
    """Periodic: exp(2πi jk/n)."""

    size: int = eqx.field(static=True)

    def eigenvalues(self):
        """4 sin²(πk/n)."""
        return _eigenvalues(2 * np.arange(self.size) / self.size)

    def forward(self, u, axis):
        """The discrete Fourier transform, unitary."""
        return jnp.fft.fft(u, axis=axis, norm="ortho")

    def backward(self, u, axis):
        """Its inverse."""
        return jnp.fft.ifft(u, axis=axis, norm="ortho")


class Sine(AbstractTransform):
    """Dirichlet at both ends: sin(π jk/(n+1)), j and k from 1 (DST-I)."""

    size: int = eqx.field(static=True)

    def eigenvalues(self):
        """4 sin²(πk/(2(n+1)))."""
        return _eigenvalues(np.arange(1, self.size + 1) / (self.size + 1))

    def forward(self, u, axis):
        """Its own inverse."""
        n = self.size
        zero = jnp.zeros_like(_part(u, axis, 0, 1))
        odd = jnp.concatenate([zero, u, zero, -jnp.flip(u, axis)], axis)
        sums = _part(_sines(odd, axis), axis, 1, n + 1)
        return sums * float(np.sqrt(1 / (2 * (n + 1))))

    def backward(self, u, axis):
        """The same."""
        return self.forward(u, axis)


class Cosine(AbstractTransform):
    """Neumann at both ends: cos(π jk/(n−1)), j and k from 0 (DCT-I)."""

    size: int = eqx.field(static=True)

    def eigenvalues(self):
        """4 sin²(πk/(2(n−1)))."""
        return _eigenvalues(np.arange(self.size) / (self.size - 1))

    def forward(self, u, axis):
        """Its own inverse."""
        n = self.size
        ends = np.ones(n)
        ends[[0, -1]] = np.sqrt(0.5)
        shape = tuple(n if k == axis else 1 for k in range(u.ndim))
        # √w before and after; the even extension counts inner nodes twice, which 1/w
        # makes up for at the ends.
        before = jnp.asarray((1 / ends).reshape(shape), u.dtype)
        after = jnp.asarray((ends / np.sqrt(2 * (n - 1))).reshape(shape), before.dtype)
        v = before * u
        even = jnp.concatenate([v, jnp.flip(_part(v, axis, 1, n - 1), axis)], axis)
        return after * _part(_cosines(even, axis), axis, 0, n)

    def backward(self, u, axis):
        """The same."""
        return self.forward(u, axis)


class QuarterSine(AbstractTransform):
    """Dirichlet at the low end, Neumann at the high one: sin(π j(k+½)/n), j from 1."""

    size: int = eqx.field(static=True)

    def eigenvalues(self):
        """4 sin²(π(k+½)/(2n))."""
        return _eigenvalues((np.arange(self.size) + 0.5) / self.size)

    def forward(self, u, axis):
        """Sums over the nodes: the odd frequencies of four times the length."""
        n = self.size
        padding = [(1, 3 * n - 1) if k == axis else (0, 0) for k in range(u.ndim)]
        sums = _sines(jnp.pad(u * self._weights(u, axis), padding), axis)
        return _part(sums, axis, 1, 2 * n, 2)

    def backward(self, u, axis):
        """Sums over the frequencies."""
        n = self.size
        zero = jnp.zeros_like(u)
        odd = jnp.stack([zero, u], axis + 1).reshape(
            u.shape[:axis] + (2 * n,) + u.shape[axis + 1 :]
        )
        padding = [(0, 2 * n) if k == axis else (0, 0) for k in range(u.ndim)]
        sums = _part(_sines(jnp.pad(odd, padding), axis), axis, 1, n + 1)
        return sums * self._weights(u, axis)

    def _weights(self, u, axis):
        weights = np.full(self.size, np.sqrt(2 / self.size))
        weights[-1] *= np.sqrt(0.5)
        shape = tuple(self.size if k == axis else 1 for k in range(u.ndim))
        return jnp.asarray(weights.reshape(shape), u.dtype)


class Mirrored(AbstractTransform):
    """The transform of the same line seen from its other end."""

    size: int = eqx.field(static=True)
    inner: AbstractTransform

    def eigenvalues(self):
        """Those of `inner`."""
        return self.inner.eigenvalues()

    def forward(self, u, axis):
        """`inner`'s, of the reversed nodes."""
        return self.inner.forward(jnp.flip(u, axis), axis)

    def backward(self, u, axis):
        """`inner`'s, reversed."""
        return jnp.flip(self.inner.backward(u, axis), axis)


def transform_of(grid: Grid, axis: int) -> AbstractTransform:
    """The transform for an axis, over the nodes that no Dirichlet condition holds."""
    low, high = grid.boundary[axis]
    size = grid.num_points[axis]
    if isinstance(low, Periodic):
        return Fourier(size)
    size -= sum(not isinstance(c, Neumann) and c.stores_nodes for c in (low, high))
    if isinstance(low, Neumann):
        if isinstance(high, Neumann):
            return Cosine(size)
        return Mirrored(size, QuarterSine(size))
    return QuarterSine(size) if isinstance(high, Neumann) else Sine(size)


def _eigenvalues(angles: np.ndarray) -> np.ndarray:
    return 4 * np.sin(np.pi * angles / 2) ** 2


def _part(u: Values, axis: int, start: int, stop: int, step: int = 1) -> Values:
    return u[(slice(None),) * axis + (slice(start, stop, step),)]


def _sines(u: Values, axis: int) -> Values:
    """Σ_j u_j sin(2π jk/length) for k up to half the length."""
    return -jnp.fft.rfft(u, axis=axis).imag


def _cosines(u: Values, axis: int) -> Values:
    """Σ_j u_j cos(2π jk/length) for k up to half the length."""
    return jnp.fft.rfft(u, axis=axis).real
