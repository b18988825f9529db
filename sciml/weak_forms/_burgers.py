"""Burgers' equation between two ends where u = 0, in two weak forms."""

import math

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from .._serialisation import register
from ..grids import Grid, Neumann
from ._ball_quadrature import AbstractBallQuadrature, GaussBall
from ._box import check_radius, check_zero_sides, random_particles, random_points
from ._coefficients import InitialState
from ._particles import Particles
from ._weak_form import AbstractWeakForm


class AbstractBurgers(AbstractWeakForm):
    """What forms of u_t + u u_x = ν u_xx share.

    Points are (t, x). u is the raw field times sin(π ξ), ξ = 0 … 1 between the ends,
    and the "coefficient" is u at t = 0: there is no field of its own for it.
    """

    coefficient: eqx.AbstractVar[InitialState]  # pyright: ignore[reportIncompatibleVariableOverride]
    viscosity: eqx.AbstractVar[float]
    final_time: eqx.AbstractVar[float]
    num_times: eqx.AbstractVar[int]

    def __check_init__(self):
        check_zero_sides(self.grid)
        if self.grid.ndim != 1:
            raise ValueError(f"grid: expected one axis, got {self.grid.ndim}.")
        for name in ("viscosity", "final_time"):
            number = getattr(self, name)
            if not 0 < number < float("inf"):
                raise ValueError(f"{name}: expected a positive number, got {number}.")
        if self.num_times < 2:
            raise ValueError(
                f"num_times: expected at least 2, the first and the last, got "
                f"{self.num_times}."
            )

    @property
    def domain(self) -> Grid:
        """Times from 0 on, by places."""
        return Grid(
            (self.num_times, *self.grid.num_points),
            (self.final_time, *self.grid.extent),
            (Neumann(), *self.grid.boundary),
            (0.0, *self.grid.origin),
        )

    def solution(self, fields, points):
        """The raw field times sin(π ξ), and (∂/∂t, ∂/∂x) of that."""
        (value,), (slopes,) = fields("u", points)
        scale = self.coefficient.scale
        length, low = self.grid.extent[0], self.grid.origin[0]
        angle = math.pi / length * (points[:, 1] - low)
        sine, cosine = scale * jnp.sin(angle), scale * jnp.cos(angle)
        slope = slopes[:, 1] * sine + value * (math.pi / length) * cosine
        gradient = jnp.stack([slopes[:, 0] * sine, slope], 1)
        return (value * sine)[None], gradient[None]


def _at_start(points: Float[Array, "num 1"]) -> Float[Array, "num 2"]:
    """(0, x)."""
    return jnp.concatenate([jnp.zeros_like(points), points], 1)


