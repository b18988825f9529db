"""What the vector fields are called with: states and parameters of the right shape."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array


def check_state(y: Array, size: int) -> None:
    """One state is a vector: batches go through `jax.vmap`."""
    if y.shape != (size,):
        raise ValueError(
            f"y: expected one state of shape ({size},), got {y.shape}; for several, "
            "use jax.vmap."
        )


def parameters(args: Any, own: Array, y: Array) -> Array:
    """The parameters that are given, or else the problem's own, in the type of y."""
    found = jnp.asarray(own if args is None else args, y.dtype)
    if found.shape != own.shape:
        raise ValueError(
            f"args: expected the parameters in an array of shape {own.shape}, got "
            f"{found.shape}."
        )
    return found
