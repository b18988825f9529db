"""What solvers know of their steps, against steps that are taken by hand."""

# Wrong arguments are the point here.
# pyright: reportArgumentType=false, reportOptionalMemberAccess=false
# pyright: reportOptionalSubscript=false, reportCallIssue=false
# pyright: reportOperatorIssue=false

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
    Y0,
    accepted_times,
    directional,
    inner,
    small_model,
    solve,
)

from sciml.neural_odes import (
    EvaluationCounter,
    RecordHeuristics,
    StopAtNonfinite,
    heuristics_of,
    stability_limit,
)

MODEL = small_model()
SUMS = {
    "error_estimate": 1e-6,
    "error_estimate_squared": 1e-6,
    "step_surrogate": 1e-4,
    "stiffness": 1e-6,
    "max_stiffness": 1e-6,
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "solver",
    [
        dfx.Tsit5(),
        dfx.Dopri8(),
        dfx.Bosh3(),
        dfx.Kvaerno3(),
        dfx.HalfSolver(dfx.Tsit5()),
    ],
    ids=["Tsit5", "Dopri8", "Bosh3", "Kvaerno3", "HalfSolver"],
)
def test_steps_are_the_same_bit_for_bit(solver):
    plain = solve(MODEL, solver)
    recorded = solve(MODEL, RecordHeuristics(solver))
    assert np.array_equal(plain.ys, recorded.ys)
    for name in ("num_steps", "num_accepted_steps", "num_rejected_steps"):
        assert plain.stats[name] == recorded.stats[name]
    heuristics = heuristics_of(recorded)
    # Rejected steps leave no trace.
    assert heuristics.num_steps == plain.stats["num_accepted_steps"]
    assert 0 < heuristics.error_estimate < END
    assert float(heuristics.step_surrogate) < int(heuristics.num_steps)


def test_sums_are_those_of_steps_taken_by_hand():
    solver, times = dfx.Tsit5(), accepted_times(MODEL, dfx.Tsit5())
    term = dfx.ODETerm(lambda t, y, args: 3.0 * MODEL(y) * jnp.cos(t))
    E, S, y = [], [], Y0
    for t0, t1 in zip(times[:-1], times[1:], strict=True):
        state = solver.init(term, t0, t1, y, None)
        y1, error, info, _, _ = solver.step(term, t0, t1, y, None, state, False)
        scale = ATOL + RTOL * np.maximum(np.abs(y), np.abs(y1))
        E.append(np.sqrt(np.mean((error / scale) ** 2)))
        # The last two stages stand at the end of the step, the last one at y1.
        k, h = np.asarray(info["k"]), t1 - t0
        weights = np.append(solver.tableau.a_lower[-2], 0.0)
        before = y + np.tensordot(weights, k[:6], 1)
        S.append(np.linalg.norm(k[6] - k[5]) / h / np.linalg.norm(y1 - before))
        y = y1
    E, S, h = np.array(E), np.array(S), np.diff(times)
    got = heuristics_of(solve(MODEL, RecordHeuristics(solver)))
    expected = {
        "error_estimate": np.sum(E * h),
        "error_estimate_squared": np.sum(E**2),
        "step_surrogate": np.sum(E**0.2),
        "stiffness": np.sum(S * h),
        "max_stiffness": np.max(S),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(got, name), value, rtol=1e-9, err_msg=name)


