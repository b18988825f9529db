"""−∇·(a∇u) = f in three weak forms."""

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from .._serialisation import register
from ..grids import Grid
from ._ball_quadrature import AbstractBallQuadrature, GaussBall
from ._box import (
    check_radius,
    check_zero_sides,
    random_particles,
    vanishing,
)
from ._coefficients import AbstractCoefficient
from ._particles import Particles
from ._weak_form import AbstractWeakForm


@register
class PlainDiffusion(AbstractWeakForm):
    """One field u, tested: mean of a∇u·∇v − f v over the ball of each v.

    u is the raw field times Π sin(π ξ_k), which vanishes on the sides. No derivative of
    a is needed, but a∇u has to be continuous across jumps of a to make the residual of
    a small ball small, which a smooth u cannot: for those take `EquilibratedDiffusion`
    or `MixedDiffusion`.

    **Arguments:**

    - `grid`: where coefficients are given; u = 0 on all of its sides.
    - `coefficient`: `TwoPhaseCoefficient(…)` or `SmoothCoefficient(…)`.
    - `source`: f, a number other than 0. Residuals are in its units. Default 1.
    - `num_particles`: test functions per evaluation. Default 100.
    - `radius`: of their balls, in the units of the grid. Default 0.1. What rounding
        makes of a residual in single precision is about 7e-9 |a∇u|/(f radius): with the
        published 1e-4 it is a thousand times what it is with 0.1.
    - `quadrature`: default `GaussBall()`.

    **Raises:** `ValueError` for other boundary conditions, a source of 0, and balls
    that do not fit into the box.

    !!! example

        ```python
        from sciml.weak_forms import PlainDiffusion, SmoothCoefficient

        grid = sciml.grids.Grid((29, 29))
        form = PlainDiffusion(grid, SmoothCoefficient(), source=10.0)
        ```

    Source: Zang & Koutsourelakis, *DGenNO*, J. Comput. Phys. 538 (2025) 114137.
    """

    grid: Grid
    coefficient: AbstractCoefficient
    source: float = eqx.field(static=True, default=1.0)
    num_particles: int = eqx.field(static=True, default=100)
    radius: float = eqx.field(static=True, default=0.1)
    quadrature: AbstractBallQuadrature = GaussBall()

    def __check_init__(self):
        _check(self.grid, self.source, self.num_particles)
        check_radius(self.grid, self.radius)

    @property
    def outputs(self):
        """u and the coefficient."""
        return {"u": 1, "coefficient": 1}

    def draw(self, *, key) -> Particles:
        """Balls within the box."""
        return random_particles(
            self.grid, self.num_particles, self.radius, self.quadrature, key=key
        )

    def residuals(self, fields, coefficient, where):
        """`balance`: one number for each test function, in units of f."""
        _, gradient = self.solution(fields, _flat(where))
        flux = coefficient(_flat(where))[:, None] * gradient[0]
        return {"balance": _balance(where, flux, self.source)}

    def solution(self, fields, points):
        """The raw field times Π sin(π ξ_k)."""
        return vanishing(self.grid, fields("u", points), points)


@register
class MixedDiffusion(AbstractWeakForm):
    """Two fields, u and its flux s: s = a∇u at points, and −∇·s = f tested.

        flux       (s − a∇u) / (f L)              at the nodes of all balls
        balance    √w · mean of s·∇v − f v, / f   for each test function v

    with L the longest side. What has to be continuous, the flux across an interface, is
    so by itself where s is a network's, and no derivative of s or a is needed. (Along
    an interface the flux jumps, and s can follow it only as far as it is sharp.)

    **Arguments:** as of `PlainDiffusion`, and

    - `balance_weight`: w. Default 10, √(number of particles) as published.

    !!! example

        ```python
        from sciml.weak_forms import MixedDiffusion, TwoPhaseCoefficient

        grid = sciml.grids.Grid((29, 29))
        form = MixedDiffusion(grid, TwoPhaseCoefficient(5.0, 10.0), source=10.0)
        ```

    Source: as of `PlainDiffusion`.
    """

    grid: Grid
    coefficient: AbstractCoefficient
    source: float = eqx.field(static=True, default=1.0)
    num_particles: int = eqx.field(static=True, default=100)
    radius: float = eqx.field(static=True, default=0.1)
    quadrature: AbstractBallQuadrature = GaussBall()
    balance_weight: float = eqx.field(static=True, default=10.0)

    def __check_init__(self):
        _check(self.grid, self.source, self.num_particles)
        check_radius(self.grid, self.radius)
        if not 0 < self.balance_weight < float("inf"):
            raise ValueError(
                f"balance_weight: expected a positive number, got "
                f"{self.balance_weight}."
            )

    @property
    def outputs(self):
        """u, the flux, and the coefficient."""
        return {"u": 1, "flux": self.grid.ndim, "coefficient": 1}

    def draw(self, *, key) -> Particles:
        """Balls within the box."""
        return random_particles(
            self.grid, self.num_particles, self.radius, self.quadrature, key=key
        )

    def residuals(self, fields, coefficient, where):
        """`flux` and `balance`."""
        points = _flat(where)
        _, gradient = self.solution(fields, points)
        flux = fields("flux", points)[0].T
        law = flux - coefficient(points)[:, None] * gradient[0]
        scale = abs(self.source) * max(self.grid.extent)
        balance = _balance(where, flux, self.source)
        return {
            "flux": law.ravel() / scale,
            "balance": math.sqrt(self.balance_weight) * balance,
        }

    def solution(self, fields, points):
        """The raw field times Π sin(π ξ_k)."""
        return vanishing(self.grid, fields("u", points), points)


def _check(grid: Grid, source: float, count: int) -> None:
    check_zero_sides(grid)
    if not 0 < abs(source) < float("inf"):
        raise ValueError(f"source: expected a number other than 0, got {source}.")
    if count < 1:
        raise ValueError(f"num_particles: expected at least 1, got {count}.")


def _flat(particles: Particles) -> Array:
    return particles.nodes.reshape(-1, particles.ndim)


def _balance(particles: Particles, flux: Array, source: float) -> Array:
    """In units of the source."""
    shape = particles.nodes.shape
    against = jnp.full(shape[:2], source, flux.dtype)
    return particles.divergence(flux.reshape(shape), against) / source
