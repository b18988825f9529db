"""Explicit Runge-Kutta steps that are written out, stage by stage."""

from typing import Any

import diffrax as dfx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import PyTree

from .._serialisation import register
from ._stages import explicit_tableau
from ._tolerances import Tolerances
from ._transparent import AbstractTransparentSolver

# Attributes of solvers are properties here.
# pyright: reportIncompatibleVariableOverride=false


@register
class UnrolledRungeKutta(AbstractTransparentSolver):
    """Another explicit Runge-Kutta method, whose gradient is computed faster.

        k_i = h f(t + c_i h, y + Σ_{j<i} a_ij k_j),    y₁ = y + Σ_i b_i k_i

    Diffrax loops over the stages, so that f is compiled once, however many stages there
    are: each of them reads and writes the array of all, and so does its derivative.
    Here each stage is a part of the program of its own. The steps are the same but for
    rounding, and so are error estimates and dense output. Of a network with one hidden
    layer of a hundred the gradient takes three quarters of the time; a field that takes
    long to compile takes as much longer as there are stages.

    **Arguments:**

    - `solver`: an explicit Runge-Kutta method, such as `diffrax.Tsit5()`, for an ODE
        (or one `diffrax.ControlTerm`).

    **Raises:** `ValueError` for a solver that is no such method.

    !!! example

        ```python
        import diffrax as dfx
        import jax.numpy as jnp
        import sciml

        solution = dfx.diffeqsolve(
            dfx.ODETerm(lambda t, y, args: -y),
            sciml.neural_odes.UnrolledRungeKutta(dfx.Tsit5()),
            t0=0.0,
            t1=1.0,
            dt0=None,
            y0=jnp.ones(2),
            stepsize_controller=dfx.PIDController(rtol=1e-5, atol=1e-5),
        )
        ```

    Source: Hairer, Nørsett & Wanner, *Solving Ordinary Differential Equations I*, §II.
    """

    inner: dfx.AbstractSolver

    def __init__(self, solver: dfx.AbstractSolver):
        if explicit_tableau(solver) is None:
            raise ValueError(
                "solver: expected an explicit Runge-Kutta method of one term, such as "
                f"diffrax.Tsit5(), got {type(solver).__name__}."
            )
        self.inner = solver

    @property
    def root_finder(self) -> Any:
        """None that asks for anything."""
        return Tolerances(None, None, None)

    def init(self, terms, t0, t1, y0, args):
        """f(t₀, y₀), if the last stage of a step is the first one of the next."""
        if not self._hands_on(terms, t0, t1, y0, args):
            return None
        return terms.vf(t0, y0, args)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        """A step from y at t₀ to y₁ at t₁."""
        tableau: Any = explicit_tableau(self.inner)
        control = terms.contr(t0, t1)
        values, stages, y1 = solver_state, [], y0
        times = [0.0 if tableau.c1 is None else tableau.c1, *tableau.c]
        rows = [(), *tableau.a_lower]
        for i, (row, c) in enumerate(zip(rows, times, strict=True)):
            y1 = _plus(y0, row, stages)
            # (Exactly t₁, for fields that end there.)
            t = t1 if c == 1 else t0 + float(c) * (t1 - t0)
            if solver_state is None:
                stages.append(terms.vf_prod(t, y1, args, control))
                continue
            if i > 0:
                values = terms.vf(t, y1, args)
            elif made_jump is not False:
                # (Of a batch all or none, so that not both branches are computed.)
                values = jax.lax.cond(
                    eqxi.unvmap_any(made_jump),
                    lambda: terms.vf(t0, y0, args),
                    lambda: solver_state,
                )
            stages.append(terms.prod(values, control))
        if not tableau.ssal:
            y1 = _plus(y0, tableau.b_sol, stages)
        zeros = jtu.tree_map(jnp.zeros_like, y0)
        error = _plus(zeros, tableau.b_error, stages)
        k = jtu.tree_map(lambda *parts: jnp.stack(parts), *stages)
        dense_info = {"y0": y0, "y1": y1, "k": k}
        return y1, error, dense_info, values, dfx.RESULTS.successful

    def _hands_on(self, terms, t0, t1, y0, args) -> bool:
        tableau: Any = explicit_tableau(self.inner)
        return tableau.fsal and not terms.is_vf_expensive(t0, t1, y0, args)


def _plus(y: PyTree, weights: Any, stages: list[PyTree]) -> PyTree:
    """y + Σ w_j k_j."""
    pairs = zip(weights, stages, strict=False)
    used = [(float(w), stage) for w, stage in pairs if w != 0]
    if not used:
        return y
    factors, parts = zip(*used, strict=True)

    def combined(start, *ks):
        return start + sum(w * k for w, k in zip(factors, ks, strict=True))

    return jtu.tree_map(combined, y, *parts)
