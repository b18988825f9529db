"""How a projection ended, and derivatives that exist only where they are right."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Bool

from .._result import RESULTS
from ..linear import Solution


def first_result(*cases: tuple[Any, Any]) -> Any:
    """The result of the first condition that holds, else `RESULTS.successful`.

    **Arguments:** pairs (condition, result), most important first.
    """
    result: Any = RESULTS.successful
    for condition, ours in reversed(cases):
        result = RESULTS.where(condition, ours, result)
    return result


def concluded(
    value: Any, result: Any, stats: dict[str, Any], *, throw: bool
) -> Solution:
    """The `Solution`, raised where it failed if that is wanted."""
    solution = Solution(value, result, stats)
    if throw:
        solution = result.error_if(solution, result != RESULTS.successful)
    return solution


def all_finite(*parts: Any) -> Bool[Array, ""]:
    """Whether no leaf holds NaN or infinity."""
    leaves = jtu.tree_leaves(parts)
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


def guarded(value: Any, exists: Any, message: str, *, throw: bool) -> Any:
    """`value`, the derivative of which is only let through where it `exists`.

    Elsewhere it raises `message` with `throw`, and is NaN without: a derivative that
    does not exist is better missing than wrong.
    """

    @jax.custom_jvp
    def identity(leaf, exists):
        del exists
        return leaf

    @identity.defjvp
    def identity_jvp(primals, tangents):
        leaf, exists = primals
        factor = jnp.where(exists, 1.0, jnp.nan).astype(leaf.dtype)
        if throw:
            factor = eqx.error_if(factor, ~exists, message)
        return leaf, factor * tangents[0]

    return jtu.tree_map(lambda leaf: identity(leaf, exists), value)
