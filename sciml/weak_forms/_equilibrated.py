"""−∇·(a∇u) = f with fluxes that balance exactly."""

import math
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._serialisation import register
from ..grids import Grid
from ._box import check_zero_sides, random_points, vanishing
from ._coefficients import AbstractCoefficient
from ._weak_form import AbstractWeakForm, Fields


@register
class EquilibratedDiffusion(AbstractWeakForm):
    """Two fields, u and a stream function ψ, whose flux obeys −∇·s = f for every ψ:

        s = −f (x − x_0)/2 + (∂ψ/∂x_2, −∂ψ/∂x_1),    x_0 the middle of the box
        flux    (s − a∇u)/√a at random points, over the root mean square of
                f |x − x_0| / (2√a)

    All that is left to ask for is s = a∇u, without any test function, and that is a
    measure of the error: by Prager and Synge's identity

        ∫ |s − a∇u|²/a = ∫ a |∇(u − u*)|² + ∫ |s − s*|²/a

    with the solution u* and its flux s* = a∇u*, however far off u and s are. The mean
    square of the residual is therefore, in expectation, a sum of squared energy errors,
    in which long and short waves weigh as they do in the solution. `error_bound` is the
    certificate that comes with it. Coefficients may jump.

    **Arguments:**

    - `grid`: where coefficients are given; two axes, u = 0 on all sides.
    - `coefficient`: `TwoPhaseCoefficient(…)` or `SmoothCoefficient(…)`.
    - `source`: f, a number other than 0. Default 1.
    - `num_points`: drawn per evaluation by Latin hypercube. Default 576.

    **Raises:** `ValueError` for other boundary conditions, numbers of axes, and a
    source of 0.

    !!! example

        ```python
        from sciml.weak_forms import EquilibratedDiffusion, TwoPhaseCoefficient

        grid = sciml.grids.Grid((29, 29))
        form = EquilibratedDiffusion(grid, TwoPhaseCoefficient(5.0, 10.0), source=10.0)
        ```

    Source: W. Prager & J. L. Synge, *Approximations in elasticity based on the concept
    of function space*, Q. Appl. Math. 5 (1947), 241–269.
    """

    grid: Grid
    coefficient: AbstractCoefficient
    source: float = eqx.field(static=True, default=1.0)
    num_points: int = eqx.field(static=True, default=576)

    def __check_init__(self):
        check_zero_sides(self.grid)
        if self.grid.ndim != 2:
            raise ValueError(
                f"grid: a stream function needs two axes, got {self.grid.ndim}; take "
                "MixedDiffusion."
            )
        if not 0 < abs(self.source) < float("inf"):
            raise ValueError(
                f"source: expected a number other than 0, got {self.source}."
            )
        if self.num_points < 1:
            raise ValueError(f"num_points: expected at least 1, got {self.num_points}.")

    @property
    def outputs(self):
        """u, ψ, and the coefficient."""
        return {"u": 1, "stream": 1, "coefficient": 1}

    def draw(self, *, key) -> Float[Array, "num ndim"]:
        """A Latin hypercube of the box."""
        return random_points(self.grid, self.num_points, key=key)

    def residuals(self, fields, coefficient, where):
        """`flux`, two numbers for each point."""
        _, gradient = self.solution(fields, where)
        a = coefficient(where)[:, None]
        law = (self.flux(fields, where) - a * gradient[0]) / jnp.sqrt(a)
        size = jnp.sqrt(jnp.mean(jnp.sum(self._uneven(where) ** 2, 1) / a[:, 0]))
        return {"flux": (law / size).ravel()}

    def solution(self, fields, points):
        """The raw field times Π sin(π ξ_k)."""
        return vanishing(self.grid, fields("u", points), points)

    def flux(
        self, fields: Fields, points: Float[Array, "num 2"]
    ) -> Float[Array, "num 2"]:
        """s at points: −∇·s = f."""
        (slope,) = fields("stream", points)[1]
        return self._uneven(points) + jnp.stack([slope[:, 1], -slope[:, 0]], 1)

    def error_bound(
        self, fields: Fields, coefficient: Callable[[Array], Array]
    ) -> Float[Array, ""]:
        """A bound on the error of u in the energy norm, relative to the solution's.

            η² = ∫ |s − a∇u|²/a  ≥ ∫ a |∇(u − u*)|²
            η / √(2 ∫ f u − ∫ a |∇u|²),   of which the root is at most ‖u*‖

        It holds for every u and ψ, trained well or not, up to the error of the
        quadrature (2 × 2 Gauss nodes in each quarter of a cell, between which a
        coefficient of two phases does not jump). Infinite where u is so far off that
        nothing is known of ‖u*‖: its energy is then not below that of u = 0.

        **Arguments:** as of `residuals`.
        """
        points, weights = _gauss(self.grid)
        dtype = fields("u", points[:1])[0].dtype
        points, weights = points.astype(dtype), weights.astype(dtype)
        value, gradient = self.solution(fields, points)
        a = coefficient(points)
        law = self.flux(fields, points) - a[:, None] * gradient[0]
        off = jnp.sum(weights * jnp.sum(law**2, 1) / a)
        energy = jnp.sum(weights * a * jnp.sum(gradient[0] ** 2, 1))
        lower = 2 * self.source * jnp.sum(weights * value[0]) - energy
        known = lower > 0
        return jnp.where(known, jnp.sqrt(off / jnp.where(known, lower, 1)), jnp.inf)

    def _uneven(self, points: Array) -> Array:
        """−f (x − x_0)/2."""
        middle = np.add(self.grid.origin, np.divide(self.grid.extent, 2))
        return -self.source / 2 * (points - jnp.asarray(middle, points.dtype)[None])


def _gauss(grid: Grid) -> tuple[Float[Array, "num 2"], Float[Array, " num"]]:
    """Two nodes along each axis between nodes and middles of cells."""
    axes = []
    for length, origin, spacing in zip(
        grid.extent, grid.origin, grid.spacing, strict=True
    ):
        pieces = 2 * round(length / spacing)
        size = length / pieces
        middles = (np.arange(pieces) + 0.5) * size + origin
        shift = size / (2 * math.sqrt(3))
        axes.append((np.sort(np.r_[middles - shift, middles + shift]), size / 2))
    mesh = np.meshgrid(*(axis for axis, _ in axes), indexing="ij")
    points = np.stack([m.ravel() for m in mesh], 1)
    weight = math.prod(weight for _, weight in axes)
    dtype = jnp.result_type(float)
    return jnp.asarray(points, dtype), jnp.full(len(points), weight, dtype)