def test_gradients_are_those_of_the_frozen_grid():
    times = jnp.asarray(accepted_times(MODEL, dfx.Tsit5()))
    frozen = RecordHeuristics(dfx.Tsit5(), rtol=RTOL, atol=ATOL)

    def sums(solution):
        heuristics = heuristics_of(solution)
        return jnp.stack([getattr(heuristics, name) for name in SUMS])

    def on_frozen_grid(model):
        return sums(solve(model, frozen, dfx.StepTo(times), dt0=None))

    direction, expected = directional(on_frozen_grid, MODEL)
    rtol = np.array(list(SUMS.values()))

    def value(model, adjoint):
        return sums(solve(model, RecordHeuristics(dfx.Tsit5()), adjoint=adjoint))

    @eqx.filter_jit
    def gradients(model, adjoint):
        return eqx.filter_jacrev(lambda m: value(m, adjoint))(model)

    for adjoint in (dfx.RecursiveCheckpointAdjoint(), dfx.DirectAdjoint()):
        got = jax.vmap(lambda g: inner(g, direction))(gradients(MODEL, adjoint))
        assert np.all(np.abs(got / expected - 1) < rtol)
    forward = eqx.filter_jit(lambda m, d: eqx.filter_jvp(value_forward, (m,), (d,)))
    value_forward = lambda m: value(m, dfx.ForwardMode())
    _, got = forward(MODEL, direction)
    assert np.all(np.abs(got / expected - 1) < rtol)


# (Of an easy step of Dopri8 the two stages differ by little more than rounding.)
@pytest.mark.parametrize(
    ("solver", "rate"),
    [
        (dfx.Tsit5(), 1.0),
        (dfx.Tsit5(), 10.0),
        (dfx.Tsit5(), 100.0),
        (dfx.Dopri5(), 10.0),
        (dfx.Dopri8(), 100.0),
    ],
)
def test_stiffness_of_linear_decay_is_its_rate(solver, rate):
    term = dfx.ODETerm(lambda t, y, rate: -rate * y)
    solution = solve(rate, RecordHeuristics(solver), term=term, dt0=None)
    heuristics = heuristics_of(solution)
    np.testing.assert_allclose(heuristics.max_stiffness, rate, rtol=1e-8)
    np.testing.assert_allclose(heuristics.stiffness, rate * END, rtol=1e-8)


def test_stability_limits():
    # The figures that OrdinaryDiffEq.jl uses; Heun's is that of 1 + z + z²/2.
    for solver, limit in (
        (dfx.Tsit5(), 3.5068),
        (dfx.Dopri5(), 3.3066),
        (dfx.Heun(), 2.0),
    ):
        assert stability_limit(solver) == pytest.approx(limit, abs=1e-4)
    assert stability_limit(dfx.Kvaerno5()) is None


def test_stiff_problems_are_diagnosed():
    term = dfx.ODETerm(lambda t, y, rate: -rate * (y - jnp.cos(t)))
    stiff = solve(2e3, RecordHeuristics(dfx.Tsit5()), term=term, max_steps=4096)
    heuristics = heuristics_of(stiff)
    assert 2 * heuristics.num_stability_limited > heuristics.num_steps
    assert "Kvaerno5" in heuristics.diagnosis()
    mild = heuristics_of(solve(MODEL, RecordHeuristics(dfx.Tsit5())))
    assert "0 of" in mild.diagnosis() and "Kvaerno5" not in mild.diagnosis()
    without = heuristics_of(solve(MODEL, RecordHeuristics(dfx.Bosh3())))
    assert without.stiffness is None and "no stiffness" in without.diagnosis()


@pytest.mark.parametrize(
    "solver", [dfx.Tsit5(), dfx.Bosh3(), dfx.HalfSolver(dfx.Heun())]
)
def test_evaluations_are_counted(solver):
    counter = EvaluationCounter()
    counted = counter.counted(lambda t, y, model: 3.0 * model(y) * jnp.cos(t))
    term = dfx.ODETerm(counted)
    solution = solve(MODEL, RecordHeuristics(solver), term=term, dt0=0.01)
    assert counter.read() == heuristics_of(solution).nfe
    # A first step that is rejected evaluates its first stage again.
    solution = solve(MODEL, RecordHeuristics(solver), term=term, dt0=2.0)
    again = counter.read() - heuristics_of(solution).nfe
    assert 0 <= again <= solution.stats["num_rejected_steps"]


