"""Models, data and runs that the tests of training share.

A module of its own, because a process that is going to be killed imports it, too.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from sciml.data import Dataset
from sciml.grids import Dirichlet, Grid, Neumann
from sciml.training import RelativeH1, fit

GRID = Grid(
    (4, 3), boundary=(Dirichlet(), (Neumann(), Dirichlet(value=1.0, stored=True)))
)


class Pointwise(eqx.Module):
    """u = W a at every node."""

    weight: jax.Array

    def __call__(self, field):
        return jnp.einsum("oi,ixy->oxy", self.weight, field)


class Network(eqx.Module):
    """A small network between the values at all nodes."""

    mlp: eqx.nn.MLP

    def __init__(self, *, key):
        size = GRID.size
        self.mlp = eqx.nn.MLP(size, size, 8, 1, jax.nn.tanh, key=key)

    def __call__(self, field):
        return self.mlp(field.reshape(-1)).reshape(1, *GRID.shape)


class Identity(eqx.Module):
    def __call__(self, field):
        return field


def mean_square(model, batch, key):
    del key
    error = jax.vmap(model)(batch.inputs) - batch.targets
    value = jnp.mean(error**2)
    return value, {"largest": jnp.max(jnp.abs(error))}


def pointwise_data(key, dtype=jnp.float64, samples=10):
    """Targets that no weight reproduces, and the weight that comes closest."""
    keys = jr.split(key)
    inputs = jr.normal(keys[0], (samples, 2, *GRID.shape), dtype)
    targets = jr.normal(keys[1], (samples, 1, *GRID.shape), dtype)
    matrix = np.asarray(jnp.moveaxis(inputs, 1, -1).reshape(-1, 2))
    best = np.linalg.lstsq(matrix, np.asarray(targets).reshape(-1))[0]
    return Dataset(inputs, targets, GRID), best


def network_data(key, samples=10):
    inputs = jr.normal(key, (samples, 1, *GRID.shape))
    return Dataset(inputs, jnp.cumsum(inputs, axis=2), GRID)


def same_bits(left, right) -> bool:
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for a, b in pairs
        if eqx.is_array(a)
    )


def training_run(folder, seed, num_steps=12, **changes):
    """A run with shuffled batches, momentum and a loss that draws random numbers."""
    arguments: dict[str, Any] = {
        "model": Network(key=jr.fold_in(seed, 1)),
        "dataset": network_data(jr.fold_in(seed, 2)),
        "loss": noisy_loss,
        "optimiser": optax.adam(optax.linear_schedule(1e-2, 1e-3, 12)),
        "num_steps": num_steps,
        "batch_size": 3,
        "checkpoint_dir": folder,
        "checkpoint_every": 4,
        "progress": False,
        "key": jr.fold_in(seed, 3),
    }
    return fit(**(arguments | changes))


def noisy_loss(model, batch, key):
    noise = 0.1 * jr.normal(key, batch.inputs.shape, batch.inputs.dtype)
    value, aux = RelativeH1()(model, batch, key)
    shaken = jax.vmap(model)(batch.inputs + noise)
    return value + jnp.mean(shaken**2), aux


def cast(tree, dtype):
    """A model or a data set with its numbers in another precision."""
    return jax.tree.map(
        lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, tree
    )
