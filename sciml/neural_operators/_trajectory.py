"""Trajectories as channels: what a model that marches in time sees next."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def state_channels(in_channels: int, num_parameters: int) -> int:
    """Channels of the state among those of an input (state, parameters).

    **Raises:** `ValueError` if none are left.
    """
    if not 0 <= num_parameters < in_channels:
        raise ValueError(
            f"num_parameters: expected 0 to {in_channels - 1}, since an input with "
            f"{in_channels} channels has at least one of the state, got "
            f"{num_parameters}."
        )
    return in_channels - num_parameters


def advance(
    x: Float[Array, "in_channels *space"],
    y: Float[Array, "out_channels *space"],
    num_parameters: int,
) -> Float[Array, "in_channels *space"]:
    """The next input: the newest states of x and y, and the parameters of x.

    Channels count time first: the output continues the states of the input, which has
    as many states as the model wants to see, be they fewer or more than it gives.
    """
    num_state = state_channels(x.shape[0], num_parameters)
    states = jnp.concatenate([x[:num_state], y])
    return jnp.concatenate([states[y.shape[0] :], x[num_state:]])