def test_reverse_time_dense_output_and_chained_solves():
    recorder = RecordHeuristics(dfx.Tsit5())
    saveat = dfx.SaveAt(ts=jnp.linspace(0.0, END, 5), dense=True, solver_state=True)
    forward = solve(MODEL, recorder, saveat=saveat)
    plain = dfx.SaveAt(ts=jnp.linspace(0.0, END, 5), dense=True)
    same = solve(MODEL, dfx.Tsit5(), saveat=plain)
    assert np.array_equal(forward.ys, same.ys)
    assert np.array_equal(forward.evaluate(0.7), same.evaluate(0.7))
    # Backwards, y' = f(t, y) is y' = −f(−s, y) forwards.
    mirrored = dfx.ODETerm(lambda t, y, model: -3.0 * model(y) * jnp.cos(-t))
    back = solve(MODEL, recorder, term=mirrored, dt0=-2.0, t1=-END)
    there, here = heuristics_of(forward), heuristics_of(back)
    np.testing.assert_allclose(there.error_estimate, here.error_estimate, rtol=1e-12)

    halves = solve(MODEL, recorder, dt0=0.1, t1=1.0)
    chained = dfx.diffeqsolve(
        dfx.ODETerm(lambda t, y, model: 3.0 * model(y) * jnp.cos(t)),
        recorder,
        1.0,
        END,
        0.1,
        halves.ys[-1],
        MODEL,
        stepsize_controller=PID,
        saveat=dfx.SaveAt(t1=True, solver_state=True),
        solver_state=halves.solver_state,
    )
    steps = halves.stats["num_accepted_steps"] + chained.stats["num_accepted_steps"]
    assert heuristics_of(chained).num_steps == steps


def test_vmap_is_a_loop_and_float32_stays_float32():
    def value(y0):
        solution = solve(MODEL, RecordHeuristics(dfx.Tsit5()), y0=y0)
        heuristics = heuristics_of(solution)
        return heuristics.error_estimate + heuristics.stiffness

    batch = jr.normal(jr.key(0), (3, 3))
    got = jax.vmap(jax.value_and_grad(value))(batch)
    expected = [jax.value_and_grad(value)(y0) for y0 in batch]
    for k, (v, g) in enumerate(expected):
        np.testing.assert_allclose(got[0][k], v, rtol=1e-10)
        np.testing.assert_allclose(got[1][k], g, rtol=0, atol=1e-10 * np.abs(g).max())

    y0, end = jnp.float32([1.0, 2.0]), jnp.float32(1.0)
    term = dfx.ODETerm(lambda t, y, args: -y)
    controller = dfx.PIDController(rtol=1e-4, atol=1e-4)
    solution = solve(
        None,
        RecordHeuristics(dfx.Tsit5()),
        controller,
        dt0=jnp.float32(0.1),
        y0=y0,
        term=term,
        t0=jnp.float32(0.0),
        t1=end,
    )
    heuristics = heuristics_of(solution)
    assert heuristics.error_estimate.dtype == heuristics.stiffness.dtype == jnp.float32


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_no_error_has_finite_gradients(value):
    term = dfx.ODETerm(lambda t, y, c: c * jnp.ones_like(y))

    def total(c):
        solution = solve(c, RecordHeuristics(dfx.Tsit5()), term=term)
        h = heuristics_of(solution)
        parts = (h.error_estimate, h.error_estimate_squared, h.step_surrogate)
        return sum(parts) + h.stiffness + h.max_stiffness

    got, slope = jax.value_and_grad(total)(jnp.asarray(value))
    assert np.isfinite(slope) and got < 1e-9