@register
class PlainBurgers(AbstractBurgers):
    """One field, tested in space: for test functions v around x_c at random times t_c

        balance    mean of (u_t + u u_x) v + ν u_x v_x, in units of U²/L

    with U the scale of the states and L the length. No second derivative is needed.

    **Arguments:**

    - `grid`: where initial states are given; one axis, u = 0 at both ends.
    - `coefficient`: `InitialState(…)`.
    - `viscosity`: ν > 0.
    - `final_time`: default 1.
    - `num_times`: at which u is asked for, evenly spaced from 0 on. Default 101.
    - `num_particles`: test functions per evaluation. Default 100.
    - `radius`: of their balls, in the units of the grid. Default 0.1.
    - `quadrature`: default `GaussBall()`.

    **Raises:** `ValueError` for other conditions at the ends and numbers out of range.

    !!! example

        ```python
        from sciml.grids import Dirichlet, Grid
        from sciml.weak_forms import InitialState, PlainBurgers

        grid = Grid((128,), 2.0, Dirichlet(stored=True), -1.0)
        form = PlainBurgers(grid, InitialState(), viscosity=0.1 / 3.1416)
        ```

    Source: Zang & Koutsourelakis, *DGenNO*, J. Comput. Phys. 538 (2025) 114137.
    """

    grid: Grid
    coefficient: InitialState
    viscosity: float = eqx.field(static=True)
    final_time: float = eqx.field(static=True, default=1.0)
    num_times: int = eqx.field(static=True, default=101)
    num_particles: int = eqx.field(static=True, default=100)
    radius: float = eqx.field(static=True, default=0.1)
    quadrature: AbstractBallQuadrature = GaussBall()

    def __check_init__(self):
        check_radius(self.grid, self.radius)
        if self.num_particles < 1:
            raise ValueError(
                f"num_particles: expected at least 1, got {self.num_particles}."
            )

    @property
    def outputs(self):
        """u."""
        return {"u": 1}

    def draw(self, *, key) -> tuple[Float[Array, " num"], Particles]:
        """Times, and balls between the ends."""
        time_key, key = jr.split(key)
        particles = random_particles(
            self.grid, self.num_particles, self.radius, self.quadrature, key=key
        )
        times = self.final_time * jr.uniform(time_key, (self.num_particles,))
        return times, particles

    def residuals(self, fields, coefficient, where):
        """`balance`: one number for each test function."""
        del coefficient
        times, particles = where
        places = particles.nodes
        t = jnp.broadcast_to(times[:, None, None], places.shape)
        points = jnp.concatenate([t, places], -1).reshape(-1, 2)
        (u,), (slopes,) = self.solution(fields, points)
        rate = (slopes[:, 0] + u * slopes[:, 1]).reshape(places.shape[:2])
        flux = self.viscosity * slopes[:, 1].reshape(places.shape)
        balance = particles.divergence(flux, -rate)
        return {"balance": balance * self.grid.extent[0] / self.coefficient.scale**2}

    def raw_coefficient(self, fields, points):
        """u at t = 0."""
        return self.solution(fields, _at_start(points))[0][0]


@register
class EquilibratedBurgers(AbstractBurgers):
    """Two fields, u and a potential φ with φ_x = u and φ_t = −(u²/2 − ν u_x):

        density    (φ_x − u)/U
        flux       (φ_t + u²/2 − ν u_x)/U²         at random points

    For any φ the density φ_x and the flux −φ_t obey the conservation law exactly. What
    is left to ask for are two algebraic equations, without second derivatives and test
    functions, in which a residual counts by its integral in place and time rather than
    at points: long waves weigh as they do in the solution.

    **Arguments:** `grid`, `coefficient`, `viscosity`, `final_time`, `num_times` as of
    `PlainBurgers`, and

    - `num_points`: drawn per evaluation by Latin hypercube. Default 576.

    !!! example

        ```python
        from sciml.grids import Dirichlet, Grid
        from sciml.weak_forms import EquilibratedBurgers, InitialState

        grid = Grid((128,), 2.0, Dirichlet(stored=True), -1.0)
        form = EquilibratedBurgers(grid, InitialState(), viscosity=0.1 / 3.1416)
        ```
    """

    grid: Grid
    coefficient: InitialState
    viscosity: float = eqx.field(static=True)
    final_time: float = eqx.field(static=True, default=1.0)
    num_times: int = eqx.field(static=True, default=101)
    num_points: int = eqx.field(static=True, default=576)

    def __check_init__(self):
        if self.num_points < 1:
            raise ValueError(f"num_points: expected at least 1, got {self.num_points}.")

    @property
    def outputs(self):
        """u and φ."""
        return {"u": 1, "potential": 1}

    def draw(self, *, key) -> Float[Array, "num 2"]:
        """A Latin hypercube of times and places."""
        return random_points(self.domain, self.num_points, key=key)

    def residuals(self, fields, coefficient, where):
        """`density` and `flux`, one number each for each point."""
        del coefficient
        (u,), (slopes,) = self.solution(fields, where)
        _, (potential,) = fields("potential", where)
        scale = self.coefficient.scale
        # (In units in which the raw field is of size 1.)
        potential = scale * potential
        flux = u**2 / 2 - self.viscosity * slopes[:, 1]
        return {
            "density": (potential[:, 1] - u) / scale,
            "flux": (potential[:, 0] + flux) / scale**2,
        }

    def raw_coefficient(self, fields, points):
        """φ_x at t = 0: of u a thin layer could be anything, at no cost."""
        _, (potential,) = fields("potential", _at_start(points))
        return self.coefficient.scale * potential[:, 1]
