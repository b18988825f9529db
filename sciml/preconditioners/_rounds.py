"""What methods that choose ω share: contexts, losses, arms."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray


def chosen_loss(num_steps: ArrayLike, dtype: Any) -> Float[Array, ""]:
    """A count as a number of the state's type; an error where it is none."""
    loss = jnp.asarray(num_steps)
    if loss.ndim:
        raise ValueError(
            f"num_steps: expected one number, got shape {loss.shape}; "
            "map a batch of states with jax.vmap."
        )
    loss = loss.astype(dtype)
    return eqx.error_if(
        loss,
        ~(jnp.isfinite(loss) & (loss >= 0)),
        "num_steps: expected a finite number ≥ 0, got NaN, infinity or less. Pass the "
        "solve's stats['num_steps'].",
    )


def checked_interval(interval: Any) -> tuple[float, float]:
    """The two ends of a context's interval."""
    lower, upper = map(float, interval)
    if not -jnp.inf < lower < upper < jnp.inf:
        raise ValueError(
            f"interval: expected two finite numbers a < b, got {(lower, upper)}."
        )
    return lower, upper


def unit_context(
    context: ArrayLike | None, interval: tuple[float, float], dtype: Any
) -> Float[Array, ""]:
    """Where in its interval a context lies, from 0 to 1; the nearer end if outside."""
    if context is None:
        raise ValueError(
            "context: this method needs a number known of each system before it is "
            f"solved, between {interval[0]} and {interval[1]}."
        )
    context = jnp.asarray(context)
    if context.ndim:
        raise ValueError(
            f"context: expected one number, got shape {context.shape}; "
            "map a batch of states with jax.vmap."
        )
    lower, upper = interval
    place = (context.astype(dtype) - lower) / (upper - lower)
    place = eqx.error_if(
        place,
        jnp.isnan(place),
        f"context: got NaN, expected a number between {lower} and {upper}.",
    )
    return jnp.clip(place, 0.0, 1.0)


def chebyshev(
    context: ArrayLike | None, interval: tuple[float, float], count: int, dtype: Any
) -> Float[Array, " count"]:
    """T_j(2 (c − a)/(b − a) − 1) for j < count."""
    place = unit_context(context, interval, dtype)
    degrees = jnp.arange(count, dtype=dtype)
    return jnp.cos(degrees * jnp.arccos(2 * place - 1))


def select(tree_of_arrays: Any, index: Array) -> Any:
    """Entry `index` of each leaf's first axis."""
    return jtu.tree_map(lambda leaf: leaf[index], tree_of_arrays)


def replace(tree_of_arrays: Any, index: Array, entry: Any) -> Any:
    """The same with entry `index` replaced."""
    return jtu.tree_map(
        lambda leaf, new: leaf.at[index].set(new), tree_of_arrays, entry
    )


def stacked(state: Any, count: int) -> Any:
    """`count` copies of a state, on a new first axis."""
    return jtu.tree_map(
        lambda leaf: jnp.broadcast_to(leaf, (count, *jnp.shape(leaf))), state
    )


def draw(key: PRNGKeyArray, probabilities: Float[Array, " d"]) -> Array:
    """An index with these probabilities."""
    return jax.random.categorical(key, jnp.log(probabilities)).astype(jnp.int32)
