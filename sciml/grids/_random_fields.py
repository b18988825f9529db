"""Random coefficient fields: Gaussian, log-normal and two-phase."""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ._grid import Grid


class AbstractRandomField(eqx.Module):
    """A distribution of fields on a grid, independent of its resolution."""

    @abc.abstractmethod
    def sample(
        self, grid: Grid, *, key: PRNGKeyArray, closed: bool = False
    ) -> Float[Array, "*space"]:
        """One field.

        **Arguments:**

        - `grid`: where to evaluate it.
        - `key`: the same key gives the same field on every grid of the same box, up to
            the modes that a coarser one does not carry.
        - `closed`: also at Dirichlet nodes that are not stored (shape
            `grid.closed_shape`).
        """


class GaussianField(AbstractRandomField):
    """A zero-mean Gaussian field with covariance σ²(−Δ + τ²)^(−alpha).

    Drawn as a sum of eigenfunctions of −Δ on the box, cosines (Neumann) along axes
    that are not periodic and Fourier modes along those that are,

        g(x) = σ Σ_k ξ_k (|κ_k|² + τ²)^(−alpha/2) φ_k(x),  ξ_k ~ N(0, 1),

    without the constant mode, with ∫φ_k² = 1.

    **Arguments:**

    - `tau`: inverse length scale, in 1/length. Default 3.
    - `alpha`: smoothness; samples have alpha − d/2 derivatives. Default 2.
    - `scale`: σ. Default τ^(alpha − 1), as in the data of the Fourier neural operator.
    - `num_modes`: modes per axis. Default None: as many as the grid has nodes. Give a
        number to get the same field on grids of different sizes.

    Source: Li et al., *Fourier Neural Operator for Parametric PDEs*, appendix A.3.
    """

    tau: float = eqx.field(static=True, default=3.0)
    alpha: float = eqx.field(static=True, default=2.0)
    scale: float | None = eqx.field(static=True, default=None)
    num_modes: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.tau < 0 or self.alpha <= 0:
            raise ValueError(
                f"Expected tau ≥ 0 and alpha > 0, got {self.tau} and {self.alpha}."
            )
        if self.tau == 0 and self.scale is None:
            raise ValueError("tau = 0 needs a scale: the default one would be 0.")

    def sample(
        self, grid: Grid, *, key: PRNGKeyArray, closed: bool = False
    ) -> Float[Array, "*space"]:
        """One field, see `AbstractRandomField.sample`."""
        bases, squares = [], []
        for axis in range(grid.ndim):
            x = grid.coordinates(axis, closed=closed) - grid.origin[axis]
            count = self.num_modes or len(x)
            basis = _fourier if grid.periodic[axis] else _cosines
            values, wavenumbers = basis(x, grid.extent[axis], count)
            bases.append(values)
            squares.append(wavenumbers**2)
        total = np.zeros([len(s) for s in squares])
        for square in np.meshgrid(*squares, indexing="ij", sparse=True):
            total = total + square
        total[(0,) * grid.ndim] = np.inf
        amplitude = (total + self.tau**2) ** (-self.alpha / 2)
        scale = self.tau ** (self.alpha - 1) if self.scale is None else self.scale
        dtype = jnp.result_type(float)
        field = jnp.asarray(scale * amplitude, dtype) * _noise(key, amplitude.shape)
        return _synthesise(bases, field)


class SquaredExponentialField(AbstractRandomField):
    """A zero-mean Gaussian field with covariance σ² exp(−|x − y|² / (2 ℓ²)).

    The "Gaussian covariance" of geostatistics; samples are analytic. Drawn as a
    Fourier series on a box that is longer by 6 ℓ, so that its ends are not correlated;
    periodic axes keep their period, and the covariance is wrapped. The variance is σ²
    at every point. The same field on every grid of the same box.

    **Arguments:**

    - `variance`: σ², of g (of log a, where a = exp g). Default 1.
    - `correlation_length`: ℓ, in units of length. Default 0.1. About 2.2 (extent/ℓ + 6)
        modes are summed per axis.

    !!! example

        ```python
        import jax.random as jr
        from sciml.grids import Grid, LogNormalField, SquaredExponentialField

        field = LogNormalField(SquaredExponentialField(variance=1.1))
        field.sample(Grid((63, 63)), key=jr.key(0)).shape  # (63, 63)
        ```
    """

    variance: float = eqx.field(static=True, default=1.0)
    correlation_length: float = eqx.field(static=True, default=0.1)

    def __check_init__(self):
        for name in ("variance", "correlation_length"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name}: expected a positive number, got {getattr(self, name)}."
                )

    def sample(
        self, grid: Grid, *, key: PRNGKeyArray, closed: bool = False
    ) -> Float[Array, "*space"]:
        """One field, see `AbstractRandomField.sample`."""
        dtype = jnp.result_type(float)
        bases = []
        for axis in range(grid.ndim):
            x = grid.coordinates(axis, closed=closed) - grid.origin[axis]
            margin = 0.0 if grid.periodic[axis] else 6.0 * self.correlation_length
            bases.append(self._basis(x, grid.extent[axis] + margin))
        shape = [basis.shape[1] for basis in bases]
        field = math.sqrt(self.variance) * jr.normal(key, shape, dtype)
        return _synthesise(bases, field)

    def _basis(self, x: np.ndarray, period: float) -> np.ndarray:
        """Modes times the roots of their variances, which add up to 1."""
        # From κ ℓ = 7 on the spectrum exp(−κ²ℓ²/2) is below 3e-11.
        count = math.ceil(7.0 * period / (2 * np.pi * self.correlation_length))
        wavenumbers = 2 * np.pi * np.arange(count + 1) / period
        spectrum = np.exp(-((wavenumbers * self.correlation_length) ** 2) / 2)
        spectrum[1:] *= 2.0
        amplitude = np.sqrt(spectrum / spectrum.sum())
        angle = np.outer(x, wavenumbers)
        sines = (amplitude * np.sin(angle))[:, 1:]
        return np.concatenate([amplitude * np.cos(angle), sines], axis=1)


