"""A small run of training in a process of its own, to be killed and started again.

`python -m problems.bench._durable_run FOLDER STEPS SEED` goes on with the run in there,
if there is one, and leaves `outcome.npz` and `facts.json` beside its checkpoints.
"""

import json
import os
import pathlib
import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import sciml
from sciml.data import Dataset
from sciml.grids import Grid
from sciml.neural_operators import MgNO, normalised
from sciml.training import RelativeH1, Validation

from .._surrogate import in_float32, short_run_optimiser

_COMPILED = "/jax/core/compile/backend_compile_duration"


def train(folder: pathlib.Path, num_steps: int, seed: int) -> dict[str, Any]:
    """Everything that a checkpoint has to hold is in use: weights and their best, the
    optimiser's moments and schedule, keys that the loss draws with, the place in the
    data, and a normaliser.

    **Returns:** arrays to compare, by name.
    """
    data_key, model_key, fit_key = jr.split(jr.key(seed), 3)
    grid = Grid(15)
    inputs = np.asarray(jr.normal(data_key, (40, 1, 15), jnp.float32))
    data = Dataset(inputs, 0.1 * np.cumsum(inputs, axis=2), grid)
    train, held_out = data.split(30)
    model = MgNO(1, 1, 1, width=4, depth=1, num_levels=2, key=model_key)
    model, history = sciml.training.fit(
        normalised(in_float32(model), train.inputs, train.targets),
        train,
        loss=noisy,
        optimiser=short_run_optimiser(num_steps),
        num_steps=num_steps,
        batch_size=8,
        validation=Validation(held_out, every=max(num_steps // 20, 1)),
        checkpoint_dir=folder / "checkpoints",
        checkpoint_every=max(num_steps // 40, 1),
        metrics_path=folder / "metrics.jsonl",
        progress=False,
        key=fit_key,
    )
    arrays = {"loss": history.loss, "best_step": np.array(history.best_step)}
    arrays |= {f"aux.{name}": column for name, column in history.aux.items()}
    arrays |= {
        "validation": history.validation.value,
        "validation_step": history.validation.step,
    }
    for name, kept in (("model", model), ("best", history.best_model)):
        leaves = jax.tree.leaves(eqx.filter(kept, eqx.is_array))
        arrays |= {f"{name}.{k}": np.asarray(leaf) for k, leaf in enumerate(leaves)}
    return arrays


def noisy(model, batch, key):
    """The H1 loss of inputs that are shaken."""
    noise = 0.01 * jr.normal(key, batch.inputs.shape, batch.inputs.dtype)
    return RelativeH1()(model, batch._with(batch.inputs + noise, batch.targets), key)


def main(folder: str, num_steps: str, seed: str) -> None:
    """Train, and write down what came of it."""
    compiled: list[str] = []

    def heard(event: str, duration_secs: float, **facts: Any) -> None:
        del duration_secs
        if event == _COMPILED:
            compiled.append(str(facts.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(heard)
    path = pathlib.Path(folder)
    arrays: dict[str, Any] = train(path, int(num_steps), int(seed))
    # (Once under its last name, it is complete.)
    np.savez(path / "unfinished.npz", **arrays)
    (path / "facts.json").write_text(json.dumps({"compiled": compiled}))
    os.replace(path / "unfinished.npz", path / "outcome.npz")


if __name__ == "__main__":
    main(*sys.argv[1:])
