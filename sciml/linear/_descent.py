"""One pass of a method that steps along directions: x ← x + α p, r ← r − α A p."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from . import _tree as tree
from ._status import RUNNING
from ._tree import Vector
from ._verified import Limits, Pass, Progress

# From the method's memory and the residual: its new memory, the direction p, A p, the
# step length α, and a status other than RUNNING where there is no such direction.
Direction = Callable[[Any, Vector], tuple[Any, Vector, Vector, Array, Array]]


def advance(
    progress: Progress,
    r: Vector,
    p: Vector,
    q: Vector,
    alpha: Array,
    status: Array,
    limits: Limits,
) -> tuple[Progress, Vector]:
    """x + α p and r − α q, q = A p, judged; nothing moves where `status` is an end."""
    good = status == RUNNING
    alpha = jnp.where(good, alpha, 0.0)
    # A broken direction may hold NaN, and 0 · NaN is NaN.
    zero = tree.zeros_like(p)
    p, q = tree.where(good, (p, q), (zero, zero))
    r = tree.axpy(-alpha, q, r)
    rnorm = tree.norm(r)
    count = progress.step + good.astype(jnp.int32)
    best, best_step, after = limits.judge(progress, rnorm, count)
    progress = Progress(
        x=tree.axpy(alpha, p, progress.x),
        best=best,
        best_step=best_step,
        step=count,
        status=jnp.where(good, after, status),
        history=limits.record(progress.history, count, rnorm),
    )
    return progress, r


def descent(direction: Direction, restart: Callable[[Any], Any]) -> Pass:
    """The pass that takes steps along the directions of a method.

    **Arguments:**

    - `direction`: see `Direction`.
    - `restart`: the memory at the start of a pass from the memory at the end of the
        last one: directions are forgotten, what is known of A may stay.
    """

    def run(progress: Progress, memory, r, rnorm, limits: Limits):
        del rnorm

        def running(carry):
            return carry[0].status == RUNNING

        def step(carry):
            progress, memory, r = carry
            memory, p, q, alpha, status = direction(memory, r)
            progress, r = advance(progress, r, p, q, alpha, status, limits)
            return progress, memory, r

        progress, memory, _ = tree.while_loop(
            running, step, (progress, restart(memory), r)
        )
        return progress, memory

    return run
