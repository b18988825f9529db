"""Losses with a price, models they train, and data that are no fields."""

# Wrong arguments are the point here.
# pyright: reportArgumentType=false, reportOptionalSubscript=false

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import sciml
from sciml.data import DataError, Dataset
from sciml.neural_odes import (
    ErrorEstimate,
    Local,
    NeuralODE,
    NumSteps,
    ODEClassifier,
    RegularisedLoss,
    TimeMLP,
    cross_entropy,
    regularised_diffeqsolve,
)


def labelled(samples: int = 24, size: int = 4) -> Dataset:
    inputs = jr.normal(jr.key(0), (samples, size))
    return Dataset(inputs, jnp.argmax(inputs, axis=1).astype(jnp.int32))


def classifier(size: int = 4) -> ODEClassifier:
    ode = NeuralODE(TimeMLP(size, 8, key=jr.key(1)), rtol=1e-6, atol=1e-6)
    return ODEClassifier(ode, size, size, key=jr.key(2))


def test_the_loss_is_the_task_and_the_price():
    model, batch, key = classifier(), labelled().as_floating(), jr.key(3)
    penalties = {"error": ErrorEstimate(), "local": Local()}
    loss = eqx.filter_jit(RegularisedLoss(cross_entropy, penalties, 0.5))
    value, aux = loss(model, batch, key)
    solution, prices = regularised_diffeqsolve(
        dfx.ODETerm(model.ode.jointly().field),
        dfx.Tsit5(),
        0.0,
        1.0,
        None,
        batch.inputs,
        penalty=penalties,
        stepsize_controller=dfx.PIDController(rtol=1e-6, atol=1e-6),
        key=jr.split(key)[0],
    )
    price = prices["error"] + prices["local"]
    np.testing.assert_allclose(aux["price"], price, rtol=1e-12)
    logits = jnp.stack([model.head(y) for y in solution.ys[-1]])
    labels = batch.targets.astype(jnp.int32)
    chosen = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    task = jnp.mean(jnp.log(jnp.sum(jnp.exp(logits), axis=1)) - chosen)
    np.testing.assert_allclose(aux["task"], task, rtol=1e-10)
    np.testing.assert_allclose(value, task + 0.5 * price, rtol=1e-10)
    assert aux["num_steps"] == solution.stats["num_steps"]
    vanilla, aux = eqx.filter_jit(RegularisedLoss(cross_entropy))(model, batch, key)
    assert aux["price"] == 0.0 and vanilla == aux["task"]


@pytest.mark.slow
def test_fit_follows_a_schedule_and_saves_steps():
    train, histories = labelled(), {}
    schedule = optax.exponential_decay(2.0, 30, 0.1)
    for name, coefficient in (("vanilla", 0.0), ("priced", schedule)):
        loss = RegularisedLoss(cross_entropy, NumSteps(), coefficient)
        _, histories[name] = sciml.training.fit(
            classifier(),
            train,
            loss=loss,
            optimiser=optax.adam(3e-2),
            num_steps=30,
            batch_size=24,
            progress=False,
            key=jr.key(4),
        )
    aux = histories["priced"].aux
    weight = (histories["priced"].loss - aux["task"]) / aux["price"]
    np.testing.assert_allclose(weight, schedule(np.arange(30)), rtol=1e-6)
    assert (
        histories["priced"].aux["num_steps"][-1]
        < (histories["vanilla"].aux["num_steps"][-1])
    )


def test_steer_draws_an_end_for_each_step():
    loss = RegularisedLoss(cross_entropy, (), 0.0, steer=0.5)
    model, batch = classifier(), labelled().as_floating()
    plain = RegularisedLoss(cross_entropy)
    values = [float(loss(model, batch, jr.key(k))[0]) for k in range(3)]
    ends = {float(plain(model, batch, jr.key(k))[0]) for k in range(2)}
    assert len(set(values)) == 3 and len(ends) == 1


def test_datasets_without_a_grid():
    data = labelled(6)
    assert data.grid is None and len(data[:2]) == 2
    assert data.as_floating().targets.dtype == jnp.float64
    for wrong, message in (
        (jnp.ones(()), "first axis"),
        (jnp.ones((3, 0)), "no empty axis"),
        (jnp.array([1.0, jnp.nan]), "NaN"),
    ):
        with pytest.raises(DataError, match=message):
            Dataset(wrong, None)
    with pytest.raises(DataError, match="as many samples"):
        Dataset(jnp.ones((3, 2)), jnp.ones(4))
    with pytest.raises(ValueError, match="no grid"):
        sciml.training.RelativeL2()(lambda x: x, Dataset(jnp.ones(3), jnp.ones(3)))
