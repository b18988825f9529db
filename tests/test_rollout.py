"""Rollouts, bundles of states, and the pushforward loss, against loops by hand."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import problems
import sciml
from problems.bench import bench_rollouts
from problems.bench._rollouts import FLOWS, _judged, _pairs, _summary
from sciml._serialisation import load, save
from sciml.data import Dataset
from sciml.evaluation import evaluate
from sciml.grids import Dirichlet, Grid, Neumann, Periodic
from sciml.neural_operators import (
    FNO,
    MgNO,
    NoCoordinates,
    Normalised,
    Rollout,
    TemporalBundle,
)
from sciml.training import Pushforward, RelativeH1, RelativeL2, fit

GRID = Grid(8, boundary=Periodic())


class Mixed(eqx.Module):
    """Two new states of two channels from three old ones and a parameter, by a matrix.

    Six channels of states, time first, and one parameter in; four channels out.
    """

    matrix: jax.Array

    def __call__(self, x):
        moved = jnp.stack([jnp.roll(field, k) for k, field in enumerate(x[:6])])
        return jnp.tanh(jnp.einsum("oi,ix->ox", self.matrix, moved)) * x[6:]


def mixed(matrix, states, parameter):
    """The same in NumPy, for a list of states of shape (2, 8)."""
    x = np.concatenate(states[-3:])
    moved = np.stack([np.roll(field, k) for k, field in enumerate(x)])
    y = np.tanh(matrix @ moved) * parameter
    return [y[:2], y[2:]]


class Linear(eqx.Module):
    """u ↦ factor · u moved by one node."""

    factor: jax.Array

    def __call__(self, u):
        return self.factor.astype(u.dtype) * jnp.roll(u, 1, -1)


# --- rollouts -------------------------------------------------------------------------


def test_rollout_of_several_states(getkey):
    """More states seen than given: the newest ones count, the parameter stays."""
    model = Mixed(jr.normal(getkey(), (4, 6)))
    x = jr.normal(getkey(), (7, 8)).at[6].set(0.8)
    out = eqx.filter_jit(Rollout(model, 4, num_parameters=1))(x)
    assert out.shape == (16, 8)
    states = list(np.asarray(x[:6]).reshape(3, 2, 8))
    for _ in range(4):
        states += mixed(np.asarray(model.matrix), states, 0.8)
    np.testing.assert_allclose(out, np.concatenate(states[3:]), atol=1e-13)


def test_rollout_is_a_model_of_a_trajectory(getkey):
    """On a problem's own data; the exact step is met to rounding."""
    problem = problems.Advection(16, velocity=0.25)
    data = problem.dataset(3, num_saves=4, key=getkey())
    exact = Linear(jnp.array(1.0))
    errors = evaluate(Rollout(exact, 4), data)
    assert errors["relative_l2"] < 1e-12
    damped = Rollout(Linear(jnp.array(0.9)), 4)
    loss = jax.jit(lambda m: RelativeL2()(m, data)[0])
    # û^t = 0.9^t u^t and all u^t have one norm.
    expected = np.sqrt(np.mean([(1 - 0.9**t) ** 2 for t in (1, 2, 3, 4)]))
    assert loss(damped) == pytest.approx(expected, rel=1e-12)
    slope = jax.jit(jax.grad(loss))(damped).model.factor
    gap = [float(loss(Rollout(Linear(jnp.array(0.9 + d)), 4))) for d in (1e-6, -1e-6)]
    assert slope == pytest.approx((gap[0] - gap[1]) / 2e-6, rel=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_statistics(dtype, getkey):
    u = jr.normal(getkey(), (1, 8), dtype)
    solution = Rollout(Linear(jnp.array(0.5)), 5).solve(u)
    assert solution.result == sciml.RESULTS.successful
    assert solution.stats["num_finite"] == 5
    assert solution.value.dtype == dtype and solution.value.shape == (5, 8)
    size = float(jnp.sqrt(jnp.mean(u**2)))
    expected = size * 0.5 ** np.arange(1, 6)
    np.testing.assert_allclose(solution.stats["rms"], expected, rtol=1e-6)


def test_unstable_rollout_is_named(getkey):
    u = 1 + jr.uniform(getkey(), (1, 8), jnp.float32)
    unstable = Rollout(Linear(jnp.array(1e10)), 6)
    solution = unstable.solve(u, throw=False)
    assert solution.result == sciml.RESULTS.unstable_rollout
    # 1e30 can be represented in single precision, 1e40 cannot.
    assert solution.stats["num_finite"] == 3
    rms = solution.stats["rms"]
    assert jnp.isfinite(rms[0]) and not jnp.isfinite(rms[3:]).any()
    assert "Pushforward" in sciml.RESULTS[solution.result]
    with pytest.raises(RuntimeError, match="applied to its own output"):
        jax.block_until_ready(unstable.solve(u).value)
    # One bad sample of a batch does not spoil the others.
    batch = jnp.stack([u, 0 * u])
    together = jax.vmap(lambda u: unstable.solve(u, throw=False))(batch)
    assert together.stats["num_finite"].tolist() == [3, 6]
    assert (together.result == sciml.RESULTS.successful).tolist() == [False, True]


# --- bundles --------------------------------------------------------------------------


def test_bundle_is_the_formula(getkey):
    """Two states of two channels; a sample has three states and a parameter."""
    model = Mixed(jr.normal(getkey(), (4, 6)))
    x = jr.normal(getkey(), (7, 8))
    out = eqx.filter_jit(TemporalBundle(model, 2, 0.3, num_parameters=1))(x)
    d, u = model(x), x[4:6]
    np.testing.assert_allclose(out[:2], u + 0.3 * d[:2], atol=1e-14)
    np.testing.assert_allclose(out[2:], u + 0.6 * d[2:], atol=1e-14)


def test_bundle_keeps_boundary_values(getkey):
    boundary = [(Dirichlet(value=1.5, stored=True), Neumann())]
    bundle = TemporalBundle(MgNO(1, 1, 3, 2, 1, 2, boundary, key=getkey()), 3, 0.1)
    rollout = Rollout(bundle, 2)
    for n in (9, 12):
        out = eqx.filter_jit(rollout)(jr.normal(getkey(), (1, n)))
        assert out.shape == (6, n)
        assert jnp.all(out[:, 0] == 1.5) and jnp.all(out[:, 1:] != 1.5)
    outer = Normalised(bundle, 0.0, 2.0, (0.0,) * 3, (2.0,) * 3)
    assert jnp.all(eqx.filter_jit(outer)(jnp.ones((1, 9)))[:, 0] == 1.5)


def test_saving_and_loading(tmp_path, getkey):
    base = FNO(1, 2, 3, 2, 1, 2, Periodic(), NoCoordinates(), key=getkey())
    model = Rollout(TemporalBundle(base, 3, 0.25, 1), 2, 1)
    save(tmp_path / "model.safetensors", model)
    assert bool(eqx.tree_equal(model, load(tmp_path / "model.safetensors")))


# --- pushforward ----------------------------------------------------------------------


def trajectories(key, times, samples=3):
    """Three states of two channels and a parameter; `times` states that follow."""
    states = jr.normal(key, (samples, 6 + 2 * times, 8))
    parameter = jnp.broadcast_to(jnp.array([0.2, 0.7, 1.6])[:, None, None], (3, 1, 8))
    inputs = jnp.concatenate([states[:, :6], parameter], 1)
    return Dataset(inputs, states[:, 6:], GRID)


LOSS = Pushforward(2, 0, num_channels=2, num_parameters=1)


def pushed(matrix, data, number, start):
    """Input and target of the trained application, for each sample, in NumPy."""
    xs, after = [], []
    for x, y in zip(np.asarray(data.inputs), np.asarray(data.targets), strict=True):
        truth = [*x[:6].reshape(3, 2, 8), *y.reshape(-1, 2, 8)]
        states = truth[start : start + 3]
        for _ in range(number):
            states = states + mixed(matrix, states, x[6])
        xs.append(np.concatenate([*states[-3:], x[6:]]))
        first = start + 3 + 2 * number
        after.append(np.concatenate(truth[first : first + 2]))
    return Dataset(np.stack(xs), np.stack(after), GRID)


def test_pushforward_by_hand(getkey):
    """One start is possible for N = 2: value and gradient are those at v² as data."""
    data = trajectories(getkey(), 6)
    matrix = jr.normal(getkey(), (4, 6))
    ours = jax.jit(
        jax.value_and_grad(lambda m, key: LOSS(Mixed(m), data, key), has_aux=True)
    )
    detached = pushed(np.asarray(matrix), data, 2, 0)
    # The other way round: with the gradient through the model's own outputs.
    whole = lambda m: Rollout(Mixed(m), 3, 1)
    attached = jax.grad(
        lambda m: RelativeL2()(
            lambda x: whole(m)(x)[-4:],
            Dataset(data.inputs, data.targets[:, -4:], GRID),
        )[0]
    )(matrix)
    plain = jax.jit(jax.value_and_grad(lambda m: RelativeL2()(Mixed(m), detached)[0]))
    seen = set()
    for key in jr.split(getkey(), 12):
        (value, aux), gradient = ours(matrix, key)
        seen.add(int(aux["num_unrolls"]))
        if aux["num_unrolls"] == 2:
            expected, slope = plain(matrix)
            assert value == pytest.approx(float(expected), rel=1e-12)
            np.testing.assert_allclose(gradient, slope, rtol=1e-10, atol=1e-14)
            assert jnp.max(jnp.abs(gradient - attached)) > 1e-3
    assert seen == {0, 1, 2}


def test_every_start_is_drawn(getkey):
    """One sample: the value is that of one of the possible starts, each of them."""
    data, matrix = trajectories(getkey(), 7), jr.normal(getkey(), (4, 6))
    sample = data[:1]
    ours = jax.jit(lambda key: LOSS(Mixed(matrix), sample, key))
    possible = {}
    for number in range(3):
        # 7 states follow and each application gives two of them.
        for start in range(7 - 2 * (number + 1) + 1):
            one = pushed(np.asarray(matrix), sample, number, start)
            possible[number, start] = float(RelativeL2()(Mixed(matrix), one)[0])
    met = set()
    for key in jr.split(getkey(), 120):
        value, aux = ours(key)
        number = int(aux["num_unrolls"])
        fits = [
            case
            for case, other in possible.items()
            if case[0] == number and abs(other - float(value)) < 1e-9
        ]
        assert len(fits) == 1
        met.add(fits[0])
    assert met == set(possible)


def test_warm_up(getkey):
    loss = Pushforward(2, 10, num_channels=2, num_parameters=1)
    data, model = trajectories(getkey(), 6), Mixed(jr.normal(getkey(), (4, 6)))
    draw = jax.jit(
        lambda step, key: loss.at_step(step)(model, data, key)[1]["num_unrolls"]
    )
    keys = jr.split(getkey(), 15)
    for step, most in ((0, 0), (9, 0), (10, 1), (19, 1), (20, 2), (500, 2)):
        assert max(int(draw(step, key)) for key in keys) == most


def test_training_on_its_own_outputs(getkey):
    """A step that is fitted in `fit`, with the loss and the schedule in its slots."""
    problem = problems.Advection(16, velocity=0.25)
    train, test = problem.dataset(24, num_saves=4, key=getkey()).split(20)
    model, history = fit(
        Linear(jnp.array(0.2)),
        train,
        loss=Pushforward(3, 10, RelativeH1()),
        optimiser=optax.adam(5e-2),
        num_steps=80,
        batch_size=10,
        progress=False,
        key=getkey(),
    )
    assert np.all(history.aux["num_unrolls"][:10] == 0)
    assert np.max(history.aux["num_unrolls"]) == 3
    assert history.aux["relative_l2"].shape == (80,)
    assert evaluate(Rollout(model, 4), test)["relative_l2"] < 0.1


def test_mistakes(getkey):
    data, model = trajectories(getkey(), 4), Mixed(jnp.ones((4, 6)))
    with pytest.raises(ValueError, match="at least 12 channels, got 8"):
        LOSS(model, data, getkey())
    with pytest.raises(ValueError, match=r"num_channels: .* input's states \(6\)"):
        Pushforward(0, 0, num_channels=4, num_parameters=1)(model, data, getkey())
    with pytest.raises(ValueError, match="are its targets"):
        LOSS(model, Dataset(data.inputs, None, GRID), getkey())
    with pytest.raises(ValueError, match="num_parameters: expected 0 to 6"):
        Pushforward(1, num_parameters=7)(model, data, getkey())
    with pytest.raises(ValueError, match="max_unrolls"):
        Pushforward(-1)
    with pytest.raises(ValueError, match="num_applications"):
        Rollout(model, 0)
    with pytest.raises(ValueError, match="time_step"):
        TemporalBundle(model, 2, 0.0)
    with pytest.raises(ValueError, match="num_states: the model gives 3 channels"):
        TemporalBundle(FNO(1, 1, 3, 2, 1, 2, key=getkey()), 2, 0.1)
    with pytest.raises(ValueError, match="num_states: the model gives 4 channels"):
        TemporalBundle(model, 3, 0.1, 1)(data.inputs[0])
    with pytest.raises(ValueError, match="states with 4 channels, but .* 3"):
        TemporalBundle(lambda x: x[:4], 1, 0.1, 4)(data.inputs[0])


@pytest.mark.sampled(1)
@pytest.mark.parametrize("problem", FLOWS)
def test_rows_of_the_benchmark(problem, monkeypatch):
    flow = dataclasses.replace(FLOWS[problem], width=4, num_modes=4, warm_up=1)
    monkeypatch.setitem(FLOWS, problem, flow)
    rows = bench_rollouts(
        problem=problem,
        models=["BoundedStep(FNO)"],
        horizon=3,
        num_trajectories=4,
        num_steps=3,
        seeds=1,
    )
    (row,) = rows
    assert row["problem"] == problem
    assert row["model"] == "BoundedStep(FNO)" and row["rollouts"] == 8
    assert 0 < row["step_error"] < 2
    # By construction, however little it was trained: 4 deviations, in units of data
    # whose root mean square is about one.
    assert row["largest"] < 5


def test_states_follow_each_other_after_the_warm_up():
    """Pairs are steps of the solver, and none begins before the warm-up's end."""
    problem = "kuramoto-sivashinsky"
    flow = dataclasses.replace(FLOWS[problem], warm_up=2)
    states, grid = flow.states(2, 3, 0.5, jr.key(0))
    assert states.shape == (2, 4, 64) and grid == flow.make(1.0).grid
    pairs = _pairs(states, grid)
    assert len(pairs) == 6
    step = flow.make(0.5)
    for before, after in zip(pairs.inputs, pairs.targets, strict=True):
        exact = step.solve(jnp.asarray(before[0], float))[0]
        # Not more closely, as the solver's grid is finer than that of the states.
        np.testing.assert_allclose(after[0], exact, atol=1e-2)
    first = flow.make(1.0).dataset(2, key=jr.key(0)).targets
    np.testing.assert_allclose(pairs.inputs[::3], first, atol=1e-3)


def test_what_diverges_is_counted():
    found = [
        {"step_error": 0.1, "accurate_steps": 2, "rollouts": 8, "diverged_10": d}
        | {"diverged_50": 2 * d, "first": f, "largest": 1.0 + d, "training_time": 1.0}
        for d, f in ((0, None), (3, 70), (1, 90))
    ]
    row = _summary(found)
    assert (row["rollouts"], row["diverged_10"], row["diverged_50"]) == (24, 4, 8)
    assert row["first"] == 70 and row["largest"] == 4.0
    data = Dataset(
        np.ones((2, 1, 64)), np.ones((2, 1, 64)), Grid(64, boundary=Periodic())
    )
    doubling = _judged(lambda x: 2 * x, data, data, data, horizon=1)
    # Twice as large with each step: above five times after the third.
    assert doubling["first"] == 3 and doubling["diverged_10"] == 2
    assert _judged(lambda x: x, data, data, data, horizon=1)["first"] is None
    with pytest.raises(ValueError, match="models: no 'GNO'"):
        bench_rollouts(models=["GNO"])
    with pytest.raises(ValueError, match="problem: no 'heat'"):
        bench_rollouts(problem="heat")
