"""Prices of a solve: their gradients, what they mean, and what is refused."""

# Wrong arguments are the point here.
# pyright: reportArgumentType=false, reportOptionalSubscript=false

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from ode_cases import (
    ATOL,
    END,
    PID,
    RTOL,
    TERM,
    Y0,
    accepted_times,
    directional,
    field,
    inner,
    small_model,
    solve,
)

from sciml.neural_odes import (
    Biased,
    ErrorEstimate,
    ErrorEstimateSquared,
    KineticEnergy,
    Local,
    Max,
    Mean,
    NumSteps,
    RecordHeuristics,
    Reservoir,
    SampleStep,
    Stiffness,
    TayNODE,
    Unbiased,
    heuristics_of,
    regularised_diffeqsolve,
    steer_end_time,
    total_derivative,
)

MODEL = small_model()
RECORDED = [ErrorEstimate(), ErrorEstimateSquared(), NumSteps(), Stiffness()]
KEY = jr.key(2)
SAMPLINGS = [Reservoir(), Unbiased(), Biased()]


def priced(model, penalty, **kwargs):
    """Solution and price of the small model's solve, with a step that is rejected."""
    settings = {"t0": 0.0, "t1": END, "dt0": 2.0, "y0": Y0, "key": jr.key(0)}
    settings |= {"solver": dfx.Tsit5(), "stepsize_controller": PID} | kwargs
    term = settings.pop("terms", TERM)
    return regularised_diffeqsolve(term, args=model, penalty=penalty, **settings)


def test_the_solution_is_the_same_and_prices_are_the_sums():
    solution, prices = eqx.filter_jit(priced)(MODEL, RECORDED)
    assert np.array_equal(solution.ys, solve(MODEL, dfx.Tsit5()).ys)
    heuristics = heuristics_of(solution)
    expected = (
        heuristics.error_estimate,
        heuristics.error_estimate_squared,
        heuristics.step_surrogate,
        heuristics.stiffness,
    )
    assert np.array_equal(prices, expected)


def test_reductions():
    penalties = {
        "mean": ErrorEstimate(Mean()),
        "max": ErrorEstimate(Max()),
        "sum": ErrorEstimate(),
        "stiff": Stiffness(Max()),
    }
    solution, prices = eqx.filter_jit(priced)(MODEL, penalties)
    heuristics = heuristics_of(solution)
    steps = int(heuristics.num_steps)
    np.testing.assert_allclose(float(prices["mean"]) * steps, prices["sum"])
    assert prices["mean"] < prices["max"] < prices["sum"]
    assert prices["stiff"] == heuristics.max_stiffness


@pytest.mark.sampled(2)
@pytest.mark.parametrize("penalty", RECORDED, ids=lambda p: type(p).__name__)
def test_the_gradient_is_that_of_the_frozen_grid(penalty):
    times = accepted_times(MODEL, dfx.Tsit5())
    recorder = RecordHeuristics(dfx.Tsit5(), rtol=RTOL, atol=ATOL)
    names = ("error_estimate", "error_estimate_squared", "step_surrogate", "stiffness")
    name = names[RECORDED.index(penalty)]

    def frozen(model):
        solution = solve(model, recorder, dfx.StepTo(times), dt0=None)
        return getattr(heuristics_of(solution), name)

    direction, expected = directional(frozen, MODEL)
    gradient = eqx.filter_jit(eqx.filter_grad(lambda m: priced(m, penalty)[1]))(MODEL)
    rtol = 1e-4 if isinstance(penalty, NumSteps) else 1e-6
    np.testing.assert_allclose(inner(gradient, direction), expected, rtol=rtol)


@pytest.mark.parametrize(
    "penalty", [pytest.param(KineticEnergy(), marks=pytest.mark.slow), TayNODE(2)]
)
def test_running_costs_are_integrals(penalty):
    saveat = dfx.SaveAt(dense=True)
    dense = solve(MODEL, dfx.Tsit5(), saveat=saveat, dt0=0.01)
    times = np.linspace(0.0, END, 2001)
    ys = jax.vmap(dense.evaluate)(jnp.asarray(times))

    def derivative(t, y):
        f = lambda t, y: field(t, y, MODEL)
        if isinstance(penalty, KineticEnergy):
            return f(t, y)
        return jax.jvp(f, (t, y), (jnp.ones_like(t), f(t, y)))[1]

    rates = jnp.mean(jax.vmap(derivative)(jnp.asarray(times), ys) ** 2, axis=1)
    solution, price = eqx.filter_jit(priced)(MODEL, penalty)
    np.testing.assert_allclose(price, np.trapezoid(rates, times), rtol=1e-4)
    np.testing.assert_allclose(solution.ys[-1], ys[-1], rtol=1e-4)
    # Part of the solution, so every adjoint knows them.
    exact = isinstance(penalty, KineticEnergy)
    adjoint = dfx.RecursiveCheckpointAdjoint() if exact else dfx.BacksolveAdjoint()
    of_model = lambda m: priced(m, penalty, adjoint=adjoint)[1]
    direction, expected = directional(eqx.filter_jit(of_model), MODEL, 1e-4)
    gradient = eqx.filter_jit(eqx.filter_grad(of_model))(MODEL)
    np.testing.assert_allclose(inner(gradient, direction), expected, rtol=2e-3)


