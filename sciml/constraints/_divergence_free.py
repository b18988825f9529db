"""Divergence-free fields: from a potential, or by projection."""

import math
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from .._registry import name_function
from .._serialisation import register
from ..grids import Grid, divergence
from ..grids._check import check_field


def spectral_symbol(grid: Grid, axis: int) -> np.ndarray:
    """k, where i k is the derivative of the grid's Fourier modes along an axis.

    0 for the highest mode of an even number of points, whose derivative is not seen on
    the grid.
    """
    n = grid.num_points[axis]
    k = 2 * math.pi / grid.extent[axis] * np.fft.fftfreq(n, 1 / n)
    return np.where(np.arange(n) * 2 == n, 0.0, k)


def central_symbol(grid: Grid, axis: int) -> np.ndarray:
    """sin(k h) / h: that of central differences, those of `sciml.grids.divergence`."""
    n = grid.num_points[axis]
    wave = np.sin(2 * math.pi * np.arange(n) / n)
    # (sin π is not 0 in floating point.)
    return np.where(np.arange(n) * 2 % n == 0, 0.0, wave) / grid.spacing[axis]


name_function("sciml.constraints.spectral_symbol", spectral_symbol)
name_function("sciml.constraints.central_symbol", central_symbol)


@register
class LerayProjection(eqx.Module):
    """The nearest divergence-free field, on a grid periodic along every axis.

        P v = v − ∇ Δ⁻¹ ∇·v,   in Fourier space  v̂ − k (k·v̂) / |k|²

    (Helmholtz decomposition: the part of v that is a gradient is taken out.) Linear and
    orthogonal in L2; the mean of each component is kept. Two and three dimensions.

    **Arguments:**

    - `grid`: periodic along every axis.
    - `symbol`: which discrete derivative has no divergence: `spectral_symbol` (default)
        that of the Fourier modes, `central_symbol` that of `sciml.grids.divergence`; or
        a function from (grid, axis) to the real numbers k of the grid's modes.

    `layer(v)`, with v of shape (ndim, `grid.num_points`) or with leading axes, is of
    v's shape. Zero divergence to the rounding of ‖k‖ ‖v‖; NaN stays NaN.

    **Raises:** `ValueError` for a grid that is not periodic or of one dimension, and
    for v of another shape.

    !!! example

        ```python
        import jax.random as jr
        from sciml.constraints import LerayProjection, central_symbol
        from sciml.grids import Grid, Periodic, divergence

        grid = Grid((32, 32), boundary=Periodic())
        v = LerayProjection(grid, central_symbol)(jr.normal(jr.key(0), (2, 32, 32)))
        divergence(v, grid)  # zero to rounding
        ```

    Source: Chorin and Marsden, *A Mathematical Introduction to Fluid Mechanics*, §1.3.
    """

    grid: Grid
    symbol: Callable[[Grid, int], np.ndarray] = eqx.field(
        static=True, default=spectral_symbol
    )

    def __check_init__(self):
        if self.grid.ndim == 1 or not all(self.grid.periodic):
            raise ValueError(
                "grid: expected two or three axes, all periodic, got "
                f"{self.grid.ndim} with periodic = {self.grid.periodic}. For other "
                "boundaries use `CurlOfPotential`."
            )

    def __call__(self, vector_field: ArrayLike) -> Float[Array, "..."]:
        """P v."""
        grid, v = self.grid, jnp.asarray(vector_field)
        expected = (grid.ndim, *grid.num_points)
        if v.shape[max(v.ndim - len(expected), 0) :] != expected:
            raise ValueError(
                f"vector_field: expected trailing shape {expected}, got {v.shape}."
            )
        if not jnp.issubdtype(v.dtype, jnp.floating):
            raise ValueError(f"vector_field: expected real values, got {v.dtype}.")
        waves = [np.asarray(self.symbol(grid, k), float) for k in range(grid.ndim)]
        # Half of the last axis's modes say it all for a real field.
        waves[-1] = waves[-1][: grid.num_points[-1] // 2 + 1]
        k = np.stack(np.meshgrid(*waves, indexing="ij"))
        length = np.sqrt(np.sum(k**2, axis=0))
        unit = jnp.asarray(k / np.where(length > 0, length, 1.0), v.dtype)
        axes = tuple(range(-grid.ndim, 0))
        modes = jnp.fft.rfftn(v, axes=axes)
        unit = unit[(None,) * (v.ndim - unit.ndim)].astype(modes.dtype)
        along = jnp.sum(unit * modes, axis=-grid.ndim - 1, keepdims=True)
        gradient_part = jnp.fft.irfftn(unit * along, s=grid.num_points, axes=axes)
        return v - gradient_part.astype(v.dtype)


@register
class CurlOfPotential(eqx.Module):
    """The curl of a potential: no divergence, whatever the potential.

        two dimensions    v = (∂ψ/∂x₂, −∂ψ/∂x₁),   ψ the stream function
        three             v = ∇ × A

    with the derivatives of `sciml.grids.divergence`. Along two different axes these
    commute, so that its value for v is zero to the rounding of |v| / h, for every
    boundary condition, up to the boundary.

    Dirichlet data are not used; where a side's nodes are stored and ψ is constant along
    it, no flow crosses it. On a periodic grid v has zero mean: add the mean flow.

    **Arguments:**

    - `grid`: two or three axes of at least 3 nodes each.

    `layer(ψ)`: ψ of shape `grid.num_points`, or (3, `grid.num_points`) in three
    dimensions, gives v of shape (ndim, `grid.num_points`).

    **Raises:** `ValueError` for a grid of one dimension, and for other shapes.

    !!! example

        ```python
        import jax.random as jr
        from sciml.constraints import CurlOfPotential
        from sciml.grids import Dirichlet, Grid, divergence

        grid = Grid((33, 33), boundary=Dirichlet(stored=True))
        v = CurlOfPotential(grid)(jr.normal(jr.key(0), (33, 33)))
        divergence(v, grid)  # zero to rounding
        ```
    """

    grid: Grid

    def __check_init__(self):
        if self.grid.ndim == 1:
            raise ValueError("grid: expected two or three axes, got one.")

    def __call__(self, potential: ArrayLike) -> Float[Array, "ndim *space"]:
        """v."""
        grid = self.grid
        flat = grid.ndim == 2
        shape = grid.num_points if flat else (3, *grid.num_points)
        potential = check_field("potential", potential, shape)

        def slope(field, axis):
            # The divergence of a field that points along one axis only.
            parts = [jnp.zeros_like(field)] * grid.ndim
            parts[axis] = field
            return divergence(jnp.stack(parts), grid)

        if flat:
            return jnp.stack([slope(potential, 1), -slope(potential, 0)])
        rows = [
            slope(potential[(k + 2) % 3], (k + 1) % 3)
            - slope(potential[(k + 1) % 3], (k + 2) % 3)
            for k in range(3)
        ]
        return jnp.stack(rows)
