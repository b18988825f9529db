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
    def forward(self, u: Values) -> Values:
        """Qᴴ u along the last axis."""

    @abc.abstractmethod
    def backward(self, u: Values) -> Values:
        """Q u along the last axis."""


class Fourier(AbstractTransform):
    """Periodic: exp(2πi jk/n)."""

    size: int = eqx.field(static=True)

    def eigenvalues(self):
        """4 sin²(πk/n)."""
        return _eigenvalues(2 * np.arange(self.size) / self.size)

    def forward(self, u):
        """The discrete Fourier transform, unitary."""
        return jnp.fft.fft(u, norm="ortho")

    def backward(self, u):
        """Its inverse."""
        return jnp.fft.ifft(u, norm="ortho")


class Sine(AbstractTransform):
    """Dirichlet at both ends: sin(π jk/(n+1)), j and k from 1 (DST-I)."""

    size: int = eqx.field(static=True)

    def eigenvalues(self):
        """4 sin²(πk/(2(n+1)))."""
        return _eigenvalues(np.arange(1, self.size + 1) / (self.size + 1))

    def forward(self, u):
        """Its own inverse."""
        n = self.size
        # The sums are half those of the odd extension; zeros are cheaper to write.
        return float(np.sqrt(2 / (n + 1))) * _sines(u, 1, 2 * (n + 1))[..., 1 : n + 1]

    def backward(self, u):
        """The same."""
        return self.forward(u)


class Cosine(AbstractTransform):
    """Neumann at both ends: cos(π jk/(n−1)), j and k from 0 (DCT-I)."""

    size: int = eqx.field(static=True)

    def eigenvalues(self):
        """4 sin²(πk/(2(n−1)))."""
        return _eigenvalues(np.arange(self.size) / (self.size - 1))

    def forward(self, u):
        """Its own inverse."""
        n = self.size
        # √w of the nodes; the even extension counts inner ones twice, √2 on each side.
        ends = np.full(n, (2 / (n - 1)) ** 0.25)
        ends[[0, -1]] *= np.sqrt(0.5)
        ends = _row(ends, u)
        return ends * _cosines(ends * u, 2 * (n - 1))[..., :n]

    def backward(self, u):
        """The same."""
        return self.forward(u)


class QuarterSine(AbstractTransform):
    """Dirichlet at the low end, Neumann at the high one: sin(π j(k+½)/n), j from 1."""

    size: int = eqx.field(static=True)

    def eigenvalues(self):
        """4 sin²(π(k+½)/(2n))."""
        return _eigenvalues((np.arange(self.size) + 0.5) / self.size)

    def forward(self, u):
        """Sums over the nodes: the odd frequencies of four times the length."""
        n = self.size
        return _sines(self._weights(u) * u, 1, 4 * n)[..., 1 : 2 * n : 2]

    def backward(self, u):
        """Sums over the frequencies."""
        n = self.size
        odd = jnp.stack([jnp.zeros_like(u), u], -1).reshape(*u.shape[:-1], 2 * n)
        return self._weights(u) * _sines(odd, 0, 4 * n)[..., 1 : n + 1]

    def _weights(self, u):
        weights = np.full(self.size, np.sqrt(2 / self.size))
        weights[-1] *= np.sqrt(0.5)
        return _row(weights, u)


class Mirrored(AbstractTransform):
    """The transform of the same line seen from its other end."""

    size: int = eqx.field(static=True)
    inner: AbstractTransform

    def eigenvalues(self):
        """Those of `inner`."""
        return self.inner.eigenvalues()

    def forward(self, u):
        """`inner`'s, of the reversed nodes."""
        return self.inner.forward(jnp.flip(u, -1))

    def backward(self, u):
        """`inner`'s, reversed."""
        return jnp.flip(self.inner.backward(u), -1)


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


def _row(line: np.ndarray, u: Values) -> Values:
    """Numbers that multiply the entries of the last axis."""
    return jnp.asarray(line, u.real.dtype).reshape((1,) * (u.ndim - 1) + (-1,))


def _sines(u: Values, first: int, length: int) -> Values:
    """Σ_j u_j sin(2π (first+j) k/length) for k up to half the length."""
    return -_frequencies(u, first, length).imag


def _cosines(u: Values, length: int) -> Values:
    """Σ_j u_j cos(2π jk/length) for k up to half the length."""
    return _frequencies(u, 0, length).real


def _frequencies(u: Values, first: int, length: int) -> Values:
    padding = [(0, 0)] * (u.ndim - 1) + [(first, length - first - u.shape[-1])]
    return jnp.fft.rfft(jnp.pad(u, padding))
