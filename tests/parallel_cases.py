"""Processes that train together: `python parallel_cases.py CASE RANK PORT FOLDER`.

Each prints one line of JSON at its end.
"""

import contextlib
import importlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]


def environment(**changes: str) -> dict[str, str]:
    """For a child that imports the tests' modules, as strict as the tests are."""
    paths = [str(ROOT / "tests"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    strict = {
        "JAX_ENABLE_X64": "1",
        "JAX_NUMPY_DTYPE_PROMOTION": "strict",
        "JAX_NUMPY_RANK_PROMOTION": "raise",
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    return os.environ | strict | changes


def start(case: str, rank: int, port: int, folder: Any) -> subprocess.Popen:
    command = [sys.executable, __file__, case, str(rank), str(port), str(folder)]
    flags = "--xla_backend_optimization_level=0"
    if case == "devices":
        flags += " --xla_force_host_platform_device_count=8"
    return subprocess.Popen(
        command,
        env=environment(XLA_FLAGS=flags),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def pair(case: str, folder: Any) -> list[subprocess.Popen]:
    port = free_port()
    return [start(case, rank, port, folder) for rank in range(2)]


def output(child: subprocess.Popen, seconds: float = 120.0) -> dict[str, Any]:
    try:
        out, err = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        out, err = child.communicate()
    assert child.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def run(folder=None, num_steps=24, dtype="float64", batch_size=8, **changes):
    """A run with 40 samples, of which 21 others judge it every 5 steps."""
    import jax.random as jr
    from training_cases import Network, cast, network_data, training_run

    from sciml.training import Validation

    key = jr.key(3)
    held_out = cast(network_data(jr.fold_in(key, 5), 21), dtype)
    arguments = {
        "model": cast(Network(key=key), dtype),
        "dataset": cast(network_data(jr.fold_in(key, 2), 40), dtype),
        "batch_size": batch_size,
        "validation": Validation(held_out, every=5),
    }
    return training_run(folder, key, num_steps, **(arguments | changes))


def numbers(outcome) -> dict[str, Any]:
    """What is compared, in JSON, which keeps every digit."""
    import equinox as eqx
    import jax
    import numpy as np

    model, history = outcome
    leaves = jax.tree.leaves(eqx.filter(model, eqx.is_array))
    best = jax.tree.leaves(eqx.filter(history.best_model, eqx.is_array))
    return {
        "loss": history.loss.tolist(),
        "validation": history.validation.value.tolist(),
        "best_step": history.best_step,
        "parameters": np.concatenate([np.ravel(a) for a in leaves]).tolist(),
        "best": np.concatenate([np.ravel(a) for a in best]).tolist(),
    }


# --- what the children do -------------------------------------------------------------


def devices(mesh, folder) -> dict[str, Any]:
    """Eight devices and one, in both precisions; what the devices tell each other."""
    found: dict[str, Any] = {"devices": mesh.devices.size}
    for dtype in ("float64", "float32"):
        found[dtype] = [numbers(run(dtype=dtype, mesh=m)) for m in (None, mesh)]
    run(folder, 12, mesh=mesh)
    found["resumed on one"] = numbers(run(folder))
    try:
        run(mesh=mesh, batch_size=12)
    except ValueError as error:
        found["uneven"] = str(error)
    return found | {"collectives": collectives(mesh)}


def collectives(mesh) -> list[str]:
    """Operations between devices in the compiled step."""
    import jax.numpy as jnp
    import jax.random as jr
    import optax
    from training_cases import Network, network_data

    from sciml.training import RelativeH1
    from sciml.training._placement import Placement
    from sciml.training._step import epoch_order, make_step, split_model

    placement, key, data = Placement(mesh), jr.key(0), network_data(jr.key(1), 40)
    trained, given, rest = split_model(Network(key=key))
    optimiser = optax.sgd(0.1)
    state = (trained, optimiser.init(trained), epoch_order(key, 0, 40), jnp.array(0))
    state = placement.everywhere(state)
    fixed = placement.everywhere((data.inputs, data.targets, given, key, key))
    step = make_step(rest, data, RelativeH1(), optimiser, 8, placement)
    text = placement.jit(step).lower(state, fixed).compile().as_text()
    names = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    return re.findall(rf" ({names})(?:-start)?\(", text)


def processes(mesh, folder) -> dict[str, Any]:
    """Train, save, and fail together."""
    import jax

    import sciml.training as training

    path = pathlib.Path(folder)
    first = numbers(run(path / "run", 12, mesh=mesh))
    metrics = path / f"metrics{jax.process_index()}.jsonl"
    found = {"half": first, "mesh": mesh.devices.size}
    found |= numbers(run(path / "run", mesh=mesh, metrics_path=metrics))
    try:
        run(mesh=mesh, batch_size=8 + 2 * jax.process_index())
    except ValueError as error:
        found["different arguments"] = str(error)
    # Without a mesh each process trains a model of its own.
    try:
        found["alone"] = numbers(run(path / f"alone{jax.process_index()}"))
    except training.CheckpointError as error:
        found["alone"] = str(error)
    (path / "file").touch()
    try:
        run(path / "file", mesh=mesh)
    except (training.CheckpointError, RuntimeError) as error:
        found["bad folder"] = f"{type(error).__name__}: {error}"
    return found


def long_run(mesh, folder) -> dict[str, Any]:
    """Something to interrupt."""
    return numbers(run(folder, 400, mesh=mesh, checkpoint_every=20))


def interrupted(mesh, folder) -> dict[str, Any]:
    """The same, and what a signal does to it."""

    def terminate(*_):
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, terminate)
    metrics = f"{folder}.jsonl"
    try:
        run(folder, 100_000, mesh=mesh, checkpoint_every=10**6, metrics_path=metrics)
    except (SystemExit, KeyboardInterrupt) as stop:
        return {"stopped by": type(stop).__name__}
    return {}


def main(case: str, rank: str, port: str, folder: str) -> None:
    import warnings

    import jax

    warnings.simplefilter("error")
    if case != "devices":
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"127.0.0.1:{port}", 2, int(rank))
    mesh = jax.make_mesh((jax.device_count(),), ("batch",))
    found = getattr(importlib.import_module("parallel_cases"), case)(mesh, folder)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