@pytest.mark.parametrize(
    ("solver", "noise"),
    [
        (dfx.SPaRK(), lambda t, y, s: s * y),
        pytest.param(
            dfx.HalfSolver(dfx.ItoMilstein()),
            lambda t, y, s: s * y,
            marks=pytest.mark.slow,
        ),
        pytest.param(dfx.ShARK(), lambda t, y, s: s, marks=pytest.mark.slow),
    ],
    ids=["SPaRK", "HalfSolver", "ShARK"],
)
def test_stochastic_solvers(solver, noise):
    shape = jax.ShapeDtypeStruct((), jnp.float64)
    area = dfx.SpaceTimeLevyArea
    path = dfx.VirtualBrownianTree(0.0, 0.3, 0.01, shape, jr.key(1), levy_area=area)
    drift = dfx.ODETerm(lambda t, y, s: -y)
    term = dfx.MultiTerm(drift, dfx.ControlTerm(noise, path))
    controller = dfx.PIDController(rtol=1e-2, atol=1e-2, dtmin=0.02)

    def end(s, solver):
        y0 = jnp.asarray(1.0)
        return solve(s, solver, controller, term=term, y0=y0, dt0=0.05, t1=0.3)

    def price(s):
        solution = end(s, RecordHeuristics(solver))
        assert heuristics_of(solution).stiffness is None
        return heuristics_of(solution).error_estimate, solution.ys

    sigma = jnp.asarray(0.4)
    (value, ys), slope = jax.jit(jax.value_and_grad(price, has_aux=True))(sigma)
    assert np.array_equal(end(sigma, solver).ys, ys)
    assert value > 0 and np.isfinite(slope) and slope != 0


def test_what_cannot_be_recorded_is_refused():
    with pytest.raises(ValueError, match="no error estimate"):
        solve(
            MODEL,
            RecordHeuristics(dfx.Euler(), rtol=1e-3, atol=1e-3),
            dfx.ConstantStepSize(),
            dt0=0.5,
        )
    with pytest.raises(ValueError, match="both or neither"):
        RecordHeuristics(dfx.Tsit5(), rtol=1e-3)
    with pytest.raises(ValueError, match="SaveAt"):
        heuristics_of(solve(MODEL, dfx.Tsit5()))

    # Through this adjoint the gradient of the sums would be zero.
    def through_backsolve(model):
        recorder = RecordHeuristics(dfx.Tsit5())
        adjoint = dfx.BacksolveAdjoint()
        solution = solve(model, recorder, adjoint=adjoint)
        return heuristics_of(solution).error_estimate

    with pytest.raises(ValueError, match="does not differentiate"):
        eqx.filter_grad(through_backsolve)(MODEL)


def test_a_field_that_is_not_finite_ends_the_solve():
    term = dfx.ODETerm(lambda t, y, args: jnp.sqrt(0.5 - t) * y)
    saveat = dfx.SaveAt(t1=True, controller_state=True)

    def end(term, controller=PID, **kwargs):
        watched = StopAtNonfinite(controller)
        return solve(
            None, dfx.Tsit5(), watched, term=term, saveat=saveat, throw=False, **kwargs
        )

    half_way = end(term)
    assert half_way.result == dfx.RESULTS.nonfinite
    assert half_way.stats["num_steps"] < 60
    np.testing.assert_allclose(half_way.controller_state.time, 0.5, atol=1e-3)
    nowhere = end(dfx.ODETerm(lambda t, y, args: y * jnp.nan), dt0=None)
    assert nowhere.result == dfx.RESULTS.nonfinite
    assert nowhere.stats["num_steps"] <= 10 and nowhere.controller_state.time == 0.0
    # Backwards in time, and where nothing is wrong.
    mirrored = dfx.ODETerm(lambda t, y, args: jnp.sqrt(0.5 + t) * y)
    back = end(mirrored, dt0=-2.0, t1=-END)
    np.testing.assert_allclose(back.controller_state.time, -0.5, atol=1e-3)
    fine = end(dfx.ODETerm(lambda t, y, args: -y))
    assert fine.result == dfx.RESULTS.successful
    assert np.isnan(fine.controller_state.time)
    # A step that is too long now and then is none: here y must not become negative.
    root = end(dfx.ODETerm(lambda t, y, args: -jnp.sqrt(y)), y0=jnp.ones(2), t1=1.9)
    assert root.result == dfx.RESULTS.successful
