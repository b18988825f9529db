"""Training on several devices and processes is training on one."""

import json
import signal
import time

import numpy as np
import pytest
from parallel_cases import numbers, output, pair, run, start


def differences(left, right) -> dict[str, float]:
    """The largest differences, relative to the size of what is compared."""
    found = {}
    for name in ("loss", "validation", "parameters", "best"):
        a, b = np.array(left[name]), np.array(right[name])
        assert a.shape == b.shape
        found[name] = np.abs(a - b).max() / np.abs(a).max()
    assert left["best_step"] == right["best_step"]
    return found


def test_eight_devices(tmp_path):
    found = output(start("devices", 0, 0, tmp_path / "run"))
    assert found["devices"] == 8
    assert max(differences(*found["float64"]).values()) < 1e-12
    assert max(differences(*found["float32"]).values()) < 1e-6
    resumed = found["resumed on one"]
    assert max(differences(found["float64"][0], resumed).values()) < 1e-12
    assert "a multiple of the 8 devices of the mesh, got 12" in found["uneven"]
    # Gradients are summed, and no device sees another's samples.
    assert set(found["collectives"]) == {"all-reduce"}


def test_two_processes(tmp_path):
    children = pair("processes", tmp_path)
    here = numbers(run())
    found = [output(child) for child in children]
    for rank, there in enumerate(found):
        assert there["mesh"] == 2 and there["loss"] == found[0]["loss"]
        assert max(differences(here, there).values()) < 1e-12
        assert there["half"]["loss"] == there["loss"][:12]
        assert "different arguments: batch_size" in there["different arguments"]
        kind = "RuntimeError" if rank else "CheckpointError"
        assert there["bad folder"].startswith(f"{kind}: ")
        assert "cannot be used" in there["bad folder"]
    assert max(differences(here, found[0]["alone"]).values()) < 1e-12
    assert "orbax writes on the first one only" in found[1]["alone"]
    # Only the first process writes.
    lines = (tmp_path / "metrics0.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == found[0]["loss"]
    assert not (tmp_path / "metrics1.jsonl").exists()


def wait_for(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_kill_one_of_two_processes(tmp_path, victim):
    folder = tmp_path / "run"
    children = pair("long_run", folder)
    wait_for(lambda: (folder / "20").exists())
    children[victim].kill()
    children[victim].communicate()
    # Whether the other notices is up to JAX; a launcher ends it.
    children[1 - victim].kill()
    children[1 - victim].communicate()
    resumed = [output(child) for child in pair("long_run", folder)]
    whole = [output(child) for child in pair("long_run", tmp_path / "whole")]
    assert resumed == whole


@pytest.mark.slow
@pytest.mark.parametrize("told", [0, 1])
def test_interrupt_one_of_two_processes(tmp_path, told):
    """Both stop at the same step, with a checkpoint."""
    folder = tmp_path / "run"
    children = pair("interrupted", folder)
    metrics = tmp_path / "run.jsonl"
    wait_for(lambda: metrics.exists() and metrics.stat().st_size)
    children[told].send_signal(signal.SIGTERM)
    stopped = [output(child, 60)["stopped by"] for child in children]
    expected = ["KeyboardInterrupt"] * 2
    expected[told] = "SystemExit"
    assert stopped == expected
    (checkpoint,) = folder.iterdir()
    assert 0 < int(checkpoint.name) < 100_000
