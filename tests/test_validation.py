"""Held-out data: what is evaluated, which model is kept, when training stops."""

import functools
import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from training_cases import (
    GRID,
    Pointwise,
    cast,
    network_data,
    pointwise_data,
    same_bits,
    training_run,
)

from sciml.data import Dataset
from sciml.training import CheckpointError, RelativeL2, Validation, fit


@pytest.mark.parametrize(
    ("dtype", "batch_size"),
    [(jnp.float32, None), (jnp.float64, None), (jnp.float64, 7), (jnp.float64, 20)],
)
def test_values_are_those_of_shorter_runs(getkey, dtype, batch_size):
    """Means over all samples, whether batches divide them or not."""
    data, _ = pointwise_data(getkey(), dtype)
    held_out, _ = pointwise_data(getkey(), dtype, samples=14)
    key = getkey()

    def run(num_steps, validation=None):
        return fit(
            Pointwise(jnp.ones((1, 2), dtype)),
            data,
            optimiser=optax.adam(0.05),
            num_steps=num_steps,
            batch_size=4,
            validation=validation,
            progress=False,
            key=key,
        )

    validation = Validation(
        held_out, every=3, metric=RelativeL2(), batch_size=batch_size
    )
    model, history = run(8, validation)
    curve = history.validation
    assert curve.step.tolist() == [3, 6] and curve.value.dtype == dtype
    for step, value in zip(curve.step, curve.value, strict=True):
        expected = float(RelativeL2()(run(int(step))[0], held_out)[0])
        rtol = 100 * float(jnp.finfo(dtype).eps)
        assert value == pytest.approx(expected, rel=rtol)
    # It only looks on: the run is the same without it.
    alone, without = run(8)
    assert same_bits(model, alone) and same_bits(history.loss, without.loss)


class Counter(eqx.Module):
    """A parameter that grows by 1 in each step of `counting`."""

    count: jax.Array


def counting(num_steps, every, values, *, folder=None, **settings):
    """Train a `Counter`; the metric of the model after n steps is `values[n]`."""
    table = jnp.asarray(values)

    def loss(model, batch, key):
        return -model.count, {}

    def metric(model, batch, key):
        count = model.count.astype(int)
        return table[count], {"count": count, "draw": jr.uniform(key)}

    data = Dataset(np.ones((2, 1)), None)
    model, history = fit(
        Counter(jnp.zeros(())),
        data,
        loss=loss,
        optimiser=optax.sgd(1.0),
        num_steps=num_steps,
        batch_size=1,
        validation=Validation(data, every=every, metric=metric, **settings),
        checkpoint_dir=folder,
        checkpoint_every=4,
        progress=False,
        key=jr.key(0),
    )
    assert float(model.count) == len(history.loss)
    if history.best_model is not None:
        assert float(history.best_model.count) == history.best_step
    return history


VALUES = [9.0, 8.0, 5.0, 6.0, 4.9, 7.0, 6.0, 5.5, 4.0, 5.0, 5.0, 5.0, 5.0]


@pytest.mark.parametrize(
    ("every", "settings", "best", "end"),
    [
        (1, {}, 8, 12),
        (1, {"patience": 4}, 8, 12),
        (1, {"patience": 3}, 4, 7),
        (1, {"patience": 1}, 2, 3),
        (2, {"patience": 2}, 8, 12),
        (2, {"patience": 1}, 4, 6),
        # 4.9 is not better than 5 by more than 0.2.
        (1, {"min_delta": 0.2}, 8, 12),
        (1, {"min_delta": 0.2, "patience": 5}, 2, 7),
        (1, {"min_delta": 1.5}, 2, 12),
        (5, {}, 10, 12),
    ],
)
def test_the_best_and_the_end(every, settings, best, end):
    history = counting(12, every, VALUES, **settings)
    assert (history.best_step, len(history.loss)) == (best, end)
    patience = settings.get("patience")
    evaluations = len(history.validation.step)
    assert history.stopped_early == (
        patience is not None and evaluations - best // every >= patience
    )
    steps = history.validation.step
    assert steps.tolist() == list(range(every, end + 1, every))
    assert history.validation.value.tolist() == [VALUES[k] for k in steps]
    assert history.validation.aux["count"].tolist() == steps.tolist()
    # The same random numbers at every evaluation: values can be compared.
    assert len(set(history.validation.aux["draw"].tolist())) == 1


def test_values_that_are_not_finite():
    values = [0.0, np.nan, 3.0, np.inf, 2.0, np.nan, np.nan]
    history = counting(6, 1, values)
    assert history.best_step == 4 and not history.stopped_early
    history = counting(6, 1, values, patience=2)
    assert (history.best_step, len(history.loss)) == (4, 6)
    assert history.stopped_early
    history = counting(6, 1, [np.nan] * 7, patience=3)
    assert history.best_step is None and history.best_model is None
    assert history.stopped_early and len(history.loss) == 3


