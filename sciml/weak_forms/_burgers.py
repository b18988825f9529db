"""Burgers' equation between two ends where u = 0, in two weak forms."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from .._serialisation import register
from ..grids import Grid, Neumann
from ._ball_quadrature import AbstractBallQuadrature, GaussBall
from ._box import check_radius, check_zero_sides, random_particles, random_points
from ._coefficients import PrescribedValues
from ._particles import Particles
from ._weak_form import AbstractWeakForm, Fields


class AbstractBurgers(AbstractWeakForm):
    """What forms of u_t + u u_x = ν u_xx share.

    Points are (t, x), ξ = 0 … 1 is x between the ends, and the "coefficient" is u at
    t = 0: there is no field of its own for it.
    """

    coefficient: eqx.AbstractVar[PrescribedValues]  # pyright: ignore[reportIncompatibleVariableOverride]
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


def _at_start(points: Float[Array, "num 1"]) -> Float[Array, "num 2"]:
    """(0, x)."""
    return jnp.concatenate([jnp.zeros_like(points), points], 1)


@register
class PlainBurgers(AbstractBurgers):
    """One field, tested in space: for test functions v around x_c at random times t_c

        balance    mean of (u_t + u u_x) v + ν u_x v_x, in units of U²/L

    with U the scale of the states and L the length. u is the raw field times sin(π ξ).
    No second derivative is needed.

    **Arguments:**

    - `grid`: where initial states are given; one axis, u = 0 at both ends.
    - `coefficient`: `PrescribedValues(…)`.
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
        from sciml.weak_forms import PrescribedValues, PlainBurgers

        grid = Grid((128,), 2.0, Dirichlet(stored=True), -1.0)
        form = PlainBurgers(grid, PrescribedValues(), viscosity=0.1 / 3.1416)
        ```

    Source: Zang & Koutsourelakis, *DGenNO*, J. Comput. Phys. 538 (2025) 114137.
    """

    grid: Grid
    coefficient: PrescribedValues
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

    def raw_coefficient(self, fields, points):
        """u at t = 0."""
        return self.solution(fields, _at_start(points))[0][0]


@register
class PotentialBurgers(AbstractBurgers):
    """One field, a potential φ with u = φ_x, for which Burgers' equation is

        flux       (φ_t + u²/2 − ν u_x)/U²     at random points

    Its derivative by x is Burgers' equation: what is asked for is one integration
    weaker, so that long waves weigh as they do in the solution, and for any φ the
    density φ_x and the flux −φ_t obey the conservation law exactly. φ is a function of
    t and cos(π ξ), even about both ends, as the potential of a solution is: u = 0 holds
    there. The initial state is φ_x at t = 0, so that it is exact up to what is decoded
    wrongly.

    **Arguments:** `grid`, `coefficient`, `viscosity`, `final_time`, `num_times` as of
    `PlainBurgers`, and

    - `num_points`: drawn per evaluation by Latin hypercube. Default 300.

    **Raises:** as `PlainBurgers`.

    !!! example

        ```python
        from sciml.grids import Dirichlet, Grid
        from sciml.weak_forms import PrescribedValues, PotentialBurgers

        grid = Grid((128,), 2.0, Dirichlet(stored=True), -1.0)
        form = PotentialBurgers(grid, PrescribedValues(), viscosity=0.1 / 3.1416)
        ```

    Source: for the potential, E. Hopf, *The partial differential equation u_t + u u_x =
    μ u_xx*, Comm. Pure Appl. Math. 3 (1950), 201–230; that it is trained on is ours.
    """

    grid: Grid
    coefficient: PrescribedValues
    viscosity: float = eqx.field(static=True)
    final_time: float = eqx.field(static=True, default=1.0)
    num_times: int = eqx.field(static=True, default=101)
    num_points: int = eqx.field(static=True, default=300)

    def __check_init__(self):
        if self.num_points < 1:
            raise ValueError(f"num_points: expected at least 1, got {self.num_points}.")

    @property
    def outputs(self):
        """φ."""
        return {"potential": 1}

    def draw(self, *, key) -> Float[Array, "num 2"]:
        """A Latin hypercube of times and places."""
        return random_points(self.domain, self.num_points, key=key)

    def residuals(self, fields, coefficient, where):
        """`flux`, one number for each point."""
        del coefficient
        (rate, u), (_, slope) = self._derivative(fields, where, 1)
        flux = u**2 / 2 - self.viscosity * slope
        return {"flux": (rate + flux) / self.coefficient.scale**2}

    def solution(self, fields, points):
        """φ_x, and (∂/∂t, ∂/∂x) of that."""
        (_, u), (_, rate) = self._derivative(fields, points, 0)
        _, (_, slope) = self._derivative(fields, points, 1)
        return u[None], jnp.stack([rate, slope], 1)[None]

    def raw_coefficient(self, fields, points):
        """φ_x at t = 0."""
        return self._slopes(fields, _at_start(points))[1]

    def _slopes(self, fields: Fields, points: Float[Array, "num 2"]) -> Array:
        """φ_t and φ_x."""
        length, low = self.grid.extent[0], self.grid.origin[0]
        angle = math.pi / length * (points[:, 1] - low)
        # (Between the ends as well, so that the field has the box that it knows.)
        folded = low + length / 2 * (1 - jnp.cos(angle))
        _, (slopes,) = fields("potential", jnp.stack([points[:, 0], folded], 1))
        by_place = slopes[:, 1] * (math.pi / 2) * jnp.sin(angle)
        return self.coefficient.scale * jnp.stack([slopes[:, 0], by_place])

    def _derivative(self, fields: Fields, points: Array, axis: int) -> tuple:
        """Both slopes, and their derivatives by t or x, in forward mode."""
        direction = jnp.zeros_like(points).at[:, axis].set(1)
        return jax.jvp(lambda p: self._slopes(fields, p), (points,), (direction,))
