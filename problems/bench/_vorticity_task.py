"""Decaying flow on a torus in space and time, as rows for a least-squares solve."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.constraints import GridPartition
from sciml.grids import GaussianField, Grid, Neumann, Periodic
from sciml.neural_operators import AbstractCoordinates

from .._fourier import FourierSpace
from .._navier_stokes import NavierStokesVorticity
from ._equation_rows import AbstractEquationRows, BasisNetwork, TrainingSize

# The benchmark's initial vorticity has eddies that turn once in about 40 units of time.
_STRENGTH = 30.0


class TimeCoordinate(AbstractCoordinates):
    """t alone: places on a torus are all alike."""

    def num_channels(self, ndim: int) -> int:
        """One."""
        return 1

    def __call__(self, grid: Grid) -> np.ndarray:
        """The last position, shape `(1, *space)`."""
        return np.stack(grid.mesh())[-1:]


@dataclasses.dataclass(frozen=True, eq=False)
class VorticityRows(AbstractEquationRows):
    """ω − ω(0) = ∫ (ν Δω − u·∇ω) dt at each node, from a flow that only diffuses.

    Derivatives in space are spectral, the integral is that of trapezoids. The offset is
    e^{νtΔ} ω(0), the mollifier t/T: initial values are exact, as published, and there
    is no other condition. With ω goes its stream function, −Δψ = ω, whose weights are
    those of ω. What an expert takes for the velocity is that of its own vorticity,
    continued everywhere, unless ψ fits together at seams as ω does.
    """

    problem: NavierStokesVorticity

    @classmethod
    def of(cls, size, until=None):
        """The published viscosity is for the published grid."""
        nodes = (size.num_points, size.num_points)
        published = size.num_points >= 64
        problem = NavierStokesVorticity(
            nodes,
            1e-4 if published else 1e-3,
            forcing=0.0,
            initial_field=GaussianField(7.0, 2.5, scale=_STRENGTH * 7.0**0.75),
            final_time=5.0 if published else 1.0,
            refine=2,
        )
        return cls(problem, size.num_saves, until)

    @classmethod
    def sizes(cls):
        """The published test is on a finer grid, of 256² nodes."""
        small = TrainingSize(
            20,
            16,
            experts=(2, 2),
            network=BasisNetwork(num_basis=24, width=16, num_modes=6),
        )
        paper = TrainingSize(
            64,
            63,
            experts=(2, 2),
            network=BasisNetwork(num_basis=64, width=64, depth=8),
            num_samples=4000,
            num_test=100,
            num_steps=20_000,
            learning_rate=1e-3,
        )
        return small, paper

    def data(self, num_samples, key):
        """ω(0) at all times, (samples, 1, x, y, t), and ω, (samples, x, y, t)."""
        data = self.problem.dataset(num_samples, num_saves=self.num_saves, key=key)
        first = np.asarray(data.inputs)
        reference = np.concatenate([first, np.asarray(data.targets)], 1)
        first = np.repeat(first[..., None], self.num_saves + 1, -1)
        return first, np.moveaxis(reference, 1, -1)

    @property
    def grid(self) -> Grid:
        """Space and time, t last."""
        shape = *self.problem.grid.shape, self.num_saves + 1
        boundary = Periodic(), Periodic(), Neumann()
        return Grid(shape, (1.0, 1.0, self.final_time), boundary=boundary)

    @property
    def coordinates(self):
        """Time."""
        return TimeCoordinate()

    @property
    def times(self) -> Float[np.ndarray, " t"]:
        """Along the last axis."""
        return np.linspace(0.0, self.final_time, self.num_saves + 1)

    def partition(self, experts, overlap=0):
        """Boxes of a torus; overlapping ones do not reach across its ends."""
        if overlap:
            raise ValueError("methods: Schwarz has no overlap across a torus' ends.")
        return GridPartition(experts, periodic=(0, 1))

    @property
    def symbol(self):
        """Vorticity."""
        return "ω"

    def panel(self, u):
        """The end."""
        return u[..., -1]

    @property
    def panel_grid(self) -> Grid:
        """Space."""
        return self.problem.grid

    @property
    def panel_axes(self) -> tuple[str, str]:
        """Space."""
        return "x", "y"

    def parameters(self, u0):
        """ω(0), which rows count, and the velocity of the offset."""
        u, v = self._on_slices(self._velocity, self.offset(u0))
        counts = jnp.asarray(self.seen(), u0.dtype).at[..., 0].set(0)
        return {"u0": u0, "counts": counts, "u": u, "v": v}

    def offset(self, u0):
        """e^{νtΔ} ω(0)."""
        space = self._space
        rates = self.problem.viscosity.astype(u0.dtype) * space.squares()
        v = space.coefficients(u0[..., 0])
        decay = lambda t: space.field(jnp.exp(-rates * t).astype(v.dtype) * v)
        return jax.vmap(decay, out_axes=-1)(jnp.asarray(self.times, u0.dtype))

    def envelope(self):
        """t/T."""
        return jnp.broadcast_to(self.times / self.final_time, self.shape)

    def completed(self, u):
        """ω without its mean, and ψ in the size of ω."""
        return dict(zip(("w", "stream"), self._on_slices(self._stream, u), strict=True))

    def field(self, completed):
        """ω."""
        return completed["w"]

    def terms(self, completed):
        """ω and what the equation has of it; the velocity by ψ."""
        w = completed["w"]
        names = ("u", "v", "w_x", "w_y", "laplacian")
        found = self._on_slices(self._derivatives, w)
        return {"w": w, **dict(zip(names, found, strict=True))}

    def residual(self, terms, parameters):
        """With the field's own velocity."""
        return self._rows(terms, parameters, terms)

    def linear(self, terms, parameters):
        """With that of the offset: transport by a known flow."""
        return self._rows(terms, parameters, parameters)

    def _rows(self, terms, parameters, velocity):
        transport = velocity["u"] * terms["w_x"] + velocity["v"] * terms["w_y"]
        nu = self.problem.viscosity.astype(transport.dtype)
        rate = nu * terms["laplacian"] - transport
        step = self.final_time / self.num_saves
        parts = 0.5 * step * (rate[..., 1:] + rate[..., :-1])
        integral = jnp.cumsum(jnp.pad(parts, ((0, 0), (0, 0), (1, 0))), -1)
        return parameters["counts"] * (terms["w"] - parameters["u0"] - integral)

    @property
    def _space(self) -> FourierSpace:
        return FourierSpace(self.problem.grid.shape, (1.0, 1.0))

    def _on_slices(self, function, w):
        """A function of a field at one time, at all times."""
        return jax.vmap(function, in_axes=-1, out_axes=-1)(w)

    def _stream(self, w: Float[Array, "x y"]) -> tuple[Array, Array]:
        space = self._space
        squares = space.squares()
        squares[0, 0] = np.inf
        v = space.coefficients(w)
        inverse = jnp.asarray((2 * np.pi) ** 2 / squares, v.dtype)
        return w - jnp.mean(w), space.field(inverse * v)

    def _velocity(self, w: Float[Array, "x y"]) -> tuple[Array, Array]:
        u, v = self.problem.velocity(w)
        return u, v

    def _derivatives(self, w: Float[Array, "x y"]) -> tuple[Array, ...]:
        space = self._space
        v = space.coefficients(w)
        slopes = (space.field(space.derivative(v, axis)) for axis in (0, 1))
        laplacian = space.field(-jnp.asarray(space.squares(), v.dtype) * v)
        return *self._velocity(w), *slopes, laplacian
