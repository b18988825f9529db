"""The curriculum: its ramp, the loss by hand at every stage, the warm-up, training."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from sciml.data import Dataset
from sciml.evaluation import evaluate
from sciml.grids import Grid, Periodic
from sciml.neural_operators import CAPE, FNO, NoCoordinates
from sciml.training import Curriculum, RelativeL2, fit

GRID = Grid(16, boundary=Periodic())


class Step(eqx.Module):
    """The next state from the last two states and a parameter."""

    weight: jax.Array

    def __call__(self, x):
        older, last, parameter = x
        moved = jnp.roll(last, 1)
        return (self.weight[0] * moved + self.weight[1] * parameter * older)[None]

    def with_intermediate(self, x):
        """With an estimate of the next two states."""
        older, last, _ = x
        return self(x), jnp.stack([last, self.weight[2] * jnp.sin(older)])


def trajectories(key, samples=3, times=5, dtype=jnp.float64):
    """First two states and a parameter; five states that follow."""
    states = jr.normal(key, (samples, 2 + times, 16), dtype)
    parameter = jnp.broadcast_to(jnp.array([0.1, 0.5, 2.0], dtype)[:, None], (3, 16))
    inputs = jnp.concatenate([states[:, :2], parameter[:, None]], 1)
    return Dataset(inputs, states[:, 2:], GRID)


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("length", [1, 7, 40])
def test_ramp(warmup, length):
    """Against the formula, at each epoch of a hundred."""
    loss = Curriculum(100, warmup_steps=warmup)
    count = jax.jit(lambda step: loss.at_step(step).num_autoregressive(length))
    ours = [int(count(step)) for step in range(100)]
    theirs = []
    for step in range(100):
        e = (step - warmup) / (100 - warmup)
        ramp = 0.5 * (1 + np.tanh((e - 0.5) / 0.2))
        theirs.append(int(np.clip(np.floor(length * ramp), 1, length)))
    assert ours == theirs
    assert ours[0] == 1 and ours[-1] >= length - 1
    # A narrower transition is at the end earlier, and all the way.
    narrow = Curriculum(100, width=0.05).at_step(99)
    assert int(narrow.num_autoregressive(length)) in (length - 1, length)


def by_hand(weight, data, own, second=0.0):
    """Loops over samples and times, with NumPy."""
    inputs, targets = np.asarray(data.inputs), np.asarray(data.targets)
    first, estimates = [], []
    for x, after in zip(inputs, targets, strict=True):
        truth = [x[0], x[1], *after]
        older, last = x[0], x[1]
        for t in range(1, 6):
            y = weight[0] * np.roll(last, 1) + weight[1] * x[2] * older
            e = np.stack([last, weight[2] * np.sin(older)])
            u, pair = truth[t + 1], np.stack([truth[t], truth[t + 1]])
            first.append(np.linalg.norm(y - u) / np.linalg.norm(u))
            estimates.append(np.linalg.norm(e - pair) / np.linalg.norm(pair))
            older, last = (last, y) if t < own else (truth[t], truth[t + 1])
    return np.mean(first) + second * np.mean(estimates), np.mean(estimates)


def test_loss_by_hand_at_every_stage(getkey):
    data, weight = trajectories(getkey()), jnp.array([0.7, -0.4, 1.3])
    loss = Curriculum(50, num_parameters=1, intermediate_weight=0.3)
    value = jax.jit(lambda w, step: loss.at_step(step)(Step(w), data))
    stages = set()
    for step in range(0, 50, 4):
        got, aux = value(weight, step)
        own = int(aux["num_autoregressive"])
        stages.add(own)
        expected, estimate = by_hand(np.asarray(weight), data, own, 0.3)
        assert got == pytest.approx(expected, rel=1e-12)
        assert aux["intermediate"] == pytest.approx(estimate, rel=1e-12)
    assert stages == {1, 2, 3, 4}
    # The gradient goes through the whole chain of own outputs.
    gradient = jax.jit(jax.grad(lambda w: loss.at_step(49)(Step(w), data)[0]))(weight)
    for k in range(3):
        step = 1e-6 * np.eye(3)[k]
        pair = [
            by_hand(np.asarray(weight) + s * step, data, 4, 0.3)[0] for s in (1, -1)
        ]
        assert gradient[k] == pytest.approx((pair[0] - pair[1]) / 2e-6, rel=1e-6)


def test_without_an_intermediate_estimate(getkey):
    data = trajectories(getkey(), dtype=jnp.float32)
    weight = jnp.array([0.7, -0.4, 1.3], jnp.float32)
    loss = Curriculum(50, num_parameters=1)
    value, aux = jax.jit(lambda w: loss(Step(w), data))(weight)
    assert value.dtype == jnp.float32 and "intermediate" not in aux
    expected, _ = by_hand(np.asarray(weight, float), data, 1)
    assert value == pytest.approx(expected, rel=1e-5)


def test_warm_up_trains_the_estimate_only(getkey):
    data, weight = trajectories(getkey()), jnp.array([0.7, -0.4, 1.3])
    loss = Curriculum(50, warmup_steps=5, num_parameters=1, intermediate_weight=0.3)
    value = jax.jit(
        jax.value_and_grad(lambda w, step: loss.at_step(step)(Step(w), data)[0])
    )
    warm, gradient = value(weight, 4)
    assert warm == pytest.approx(by_hand(np.asarray(weight), data, 1)[1], rel=1e-12)
    assert gradient[0] == 0 and gradient[1] == 0 and gradient[2] != 0
    later, gradient = value(weight, 5)
    expected, _ = by_hand(np.asarray(weight), data, 1, 0.3)
    assert later == pytest.approx(expected, rel=1e-12) and jnp.all(gradient != 0)


@pytest.mark.slow
def test_cape_learns_a_direction_that_it_is_told(getkey):
    """Waves that move two nodes a step, to the left or to the right.

    Whoever is not told which cannot do better than the mean of the two.
    """
    x, keys = GRID.coordinates(0), jr.split(getkey(), 3)
    waves = [f(2 * np.pi * k * x) for k in (1, 2) for f in (np.sin, np.cos)]
    u = np.asarray(jr.normal(keys[0], (64, 4))) @ np.stack(waves)
    sign = np.where(np.arange(64) % 2, 1, -1)
    paths = np.stack(
        [[np.roll(u[i], 2 * t * sign[i]) for t in range(4)] for i in range(64)]
    )
    tiled = np.broadcast_to(sign[:, None, None], (64, 1, 16))
    data = Dataset(np.concatenate([paths[:, :1], tiled], 1), paths[:, 1:], GRID)
    train, test = data.split(48)
    base = FNO(1, 2, 2, 8, 1, 3, Periodic(), NoCoordinates(), key=keys[1])
    model = CAPE(base, 1, 8, 3, 3, key=keys[2])
    loss = Curriculum(80, warmup_steps=10, intermediate_weight=1e-2, num_parameters=1)
    model, history = fit(
        model,
        train,
        loss=loss,
        optimiser=optax.adam(2e-2),
        num_steps=80,
        batch_size=24,
        progress=False,
        key=keys[0],
    )
    own = history.aux["num_autoregressive"]
    assert own[0] == 1 and own[-1] == 2 and np.all(np.diff(own) >= 0)
    one_step = Dataset(test.inputs, test.targets[:, :1], GRID)
    error = evaluate(model, one_step)["relative_l2"]
    start, after = paths[48:, 0], paths[48:, 1]
    guess = (np.roll(start, 2, 1) + np.roll(start, -2, 1)) / 2
    blind = np.linalg.norm(guess - after, axis=1) / np.linalg.norm(after, axis=1)
    assert error < 0.6 * np.mean(blind)


def test_mistakes(getkey):
    with pytest.raises(ValueError, match="warmup_steps: expected 0 to num_steps"):
        Curriculum(10, warmup_steps=10)
    with pytest.raises(ValueError, match="intermediate_weight"):
        Curriculum(10, intermediate_weight=-1.0)
    with pytest.raises(ValueError, match="width"):
        Curriculum(10, width=0.0)
    data, model = trajectories(getkey()), Step(jnp.ones(3))
    with pytest.raises(ValueError, match="num_parameters: expected 0 to 2"):
        Curriculum(10, num_parameters=3)(model, data)
    with pytest.raises(ValueError, match="no intermediate|without an intermediate"):
        Curriculum(10, warmup_steps=1)(lambda x: x[:1], data)
    with pytest.raises(ValueError, match="multiple of the 2 channels"):
        Curriculum(10)(lambda x: x[:2], data)
    with pytest.raises(ValueError, match="are its targets"):
        Curriculum(10)(model, Dataset(data.inputs, None, GRID))
    # The loss in the slot is any loss of fields.
    assert Curriculum(10).loss == RelativeL2()
