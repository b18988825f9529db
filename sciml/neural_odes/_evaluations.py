"""How often a solve evaluates its vector field."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import numpy as np

from ._stages import explicit_tableau


def evaluations_per_step(solver: Any) -> tuple[int, int] | None:
    """Evaluations of f of every attempted step, and at the start; None if not fixed.

    Explicit Runge-Kutta methods and their stochastic kin; the latter evaluate the
    diffusion as often or less. Implicit methods take as many as Newton's method needs.
    """
    if isinstance(solver, dfx.HalfSolver):
        whole = evaluations_per_step(solver.solver)
        return None if whole is None else (3 * whole[0], whole[1])
    tableau = explicit_tableau(solver)
    if tableau is not None:
        # The last stage of a step is the first of the next one.
        return (len(tableau.b_sol) - tableau.fsal, int(tableau.fsal))
    if isinstance(solver, dfx.AbstractSRK):
        stages = len(solver.tableau.b_sol)
        ignored = solver.tableau.ignore_stage_f
        return (stages - int(0 if ignored is None else np.sum(ignored)), 0)
    return None


class EvaluationCounter:
    """Counts evaluations of a vector field while a program runs.

    Where no formula is known: implicit methods, and the backward solve of
    `diffrax.BacksolveAdjoint`. Each evaluation calls back to Python, which costs far
    more than most vector fields: count in a run of its own.

    An evaluation is one call of the wrapped function at run time, whoever makes it:
    a reverse pass that computes a step anew counts its stages anew. Under `vmap` every
    sample counts.

    !!! example

        ```python
        import diffrax as dfx
        import jax.numpy as jnp
        import sciml

        counter = sciml.neural_odes.EvaluationCounter()
        field = counter.counted(lambda t, y, args: -y)
        dfx.diffeqsolve(
            dfx.ODETerm(field), dfx.Tsit5(), 0.0, 1.0, 0.1, jnp.ones(2)
        )
        counter.read()
        ```
    """

    def __init__(self):
        self._count = 0

    def counted(self, function: Any) -> Any:
        """The same function of (t, y, args), each of whose calls is counted."""
        return _Counted(function, self)

    def read(self) -> int:
        """How many calls were made since the last reading."""
        jax.effects_barrier()
        count, self._count = self._count, 0
        return count

    def add(self, _: Any) -> None:
        """One call more."""
        self._count += 1


class _Counted(eqx.Module):
    function: Any
    counter: EvaluationCounter = eqx.field(static=True)

    def __call__(self, t, y, args):
        jax.debug.callback(self.counter.add, t)
        return self.function(t, y, args)
