"""Training that is killed, and goes on as if nothing had happened.

Run it with `python examples/resume_training.py` (it needs the extra `train`). An MgNO
learns to solve −u″ = f, u = 0 at both ends. A process that trains it is killed in the
middle, the way a machine ends it that runs out of memory; the same call of `fit` goes
on from the last checkpoint and ends with the same bits as a run that was left alone.
Held-out data tell which model was the best on the way.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

import equinox as eqx
import jax
import jax.random as jr
import numpy as np

import sciml
from sciml.neural_operators import MgNO, normalised


def main(smoke: bool = False) -> dict[str, float]:
    """Train twice, once with a process that is killed; `smoke` takes fewer steps.

    **Returns:** steps, and numbers of losses and weights that differ, by name.
    """
    num_steps = 300 if smoke else 3000
    with tempfile.TemporaryDirectory() as name:
        whole, expected = train(num_steps)

        # 1. A process of its own, killed once it has saved something.
        folder = pathlib.Path(name)
        killed_at = train_and_kill(folder, num_steps)
        saved = [int(p.name) for p in (folder / "run").iterdir() if p.name.isdigit()]
        print(f"killed at step {killed_at}, saved at step {max(saved)}")

        # 2. The same call again. It finds the checkpoints, and goes on.
        resumed, history = train(num_steps, folder)
        lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()

    # 3. Losses, weights and the best model are the same, to the last bit.
    numbers = {
        "steps": len(history.loss),
        "killed_at": killed_at,
        "saved_at": max(saved),
        "different_losses": int(np.sum(history.loss != expected.loss)),
        "different_weights": count_different(resumed, whole),
        "different_weights_of_the_best": count_different(
            history.best_model, expected.best_model
        ),
        "lines_of_metrics": len(lines),
        "first_loss": float(history.loss[0]),
        "best_validation": float(history.validation.value.min()),
        "best_step": int(history.best_step),
    }
    print(f"{numbers['different_losses']} of {len(history.loss)} losses differ,")
    print(f"{numbers['different_weights']} weights; best at {history.best_step}:")
    print(f"relative H1 error {numbers['best_validation']:.2%} on held-out sources")
    return numbers


def train(num_steps: int, folder: pathlib.Path | None = None):
    """The run: everything follows from these arguments."""
    data_key, model_key, fit_key = jr.split(jr.key(0), 3)
    # Sources of a few waves, and the solutions.
    grid = sciml.grids.Grid(31)
    x = np.linspace(0, 1, 33)[1:-1]
    waves = np.arange(1, 5)
    weights = np.asarray(jr.normal(data_key, (120, 4)), np.float32) / waves
    sines = np.sin(np.pi * np.outer(waves, x))
    sources, solutions = weights @ sines, (weights / (np.pi * waves) ** 2) @ sines
    fields = (a.astype(np.float32)[:, None] for a in (sources, solutions))
    data, held_out = sciml.data.Dataset(*fields, grid).split(100)

    model = MgNO(1, 1, 1, width=8, depth=2, num_levels=4, key=model_key)
    model = jax.tree.map(
        lambda a: a.astype(np.float32) if eqx.is_inexact_array(a) else a, model
    )
    return sciml.training.fit(
        normalised(model, data.inputs, data.targets),
        data,
        num_steps=num_steps,
        batch_size=10,
        validation=sciml.training.Validation(held_out, every=num_steps // 10),
        checkpoint_dir=None if folder is None else folder / "run",
        checkpoint_every=num_steps // 15,
        metrics_path=None if folder is None else folder / "metrics.jsonl",
        progress=False,
        key=fit_key,
    )


def train_and_kill(folder: pathlib.Path, num_steps: int) -> int:
    """Let another process train, and kill it; the steps that it made."""
    command = [sys.executable, __file__, str(folder), str(num_steps)]
    settings = {"JAX_ENABLE_X64": str(int(jax.config.jax_enable_x64))}
    child = subprocess.Popen(command, env=os.environ | settings)
    metrics = folder / "metrics.jsonl"
    made = 0
    try:
        while child.poll() is None and made <= num_steps // 3:
            time.sleep(0.001)
            made = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
    finally:
        child.kill()
        child.wait()
    return metrics.read_bytes().count(b"\n")


def count_different(left, right) -> int:
    """Numbers that differ between two models."""
    leaves = (jax.tree.leaves(eqx.filter(m, eqx.is_array)) for m in (left, right))
    return sum(
        int(np.sum(np.asarray(a) != np.asarray(b)))
        for a, b in zip(*leaves, strict=True)
    )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        train(int(sys.argv[2]), pathlib.Path(sys.argv[1]))
    else:
        main()
