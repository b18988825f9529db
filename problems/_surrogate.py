"""What the demonstration, the benchmarks and `sciml train` do to every surrogate."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sciml.data import Dataset


def as_float32(data: Dataset) -> Dataset:
    """The data set in the precision that networks are trained in."""
    return Dataset(
        np.asarray(data.inputs, np.float32),
        np.asarray(data.targets, np.float32),
        data.grid,
    )


def in_float32(model):
    """The model with its weights in float32, whatever the default is."""
    return jax.tree_util.tree_map(
        lambda x: x.astype(jnp.float32) if isinstance(x, jax.Array) else x, model
    )


def num_parameters(model) -> int:
    """Number of trained scalars."""
    leaves = jax.tree_util.tree_leaves(model)
    return sum(x.size for x in leaves if isinstance(x, jax.Array))


def short_run_optimiser(
    num_steps: int, learning_rate: float = 4e-3, weight_decay: float = 1e-4
) -> optax.GradientTransformation:
    """AdamW for a few epochs: a high peak, reached in a tenth of the steps, and cosine.

    `sciml.training.default_optimiser` follows the papers' hundreds of epochs with a
    peak of 1e-3, which is too slow for a run of minutes.
    """
    warmup = max(num_steps // 10, 1)
    schedule = optax.warmup_cosine_decay_schedule(
        learning_rate / 10,
        learning_rate,
        warmup,
        max(num_steps, warmup + 1),
        learning_rate / 100,
    )
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=weight_decay)
    )
