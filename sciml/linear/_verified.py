"""What every Krylov method here goes through: no end counts until it is recomputed."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Shaped

from . import _tree as tree
from ._status import (
    CONVERGED,
    DIVERGED,
    MAX_STEPS,
    NONFINITE,
    RUNNING,
    STAGNATED,
    first_of,
)
from ._tree import Vector

Apply = Callable[[Vector], Vector]
KrylovOutput = tuple[Vector, Int[Array, "..."], dict[str, Any]]
# One per column where several systems are solved at once.
Scalar = Shaped[Array, "..."]

# A residual this many times the initial one cannot be usual non-monotonicity.
_DIVERGENCE = 1e8
_MAX_RESTARTS = 2
# Where rounding alone leaves more than this of b, nobody would call it solved.
_FLOOR_LIMIT = 1e-2


@runtime_checkable
class Tolerances(Protocol):
    """What is asked for, as `AbstractKrylov` knows it."""

    atol: Any

    def lengths(self, size: int) -> tuple[int, int]:
        """Maximum number of steps and length of the history."""
        ...

    def relative(self, dtype) -> Any:
        """rtol in a dtype."""
        ...

    def rounding_floor(self, A: Apply, x: Vector, dtype) -> Any:
        """The residual below which rounding leaves nothing to be gained."""
        ...


class Progress(eqx.Module):
    """How far a solve has come, in units in which max |b_i| = 1."""

    x: Vector
    best: Scalar
    best_step: Int[Array, "..."]
    step: Int[Array, "..."]
    status: Int[Array, "..."]
    history: Shaped[Array, "history ..."]


class Limits(NamedTuple):
    """When a pass ends: what it may believe, and what it may not exceed."""

    believed: Any
    reference: Any
    window: int
    max_steps: int

    def judge(self, progress: Progress, rnorm: Scalar, count: Array):
        """The best residual so far, its step, and the status after a step."""
        improved = rnorm < progress.best
        best_step = jnp.where(improved, count, progress.best_step)
        status = first_of(
            (~jnp.isfinite(rnorm), NONFINITE),
            (rnorm <= self.believed, CONVERGED),
            (count >= self.max_steps, MAX_STEPS),
            (rnorm > _DIVERGENCE * progress.history[0] * self.reference, DIVERGED),
            (count - best_step >= self.window, STAGNATED),
        )
        return jnp.minimum(rnorm, progress.best), best_step, status

    def record(self, history: Array, count: Array, rnorm: Scalar) -> Array:
        """The history with the relative residual of step `count` in it."""
        return _record(history, count, rnorm / self.reference)


def _record(history: Array, count: Array, value: Array) -> Array:
    """`value` at index `count`, dropped beyond the end; columns are the last axis."""
    if history.ndim == 1:
        return history.at[count].set(value, mode="drop")
    index = jnp.arange(history.shape[1], dtype=count.dtype)
    return history.at[count, index].set(value, mode="drop")


Pass = Callable[[Progress, Any, Vector, Scalar, Limits], tuple[Progress, Any]]


def verified(
    method: Tolerances, A: Apply, b: Vector, x0: Vector | None, run: Pass, memory: Any
) -> KrylovOutput:
    """Passes of a method until a recomputed residual meets the tolerance.

    **Arguments:**

    - `method`: the tolerances.
    - `A`, `b`, `x0`: the system, and the initial guess or None for zero.
    - `run`: one pass. Given the progress, the method's own memory, the recomputed
        residual, its norm and the limits it goes on until it believes to have
        converged (status `CONVERGED`), wants the residual recomputed (`RUNNING`) or
        has to give up (any other). It does nothing unless the status is `RUNNING`.
    - `memory`: what the method keeps from pass to pass.

    **Returns:** x, an integer status, the statistics.
    """
    dtype = tree.real_dtype(b)
    size = tree.size(b)
    max_steps, length = method.lengths(size)
    eps = jnp.finfo(dtype).eps
    # Scaling b to 1 keeps the squares in inner products from over- or underflowing.
    unit = tree.max_abs(b)
    unit = jnp.where((unit > 0) & jnp.isfinite(unit), unit, 1.0)
    b = tree.scale(1.0 / unit, b)
    x = tree.zeros_like(b) if x0 is None else tree.scale(1.0 / unit, x0)
    bnorm = tree.norm(b)
    # A zero right-hand side has the solution zero, whatever the initial guess.
    x = tree.where(bnorm == 0, tree.zeros_like(b), x)
    tolerance = method.relative(dtype) * bnorm + method.atol.astype(dtype) / unit
    reference = jnp.where(bnorm > 0, bnorm, 1.0)

    def accepted(x):
        floor = method.rounding_floor(A, x, dtype)
        return jnp.maximum(tolerance, jnp.minimum(floor, _FLOOR_LIMIT * bnorm))

    def recomputed(x):
        r = tree.subtract(b, A(x))
        return r, tree.norm(r), accepted(x)

    def running(carry):
        return carry[0].status == RUNNING

    def attempt(carry):
        progress, memory, (r, rnorm, _), restarts = carry
        # Below ε times where it started a recurrence knows nothing any more, and
        # would break down for reasons that are not the operator's.
        believed = jnp.maximum(tolerance, eps * rnorm)
        limits = Limits(believed, reference, max(1000, 2 * size), max_steps)
        progress, memory = run(progress, memory, r, rnorm, limits)
        claimed = progress.status == CONVERGED
        residual = recomputed(progress.x)
        _, rnorm, allowed = residual
        verdict = first_of(
            (~jnp.isfinite(rnorm), NONFINITE),
            (rnorm <= allowed, CONVERGED),
            (claimed & (restarts >= _MAX_RESTARTS), STAGNATED),
            (progress.step >= max_steps, MAX_STEPS),
        )
        status = jnp.where(
            claimed | (progress.status == RUNNING), verdict, progress.status
        )
        again = claimed & (status == RUNNING)
        progress = eqx.tree_at(lambda s: s.status, progress, status)
        return progress, memory, residual, restarts + again.astype(jnp.int32)

    if x0 is None:
        # The residual of zero is b; but nothing is a success without a product, which
        # tells whether A is finite.
        start = jax.lax.cond(
            jnp.any(bnorm <= tolerance),
            lambda: recomputed(x),
            lambda: (b, bnorm, jnp.broadcast_to(tolerance, bnorm.shape)),
        )
    else:
        start = recomputed(x)
    _, rnorm, allowed = start
    count = tree.full(b, 0, jnp.int32)
    history = jnp.full((length, *count.shape), jnp.nan, dtype)
    initial = Progress(
        x=x,
        best=rnorm,
        best_step=count,
        step=count,
        status=first_of(
            (~jnp.isfinite(rnorm), NONFINITE), (rnorm <= allowed, CONVERGED)
        ),
        history=history.at[0].set(rnorm / reference),
    )
    final, _, (_, rnorm, allowed), restarts = tree.while_loop(
        running, attempt, (initial, memory, start, count)
    )
    stats: dict[str, Any] = {
        "num_steps": final.step,
        "max_steps": max_steps,
        "num_restarts": restarts,
        "relative_residual": rnorm / reference,
        "tolerance": allowed / reference,
        "residual_history": final.history,
    }
    return tree.scale(unit, final.x), final.status, stats