def test_total_derivatives_are_nested_directional_ones():
    f = lambda t, y: {"a": jnp.sin(t) * y["b"], "b": -y["a"] * y["a"]}
    t, y = jnp.asarray(0.3), {"a": jnp.array([0.5, 1.0]), "b": jnp.array([0.2, -1.0])}

    def next_order(g):
        return lambda t, y: jax.jvp(g, (t, y), (jnp.ones_like(t), f(t, y)))[1]

    g = f
    for order in (1, 2, 3, 4):
        got = total_derivative(f, t, y, order)
        for name, value in g(t, y).items():
            np.testing.assert_allclose(got[name], value, rtol=1e-12)
        g = next_order(g)


def test_steer_ends_around_the_end():
    ends = jax.vmap(lambda k: steer_end_time(1.0, 0.5, key=k))(jr.split(jr.key(0), 999))
    assert 0.5 <= ends.min() < 0.51 and 1.49 < ends.max() <= 1.5
    assert abs(ends.mean() - 1.0) < 3 * 0.5 / np.sqrt(3 * 999)


# --- one local step -------------------------------------------------------------------


def test_the_reservoir_is_unbiased():
    keys = jr.split(jr.key(7), 4000)

    @eqx.filter_jit
    def estimates(keys):
        one = lambda key: priced(MODEL, (Local(), Local(Biased())), key=key)[1]
        return jax.lax.map(one, keys)

    solution, (total, mean) = priced(MODEL, (ErrorEstimate(), ErrorEstimate(Mean())))
    assert solution.stats["num_accepted_steps"] > 3
    for values, expected in zip(estimates(keys), (total, mean), strict=True):
        error = np.std(values) / np.sqrt(len(keys))
        assert error > 0 and abs(np.mean(values) - expected) < 3 * error


@pytest.mark.sampled(2)
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda s: type(s).__name__)
def test_local_gradients_are_those_of_one_step(sampling):
    # (The key is split, one for each Local.)
    key = jr.split(KEY, 1)[0]
    wrapped = SampleStep(RecordHeuristics(dfx.Tsit5()), sampling, key=key)
    solution = solve(MODEL, wrapped)
    assert np.array_equal(solution.ys, solve(MODEL, dfx.Tsit5()).ys)
    sample = wrapped.sample_of(solution.solver_state)
    assert 0 <= sample.t < sample.t + sample.h <= END

    def one_step(model):
        t0, t1 = sample.t, sample.t + sample.h
        term = dfx.ODETerm(lambda t, y, args: field(t, y, model))
        tsit5 = dfx.Tsit5(scan_kind="lax")
        state = tsit5.init(term, t0, t1, sample.y, None)
        y1, error, *_ = tsit5.step(term, t0, t1, sample.y, None, state, False)
        scale = ATOL + RTOL * jnp.maximum(jnp.abs(sample.y), jnp.abs(y1))
        return jnp.sqrt(jnp.mean((error / scale) ** 2)) * sample.weight

    @eqx.filter_jit
    def price(model, adjoint):
        value = lambda m: priced(m, Local(sampling), adjoint=adjoint, key=KEY)[1]
        return eqx.filter_value_and_grad(value)(model)

    # (A step's error is small: its difference quotient has to be wide.)
    direction, expected = directional(eqx.filter_jit(one_step), MODEL, 2e-5)
    for adjoint in (dfx.RecursiveCheckpointAdjoint(), dfx.BacksolveAdjoint()):
        value, gradient = price(MODEL, adjoint)
        np.testing.assert_allclose(value, one_step(MODEL), rtol=1e-12)
        np.testing.assert_allclose(inner(gradient, direction), expected, rtol=1e-6)


def test_local_steps_sum_to_the_global_price():
    times = accepted_times(MODEL, dfx.Tsit5())
    keys = jr.split(jr.key(3), 60)

    @eqx.filter_jit
    def drawn(key):
        solver = SampleStep(dfx.Tsit5(), Biased(), key=jr.split(key, 1)[0])
        sample = solver.sample_of(solve(MODEL, solver).solver_state)
        return sample.t, priced(MODEL, Local(Biased()), key=key)[1]

    starts, prices = jax.lax.map(drawn, keys)
    found = dict(zip(starts.tolist(), prices.tolist(), strict=True))
    np.testing.assert_allclose(sorted(found), times[:-1])
    total = priced(MODEL, ErrorEstimate())[1]
    np.testing.assert_allclose(sum(found.values()), total, rtol=1e-9)


