"""How a solve ends, in our words and in lineax's."""

from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx

from .._result import RESULTS

# Inside the loop a status is an integer; −1 while the solve is still running.
RUNNING = -1
STATUSES: tuple[tuple[Any, Any], ...] = (
    (RESULTS.successful, lx.RESULTS.successful),
    (RESULTS.max_steps_reached, lx.RESULTS.max_steps_reached),
    (RESULTS.indefinite_operator, lx.RESULTS.breakdown),
    (RESULTS.indefinite_preconditioner, lx.RESULTS.breakdown),
    (RESULTS.nonfinite, lx.RESULTS.singular),
    (RESULTS.stagnated, lx.RESULTS.stagnation),
    (RESULTS.diverged, lx.RESULTS.breakdown),
    (RESULTS.infeasible, lx.RESULTS.singular),
)
(
    CONVERGED,
    MAX_STEPS,
    INDEFINITE_OPERATOR,
    INDEFINITE_PRECONDITIONER,
    NONFINITE,
    STAGNATED,
    DIVERGED,
    INFEASIBLE,
) = range(len(STATUSES))


def first_of(*cases):
    """The status of the first condition that holds, else `RUNNING`.

    **Arguments:** pairs (condition, status), most important first.
    """
    status = jnp.asarray(RUNNING, jnp.int32)
    for condition, code in reversed(cases):
        status = jnp.where(condition, jnp.asarray(code, jnp.int32), status)
    return status


def our_result(status) -> Any:
    """The `RESULTS` item of an integer status, or one per column."""
    if jnp.ndim(status):
        return jax.vmap(our_result)(status)
    result: Any = STATUSES[0][0]
    for code, (ours, _) in enumerate(STATUSES):
        result = RESULTS.where(status == code, ours, result)
    return result


def lineax_result(status) -> Any:
    """The nearest item of `lineax.RESULTS`, the only ones that lineax accepts."""
    result = STATUSES[0][1]
    for code, (_, theirs) in enumerate(STATUSES):
        result = lx.RESULTS.where(status == code, theirs, result)
    return result
