"""One run of training on all devices, with the result of one device.

Run it with `python examples/data_parallel.py`. It trains on the devices that are there,
be it one, and then in a process in which the CPU counts as eight. Each device takes an
equal part of every batch; the order of the samples, the random numbers and so the
course of the training are those of one device, up to rounding. (Eight devices made of
one CPU are no faster than the CPU: they show that the numbers are the same.)
"""

import json
import os
import subprocess
import sys

import equinox as eqx
import jax
import jax.random as jr
import numpy as np

import sciml
from sciml.neural_operators import MgNO, normalised

VIRTUAL = 8


def main(smoke: bool = False) -> dict[str, float]:
    """Train on one device and on all; `smoke` takes fewer steps.

    **Returns:** numbers of devices, and the largest differences, by name.
    """
    num_steps = 20 if smoke else 200
    numbers = compare(num_steps)
    print_line("the devices that are there", numbers)
    # How many devices a CPU counts as is settled before JAX starts: in a new process.
    flags = f"--xla_force_host_platform_device_count={VIRTUAL}"
    flags = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
    done = subprocess.run(
        [sys.executable, __file__, str(num_steps)],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    virtual = json.loads(done.stdout)
    print_line("a CPU that counts as several", virtual)
    return numbers | {f"virtual_{name}": value for name, value in virtual.items()}


def compare(num_steps: int) -> dict[str, float]:
    """The same run without a mesh and on one of all devices."""
    mesh = jax.make_mesh((jax.device_count(),), ("samples",))
    (one, on_one), (all_of_them, on_all) = (train(num_steps, m) for m in (None, mesh))
    weights = [
        np.concatenate(
            [np.ravel(a) for a in jax.tree.leaves(eqx.filter(m, eqx.is_array))]
        )
        for m in (one, all_of_them)
    ]
    return {
        "devices": mesh.devices.size,
        "first_loss": float(on_one.loss[0]),
        "last_loss": float(on_one.loss[-1]),
        "loss_difference": float(np.abs(on_all.loss / on_one.loss - 1).max()),
        "weight_difference": float(np.abs(weights[1] - weights[0]).max()),
    }


def train(num_steps: int, mesh: jax.sharding.Mesh | None):
    """An MgNO that learns to sum up its input from the left."""
    data_key, model_key, fit_key = jr.split(jr.key(0), 3)
    inputs = np.asarray(jr.normal(data_key, (64, 1, 15)), np.float32)
    grid = sciml.grids.Grid(15)
    data = sciml.data.Dataset(inputs, np.cumsum(inputs, axis=2) / 15, grid)
    model = MgNO(1, 1, 1, width=4, depth=1, num_levels=2, key=model_key)
    model = jax.tree.map(
        lambda a: a.astype(np.float32) if eqx.is_inexact_array(a) else a, model
    )
    return sciml.training.fit(
        normalised(model, data.inputs, data.targets),
        data,
        num_steps=num_steps,
        # The same batch whatever the number of devices, of which it is a multiple.
        batch_size=16,
        mesh=mesh,
        progress=False,
        key=fit_key,
    )


def print_line(where: str, numbers: dict[str, float]) -> None:
    """What came of it."""
    print(
        f"{where}: {numbers['devices']} devices, loss {numbers['first_loss']:.3f} → "
        f"{numbers['last_loss']:.3f}, which differs by {numbers['loss_difference']:.0e}"
    )


if __name__ == "__main__":
    if len(sys.argv) == 2:
        print(json.dumps(compare(int(sys.argv[1]))))
    else:
        main()
