"""Conservation laws with an implicit method: ∂w(u)/∂t = A u + g, A tridiagonal."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# The diagonally implicit method of order 4 with five stages of Hairer and Wanner,
# Solving Ordinary Differential Equations II, section IV.6, (6.16). L-stable; the last
# stage is the result.
_DIAGONAL = 1 / 4
_WEIGHTS = (
    (),
    (1 / 2,),
    (17 / 50, -1 / 25),
    (371 / 1360, -137 / 2720, 15 / 544),
    (25 / 24, -49 / 48, 125 / 16, -85 / 12),
)
_MAX_NEWTON = 50


class AbstractContent(eqx.Module):
    """w(u), node by node: increasing, and concave for Newton's method to be safe."""

    @abc.abstractmethod
    def value(self, u: Float[Array, "..."]) -> Float[Array, "..."]:
        """w(u)."""

    @abc.abstractmethod
    def slope(self, u: Float[Array, "..."]) -> Float[Array, "..."]:
        """w'(u) > 0."""


class Exchange(eqx.Module):
    """A tridiagonal matrix as what neighbours exchange:

        (A u)_i = lower_i (u_{i−1} − u_i) + upper_i (u_{i+1} − u_i) + own_i u_i,

    with `lower[0]` and `upper[-1]` 0. Taken as differences, smooth fields lose little
    to rounding however large the entries are.
    """

    lower: Float[Array, " n"]
    upper: Float[Array, " n"]
    own: Float[Array, " n"]

    @property
    def diagonal(self) -> Float[Array, " n"]:
        """The diagonal of A."""
        return self.own - self.lower - self.upper

    def __call__(self, u: Float[Array, " n"]) -> Float[Array, " n"]:
        """A u."""
        rise = jnp.diff(u)
        zero = jnp.zeros((1,), u.dtype)
        below, above = jnp.concatenate([zero, rise]), jnp.concatenate([rise, zero])
        return self.upper * above - self.lower * below + self.own * u

    def scaled(self, factor: Float[Array, ""]) -> "Exchange":
        """factor · A."""
        return jax.tree.map(lambda entries: factor * entries, self)


def march(
    content: AbstractContent,
    matrix: Exchange,
    source: Float[Array, " n"],
    u0: Float[Array, " n"],
    steps: Float[Array, " steps"],
) -> Float[Array, "steps n"]:
    """u after each step.

    w is what is stepped, so that w changes by A u + g to the rounding of the solves,
    summed as the method sums: what A and g conserve is conserved. −A is expected to be
    an M-matrix. Then Newton's method, since w is concave, rises to the one solution of
    each stage from its first iterate on. Where it has not after 50 iterations, the
    solution is NaN from there on.
    """

    def advance(u, step):
        implicit = matrix.scaled(-_DIAGONAL * step)
        base = content.value(u)
        # Steps times A u + g of the stages; from the equation of the stage, since
        # rounding in A u is larger by ‖A‖ than that in w.
        slopes: list[Array] = []
        for weights in _WEIGHTS:
            known = base
            for weight, slope in zip(weights, slopes, strict=True):
                known = known + weight * slope
            right = known + _DIAGONAL * step * source
            u = _stage(content, implicit, right, u)
            slopes.append((content.value(u) - known) / _DIAGONAL)
        return u, u

    # For the backward pass only the states are kept; the stages are recomputed.
    return jax.lax.scan(jax.checkpoint(advance), u0, steps)[1]


@jax.custom_jvp
def _stage(
    content: AbstractContent, implicit: Exchange, right: Array, guess: Array
) -> Array:
    """The solution of w(u) + B u = right."""
    epsilon = jnp.finfo(right.dtype).eps
    # The next correction, were there one, would be of the size of this one's square.
    enough = jnp.asarray(0.1 * epsilon**0.5, right.dtype)

    def correct(state):
        u, _, count = state
        residual = content.value(u) + implicit(u) - right
        change = _solve(content, implicit, u, residual)
        size = jnp.max(jnp.abs(change)) / jnp.maximum(1, jnp.max(jnp.abs(u)))
        return u - change, size, count + 1

    def unfinished(state):
        _, size, count = state
        return (size > enough) & (count < _MAX_NEWTON)

    start = (guess, jnp.asarray(jnp.inf, right.dtype), 0)
    u, size, _ = jax.lax.while_loop(unfinished, correct, start)
    return jnp.where(size <= enough, u, jnp.nan)


@_stage.defjvp
def _stage_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    # In terms of `_stage` itself, so that derivatives of any order are right.
    u = _stage(*primals)
    equation = lambda content, implicit, right: content.value(u) + implicit(u) - right
    _, residual = jax.jvp(equation, primals[:3], tangents[:3])
    return u, -_solve(primals[0], primals[1], u, residual)


def _solve(content: AbstractContent, implicit: Exchange, u: Array, residual: Array):
    diagonal = implicit.diagonal + content.slope(u)
    return jax.lax.linalg.tridiagonal_solve(
        implicit.lower, diagonal, implicit.upper, residual[:, None]
    )[:, 0]
