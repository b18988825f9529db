"""Runs that are interrupted, killed or damaged, and resumed."""

import functools
import importlib
import os
import signal
import subprocess
import sys
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
import pytest
from parallel_cases import environment
from training_cases import (
    GRID,
    Network,
    Pointwise,
    mean_square,
    network_data,
    noisy_loss,
    pointwise_data,
    same_bits,
    training_run,
)

from sciml.training import CheckpointError, RelativeL2, Validation, fit


@pytest.mark.parametrize("interruption", [1, 4, 5, 11])
def test_resumed_run_is_bitwise_the_same(getkey, tmp_path, interruption):
    key = getkey()
    model, history = training_run(None, key)
    training_run(tmp_path / "run", key, interruption)
    resumed, other = training_run(tmp_path / "run", key)
    assert same_bits(model, resumed)
    assert same_bits((history.loss, history.aux), (other.loss, other.aux))
    assert other.training_time > 0 and len(other.step) == 12
    # A finished run is handed out again, without a step.
    again, last = training_run(tmp_path / "run", key)
    assert same_bits(again, model) and same_bits(last.loss, history.loss)
    kept = sorted(int(p.name) for p in (tmp_path / "run").iterdir())
    assert kept == ([8, 12] if interruption != 11 else [11, 12])
    with pytest.raises(CheckpointError, match="step 12 already, past the 5"):
        training_run(tmp_path / "run", key, 5)


def test_legacy_and_bfloat16_state(getkey, tmp_path):
    """Typed keys, empty and half-precision arrays in the state survive."""
    data, _ = pointwise_data(getkey())

    class Odd(eqx.Module):
        weight: jax.Array
        half: jax.Array
        none: jax.Array

        def __call__(self, field):
            return Pointwise(self.weight)(field)

    def loss(model, batch, key):
        value, aux = mean_square(model, batch, key)
        return value + jnp.sum(model.half**2).astype(value.dtype), aux

    def count(updates, state, params=None):
        return updates, jr.fold_in(state, 1)

    noise: Any = optax.GradientTransformation(lambda params: jr.key(0), count)  # pyright: ignore[reportArgumentType]
    key = getkey()
    model = Odd(jnp.ones((1, 2)), jnp.ones(3, jnp.bfloat16), jnp.zeros((0, 2)))

    def run(folder, num_steps):
        return fit(
            model,
            data,
            loss=loss,
            optimiser=optax.chain(noise, optax.sgd(0.1)),
            num_steps=num_steps,
            batch_size=2,
            checkpoint_dir=folder,
            progress=False,
            key=key,
        )

    run(tmp_path, 3)
    assert same_bits(run(tmp_path, 6)[0], run(None, 6)[0])


def test_what_is_not_trained_comes_from_the_checkpoint(getkey, tmp_path):
    """A normaliser's statistics, say, that differ in the last bits on this machine."""

    class Scaled(eqx.Module):
        weight: jax.Array
        # (Whole numbers, which are not trained.)
        scale: jax.Array

        def __call__(self, field):
            return self.weight * self.scale.astype(field.dtype) * field

    data = network_data(getkey())

    def run(scale, num_steps, folder=None):
        return fit(
            Scaled(jnp.ones(()), jnp.array(scale)),
            data,
            optimiser=optax.sgd(0.1),
            num_steps=num_steps,
            batch_size=2,
            validation=Validation(data[:3], every=2),
            checkpoint_dir=folder,
            progress=False,
            key=jr.key(0),
        )

    run(100_000, 4, tmp_path)
    resumed, history = run(100_001, 8, tmp_path)
    whole, expected = run(100_000, 8)
    assert resumed.scale == 100_000 and same_bits(resumed, whole)
    assert same_bits(history.validation.value, expected.validation.value)


def test_one_writer_at_a_time(getkey, tmp_path):
    key = getkey()

    def second():
        with pytest.raises(CheckpointError, match="another process trains into"):
            training_run(tmp_path, key)

    loss = Counted(6, second)
    training_run(tmp_path, key, loss=loss)
    assert loss.count == 12
    # The lock ends with the run.
    assert len(training_run(tmp_path, key, loss=Counted(-1, print))[1].loss) == 12


def test_what_a_killed_save_leaves_is_removed(getkey, tmp_path):
    key = getkey()
    training_run(tmp_path, key, 4)
    left = tmp_path / "8.orbax-checkpoint-tmp" / "state"
    left.mkdir(parents=True)
    (left / "part").write_bytes(b"half")
    resumed, _ = training_run(tmp_path, key)
    assert same_bits(resumed, training_run(None, key)[0])
    assert {p.name for p in tmp_path.iterdir()} == {"8", "12"}


class Counted:
    """A loss that calls back at one of its evaluations."""

    def __init__(self, at, action):
        self.count, self.at, self.action = 0, at, action

    def __call__(self, model, batch, key):
        jax.debug.callback(self.count_up, ordered=True)
        return noisy_loss(model, batch, key)

    def count_up(self):
        self.count += 1
        if self.count == self.at:
            self.action()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_interrupt_leaves_a_checkpoint(getkey, tmp_path, name):
    key, number = getkey(), getattr(signal, name)
    loss = Counted(5, lambda: os.kill(os.getpid(), number))
    run = functools.partial(training_run, seed=key, num_steps=60, checkpoint_every=1000)

    def terminate(*_):
        raise SystemExit(143)

    # (Python has no handler for SIGINT where it was started in the background.)
    handlers = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: terminate,
    }
    previous = {s: signal.signal(s, handler) for s, handler in handlers.items()}
    try:
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run(tmp_path, loss=loss)
        assert {s: signal.getsignal(s) for s in handlers} == handlers
    finally:
        for s, handler in previous.items():
            signal.signal(s, handler)
    steps = [int(p.name) for p in tmp_path.iterdir()]
    assert len(steps) == 1 and 0 < steps[0] < 60
    if name == "SIGTERM":
        return
    still = Counted(-1, print)
    resumed, history = run(tmp_path, loss=still)
    whole, expected = run(None, loss=still)
    assert same_bits(resumed, whole) and same_bits(history.loss, expected.loss)


