"""The training loop: optima, determinism, what is trained, failures, progress."""

import functools
import re
import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from training_cases import (
    GRID,
    Identity,
    Network,
    Pointwise,
    mean_square,
    network_data,
    pointwise_data,
    same_bits,
    training_run,
)

from sciml.data import Dataset
from sciml.grids import Dirichlet, Grid
from sciml.training import (
    NonFiniteLossError,
    RelativeH1,
    Validation,
    default_optimiser,
    fit,
)
from sciml.training._progress import Report, _duration


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("rule", ["lbfgs", "adam"])
def test_least_squares(getkey, dtype, rule):
    data, best = pointwise_data(getkey(), dtype)
    model = Pointwise(jnp.zeros((1, 2), dtype))
    if rule == "lbfgs":
        optimiser, steps = optax.lbfgs(), 15
    else:
        schedule = optax.cosine_decay_schedule(0.1, 300)
        optimiser, steps = optax.adam(schedule), 300
    trained, history = fit(
        model,
        data,
        loss=mean_square,
        optimiser=optimiser,
        num_steps=steps,
        batch_size=len(data),
        progress=False,
        key=getkey(),
    )
    assert trained.weight.dtype == dtype
    atol = 1e-4 if dtype == jnp.float32 or rule == "adam" else 1e-8
    assert np.allclose(trained.weight[0], best, atol=atol)
    assert (model.weight == 0).all()
    assert history.loss.shape == history.aux["largest"].shape == (steps,)
    assert history.loss.dtype == dtype
    assert history.step[0] == 1 and history.step[-1] == steps
    assert history.loss[-1] < history.loss[0] and history.compile_time > 0


def test_complex_parameters(getkey):
    """Steepest descent for complex numbers needs the conjugate of JAX's gradient."""

    class Multiplier(eqx.Module):
        factor: jax.Array

        def __call__(self, field):
            return jnp.real(self.factor * jax.lax.complex(field, field))

    data, _ = pointwise_data(getkey())
    data = Dataset(data.targets, 3.0 * data.targets, GRID)
    trained, _ = fit(
        Multiplier(jnp.array(1.0 + 1.0j)),
        data,
        loss=mean_square,
        optimiser=optax.sgd(0.1),
        num_steps=100,
        batch_size=10,
        progress=False,
        key=getkey(),
    )
    assert jnp.allclose(trained.factor.real - trained.factor.imag, 3.0)


