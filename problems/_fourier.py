"""Periodic fields in Fourier space: wave numbers, dealiasing, finer grids."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float


class FourierSpace(eqx.Module):
    """Real periodic fields on a uniform grid and their coefficients (`rfftn`).

    **Arguments:**

    - `num_points`: nodes per axis, one to three axes.
    - `extent`: periods.
    - `kept`: the fraction of the modes per axis that products are taken of; 2/3 makes
        products of two fields free of aliases.
    """

    num_points: tuple[int, ...] = eqx.field(static=True)
    extent: tuple[float, ...] = eqx.field(static=True)
    kept: float = eqx.field(static=True, default=2 / 3)

    def indices(self) -> tuple[np.ndarray, ...]:
        """Numbers of waves per period, for each axis in a shape that broadcasts."""
        last = len(self.num_points) - 1
        lines = [
            np.fft.rfftfreq(n, 1 / n) if k == last else np.fft.fftfreq(n, 1 / n)
            for k, n in enumerate(self.num_points)
        ]
        return tuple(np.meshgrid(*lines, indexing="ij", sparse=True))

    def wavenumbers(self) -> tuple[np.ndarray, ...]:
        """κ, radians per unit of length, in double precision."""
        return tuple(
            2 * np.pi / length * index
            for length, index in zip(self.extent, self.indices(), strict=True)
        )

    def squares(self) -> np.ndarray:
        """|κ|²: −Δ in Fourier space."""
        return np.asarray(sum(kappa**2 for kappa in self.wavenumbers()))

    def mask(self) -> np.ndarray:
        """True at the modes that are kept in products."""
        inside = [
            (np.abs(index) < self.kept * n / 2) | (self.kept == 1)
            for n, index in zip(self.num_points, self.indices(), strict=True)
        ]
        return np.logical_and.reduce(np.broadcast_arrays(*inside))

    def coefficients(self, field: Float[Array, "*space"]) -> Complex[Array, "*modes"]:
        """The coefficients of a field."""
        return jnp.fft.rfftn(field)

    def field(self, v: Complex[Array, "*modes"]) -> Float[Array, "*space"]:
        """The field of these coefficients."""
        return jnp.fft.irfftn(v, s=self.num_points)

    def truncate(self, v: Complex[Array, "*modes"]) -> Complex[Array, "*modes"]:
        """Without the modes that are not kept."""
        return jnp.where(self.mask(), v, 0)

    def derivative(
        self, v: Complex[Array, "*modes"], axis: int
    ) -> Complex[Array, "*modes"]:
        """∂/∂x_axis; 0 for the highest mode of an even number of nodes, a cosine."""
        n, index = self.num_points[axis], self.indices()[axis]
        kappa = np.where(2 * np.abs(index) == n, 0, self.wavenumbers()[axis])
        return jnp.asarray(1j * kappa, v.dtype) * v


def refined(field: Float[Array, "*space"], factor: int) -> Float[Array, "*fine"]:
    """The trigonometric interpolant of a field at `factor` times as many nodes."""
    if factor == 1:
        return field
    for axis, n in enumerate(field.shape):
        v = jnp.moveaxis(jnp.fft.rfft(field, axis=axis), axis, -1)
        if n % 2 == 0:
            # The highest mode is a pair of them on the finer grid.
            v = v.at[..., -1].multiply(0.5)
        line = factor * jnp.fft.irfft(v, n * factor, axis=-1)
        field = jnp.moveaxis(line, -1, axis)
    return field