class LogNormalField(AbstractRandomField):
    """exp(mean + g) for a Gaussian field g: positive, smooth.

    **Arguments:**

    - `gaussian`: `GaussianField()` (default) or `SquaredExponentialField(…)`.
    - `mean`: of log a. Default 0.
    """

    gaussian: AbstractRandomField = GaussianField()
    mean: float = eqx.field(static=True, default=0.0)

    def sample(
        self, grid: Grid, *, key: PRNGKeyArray, closed: bool = False
    ) -> Float[Array, "*space"]:
        """One field, see `AbstractRandomField.sample`."""
        return jnp.exp(self.mean + self.gaussian.sample(grid, key=key, closed=closed))


class TwoPhaseField(AbstractRandomField):
    """`low` where a Gaussian field is below a threshold, `high` where it is not.

    **Arguments:**

    - `low`, `high`: the two values. Default 1 and 10.
    - `gaussian`: the field that decides. Default `GaussianField()`, τ = 3;
        `GaussianField(tau=20.0)` makes many small grains.
    - `threshold`: in the units of that field. Default 0: as much of one as of the other
        in the mean.
    """

    low: float = eqx.field(static=True, default=1.0)
    high: float = eqx.field(static=True, default=10.0)
    gaussian: AbstractRandomField = GaussianField()
    threshold: float = eqx.field(static=True, default=0.0)

    def sample(
        self, grid: Grid, *, key: PRNGKeyArray, closed: bool = False
    ) -> Float[Array, "*space"]:
        """One field, see `AbstractRandomField.sample`."""
        g = self.gaussian.sample(grid, key=key, closed=closed)
        low, high = jnp.asarray(self.low, g.dtype), jnp.asarray(self.high, g.dtype)
        return jnp.where(g >= self.threshold, high, low)


def _synthesise(bases: list[np.ndarray], field: Array) -> Array:
    """Σ_k field_k Π φ_k: one matrix (points × modes) per axis."""
    for axis, basis in enumerate(bases):
        matrix = jnp.asarray(basis, field.dtype)
        field = jnp.moveaxis(
            jnp.tensordot(matrix, field, (1, axis), precision="highest"), 0, axis
        )
    return field


def _noise(key: PRNGKeyArray, shape: tuple[int, ...]) -> Array:
    """N(0, 1) noise whose entry at mode k does not depend on how many modes there are.

    Each mode's number is folded into the key, so that a finer grid adds modes to the
    same field instead of drawing another one.
    """
    base = 2**16 if len(shape) < 3 else 2**10
    code = np.zeros(shape, np.uint32)
    for index in np.indices(shape, dtype=np.uint32):
        code = code * np.uint32(base) + index
    dtype = jnp.result_type(float)
    draw = lambda c: jr.normal(jr.fold_in(key, c), (), dtype)
    return jax.vmap(draw)(jnp.asarray(code.ravel())).reshape(shape)


def _cosines(x: np.ndarray, extent: float, count: int):
    k = np.arange(count)
    values = np.cos(np.pi * np.outer(x / extent, k)) * np.sqrt(2.0 / extent)
    values[:, 0] /= np.sqrt(2.0)
    return values, np.pi * k / extent


def _fourier(x: np.ndarray, extent: float, count: int):
    # 1, cos, sin, cos, sin, … : mode j has the wavenumber 2π ⌈j/2⌉ / extent.
    number = (np.arange(count) + 1) // 2
    angle = 2 * np.pi * np.outer(x / extent, number)
    values = np.where(np.arange(count) % 2, np.cos(angle), np.sin(angle))
    values[:, 0] = 1.0 / np.sqrt(2.0)
    return values * np.sqrt(2.0 / extent), 2 * np.pi * number / extent
