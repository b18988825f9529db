"""Methods that choose ω, and solvers that are made up."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import problems
from sciml.preconditioners import (
    AroundYoung,
    ChebCB,
    FixedOmega,
    PublishedNewton,
    ResponseSurface,
    TsallisINF,
    TsallisINFContextual,
    Young,
)

INTERVAL = (0.0, 10.0)
PROBLEM = problems.HeatSequence(10)
METHODS = {
    "tsallis": TsallisINF(),
    "published": TsallisINF(newton=PublishedNewton()),
    "bins": TsallisINFContextual(INTERVAL, 3),
    "chebyshev": ChebCB(INTERVAL),
    "surface": ResponseSurface(INTERVAL),
    "fixed": FixedOmega(1.3),
    "young": Young(),
    "around young": ResponseSurface(INTERVAL, num_features=4, omegas=AroundYoung()),
}
AROUND = ("young", "around young")


def first_operator():
    return PROBLEM.system(700, PROBLEM.initial())[0]


def counts(omega, context):
    """Steps of a made-up solver whose best ω moves from 1.1 to 1.8."""
    best = 1.1 + 0.7 * context / 10
    return jnp.round(12.0 * jnp.exp(2.5 * jnp.abs(omega - best)))


def play(method, num_rounds, seed=0, state=None, contexts=None):
    """Counts and parameters of so many rounds in one program, and the last state."""
    if contexts is None:
        contexts = 5 + 5 * jnp.sin(0.02 * jnp.arange(num_rounds, dtype=float))
    state = method.init() if state is None else state

    def step(state, inputs):
        context, key = inputs
        omega, state = method.choose(state, context, key=key)
        num_steps = counts(omega, context)
        return method.update(state, num_steps), (num_steps, omega)

    @eqx.filter_jit
    def run(state, contexts, keys):
        return jax.lax.scan(step, state, (contexts, keys))

    state, (steps, omegas) = run(state, contexts, jr.split(jr.key(seed), num_rounds))
    return np.asarray(steps), np.asarray(omegas), state
