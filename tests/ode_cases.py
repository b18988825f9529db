"""A small neural ODE whose first step is far too long, and solves of it."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np

RTOL = ATOL = 1e-5
PID = dfx.PIDController(rtol=RTOL, atol=ATOL)
END = 2.0
CHECKPOINTED = dfx.RecursiveCheckpointAdjoint()
STATE = dfx.SaveAt(t1=True, solver_state=True)


def field(t, y, model):
    return 3.0 * model(y) * jnp.cos(t)


TERM = dfx.ODETerm(field)
Y0 = jnp.array([1.0, -0.5, 0.3])


def small_model(seed: int = 3) -> eqx.nn.MLP:
    """y ↦ tanh network, three components."""
    model = eqx.nn.MLP(3, 3, 8, 1, activation=jnp.tanh, key=jr.key(seed))
    return jtu.tree_map(
        lambda x: x.astype(jnp.float64) if eqx.is_inexact_array(x) else x, model
    )


@eqx.filter_jit
def solve(
    model,
    solver,
    controller=PID,
    adjoint: dfx.AbstractAdjoint = CHECKPOINTED,
    dt0: Any = 2.0,
    y0: Any = Y0,
    saveat: dfx.SaveAt = STATE,
    term: Any = TERM,
    t0: Any = 0.0,
    t1: Any = END,
    throw: bool = True,
    max_steps: int = 256,
) -> dfx.Solution:
    """By default with a first step that is rejected."""
    return dfx.diffeqsolve(
        term,
        solver,
        t0,
        t1,
        dt0,
        y0,
        model,
        saveat=saveat,
        stepsize_controller=controller,
        adjoint=adjoint,
        max_steps=max_steps,
        throw=throw,
    )


def accepted_times(model, solver) -> np.ndarray:
    """The grid that an adaptive solve chose."""
    saveat = dfx.SaveAt(t0=True, steps=True)
    solution = solve(model, solver, saveat=saveat)
    assert solution.stats["num_rejected_steps"] > 0
    times = np.asarray(solution.ts)
    return times[np.isfinite(times)]


def directional(function, model, eps: float = 1e-6, seed: int = 5) -> tuple:
    """A direction, and the central difference of a function of the model along it."""
    params, rest = eqx.partition(model, eqx.is_inexact_array)
    leaves, structure = jtu.tree_flatten(params)
    keys = jr.split(jr.key(seed), len(leaves))
    pairs = zip(keys, leaves, strict=True)
    leaves = [jr.normal(k, x.shape, x.dtype) for k, x in pairs]
    direction = jtu.tree_unflatten(structure, leaves)

    def moved(size):
        along = jtu.tree_map(lambda p, d: p + size * d, params, direction)
        return np.asarray(function(eqx.combine(along, rest)))

    return direction, (moved(eps) - moved(-eps)) / (2 * eps)


def inner(gradient, direction) -> Any:
    """Their inner product."""
    pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
    return sum(jnp.sum(g * d) for g, d in pairs)
