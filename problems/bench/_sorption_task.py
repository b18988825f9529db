"""Diffusion–sorption in space and time, as rows for a least-squares solve."""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.constraints import Side
from sciml.grids import Grid, Neumann

from .._diffusion_sorption import DiffusionSorption


@dataclasses.dataclass(frozen=True, eq=False)
class AbstractSorptionRows(abc.ABC):
    """What is asked of a field u(t, x) on the nodes of a grid: terms, rows, sides.

    No module: nothing in it is to be trained, whoever holds it. Rows at t > `until`
    have no weight, neither in a layer nor in a loss.

    **Attributes:**

    - `problem`: with the nodes in x.
    - `num_saves`: intervals in t.
    - `until`: the last time that training sees.
    """

    problem: DiffusionSorption
    num_saves: int
    until: float

    @property
    def shape(self) -> tuple[int, int]:
        """Nodes in t and x."""
        return self.num_saves + 1, self.problem.grid.num_points[0]

    @property
    def grid(self) -> Grid:
        """Space and time, t first."""
        extent = (self.problem.final_time, 1.0)
        return Grid(self.shape, extent, boundary=Neumann())

    @property
    def spacings(self) -> tuple[float, float]:
        """Δt and Δx."""
        return self.problem.final_time / self.num_saves, 1 / (self.shape[1] - 1)

    def until_the_end(self) -> "AbstractSorptionRows":
        """The same with a weight for all rows."""
        return dataclasses.replace(self, until=self.problem.final_time)

    def parameters(self, u0: Float[Array, "t x"]) -> dict[str, Array]:
        """What rows need besides u: fields of the grid's shape."""
        times = jnp.linspace(0.0, self.problem.final_time, self.shape[0])
        counts = jnp.broadcast_to((times <= self.until)[:, None], self.shape)
        # (At t = 0 the sides and the initial values contradict each other.)
        counts = counts.at[0].set(False)
        inside = counts.at[:, (0, -1)].set(False)
        return {
            "u0": u0,
            "counts": counts.astype(u0.dtype),
            "inside": inside.astype(u0.dtype),
        }

    @abc.abstractmethod
    def offset(self, u0: Float[Array, "t x"]) -> Float[Array, "t x"] | None:
        """A field that has the values that are known, or None."""

    @abc.abstractmethod
    def envelope(self) -> Float[Array, "t x"] | None:
        """What basis fields are multiplied by, zero where values are known."""

    @abc.abstractmethod
    def terms(self, u: Float[Array, "t x"]) -> dict[str, Array]:
        """What rows are made of, linear in u."""

    @abc.abstractmethod
    def residual(self, terms: Any, parameters: Any) -> Array:
        """The equation's rows, without unit."""

    @abc.abstractmethod
    def linear(self, terms: Any, parameters: Any) -> Array:
        """The same with R(½) for R(u): where a nonlinear solve starts from."""

    @abc.abstractmethod
    def sides(self, weight: float) -> tuple[Side, ...]:
        """Conditions on sides of the grid, as rows."""

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
        return parameters["inside"] * self.problem.final_time * (change - flux)

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
            * jnp.maximum(times, 1e-9 * self.problem.final_time)
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
        times = jnp.linspace(0.0, self.problem.final_time, self.shape[0])
        places = jnp.linspace(0.0, 1.0, self.shape[1])
        return times[:, None], places[None]


FORMULATIONS: dict[str, type[AbstractSorptionRows]] = {
    "integrated": IntegratedRows,
    "differences": DifferenceRows,
}


def sorption_data(
    rows: AbstractSorptionRows, num_samples: int, key: Any
) -> tuple[np.ndarray, np.ndarray]:
    """u(0) at all nodes of space and time, (samples, 1, t, x), and u, (samples, t, x).

    u(0) is the constant, at x = 0 too.
    """
    saves = rows.num_saves
    data = rows.problem.dataset(num_samples, num_saves=saves, key=key)
    first = np.asarray(data.inputs)
    first = np.concatenate([first[..., 1:2], first[..., 1:]], -1)
    reference = np.concatenate([np.asarray(data.inputs), np.asarray(data.targets)], 1)
    return np.repeat(first, saves + 1, 1)[:, None], reference


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