def test_steps_by_hand(getkey):
    """Three steps of gradient descent with the batches that the key gives."""
    data, _ = pointwise_data(getkey(), samples=5)
    key, model = getkey(), Pointwise(jnp.ones((1, 2)))
    seen = []

    def loss(model, batch, key):
        return mean_square(model, batch, key)[0], {
            "first": batch.inputs[0, 0, 0, 0],
            "draw": jr.uniform(key),
        }

    trained, history = fit(
        model,
        data,
        loss=loss,
        optimiser=optax.sgd(0.1),
        num_steps=4,
        batch_size=2,
        progress=False,
        key=key,
    )
    expected = model.weight
    order_key, loss_key = jr.split(key)
    for step in range(4):
        order = jr.permutation(jr.fold_in(order_key, step // 2), 5)
        batch = data[np.asarray(order[step % 2 * 2 :][:2])]
        seen.append(float(batch.inputs[0, 0, 0, 0]))
        assert history.aux["draw"][step] == jr.uniform(jr.fold_in(loss_key, step))
        gradient = jax.grad(lambda w, b=batch: mean_square(Pointwise(w), b, None)[0])
        expected = expected - 0.1 * gradient(expected)
    assert history.aux["first"].tolist() == seen
    assert jnp.allclose(trained.weight, expected, rtol=1e-14)


def test_same_key_same_bits_and_one_trace(getkey):
    data, key = network_data(getkey()), getkey()
    model = Network(key=getkey())
    traces = []

    def loss(model, batch, key):
        traces.append(1)
        return RelativeH1()(model, batch, key)

    run = functools.partial(
        fit, model, data, loss=loss, num_steps=150, batch_size=3, progress=False
    )
    first, history = run(key=key)
    assert len(traces) == 1
    second, again = run(key=key)
    assert same_bits(first, second) and same_bits(history.loss, again.loss)
    assert not same_bits(history.loss, run(key=getkey())[1].loss)
    assert history.loss[-1] < history.loss[0]
    legacy, _ = run(key=jr.key_data(key))
    assert same_bits(legacy, first)


def test_boolean_inputs_and_what_is_not_trained(getkey):
    class Shifted(eqx.Module):
        weight: jax.Array
        grid: Grid
        sides: Dirichlet
        table: np.ndarray

        def __call__(self, field):
            return self.weight * field

    grid = Grid(4, boundary=((Dirichlet(value=jnp.array(1.0)), Dirichlet()),))
    inputs = np.arange(12).reshape(3, 1, 4) % 2 == 0
    data = Dataset(inputs, 2 * inputs.astype(np.float32), grid)
    sides = Dirichlet(value=np.ones(()))
    model = Shifted(jnp.ones((), jnp.float32), grid, sides, np.arange(3))
    trained, _ = fit(
        model,
        data,
        optimiser=optax.lbfgs(),
        num_steps=10,
        batch_size=3,
        progress=False,
        key=getkey(),
    )
    assert jnp.allclose(trained.weight, 2.0) and trained.weight.dtype == jnp.float32
    assert same_bits(trained.grid, grid) and trained.sides.value == 1
    assert trained.table.tolist() == [0, 1, 2]


def test_nothing_is_lost_when_a_loss_is_not_finite(getkey, tmp_path):
    data, _ = pointwise_data(getkey())
    key = getkey()

    def run(num_steps, checkpoint_dir=None):
        return fit(
            Pointwise(jnp.ones((1, 2))),
            data,
            loss=mean_square,
            optimiser=optax.sgd(-1e30),
            num_steps=num_steps,
            batch_size=5,
            checkpoint_dir=checkpoint_dir,
            checkpoint_every=2,
            progress=False,
            key=key,
        )

    with pytest.raises(NonFiniteLossError, match="step 7: the loss is NaN") as error:
        run(300, tmp_path / "a")
    failure = error.value
    assert failure.step == 7 and len(failure.history.loss) == 7
    assert not np.isfinite(failure.history.loss[-1])
    assert np.isfinite(failure.history.loss[:-1]).all()
    before, _ = run(6)
    assert same_bits(failure.model, before)
    # The checkpoint is of a step before the failure.
    resumed, history = run(6, tmp_path / "a")
    assert len(history.loss) == 6 and jnp.isfinite(resumed.weight).all()


def test_parameter_that_is_not_finite(getkey):
    """√|w| at 0: the loss is finite, its derivative is not."""
    data, _ = pointwise_data(getkey())
    loss = lambda model, batch, key: (jnp.sum(jnp.sqrt(model.weight)), None)
    with pytest.raises(NonFiniteLossError, match="an updated parameter") as error:
        fit(
            Pointwise(jnp.zeros((1, 2))),
            data,
            loss=loss,
            optimiser=optax.sgd(0.1),
            num_steps=3,
            batch_size=2,
            progress=False,
            key=getkey(),
        )
    assert (error.value.model.weight == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_steps": 0}, "num_steps: expected a positive"),
        ({"num_steps": True}, "num_steps"),
        ({"batch_size": 11}, "at most the 10 samples"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
        ({"loss": lambda m, b, k: jnp.sum(m.weight)}, "expected `loss"),
        ({"loss": lambda m, b, k: (m.weight, {})}, "real scalar"),
        ({"loss": lambda m, b, k: (jnp.sum(m.weight), 1.0)}, "dict of scalars"),
        ({"loss": lambda m, b, k: (jnp.sum(m.weight), {"w": m.weight})}, "'w'"),
        ({"model": Identity()}, "arrays to train"),
    ],
)
def test_fit_errors(getkey, change, message):
    data, _ = pointwise_data(getkey())
    arguments: dict[str, Any] = {
        "model": Pointwise(jnp.ones((1, 2))),
        "num_steps": 1,
        "batch_size": 1,
        "key": getkey(),
    }
    with pytest.raises(ValueError, match=message):
        fit(dataset=data, **(arguments | change))


@pytest.mark.parametrize("num_steps", [1, 2, 7, 1000])
def test_default_optimiser(num_steps):
    optimiser: Any = default_optimiser(num_steps)
    with jax.numpy_dtype_promotion("standard"):
        state = optimiser.init(jnp.ones(3))
        updates, _ = jax.jit(optimiser.update)(jnp.full(3, 1e6), state, jnp.zeros(3))
    # The first step of Adam has the size of the learning rate, 5e-4.
    assert num_steps < 7 or jnp.allclose(updates, -5e-4)
    assert jnp.isfinite(updates).all()


# Progress


def test_progress_in_a_log(getkey, capsys):
    training_run(None, getkey(), 200, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 10
    assert re.fullmatch(r"step 200/200  loss \S+  \S+ steps/s  0 s left", lines[-1])
    training_run(None, getkey(), 2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("rich", [True, False])
def test_progress_on_a_terminal(getkey, capsys, monkeypatch, rich):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "160")
    if not rich:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    validation = Validation(network_data(getkey()), every=6)
    training_run(None, getkey(), 12, progress=True, validation=validation)
    error = capsys.readouterr().err
    assert "12/12" in error and ("training" in error) == rich
    assert re.search(r"validation \S+ \(best \S+ at (6|12)\)", error)
    assert re.search(r"\S+ steps/s,? +0 s left", error)


def test_remaining_time():
    report = Report(30, 100, [], None, None, 3.0, 0.5)
    assert report.eta == 140
    shown = [_duration(s) for s in (0.4, 59.4, 59.6, 140.0, 3600.0, 90061.0)]
    assert shown == ["0 s", "59 s", "1:00", "2:20", "1:00:00", "25:01:01"]
