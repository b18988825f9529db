"""Equations β v + c − g(t, v) = 0, by Newton's method with one factorised matrix."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import lineax as lx
from jaxtyping import Array, Bool, Int, PyTree, Shaped

from ._tolerances import Tolerances

Vector = Shaped[Array, " n"]
Number = Shaped[Array, ""]
Flag = Bool[Array, ""]

# Relative changes of so many units in the last place are rounding.
_ROUNDING = 16


class Factorised(eqx.Module):
    """M = β − ∂g/∂v at one point, factorised."""

    operator: lx.MatrixLinearOperator
    state: Any
    solver: lx.AbstractLinearSolver

    def solve(self, b: Vector) -> Vector:
        """M⁻¹ b, with its derivatives."""
        solution = lx.linear_solve(
            self.operator, b, self.solver, state=self.state, throw=False
        )
        return solution.value


class Root(eqx.Module):
    """What Newton's method found: v, and k = g(t, v)."""

    v: Vector
    k: Vector
    converged: Flag
    num_steps: Int[Array, ""]


class Newton(eqx.Module):
    """Simplified Newton, v ← v − M⁻¹ (β v + c − g(t, v)), and its derivatives.

    It ends when the change, or what the changes say is left, ‖d‖ θ/(1 − θ) with
    θ = ‖d‖/‖d before‖, is below κ in units of the tolerances. The derivatives are those
    of the root, whatever way led to it.
    """

    g: Callable
    tolerances: Tolerances
    unravel: Callable
    solver: lx.AbstractLinearSolver
    kappa: Any
    max_steps: int

    def factorised(self, beta: Any, t: Number, v: Vector) -> Factorised:
        """M = β − ∂g/∂v at (t, v)."""
        J = jax.jacfwd(lambda v: self.g(t, v))(v)
        operator = lx.MatrixLinearOperator(beta * jnp.eye(v.size, dtype=v.dtype) - J)
        # Derivatives of solves are taken through the operator alone.
        return Factorised(operator, still(self.solver.init(operator, {})), self.solver)

    def root(
        self,
        beta: Any,
        c: Vector,
        t: Number,
        M: Factorised,
        guess: Vector,
        otherwise: Vector,
        size_before: Any = jnp.inf,
    ) -> Root:
        """The root from a guess; `size_before` measures the change that led to it.

        Where the iteration fails v is `otherwise`, so that derivatives are finite.
        """
        inputs = jnp.asarray(beta, guess.dtype), c, t, self.g
        v, k, converged, num_steps = self._iterated(
            still(inputs), still(M), still(guess), still(size_before)
        )
        v = jnp.where(converged, v, still(otherwise))
        v = _with_derivative(v, inputs, self.solver)
        equal = beta * v + c
        k = jnp.where(converged, k, still(equal)) + (equal - still(equal))
        return Root(v, k, converged, num_steps)

    def measure(self, d: Vector, v: Vector) -> Number:
        """‖d / (atol + rtol |v|)‖, as the step size controller does it.

        The tolerance is never so small that κ times it is lost in the rounding of v.
        """
        size = jnp.abs(v)
        rtol, atol = (
            jnp.asarray(x, v.dtype)
            for x in (self.tolerances.rtol, self.tolerances.atol)
        )
        floor = _ROUNDING * jnp.finfo(v.dtype).eps / self.kappa
        scale = jnp.maximum(atol + rtol * size, floor * size)
        # (0/0 where atol is zero, and v.)
        scaled = jnp.where((d == 0) & (scale == 0), 0, d / scale)
        return jnp.asarray(self.tolerances.norm(self.unravel(scaled)), v.dtype)

    def _iterated(self, inputs, M, guess, size_before):
        beta, c, t, g = inputs

        def unfinished(carry):
            _, _, _, num_steps, converged, diverged = carry
            return ~converged & ~diverged & (num_steps < self.max_steps)

        def step(carry):
            v, _, before, num_steps, _, _ = carry
            k = g(t, v)
            d = M.solve(beta * v + c - k)
            v = v - d
            # In exact arithmetic this is β v + c: not g(t, v), which would multiply
            # what is left by ∂g/∂v, nor with the rounding of v, which a short step
            # would leave for the long one after it.
            k = k - (beta * d - M.operator.mv(d))
            size = self.measure(d, v)
            rate = size / before
            left = size * rate / (1 - rate)
            # (With no change before, inf, there is no rate.)
            known = jnp.isfinite(before) & (rate < 1)
            converged = (size <= self.kappa) | (known & (left <= self.kappa))
            worse = (num_steps > 0) & (rate >= 1)
            diverged = ~jnp.isfinite(size) | (worse & ~converged)
            return v, k, size, num_steps + 1, converged, diverged

        no = jnp.asarray(False)
        before = jnp.asarray(size_before, guess.dtype)
        start = guess, guess, before, jnp.zeros((), jnp.int32), no, no
        v, k, _, num_steps, converged, _ = jax.lax.while_loop(unfinished, step, start)
        return v, k, converged, num_steps


@eqx.filter_custom_jvp
def _with_derivative(v: Vector, inputs: PyTree, solver: lx.AbstractLinearSolver):
    """v itself, known to be the root of `_relation`."""
    del inputs, solver
    return v


@_with_derivative.def_jvp
def _with_derivative_jvp(primals, tangents):
    v, inputs, solver = primals
    _, d_inputs, _ = tangents
    v = _with_derivative(v, inputs, solver)
    _, d_relation = eqx.filter_jvp(
        lambda inputs: _relation(v, inputs), (inputs,), (d_inputs,)
    )
    J = lx.JacobianLinearOperator(_relation, v, inputs)
    return v, -lx.linear_solve(J, d_relation, solver).value


def _relation(v, inputs):
    beta, c, t, g = inputs
    return beta * v + c - g(t, v)


def still(tree: PyTree) -> PyTree:
    """The same values with no derivative."""
    return jtu.tree_map(
        lambda x: jax.lax.stop_gradient(x) if eqx.is_array(x) else x, tree
    )
