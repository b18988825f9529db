"""One step of a one-step method, to begin a multistep method with."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from ._bdf2dc_newton import Newton, Number, Vector

# SDIRK of order 4 with five stages, L-stable and stiffly accurate, and an embedded
# method of order 3. Hairer & Wanner II, table IV.6.5. All stages are within the step.
GAMMA = 1 / 4
LOWER = np.array(
    [
        [0, 0, 0, 0, 0],
        [1 / 2, 0, 0, 0, 0],
        [17 / 50, -1 / 25, 0, 0, 0],
        [371 / 1360, -137 / 2720, 15 / 544, 0, 0],
        [25 / 24, -49 / 48, 125 / 16, -85 / 12, 0],
    ]
)
WEIGHTS = LOWER[-1] + GAMMA * np.eye(5)[-1]
EMBEDDED = np.array([59 / 48, -17 / 96, 225 / 32, -85 / 12, 0])


class Start(eqx.Module):
    """A step from y: its end v, k = h f at both ends, the error estimate."""

    v: Vector
    k0: Vector
    k: Vector
    error_estimate: Vector
    converged: Bool[Array, ""]
    num_steps: Int[Array, ""]


def start(newton: Newton, t0: Number, t1: Number, y: Vector) -> Start:
    """A step by the method above, all of whose stages share one matrix."""
    beta = 1 / GAMMA
    k0 = newton.g(t0, y)
    M = newton.factorised(beta, t0, y)

    def combined(row, known):
        return jnp.tensordot(row, known, 1, precision=jax.lax.Precision.HIGHEST)

    def stage(known, this):
        index, row, c = this
        base = y + combined(row, known)
        # The stage before has a slope without what has decayed, unlike y at first.
        guess = base + GAMMA * jnp.where(index > 0, known[index - 1], 0)
        t = t0 + c.astype(t0.dtype) * (t1 - t0)
        root = newton.root(beta, -beta * base, t, M, guess, y)
        return known.at[index].set(root.k), root

    lower = jnp.asarray(LOWER, y.dtype)
    times = jnp.asarray(LOWER.sum(1) + GAMMA, y.dtype)
    indices = jnp.arange(len(LOWER), dtype=jnp.int32)
    known = jnp.zeros((len(LOWER), y.size), y.dtype)
    known, roots = jax.lax.scan(stage, known, (indices, lower, times))
    difference = combined(jnp.asarray(WEIGHTS - EMBEDDED, y.dtype), known)
    return Start(
        v=roots.v[-1],
        k0=k0,
        k=known[-1],
        error_estimate=M.solve(beta * difference),
        converged=jnp.all(roots.converged),
        num_steps=jnp.sum(roots.num_steps, dtype=jnp.int32),
    )
