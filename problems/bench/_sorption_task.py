"""Diffusion–sorption in space and time, as rows for a least-squares solve."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.constraints import GridPartition, Side
from sciml.grids import Grid, Neumann

from .._diffusion_sorption import DiffusionSorption
from ._equation_rows import AbstractEquationRows, BasisNetwork, TrainingSize


@dataclasses.dataclass(frozen=True, eq=False)
class AbstractSorptionRows(AbstractEquationRows):
    """Rows for u(t, x), concentrations."""

    problem: DiffusionSorption

    @classmethod
    def of(cls, size, until=None):
        """Nodes in x, equidistant times."""
        return cls(DiffusionSorption(size.num_points), size.num_saves, until)

    @classmethod
    def sizes(cls):
        """The published one has another schedule of the learning rate."""
        paper = TrainingSize(
            1024,
            100,
            network=BasisNetwork(width=64, depth=5),
            num_samples=8000,
            num_test=1000,
            num_steps=4000,
            batch_size=6,
            learning_rate=1e-3,
        )
        return TrainingSize(), paper

    def data(self, num_samples, key):
        """u(0), the constant, at x = 0 too, and u."""
        data = self.problem.dataset(num_samples, num_saves=self.num_saves, key=key)
        first = np.asarray(data.inputs)
        reference = np.concatenate([first, np.asarray(data.targets)], 1)
        first = np.concatenate([first[..., 1:2], first[..., 1:]], -1)
        return np.repeat(first, self.num_saves + 1, 1)[:, None], reference

    @property
    def grid(self) -> Grid:
        """Space and time, t first."""
        shape = self.num_saves + 1, self.problem.grid.num_points[0]
        return Grid(shape, (self.final_time, 1.0), boundary=Neumann())

    @property
    def times(self) -> Float[np.ndarray, "t 1"]:
        """A column."""
        return np.linspace(0.0, self.final_time, self.num_saves + 1)[:, None]

    def partition(self, experts, overlap=0):
        """Parts of the interval."""
        return GridPartition((1, *experts), overlap=overlap)

    @property
    def spacings(self) -> tuple[float, float]:
        """Δt and Δx."""
        return self.final_time / self.num_saves, 1 / (self.shape[1] - 1)

    def panel(self, u):
        """All of it, x to the right."""
        return u.T

    @property
    def panel_grid(self) -> Grid:
        """Space, time."""
        shape, extent = self.shape[::-1], self.grid.extent[::-1]
        return Grid(shape, extent, boundary=Neumann())

    @property
    def panel_axes(self) -> tuple[str, str]:
        """Space, time."""
        return "x", "t"

    def parameters(self, u0: Float[Array, "t x"]) -> dict[str, Array]:
        """u(0), and which rows count."""
        # (At t = 0 the sides and the initial values contradict each other.)
        counts = jnp.asarray(self.seen(), u0.dtype).at[0].set(0)
        return {"u0": u0, "counts": counts, "inside": counts.at[:, (0, -1)].set(0)}

    def outflow(self, weight: float) -> Side:
        """u + D u_x at x = 1."""
        return Side(
            lambda t, p: p["counts"] * self.problem.outflow_residual(t["u"], t["u_x"]),
            axis=1,
            end=-1,
            weight=weight,
        )

    def constant_retardation(self) -> Float[Array, ""]:
        """R(½)."""
        return self.problem.retardation(jnp.asarray(0.5, jnp.result_type(float)))


@dataclasses.dataclass(frozen=True, eq=False)
class DifferenceRows(AbstractSorptionRows):
    """Central differences, and every condition is a row: as published.

    w(u)_t − D u_xx in place of the published u_t − D/R(u) u_xx: of the same zeros, and
    much easier to solve for, since R has an infinite slope at 0 and w has not.
    """

    def offset(self, u0):
        """None."""
        return None

    def envelope(self):
        """None."""
        return None

    def terms(self, u):
        """u, its neighbours in time, u_x and u_xx."""
        before = jnp.concatenate([u[:1], u[:-1]])
        after = jnp.concatenate([u[1:], u[-1:]])
        return {
            "u": u,
            "before": before,
            "after": after,
            "u_x": _slope(u, self.spacings[1]),
            "u_xx": _second(u, self.spacings[1]),
        }

    def parameters(self, u0):
        """With 1/Δt of each row: the last is one-sided."""
        rates = jnp.full(self.shape, 0.5 / self.spacings[0], u0.dtype)
        rates = rates.at[-1].set(1 / self.spacings[0])
        return super().parameters(u0) | {"rates": rates}

    def residual(self, terms, parameters):
        """T (w(u)_t − D u_xx)."""
        problem = self.problem
        change = problem.content(terms["after"]) - problem.content(terms["before"])
        return self._rows(change * parameters["rates"], terms, parameters)

    def linear(self, terms, parameters):
        """T (R(½) u_t − D u_xx)."""
        change = terms["after"] - terms["before"]
        change = self.constant_retardation() * change * parameters["rates"]
        return self._rows(change, terms, parameters)

    def _rows(self, change, terms, parameters):
        flux = self.problem.diffusivity.astype(change.dtype) * terms["u_xx"]
        return parameters["inside"] * self.final_time * (change - flux)

    def sides(self, weight):
        """Initial state, inflow and outflow."""
        inflow = lambda t, p: p["counts"] * self.problem.inflow_residual(t["u"])
        return (
            Side(lambda t, p: t["u"] - p["u0"], axis=0, end=0, weight=weight),
            Side(inflow, axis=1, end=0, weight=weight),
            self.outflow(weight),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class IntegratedRows(AbstractSorptionRows):
    """w(u) − w(u(0)) = D ∫ u_xx dt at each node, from a solution that is known nearly.

    The offset v solves the linear equation R(½) v_t = D v_xx with v(0) = u(0), and with
    jumps to 1 at x = 0 and to 0 at x = 1 that do not feel each other,

        v = u(0) + (1 − u(0)) E(x) − u(0) E(1 − x),  E(x) = erfc(x / √(4 D t / R(½))).

    Initial values and, up to E(1), the inflow are exact; the jumps at t = 0 are in the
    offset, whose integral is known: D ∫ v_xx dt = R(½) (v − u(0)). What the basis has
    to add is smoother, and is integrated by trapezoids.
    """

    def offset(self, u0):
        """v."""
        times, places = self._mesh()
        width = jnp.sqrt(
            4
            * self.problem.diffusivity.astype(places.dtype)
            * jnp.maximum(times, 1e-9 * self.final_time)
            / self.constant_retardation()
        )
        profile = jax.scipy.special.erfc(places / width)
        state = u0[:, -1:].astype(places.dtype)
        later = state + (1 - state) * profile - state * profile[:, ::-1]
        first = jnp.where(places == 0, 1, state)
        return jnp.where(times > 0, later, first)

    def envelope(self):
        """x/(x + 1/20) · t/(t + Δt)."""
        times, places = self._mesh()
        return places / (places + 0.05) * (times / (times + self.spacings[0]))

    def terms(self, u):
        """u, u_x, and the integral of u_xx up to each time."""
        dt, dx = self.spacings
        second = _second(u, dx)
        # (Implicit in the first step, in which u jumps; trapezoids from then on.)
        parts = jnp.concatenate([second[1:2], 0.5 * (second[1:-1] + second[2:])])
        integral = jnp.cumsum(jnp.pad(dt * parts, ((1, 0), (0, 0))), 0)
        return {"u": u, "u_x": _slope(u, dx), "integral": integral}

    def parameters(self, u0):
        """With what the quadrature gets wrong of the offset's integral."""
        v = self.offset(u0)
        exact = self.constant_retardation() * (v - v[:1])
        flux = self.problem.diffusivity.astype(v.dtype) * self.terms(v)["integral"]
        return super().parameters(u0) | {"correction": exact - flux}

    def residual(self, terms, parameters):
        """w(u) − w(u(0)) − D ∫ u_xx dt."""
        problem = self.problem
        change = problem.content(terms["u"]) - problem.content(parameters["u0"])
        return self._rows(change, terms, parameters)

    def linear(self, terms, parameters):
        """R(½) (u − u(0)) − D ∫ u_xx dt."""
        change = self.constant_retardation() * (terms["u"] - parameters["u0"])
        return self._rows(change, terms, parameters)

    def _rows(self, change, terms, parameters):
        flux = self.problem.diffusivity.astype(change.dtype) * terms["integral"]
        return parameters["inside"] * (change - flux - parameters["correction"])

    def sides(self, weight):
        """Outflow; the others are exact."""
        return (self.outflow(weight),)

    def _mesh(self) -> tuple[Array, Array]:
        times = jnp.linspace(0.0, self.final_time, self.shape[0])
        places = jnp.linspace(0.0, 1.0, self.shape[1])
        return times[:, None], places[None]


def _slope(u: Array, dx: float) -> Array:
    """u_x, of order 2 on the sides as well."""
    inside = (u[:, 2:] - u[:, :-2]) / (2 * dx)
    low = (-1.5 * u[:, :1] + 2 * u[:, 1:2] - 0.5 * u[:, 2:3]) / dx
    high = (1.5 * u[:, -1:] - 2 * u[:, -2:-1] + 0.5 * u[:, -3:-2]) / dx
    return jnp.concatenate([low, inside, high], 1)


def _second(u: Array, dx: float) -> Array:
    """u_xx, zero on the sides, where no row uses it."""
    second = (u[:, 2:] - 2 * u[:, 1:-1] + u[:, :-2]) / dx**2
    return jnp.pad(second, ((0, 0), (1, 1)))