@pytest.mark.slow
def test_local_through_the_implicit_adjoint_and_backwards_in_time():
    # A field with a steady state, and the adjoint that differentiates that.
    term = dfx.ODETerm(lambda t, y, rate: -rate * (y - 1.0))
    price = lambda rate, **kwargs: priced(
        rate, Local(), terms=term, y0=jnp.zeros(2), **kwargs
    )[1]
    rate = jnp.asarray(1.3)
    direct = jax.value_and_grad(price)(rate)
    implicit = jax.value_and_grad(lambda r: price(r, adjoint=dfx.ImplicitAdjoint()))
    # (diffrax multiplies a time by an integer there.)
    with jax.numpy_dtype_promotion("standard"):
        np.testing.assert_allclose(implicit(rate), direct, rtol=1e-12)
        settings = {"terms": term, "y0": jnp.zeros(2)}
        solution, _ = priced(rate, Local(), adjoint=dfx.ImplicitAdjoint(), **settings)
    steps = solution.stats["num_accepted_steps"]
    assert heuristics_of(solution).num_steps == steps
    mirrored = dfx.ODETerm(lambda t, y, rate: rate * (y - 1.0))
    back = lambda r: priced(
        r, Local(), terms=mirrored, y0=jnp.zeros(2), dt0=-2.0, t1=-END
    )[1]
    np.testing.assert_allclose(jax.value_and_grad(back)(rate), direct, rtol=1e-12)


@pytest.mark.slow
def test_forward_mode_is_the_transpose_of_reverse_mode():
    penalties = (ErrorEstimate(), Local(), KineticEnergy())

    def price(model, adjoint):
        return sum(priced(model, penalties, adjoint=adjoint)[1])

    checkpointed = dfx.RecursiveCheckpointAdjoint()
    reverse = lambda m: price(m, checkpointed)
    forward = lambda m: price(m, dfx.ForwardMode())
    direction, _ = directional(lambda m: 0.0, MODEL)
    gradient = eqx.filter_jit(eqx.filter_grad(reverse))(MODEL)
    along = eqx.filter_jit(lambda m, d: eqx.filter_jvp(forward, (m,), (d,)))
    _, slope = along(MODEL, direction)
    np.testing.assert_allclose(inner(gradient, direction), slope, rtol=1e-9)


# --- refusals -------------------------------------------------------------------------


@pytest.mark.parametrize("adjoint", [dfx.BacksolveAdjoint(), dfx.ImplicitAdjoint()])
@pytest.mark.parametrize("penalty", RECORDED[:1] + RECORDED[3:])
def test_lost_gradients_are_refused(adjoint, penalty):
    with pytest.raises(ValueError, match="would be zero"):
        priced(MODEL, penalty, adjoint=adjoint)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="stepsize_controller"):
        priced(MODEL, ErrorEstimate(), stepsize_controller=dfx.ConstantStepSize())
    with pytest.raises(ValueError, match="Bosh3 has none"):
        priced(MODEL, Stiffness(), solver=dfx.Bosh3())
    with pytest.raises(ValueError, match="key"):
        priced(MODEL, Local(), key=None)
    with pytest.raises(TypeError, match="penalty"):
        priced(MODEL, "error")
    with pytest.raises(ValueError, match="t1=True"):
        priced(MODEL, KineticEnergy(), saveat=dfx.SaveAt(ts=jnp.array([0.5])))
    with pytest.raises(ValueError, match="order"):
        TayNODE(0)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, jax.grad])
def test_a_solve_that_fails_says_until_when_it_was_finite(transform):
    term = dfx.ODETerm(lambda t, y, rate: rate * jnp.sqrt(0.5 - t) * y)
    price = lambda rate: priced(rate, ErrorEstimate(), terms=term)[1]
    with pytest.raises(Exception, match=r"not finite beyond t = 0\.4|0\.5"):
        jax.block_until_ready(transform(price)(jnp.asarray(1.0)))


def test_a_backward_solve_that_fails_says_so():
    # Two steps are too few: its gradient would be that of a part of the way.
    adjoint = dfx.BacksolveAdjoint(max_steps=2)

    def value(y0, throw):
        settings = {"key": KEY, "adjoint": adjoint, "y0": y0, "throw": throw}
        solution, price = priced(MODEL, Local(), **settings)
        return jnp.sum(solution.ys) + price

    with pytest.raises(Exception, match="maximum number of solver steps"):
        jax.block_until_ready(jax.grad(value)(Y0, True))
    assert np.isfinite(value(Y0, True))


def test_without_throw_a_failed_solve_has_no_price():
    term = dfx.ODETerm(lambda t, y, rate: rate * y * y)
    rates = jnp.array([0.1, 3.0])

    def price(rate):
        solution, value = priced(
            rate, ErrorEstimate(), terms=term, y0=jnp.ones(2), throw=False, max_steps=99
        )
        return solution.result == dfx.RESULTS.successful, value

    okay, values = jax.vmap(price)(rates)
    assert okay.tolist() == [True, False]
    assert np.isfinite(values[0]) and np.isnan(values[1])
