"""A quadratic program: its data, equilibrated data, and the residual of a solution."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Ruiz halves the (logarithmic) imbalance each time; 1e8 becomes less than 1.1.
_EQUILIBRATIONS = 10


class Program(NamedTuple):
    """min ½ xᵀP x + qᵀx subject to A x = b, G x ≤ h."""

    P: Float[Array, "n n"]
    q: Float[Array, " n"]
    A: Float[Array, "m n"]
    b: Float[Array, " m"]
    G: Float[Array, "p n"]
    h: Float[Array, " p"]

    def gradient(self, x: Array, y: Array, z: Array) -> Array:
        """P x + q + Aᵀy + Gᵀz, which is 0 at a solution."""
        return self.P @ x + self.q + y @ self.A + z @ self.G


class Point(NamedTuple):
    """x, multipliers y of the equations and z ≥ 0 of the inequalities, slack s ≥ 0."""

    x: Float[Array, " n"]
    y: Float[Array, " m"]
    z: Float[Array, " p"]
    s: Float[Array, " p"]


class Scales(NamedTuple):
    """x = columns · x', y = rows · y' / cost, …: from the equilibrated program back."""

    columns: Float[Array, " n"]
    equations: Float[Array, " m"]
    inequalities: Float[Array, " p"]
    cost: Float[Array, ""]

    def original(self, point: Point) -> Point:
        """The point of the program as it was given."""
        return Point(
            self.columns * point.x,
            self.equations * point.y / self.cost,
            self.inequalities * point.z / self.cost,
            point.s / self.inequalities,
        )

    def equilibrated(self, point: Point) -> Point:
        """The point of the equilibrated program."""
        return Point(
            point.x / self.columns,
            self.cost * point.y / self.equations,
            self.cost * point.z / self.inequalities,
            point.s * self.inequalities,
        )


def largest(*parts: Array) -> Array:
    """The largest absolute value among vectors, which may be empty."""
    return jnp.max(jnp.abs(jnp.concatenate(parts)), initial=0.0)


def equilibrating_scales(program: Program) -> Scales:
    """Rows and columns of the optimality system with largest entries near 1 (Ruiz)."""
    dtype = program.q.dtype
    ones = lambda v: jnp.ones(v.shape, dtype)
    scales = Scales(
        ones(program.q), ones(program.b), ones(program.h), jnp.ones((), dtype)
    )
    peak = lambda matrix, axis: jnp.max(jnp.abs(matrix), axis=axis, initial=0.0)
    root = lambda size: jnp.sqrt(jnp.where(size > 0, size, 1.0))

    def balance(_, scales: Scales) -> Scales:
        P, _, A, _, G, _ = scaled(program, scales)
        size = jnp.maximum(peak(P, 0), jnp.maximum(peak(A, 0), peak(G, 0)))
        return Scales(
            scales.columns / root(size),
            scales.equations / root(peak(A, 1)),
            scales.inequalities / root(peak(G, 1)),
            scales.cost,
        )

    scales = jax.lax.fori_loop(0, _EQUILIBRATIONS, balance, scales)
    balanced = scaled(program, scales)
    cost = jnp.maximum(jnp.mean(peak(balanced.P, 0)), largest(balanced.q))
    return scales._replace(cost=1.0 / jnp.where(cost > 0, cost, 1.0))


def scaled(program: Program, scales: Scales) -> Program:
    """The program in the units of the scales."""
    columns, equations, inequalities, cost = scales
    spread = lambda rows, matrix: rows[:, None] * matrix * columns[None, :]
    return Program(
        cost * spread(columns, program.P),
        cost * columns * program.q,
        spread(equations, program.A),
        equations * program.b,
        spread(inequalities, program.G),
        inequalities * program.h,
    )


def kkt_residuals(
    program: Program, point: Point, noise: Array | float
) -> dict[str, Array]:
    """The four optimality conditions, each relative to the terms that it is made of.

    Computed from the program alone: the slack is h − G x, not what an iteration took it
    for. Each is divided by its largest term, but no less than by `noise` times 1 plus
    the same sum of absolute values, so that terms that cancel or vanish have a scale.

    - `stationarity`: ‖P x + q + Aᵀy + Gᵀz‖∞.
    - `primal_residual`: the largest of |A x − b| and of (G x − h)₊.
    - `dual_residual`: the forces of negative multipliers, |G|ᵀ(−z)₊, against the terms
        of the stationarity.
    - `complementarity`: the largest |z_i (h − G x)_i| against the terms of the
        objective and of its dual.
    """
    P, q, A, b, G, h = program
    x, y, z, _ = point
    positive = lambda v: jnp.maximum(v, 0.0)
    absolute = lambda v, matrix: jnp.abs(v) @ jnp.abs(matrix)

    def relative(residual, terms, total):
        return residual / jnp.maximum(terms, noise * (1.0 + total))

    forces = P @ x, q, y @ A, z @ G
    every = largest(absolute(x, P.T) + jnp.abs(q) + absolute(y, A) + absolute(z, G))
    sides = A @ x, b, G @ x, h
    both = largest(absolute(x, A.T) + jnp.abs(b), absolute(x, G.T) + jnp.abs(h))
    works = jnp.stack([jnp.dot(x, P @ x), jnp.dot(q, x), jnp.dot(b, y), jnp.dot(h, z)])
    gap = jnp.abs(z) * jnp.abs(h - G @ x)
    spent = jnp.sum(jnp.abs(z) * (absolute(x, G.T) + jnp.abs(h)))
    return {
        "stationarity": relative(
            largest(program.gradient(x, y, z)), largest(*forces), every
        ),
        "primal_residual": relative(
            largest(A @ x - b, positive(G @ x - h)), largest(*sides), both
        ),
        "dual_residual": relative(
            jnp.max(positive(-z) @ jnp.abs(G), initial=0.0), largest(*forces), every
        ),
        "complementarity": relative(largest(gap), largest(works), spent),
    }
