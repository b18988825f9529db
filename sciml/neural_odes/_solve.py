"""`diffeqsolve` that also returns a differentiable price of the solve."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu

# The import is private: a test pins it.
from diffrax._term import WrapTerm
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..linear._tree import real_dtype
from ._end import end_of
from ._heuristics import recorded_in
from ._nonfinite import StopAtNonfinite
from ._penalties import AbstractPenalty, AbstractRunningCost, Local, Penalties, by_kind
from ._recorder import RecordHeuristics
from ._sample_step import Sample, SampleStep, local_error_estimate
from ._tolerances import Tolerances
from ._transparent import differentiable_both_ways


def regularised_diffeqsolve(
    terms: PyTree[dfx.AbstractTerm],
    solver: dfx.AbstractSolver,
    t0: Any,
    t1: Any,
    dt0: Any,
    y0: PyTree,
    args: PyTree = None,
    *,
    penalty: PyTree[AbstractPenalty],
    stepsize_controller: dfx.AbstractStepSizeController,
    key: PRNGKeyArray | None = None,
    saveat: dfx.SaveAt | None = None,
    adjoint: dfx.AbstractAdjoint | None = None,
    event: dfx.Event | None = None,
    max_steps: int | None = 4096,
    throw: bool = True,
) -> tuple[dfx.Solution, PyTree[Array]]:
    """Solve a differential equation, and charge what it costs to solve.

        loss = task(solution.ys) + 0.1 · penalty

    A vector field that is trained with such a loss needs fewer steps at the same
    tolerances. The solution is that of `diffrax.diffeqsolve` with the same arguments,
    bit for bit on a CPU (but for `KineticEnergy` and `TayNODE`, which are integrated
    along), and `heuristics_of(solution)` says what the solve cost.

    A penalty is no monitor of the cost: as f gets simpler the controller takes longer
    steps of the same error estimate. Its gradient is that on the steps that were taken.

    Under `vmap` every sample has a penalty of its own, and steps of its own; a batch
    that is one state has one of each.

    **Arguments:**

    - `terms`, `solver`, `t0`, `t1`, `dt0`, `y0`, `args`, `saveat`, `event`,
        `max_steps`: as of `diffrax.diffeqsolve`.
    - `penalty`: `ErrorEstimate()`, `ErrorEstimateSquared()`, `NumSteps()`,
        `Stiffness()`, `Local()`, `KineticEnergy()`, `TayNODE()`; or a pytree of them.
    - `stepsize_controller`: adaptive, such as `diffrax.PIDController(rtol, atol)`.
        The error estimates are in units of its tolerances.
    - `key`: for `Local`, which step is drawn. Others need none.
    - `adjoint`: default `diffrax.RecursiveCheckpointAdjoint()`. The recorded penalties
        also take `DirectAdjoint()` and `ForwardMode()`; through `BacksolveAdjoint` and
        `ImplicitAdjoint` their gradient would be zero without a word. `Local` takes
        every one (with `ImplicitAdjoint` it solves twice), `KineticEnergy` and
        `TayNODE` all but `ImplicitAdjoint`.
    - `throw`: whether a solve that fails raises. If not, its penalties are NaN.

    **Returns:** the solution, and the penalties, a scalar for each.

    **Raises:** `TypeError` for what is no penalty; `ValueError` for a controller that
    is not adaptive, an adjoint that would lose the gradient, a solver without the
    estimate that is asked for, and a missing key. `RuntimeError` where the solve fails;
    where y is not finite it names the time until which it was, and comes after a few
    attempts instead of at `max_steps`.

    !!! example

        ```python
        import diffrax as dfx
        import equinox as eqx
        import jax.numpy as jnp
        import jax.random as jr
        import sciml

        field = eqx.nn.MLP(2, 2, 16, 1, key=jr.key(0))

        @eqx.filter_value_and_grad
        def loss(field):
            solution, penalty = sciml.neural_odes.regularised_diffeqsolve(
                dfx.ODETerm(lambda t, y, args: field(y)),
                dfx.Tsit5(),
                t0=0.0,
                t1=1.0,
                dt0=None,
                y0=jnp.ones(2),
                penalty=sciml.neural_odes.ErrorEstimate(),
                stepsize_controller=dfx.PIDController(rtol=1e-5, atol=1e-5),
            )
            return jnp.sum(solution.ys**2) + 0.1 * penalty

        value, gradient = loss(field)
        ```

    Source: see the penalties.
    """
    adjoint = dfx.RecursiveCheckpointAdjoint() if adjoint is None else adjoint
    saveat = dfx.SaveAt(t1=True) if saveat is None else saveat
    is_penalty = lambda leaf: isinstance(leaf, AbstractPenalty)
    leaves, structure = jtu.tree_flatten(penalty, is_leaf=is_penalty)
    kinds = by_kind(leaves)
    _check(kinds, stepsize_controller, saveat, key)
    for leaf in leaves:
        leaf.check(solver, adjoint)
    costs = tuple(kinds.costs.values())
    if costs:
        terms = _WithCosts.around(terms, costs)
        y0 = (y0, *(jnp.zeros((), real_dtype(y0)) for _ in costs))
    watched = _watched(solver, list(kinds.local.values()), key)
    if not isinstance(stepsize_controller, StopAtNonfinite):
        stepsize_controller = StopAtNonfinite(stepsize_controller)  # pyright: ignore[reportCallIssue]

    def solve(solver, saveat, adjoint, y0, terms, args):
        return dfx.diffeqsolve(
            terms,
            solver,
            t0,
            t1,
            dt0,
            y0,
            args,
            saveat=saveat,
            stepsize_controller=stepsize_controller,
            adjoint=adjoint,
            event=event,
            max_steps=max_steps,
            throw=False,
        )

    everything = eqx.tree_at(
        lambda s: (s.solver_state, s.controller_state), saveat, (True, True)
    )
    if isinstance(adjoint, dfx.ImplicitAdjoint):
        # It returns no solver state: what is drawn comes from a solve of its own.
        solution = solve(solver, saveat, adjoint, y0, terms, args)
        constants = jax.lax.stop_gradient(eqx.filter((y0, terms, args), eqx.is_array))
        rest = eqx.filter((y0, terms, args), eqx.is_array, inverse=True)
        y0_, terms_, args_ = eqx.combine(constants, rest)
        twin = solve(watched, everything, dfx.DirectAdjoint(), y0_, terms_, args_)
        state, controller_state = twin.solver_state, twin.controller_state
        solution = eqx.tree_at(
            lambda s: (s.solver_state, s.controller_state),
            solution,
            (state, controller_state),
            is_leaf=lambda leaf: leaf is None,
        )
    else:
        if isinstance(adjoint, dfx.BacksolveAdjoint):
            # What is recorded is not to be carried through the backward solve; and
            # that one says by itself that it failed, unlike the solve below.
            settings = {"solver": solver, "throw": throw} | adjoint.kwargs
            adjoint = dfx.BacksolveAdjoint(**settings)
        solution = solve(watched, everything, adjoint, y0, terms, args)
        state, controller_state = solution.solver_state, solution.controller_state
    until: Any = controller_state
    solution, okay = end_of(solution, until.time, throw)

    recorded = recorded_in(state)
    values = {k: leaf.value(recorded) for k, leaf in kinds.recorded.items()}
    direction = jnp.where(jnp.asarray(t0) < jnp.asarray(t1), 1, -1)
    forwards = jtu.tree_map(
        lambda term: WrapTerm(term, direction), terms, is_leaf=_is_single_term
    )
    units = Tolerances(
        stepsize_controller.rtol, stepsize_controller.atol, stepsize_controller.norm
    )
    single = differentiable_both_ways(units.filled_into(solver))
    for place, sample in zip(kinds.local, _samples(watched, state), strict=True):
        values[place] = local_error_estimate(forwards, single, units, sample, args)
    if costs:
        ys: Any = solution.ys
        totals = jtu.tree_map(lambda x: x[-1], ys[1:])
        values |= dict(zip(kinds.costs, totals, strict=True))
        solution = eqx.tree_at(lambda s: s.ys, solution, ys[0])
    penalties = [jnp.where(okay, values[k], jnp.nan) for k in range(len(leaves))]
    return solution, jtu.tree_unflatten(structure, penalties)


def _watched(
    solver: dfx.AbstractSolver, local: list[Local], key: PRNGKeyArray | None
) -> RecordHeuristics | SampleStep:
    """The solver with all that looks on: the last sampler outermost."""
    watched: Any = RecordHeuristics(solver)
    if key is not None and local:
        for leaf, one in zip(local, jr.split(key, len(local)), strict=True):
            watched = SampleStep(watched, leaf.sampling, key=one)
    return watched


def _samples(watched: Any, state: Any) -> list[Sample]:
    """What each of the samplers kept, the innermost first."""
    samples = []
    while isinstance(watched, SampleStep):
        samples.append(watched.sample_of(state))
        watched, state = watched.inner, state.inner
    return samples[::-1]


def _is_single_term(node: Any) -> bool:
    return isinstance(node, dfx.AbstractTerm) and not isinstance(node, dfx.MultiTerm)


class _WithCosts(eqx.Module):
    """The vector field of (y, ∫g₁, ∫g₂, …)."""

    term: dfx.ODETerm
    costs: tuple[AbstractRunningCost, ...]

    @staticmethod
    def around(terms: Any, costs: tuple[AbstractRunningCost, ...]) -> dfx.ODETerm:
        if not isinstance(terms, dfx.ODETerm):
            raise ValueError(
                "penalty: KineticEnergy and TayNODE take a diffrax.ODETerm, got "
                f"{type(terms).__name__}."
            )
        return dfx.ODETerm(_WithCosts(terms, costs))

    def __call__(self, t, state, args):
        y, *totals = state
        rates = (
            jnp.asarray(cost.integrand(self.term, t, y, args), total.dtype)
            for cost, total in zip(self.costs, totals, strict=True)
        )
        return (self.term.vf(t, y, args), *rates)


def _check(
    kinds: Penalties,
    controller: dfx.AbstractStepSizeController,
    saveat: dfx.SaveAt,
    key: PRNGKeyArray | None,
) -> None:
    if not isinstance(controller, dfx.AbstractAdaptiveStepSizeController):
        raise ValueError(
            f"stepsize_controller: {type(controller).__name__} does not choose steps "
            "by their error, so that a penalty on it saves none; use "
            "diffrax.PIDController(rtol=..., atol=...)."
        )
    if kinds.local and key is None:
        raise ValueError("key: Local() draws a step at random and needs one.")
    if kinds.costs:
        sub = saveat.subs
        ends = isinstance(sub, dfx.SubSaveAt) and sub.t1 and sub.steps == 0
        if saveat.dense or not ends:
            raise ValueError(
                "saveat: KineticEnergy and TayNODE are read off at the end of the "
                "solve; they need SaveAt(..., t1=True) and have no dense output."
            )
