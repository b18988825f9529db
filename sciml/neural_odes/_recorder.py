"""A solver that sums up its own error and stiffness estimates."""

from collections.abc import Callable
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu

# The import is private: a test pins it.
from diffrax._term import AdjointTerm
from jaxtyping import Array, PyTree, Shaped

from ..linear._tree import real_dtype
from ._evaluations import evaluations_per_step
from ._heuristics import Recorded, nothing_recorded
from ._stages import StagePair, stability_limit, stage_pair
from ._tolerances import Tolerances, tolerances, zero_unless
from ._transparent import AbstractTransparentSolver, method_of

# Of a root finder diffrax only looks at the tolerances.
# pyright: reportIncompatibleVariableOverride=false


class _State(eqx.Module):
    inner: Any
    recorded: Recorded


class RecordHeuristics(AbstractTransparentSolver):
    """Another solver, which also sums the error and stiffness estimates of its steps.

    Takes any solver of diffrax that has an error estimate: explicit and implicit
    Runge-Kutta methods, stochastic ones, `diffrax.HalfSolver`. The steps are the same,
    bit for bit on a CPU; the sums are over the accepted ones. They are part of the
    solver's state: ask for it with `SaveAt(..., solver_state=True)` and read them with
    `heuristics_of`. A solve that goes on from a state goes on summing.

    With e the embedded error estimate of a step from (t, y) to (t + h, y₁),

        E = ‖e / (atol + rtol max(|y|, |y₁|))‖,    S = ‖k_b − k_a‖ / ‖g_b − g_a‖,

    in the norm of the step size controller. g_a, g_b are the arguments and k_a, k_b
    the values of f in two stages at t + h: S estimates the largest |∂f/∂y|. Tsit5,
    Dopri5 and Dopri8 have such stages. Of a batch that is solved as one state these
    are the estimates of the whole; under `vmap`, of each sample.

    The sums are differentiable with `RecursiveCheckpointAdjoint`, `DirectAdjoint` and
    `ForwardMode`; step sizes are constants to derivatives, as always in diffrax.
    `BacksolveAdjoint` and `ImplicitAdjoint` know no gradient of them, and diffrax
    returns zero then: a penalty goes through `regularised_diffeqsolve`, which refuses.
    This solver refuses in the backward solve of `BacksolveAdjoint()`; it cannot see
    `BacksolveAdjoint(solver=...)`.

    **Arguments:**

    - `solver`: any solver with an error estimate.
    - `rtol`, `atol`: what errors are measured in. Default None, those of the adaptive
        step size controller; needed with `StepTo` and constant steps.
    - `norm`: with `rtol` and `atol`, default the root mean square.

    **Raises:** `ValueError` for a solver without an error estimate.

    !!! example

        See `heuristics_of`.

    Source: Pal, Ma, Shah & Rackauckas, *Opening the Blackbox*, ICML 2021; the stiffness
    estimate is Shampine's (Hairer & Wanner, *Solving Ordinary Differential Equations
    II*, §IV.2).
    """

    inner: dfx.AbstractSolver
    root_finder: Tolerances

    def __init__(
        self,
        solver: dfx.AbstractSolver,
        rtol: Any = None,
        atol: Any = None,
        norm: Callable[[PyTree], Any] | None = None,
    ):
        self.inner = solver
        self.root_finder = tolerances(rtol, atol, norm)

    def init(self, terms, t0, t1, y0, args) -> _State:
        """The inner solver's state, and no step recorded."""
        is_adjoint = lambda term: isinstance(term, AdjointTerm)
        if any(map(is_adjoint, jtu.tree_leaves(terms, is_leaf=is_adjoint))):
            raise ValueError(
                "RecordHeuristics: BacksolveAdjoint does not differentiate what is "
                "recorded. Use RecursiveCheckpointAdjoint; or, if no gradient of it "
                "is wanted, BacksolveAdjoint(solver=...) with the solver alone."
            )
        method = method_of(self.inner)
        paired = stage_pair(method) is not None
        recorded = nothing_recorded(
            real_dtype(y0),
            stiffness=paired,
            limited=paired and stability_limit(method) is not None,
            evaluations=evaluations_per_step(method),
        )
        return _State(self._inner().init(terms, t0, t1, y0, args), recorded)

    def step(self, terms, t0, t1, y0, args, solver_state: _State, made_jump):
        """A step of the inner solver, recorded."""
        y1, error, dense_info, inner_state, result = self._inner().step(
            terms, t0, t1, y0, args, solver_state.inner, made_jump
        )
        method = method_of(self.inner)
        order = self.error_order(terms)
        if error is None or order is None:
            raise ValueError(
                f"solver: {type(method).__name__} has no error estimate to record"
                + (" for these terms" if error is not None else "")
                + ". Wrap it: RecordHeuristics(diffrax.HalfSolver(...))."
            )
        E, finite = self.root_finder.scaled_norm(error, y0, y1)
        h = jnp.abs(t1 - t0).astype(E.dtype)
        pair = stage_pair(method)
        Sh = None
        if pair is not None:
            Sh = _scaled_stiffness(pair, dense_info["k"], finite, self.root_finder.norm)
        limit = stability_limit(method)
        recorded = solver_state.recorded.add(E, Sh, h, order, limit)
        return y1, error, dense_info, _State(inner_state, recorded), result

    def _inner(self) -> Any:
        return self.root_finder.filled_into(self.inner)


def _scaled_stiffness(
    pair: StagePair, stages: PyTree, finite: Shaped[Array, ""], norm: Callable
) -> Shaped[Array, ""]:
    """S h, the stages being h times values of f; zero where g_a = g_b."""

    def between_values(k):
        return zero_unless(finite, k[pair.b] - k[pair.a])

    def between_arguments(k):
        weights = jnp.asarray(pair.difference, k.dtype)
        apart = jnp.tensordot(weights, k, axes=1, precision=jax.lax.Precision.HIGHEST)
        return zero_unless(finite, apart)

    values = norm(jtu.tree_map(between_values, stages))
    arguments = norm(jtu.tree_map(between_arguments, stages))
    apart = arguments > jnp.finfo(arguments.dtype).tiny
    quotient = values / jax.lax.select(apart, arguments, jnp.ones_like(arguments))
    return zero_unless(apart, quotient)