def test_exception_keeps_the_last_checkpoint(getkey, tmp_path):
    key = getkey()

    def fail():
        raise RuntimeError("a device was lost")

    with pytest.raises(Exception, match="a device was lost"):
        training_run(tmp_path, key, loss=Counted(6, fail))
    assert [p.name for p in tmp_path.iterdir()] == ["4"]
    still = Counted(-1, print)
    assert len(training_run(tmp_path, key, loss=still)[1].loss) == 12


def kill_and_resume(folder, after):
    """Train in another process, kill it once `after` checkpoints were seen, resume."""
    script = folder / "run.py"
    script.write_text(
        "import sys, jax.random as jr\n"
        "from training_cases import training_run\n"
        "training_run(sys.argv[1], jr.key(7), 400, checkpoint_every=5)\n"
    )
    target = folder / "checkpoints"
    child = subprocess.Popen(
        [sys.executable, str(script), str(target)], env=environment()
    )
    try:
        seen, deadline = set(), time.monotonic() + 60
        while len(seen) < after and child.poll() is None:
            assert time.monotonic() < deadline
            if target.is_dir():
                seen |= {p.name for p in target.iterdir() if p.name.isdigit()}
            time.sleep(0.001)
    finally:
        child.kill()
        status = child.wait()
    assert status == -signal.SIGKILL
    arguments = {"num_steps": 400, "checkpoint_every": 100}
    resumed, history = training_run(target, jr.key(7), **arguments)
    whole, expected = training_run(None, jr.key(7), **arguments)
    assert same_bits(resumed, whole)
    assert same_bits((history.loss, history.aux), (expected.loss, expected.aux))


def test_kill(tmp_path):
    kill_and_resume(tmp_path, 3)


@pytest.mark.slow
@pytest.mark.parametrize("after", range(1, 21))
def test_kills(tmp_path, after):
    kill_and_resume(tmp_path, after)


# orbax leaves its own event loop behind when a read fails.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damaged_checkpoint(getkey, tmp_path):
    key = getkey()
    whole, _ = training_run(None, key)
    training_run(tmp_path, key, 8)
    newest = tmp_path / "8"
    for path in [p for p in newest.rglob("*") if p.parent.name == "d"]:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    with pytest.warns(UserWarning, match="step 8 is damaged.*resumes from step 4"):
        resumed, _ = training_run(tmp_path, key)
    assert same_bits(resumed, whole)
    for path in tmp_path.rglob("metadata"):
        path.write_text("{")
    with pytest.raises(CheckpointError, match="all checkpoints .* are damaged"):
        training_run(tmp_path, key)


def other_network(key):
    mlp = eqx.nn.MLP(GRID.size, GRID.size, 8, 1, jax.nn.relu, key=key)
    return eqx.tree_at(lambda n: n.mlp, Network(key=key), mlp)


CHANGES = {
    "batch_size was 3, and is 4": lambda k: {"batch_size": 4},
    "key was": lambda k: {"key": k},
    "loss was noisy_loss, and is RelativeL2": lambda k: {"loss": RelativeL2()},
    r"model was \['.weight', 'float64'|model was \d+ entries": lambda k: {
        "model": Pointwise(jnp.ones((1, 1)))
    },
    "structure of the model was": lambda k: {"model": other_network(jr.fold_in(k, 1))},
    "values of the model at the start": lambda k: {"model": Network(key=k)},
    "optimiser was": lambda k: {"optimiser": optax.sgd(1e-2)},
    "default schedule was None, and is 12": lambda k: {"optimiser": None},
    "dataset was .*10, 1, 4, 3.* is .*9, 1, 4, 3": lambda k: {
        "dataset": network_data(k, 9)
    },
    "values of the dataset": lambda k: {"dataset": network_data(k)},
}


def test_checkpoint_of_another_run(getkey, tmp_path):
    key = getkey()
    training_run(tmp_path, key, 4)
    for message, change in CHANGES.items():
        changes: dict[str, Any] = change(key)
        if message.startswith("default"):
            # Its state has another form as well, which would be named first.
            changes["optimiser"] = None
            message = "optimiser was|" + message
        with pytest.raises(CheckpointError, match=message):
            training_run(tmp_path, key, **changes)
    # None of these attempts did harm.
    resumed, _ = training_run(tmp_path, key)
    assert same_bits(resumed, training_run(None, key)[0])


def test_folder_that_cannot_be_used(getkey, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="file"):
        training_run(tmp_path / "file", getkey())
    key = getkey()
    training_run(tmp_path / "run", key, 4)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        manager = importlib.import_module("orbax.checkpoint").CheckpointManager
        patch.setattr(manager, "save", full)
        with pytest.raises(CheckpointError, match="step 8 .*No space left"):
            training_run(tmp_path / "run", key)
    resumed, _ = training_run(tmp_path / "run", key)
    assert same_bits(resumed, training_run(None, key)[0])


def test_missing_extra(getkey, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    with pytest.raises(ImportError, match=r"pip install 'sciml-solvers\[train\]'"):
        training_run(tmp_path, getkey())
    training_run(None, getkey(), 2)


def test_importing_sciml_leaves_orbax_alone():
    code = "import sys, sciml.training; print('orbax' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert output.stdout.strip() == b"False"
