"""Slow flow around a cylinder in a channel, by two potentials."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._serialisation import register
from ..grids import Grid
from ._box import check_zero_sides
from ._channel import Channel
from ._coefficients import PrescribedValues
from ._weak_form import AbstractWeakForm, Fields

# What the decoded force is in units of: drag is about 4πμU/log(height/radius).
_FORCE = 10.0


@register
class StokesChannel(AbstractWeakForm):
    """−∇·σ = 0, ∇·u = 0 with σ = −p + μ(∇u + ∇uᵀ), around a cylinder in a channel.

    The fluid enters at x = 0 with u = (a(y), 0), sticks to the walls and the cylinder,
    and leaves at x = L with p = 0 and no velocity across. The "coefficient" is a.

    Velocities come from a stream function ψ and stresses from Airy's function χ,

        u = (ψ_y, −ψ_x),    σ = (χ_yy, −χ_xy; −χ_xy, χ_xx) + stress of a point force

    so that ∇·u = 0 and ∇·σ = 0 hold exactly. (χ alone could carry no force to the
    cylinder: its derivatives would have to jump behind it. Force and torque of the
    fluid on the cylinder are three more numbers that are decoded.) ψ is made such that
    all conditions on the velocity hold exactly, and χ such that p = 0 does. What is
    left to ask for is the law of the fluid, at random points:

        law     dev σ − 2μ ε(u), ε = (∇u + ∇uᵀ)/2, in units of μU/height

    By Prager and Synge's identity its square, integrated, is the sum of the squared
    errors of both in the energy norm, however far off they are:

        ∫ |dev σ − 2με(u)|²/(2μ) = ∫ 2μ |ε(u − u*)|² + ∫ |dev(σ − σ*)|²/(2μ)

    with the flow u*, σ* that enters as the decoded one does. `error_bound` is the
    certificate that comes with it.

    The solution's channels are u, v and p; in the cylinder they are 0.

    **Arguments:**

    - `grid`: where a is given; one axis, 0 at both ends: the walls.
    - `coefficient`: `PrescribedValues(…)` of a.
    - `viscosity`: μ > 0. Default 0.01.
    - `length`: L. Default 2.
    - `centre`, `radius`: of the cylinder. Default (0.5, 0.6) and 0.1.
    - `num_points`: nodes of `domain`, along the channel and across. Default 65 × 33.
    - `num_samples`: points drawn per evaluation, 30 % of them around the cylinder.
        Default 300.

    **Raises:** `ValueError` for other conditions at the ends, a cylinder that is not
    within the channel, and numbers out of range.

    !!! example

        ```python
        from sciml.grids import Dirichlet, Grid
        from sciml.weak_forms import PrescribedValues, StokesChannel

        grid = Grid((65,), boundary=Dirichlet(stored=True))
        form = StokesChannel(grid, PrescribedValues(scale=2.5))
        ```

    Source: the problem is of Zang & Koutsourelakis, *DGenNO*, J. Comput. Phys. 538
    (2025) 114137; the potentials are classical (N. I. Muskhelishvili, *Some basic
    problems of the mathematical theory of elasticity*, 1953, §§ 30–36); that they are
    trained on is ours.
    """

    grid: Grid
    coefficient: PrescribedValues
    viscosity: float = eqx.field(static=True)
    length: float = eqx.field(static=True)
    centre: tuple[float, ...] = eqx.field(static=True)
    radius: float = eqx.field(static=True)
    num_points: tuple[int, ...] = eqx.field(static=True)
    num_samples: int = eqx.field(static=True)

    def __init__(
        self,
        grid: Grid,
        coefficient: PrescribedValues,
        viscosity: float = 0.01,
        length: float = 2.0,
        centre: Sequence[float] = (0.5, 0.6),
        radius: float = 0.1,
        num_points: Sequence[int] = (65, 33),
        num_samples: int = 300,
    ):
        self.grid = grid
        self.coefficient = coefficient  # pyright: ignore[reportIncompatibleVariableOverride]
        self.viscosity, self.length = float(viscosity), float(length)
        self.centre = tuple(float(c) for c in centre)
        self.radius = float(radius)
        self.num_points = tuple(int(n) for n in num_points)
        self.num_samples = num_samples
        check_zero_sides(grid)
        if grid.ndim != 1:
            raise ValueError(f"grid: expected one axis, got {grid.ndim}.")
        for name, pair in (("centre", self.centre), ("num_points", self.num_points)):
            if len(pair) != 2:
                raise ValueError(f"{name}: expected two numbers, got {pair}.")
        if not 0 < self.viscosity < float("inf"):
            raise ValueError(f"viscosity: expected a positive number, got {viscosity}.")
        if num_samples < 1:
            raise ValueError(f"num_samples: expected at least 1, got {num_samples}.")
        _ = self.channel, self.domain  # they refuse what is out of range

    @property
    def channel(self) -> Channel:
        """Where the fluid is."""
        (height,), (low,) = self.grid.extent, self.grid.origin
        return Channel(self.length, low, height, self.centre, self.radius)

    @property
    def domain(self) -> Grid:
        """The channel, the cylinder included."""
        return Grid(
            self.num_points,
            (self.length, *self.grid.extent),
            (self.grid.boundary[0], *self.grid.boundary),
            (0.0, *self.grid.origin),
        )

    def covers(self, points):
        """Not in the cylinder."""
        return ~self.channel.within(points)

    @property
    def outputs(self):
        """ψ at the entrance and within, χ, and five numbers.

        They are the flux, ψ on the cylinder, and force and torque on it.
        """
        return {"coefficient": 1, "stream": 1, "stress": 1, "numbers": 5}

    def draw(self, *, key) -> tuple[Float[Array, "num 2"], Float[Array, " num"]]:
        """Points, and the roots of their weights."""
        return self.channel.draw(self.num_samples, key=key)

    def residuals(self, fields, coefficient, where):
        """`law`, two numbers for each point."""
        del coefficient
        points, roots = where
        points = self.channel.outside(points)
        strain = self._strain(fields, points)
        stress = self.stress(fields, points)
        unit = self.viscosity * self.coefficient.scale / self.grid.extent[0]
        law = roots[None].astype(points.dtype) * _law(stress, strain, self.viscosity)
        return {"law": (law / unit).ravel()}

    def solution(self, fields, points):
        """u, v and p, and their gradients."""
        moved = self.channel.outside(points)
        fluid = ~self.channel.within(points)[None]
        flow = lambda points: self._flow(fields, points)
        values, by_x, by_y = _slopes(flow, moved)
        gradients = jnp.stack([by_x, by_y], -1)
        return jnp.where(fluid, values, 0), jnp.where(fluid[..., None], gradients, 0)

    def values(self, fields, points):
        """u, v and p."""
        fluid = ~self.channel.within(points)[None]
        return jnp.where(fluid, self._flow(fields, self.channel.outside(points)), 0)

    def raw_coefficient(self, fields, points):
        """u at x = 0."""
        flux = self._numbers(fields, points.dtype)[0]
        across = lambda y: self._entering(fields, y, flux)
        direction = jnp.ones(points.shape[:1], points.dtype)
        return jax.jvp(across, (points[:, 0],), (direction,))[1]

    def stream(
        self, fields: Fields, points: Float[Array, "num 2"]
    ) -> Float[Array, " num"]:
        """ψ: 0 on the lower wall; constant, with slope 0, on all solid surfaces."""
        flux, around, *_ = self._numbers(fields, points.dtype)
        along = jnp.sin(math.pi / (2 * self.length) * points[:, 0])
        (value,), _ = fields("stream", self._folded(points))
        bump = jnp.sin(math.pi * self._across(points[:, 1])) ** 2
        entering = self._entering(fields, points[:, 1], flux)
        unit = self.coefficient.scale * self.grid.extent[0]
        free = entering + unit * bump * along**2 * value
        cut = self.channel.cut_off(points)
        return cut * free + (1 - cut) * unit * around

    def stress(
        self, fields: Fields, points: Float[Array, "num 2"]
    ) -> Float[Array, "3 num"]:
        """σ_xx, σ_yy and σ_xy."""
        unit = self.viscosity * self.coefficient.scale * self.grid.extent[0]

        def airy(points):
            (value,), _ = fields("stress", self._folded(points))
            return unit * (self.length - points[:, 0]) / self.grid.extent[0] * value

        xx, xy, yy = _second(airy, points)
        force, torque = self.force(fields, points.dtype)
        mirrored = jnp.stack([2 * self.length - points[:, 0], points[:, 1]], 1)
        near = _point_stress(points, self.centre, force, torque)
        far = _point_stress(mirrored, self.centre, force, torque)
        # (The mirror image behind the exit leaves no σ_xx there.)
        signs = jnp.array([[-1], [-1], [1]], points.dtype)
        return jnp.stack([yy, xx, -xy]) + near + signs * far

    def force(
        self, fields: Fields, dtype: jnp.dtype
    ) -> tuple[Float[Array, "2"], Float[Array, ""]]:
        """Of the fluid on the cylinder, per depth: ∮ σn, and its torque.

        n points into the fluid; the torque is about the centre, anticlockwise.
        """
        unit = self.viscosity * self.coefficient.scale
        numbers = self._numbers(fields, dtype)
        return _FORCE * unit * numbers[2:4], unit * self.grid.extent[0] * numbers[4]

    def error_bound(
        self, fields: Fields, coefficient: Callable[[Array], Array]
    ) -> Float[Array, ""]:
        """A bound on the error of u in the energy norm, relative to the flow's.

            η² = ∫ |dev σ − 2με(u)|²/(2μ)  ≥ ‖u − u*‖²,   ‖u‖² = ∫ 2μ |ε(u)|²
            η / √(‖u‖² − η²), of which the root is at most ‖u*‖

        u* is the flow that enters as the decoded one does. It holds for all fields, up
        to the error of the quadrature (Gauss's nodes on rays). Infinite where η is not
        below ‖u‖.

        **Arguments:** as of `residuals`.
        """
        del coefficient
        points, weights = self.channel.quadrature()
        dtype = self._numbers(fields, jnp.result_type(float)).dtype
        points, weights = jnp.asarray(points, dtype), jnp.asarray(weights, dtype)
        strain = self._strain(fields, points)
        law = _law(self.stress(fields, points), strain, self.viscosity)
        off = jnp.sum(weights * jnp.sum(law**2, 0)) / self.viscosity
        energy = 4 * self.viscosity * jnp.sum(weights * jnp.sum(strain**2, 0))
        known = energy > off
        rest = jnp.where(known, energy - off, 1)
        return jnp.where(known, jnp.sqrt(off / rest), jnp.inf)

    def _flow(self, fields: Fields, points: Array) -> Float[Array, "3 num"]:
        stress = self.stress(fields, points)
        _, by_x, by_y = _slopes(lambda p: self.stream(fields, p), points)
        return jnp.stack([by_y, -by_x, -(stress[0] + stress[1]) / 2])

    def _strain(self, fields: Fields, points: Array) -> Float[Array, "2 num"]:
        """ε_xx = −ε_yy and ε_xy."""
        xx, xy, yy = _second(lambda p: self.stream(fields, p), points)
        return jnp.stack([xy, (yy - xx) / 2])

    def _numbers(self, fields: Fields, dtype: jnp.dtype) -> Float[Array, "5"]:
        return fields("numbers", jnp.asarray([self.centre], dtype))[0][:, 0]

    def _entering(self, fields: Fields, y: Float[Array, " num"], flux: Array) -> Array:
        """ψ at x = 0: 0 and the flux on the walls, with slope 0."""
        (value,), _ = fields("coefficient", y[:, None])
        place = self._across(y)
        rising = place**2 * (3 - 2 * place)
        unit = self.coefficient.scale * self.grid.extent[0]
        return unit * (flux * rising + jnp.sin(math.pi * place) ** 2 * value)

    def _across(self, y: Array) -> Array:
        return (y - self.grid.origin[0]) / self.grid.extent[0]

    def _folded(self, points: Array) -> Float[Array, "num 2"]:
        """Flows are even about the exit: their mirror image would go on behind it."""
        angle = math.pi / (2 * self.length) * points[:, 0]
        return jnp.stack([self.length * jnp.sin(angle), points[:, 1]], 1)


def _law(stress: Array, strain: Array, viscosity: float) -> Float[Array, "2 num"]:
    """dev σ − 2με: xx and xy."""
    xx, yy, xy = stress
    return jnp.stack([(xx - yy) / 2, xy]) - 2 * viscosity * strain


def _slopes(function: Callable[[Array], Any], points: Array) -> tuple:
    """A function's values, and derivatives by x and y, in forward mode.

    (Fields come with gradients, but a second derivative in two directions of those
    would be two of each mixed one, which no compiler sees to be the same: half as slow
    again as going through the values three times.)
    """
    along = [jnp.zeros_like(points).at[:, axis].set(1) for axis in range(2)]
    value, by_x = jax.jvp(function, (points,), (along[0],))
    return value, by_x, jax.jvp(function, (points,), (along[1],))[1]


def _second(function: Callable[[Array], Array], points: Array) -> tuple:
    """Derivatives by xx, xy and yy."""
    first = lambda p: _slopes(function, p)[1:]
    _, (xx, xy), (_, yy) = _slopes(first, points)
    return xx, xy, yy


def _point_stress(
    points: Array, centre: Sequence[float], force: Array, torque: Array
) -> Float[Array, "3 num"]:
    """Of the flow around a point that takes up a force and a torque: xx, yy, xy.

    σ_ij = d_i d_j (F·d)/(π d⁴) + T/(2π d⁴) (−2 d_x d_y, 2 d_x d_y; d_x² − d_y²)
    """
    away = points - jnp.asarray([centre], points.dtype)
    x, y = away[:, 0], away[:, 1]
    square = x**2 + y**2
    pull = (force[0] * x + force[1] * y) / (math.pi * square**2)
    turn = torque / (2 * math.pi * square**2)
    return jnp.stack(
        [
            pull * x**2 - 2 * turn * x * y,
            pull * y**2 + 2 * turn * x * y,
            pull * x * y + turn * (x**2 - y**2),
        ]
    )