@pytest.mark.parametrize(
    "interruption",
    [7, *(pytest.param(k, marks=pytest.mark.slow) for k in (2, 3, 4, 9))],
)
def test_resumed_run_is_bitwise_the_same(getkey, tmp_path, interruption):
    key = getkey()
    held_out = network_data(getkey(), 7)
    # A large step, so that the best is not the last.
    run = functools.partial(
        training_run,
        seed=key,
        optimiser=optax.adam(optax.linear_schedule(1.0, 0.5, 12)),
        validation=Validation(held_out, every=2, batch_size=3),
    )
    model, history = run(None)
    run(tmp_path, num_steps=interruption)
    resumed, other = run(tmp_path)
    assert same_bits(model, resumed) and same_bits(history.loss, other.loss)
    for left, right in ((history, other), (history, run(tmp_path)[1])):
        assert left.best_step == right.best_step
        assert same_bits(left.best_model, right.best_model)
        a, b = left.validation, right.validation
        assert same_bits((a.step, a.value, a.aux), (b.step, b.value, b.aux))
    # What is kept is the model of that step.
    assert history.best_step is not None
    best, _ = run(None, num_steps=history.best_step)
    assert same_bits(best, history.best_model)


def test_a_run_that_stopped_stays_stopped_until_it_gets_more_patience(tmp_path):
    folder = tmp_path / "run"
    first = counting(12, 1, VALUES, patience=3, folder=folder)
    assert (len(first.loss), first.stopped_early) == (7, True)
    # A checkpoint was written where it stopped.
    assert {p.name for p in pathlib.Path(folder).iterdir()} == {"4", "7"}
    again = counting(12, 1, VALUES, patience=3, folder=folder)
    assert len(again.loss) == 7 and again.stopped_early and again.best_step == 4
    more = counting(12, 1, VALUES, patience=4, folder=folder)
    whole = counting(12, 1, VALUES, patience=4)
    assert len(more.loss) == 12 == len(whole.loss) and more.best_step == 8
    assert same_bits(more.validation.value, whole.validation.value)


def test_checkpoint_of_a_run_that_was_judged_otherwise(getkey, tmp_path):
    key, held_out = getkey(), network_data(getkey(), 7)
    validation = Validation(held_out, every=2)
    training_run(tmp_path, key, 4, validation=validation)
    for message, other in {
        "validation was .*, and is None": None,
        "validation was .*'every': 2.* is .*'every': 4": Validation(held_out, every=4),
        "values of the validation data": Validation(network_data(getkey(), 7), every=2),
        "validation data was": Validation(held_out[:4], every=2),
    }.items():
        with pytest.raises(CheckpointError, match=message):
            training_run(tmp_path, key, validation=other)


def test_one_program_for_all_evaluations(getkey):
    traces = []

    def metric(model, batch, key):
        traces.append(batch.inputs.shape)
        return RelativeL2()(model, batch, key)

    validation = Validation(network_data(getkey(), 7), every=1, metric=metric)
    training_run(None, getkey(), 12, validation=validation)
    # Full batches, and what is left over.
    assert traces == [(3, 1, *GRID.shape), (1, 1, *GRID.shape)]


def test_boolean_held_out_data_and_half_precision(getkey):
    """What the training gets as floating-point numbers, the metric gets so, too."""
    inputs = np.asarray(jr.bernoulli(getkey(), 0.5, (10, 1, *GRID.shape)))
    targets = np.asarray(jr.normal(getkey(), inputs.shape, jnp.float32))
    data = Dataset(inputs, targets, GRID)
    model = cast(Pointwise(jnp.ones((1, 1))), jnp.float32)
    _, history = fit(
        model,
        data,
        num_steps=4,
        batch_size=5,
        validation=Validation(data[:3], every=2),
        progress=False,
        key=getkey(),
    )
    assert history.validation.value.dtype == np.float32
    assert set(history.validation.aux) == {"relative_l2"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, "every: expected a positive integer, got 0"),
        ({"batch_size": 0}, "batch_size"),
        ({"patience": True}, "patience: expected a positive"),
        ({"min_delta": -1.0}, "min_delta: expected a number that is not negative"),
        ({"min_delta": np.nan}, "min_delta"),
        ({"every": 13}, "validation: every 13 steps is never within the 12"),
        ({"metric": lambda m, b, k: (jnp.ones(3), {}), "every": 1}, "real scalar"),
    ],
)
def test_errors(getkey, settings, message):
    with pytest.raises(ValueError, match=message):
        held_out = network_data(getkey(), 4)
        training_run(None, getkey(), validation=Validation(held_out, **settings))
