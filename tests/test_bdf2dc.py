"""Deferred correction of BDF2: its formulas, orders, stiff problems and derivatives."""

# pyright: reportOptionalSubscript=false, reportOptionalMemberAccess=false
# pyright: reportCallIssue=false, reportOptionalOperand=false

import json
import math

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bdf2dc_cases import (
    CUBIC,
    END,
    GRID,
    IVPS,
    START,
    TIGHT,
    VAN_DER_POL,
    exact,
    on_grid,
    solve,
    vdpol,
)

from sciml.neural_odes import RecordHeuristics, VariableBDF2DC, heuristics_of
from sciml.neural_odes._bdf2dc_start import EMBEDDED, GAMMA, LOWER, WEIGHTS
from sciml.neural_odes._bdf2dc_weights import ratios

# --- formulas -------------------------------------------------------------------------


@pytest.mark.parametrize("degree", range(5))
def test_corrections_are_exact_for_polynomials(degree):
    """h (u' − D₂u) of u = (t − a)^p: to third order up to p = 4, to second up to 3."""
    for r, s in ((1.0, 1.0), (0.3, 2.5), (8.0, 0.1)):
        h, before = 0.7, jnp.array([0.7 / r, 0.7 / (r * s)])
        times = 0.4 - np.cumsum([0.0, h, *before])
        ratio = ratios(jnp.asarray(h), before, 5)
        u = (times - 0.15) ** degree
        k = h * degree * (times - 0.15) ** max(degree - 1, 0)
        defect = k[0] - sum(b * v for b, v in zip(ratio.bdf2(), u, strict=False))
        k = jnp.asarray(k)[:, None]
        assert jnp.allclose(ratio.third_order(k)[0], defect, rtol=1e-10, atol=1e-12)
        assert jnp.allclose(ratio.second_order(k)[0], defect) == (degree < 4)


def test_order_conditions_of_the_start():
    A = LOWER + GAMMA * np.eye(5)
    c = A.sum(1)
    assert c.min() >= 0 and c.max() < 1 + 1e-14
    third = lambda b: [b.sum(), b @ c, b @ c**2, b @ A @ c]
    fourth = lambda b: [b @ c**3, (b * c) @ A @ c, b @ A @ c**2, b @ A @ A @ c]
    for weights in (WEIGHTS, EMBEDDED):
        np.testing.assert_allclose(third(weights), [1, 1 / 2, 1 / 3, 1 / 6])
    conditions = np.array([1 / 4, 1 / 8, 1 / 12, 1 / 24])
    np.testing.assert_allclose(fourth(WEIGHTS), conditions)
    assert np.abs(fourth(EMBEDDED) - conditions).max() > 1e-3


def meshes(n: int) -> dict[str, np.ndarray]:
    random = [np.random.default_rng(seed).random(n) for seed in range(16)]
    steps = {"uniform": np.ones(n), "alternating": np.tile([1.0, 4.0], n // 2)}
    steps |= {f"random {k}": h for k, h in enumerate(random)}
    grids = {name: np.r_[0, np.cumsum(h)] / np.sum(h) for name, h in steps.items()}
    return {k: END * t for k, t in grids.items()} | {
        "graded": END * (np.arange(n + 1) / n) ** 2
    }


@pytest.mark.parametrize(
    "order, least", [pytest.param(3, 2.9, marks=pytest.mark.slow), (4, 3.8)]
)
def test_orders(order, least):
    """The largest error over all steps; of sixteen random meshes the geometric mean."""

    @jax.jit
    @jax.vmap
    def largest_error(ts):
        saveat = dfx.SaveAt(steps=True)
        y0 = exact(ts[0])[None]
        solver = VariableBDF2DC(order, *TIGHT)
        n = ts.size - 1
        ys = on_grid(CUBIC, solver, ts, y0, saveat=saveat, max_steps=n).ys
        return jnp.max(jnp.abs(ys[:, 0] - exact(ts[1:])))

    errors = []
    for n in (80, 160, 320):
        grids = meshes(n)
        values = largest_error(jnp.asarray(np.stack(list(grids.values()))))
        errors.append(dict(zip(grids, np.log2(values), strict=True)))
    rates = {k: (errors[0][k] - errors[-1][k]) / 2 for k in errors[0]}
    random = np.mean([v for k, v in rates.items() if k.startswith("random")])
    smooth = {k: v for k, v in rates.items() if not k.startswith("random")}
    assert min(smooth.values()) >= least and random >= least, (smooth, random)


def test_a_step_of_any_length_may_come_next():
    """One of 10⁻¹⁰ between long ones, and one of 10⁻³ of those before it."""
    ts = np.linspace(0, END, 161)
    tiny = np.insert(ts, 80, ts[80] - 1e-10)
    short = np.insert(ts, 81, ts[80] + 1e-3 * (ts[81] - ts[80]))
    y0 = exact(0.0)[None]
    for grid in (tiny, short):
        for tolerance in map(jnp.asarray, (1e-12, 1e-8)):
            y = on_grid(CUBIC, VariableBDF2DC(4, tolerance, tolerance), grid, y0).ys[
                0, 0
            ]
            assert abs(float(y - exact(END))) < 1e-8


@pytest.mark.parametrize("order", [3, 4])
def test_the_estimate_is_that_of_one_step(order):
    """It is of order h^p, and no larger for the steps that were made before."""

    def estimate(h, num_steps):
        solver = VariableBDF2DC(order, *TIGHT)
        step = jax.jit(lambda *a: solver.step(CUBIC, *a, False))
        t, y = jnp.asarray(0.0), exact(0.0)[None]
        state, error = solver.init(CUBIC, 0.0, h, y, None), y
        for _ in range(num_steps):
            y, error, _, state, _ = step(t, t + h, y, None, state)
            t = t + h
        return abs(float(error[0]))

    # At the same time t = 0.8, and from starts at 0 and at 0.64.
    coarse, fine = estimate(0.04, 20), estimate(0.02, 40)
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.35)


# --- stiff problems -------------------------------------------------------------------

# Accepted steps at rtol = 1e-8 and 1e-10 when this was written, in thousands.
STEPS = {
    "hires": (1.31, 2.04),
    "orego": (8.2, 25.1),
    "rober": (4.7, 12.9),
    "vdpol": (7.2, 21.6),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", list(IVPS))
def test_end_points_of_the_test_set(name, data_folder):
    """Five digits at rtol = 1e-8, six at 1e-10, of the worst component."""
    reference = json.loads((data_folder / "ivp/reference_endpoints.json").read_text())
    reference = reference[name]
    f, y0, atol = IVPS[name]

    @jax.jit
    def end(rtol):
        pid = dfx.PIDController(rtol=rtol, atol=atol, pcoeff=0.3, icoeff=0.3)
        y = jnp.asarray(y0, jnp.float64)
        t1 = float(reference["t1"])
        solver = VariableBDF2DC()
        return solve(dfx.ODETerm(f), solver, y, None, pid, t1=t1, max_steps=100_000)

    for rtol, digits, thousands in zip((1e-8, 1e-10), (5, 6), STEPS[name], strict=True):
        solution = end(rtol)
        u = np.asarray(reference["y_end"])
        error = np.max(np.abs(np.asarray(solution.ys[0]) - u) / np.abs(u))
        assert -np.log10(error) >= digits
        steps = int(solution.stats["num_accepted_steps"])
        assert steps == pytest.approx(1000 * thousands, rel=0.15)
        assert int(solution.stats["num_rejected_steps"]) < 0.15 * steps
        # On each of three levels one evaluation of f, to see that it is solved.
        assert int(solution.solver_state.num_newton_steps) < 3.2 * steps


def test_levels_that_part_begin_anew():
    """Van der Pol's oscillator at a loose tolerance: the lowest level jumps earlier.

    Without a new start the steps become 10⁻¹⁰ there, and millions.
    """
    pid = dfx.PIDController(rtol=1e-6, atol=1e-10, pcoeff=0.3, icoeff=0.3)
    solver = VariableBDF2DC()
    term = dfx.ODETerm(vdpol)
    solution = solve(term, solver, START, None, pid, t1=1.0, max_steps=2048)
    assert solution.result == dfx.RESULTS.successful


# --- derivatives ----------------------------------------------------------------------

PARAMETERS = (jnp.asarray(5.0), jnp.array([1.5, 0.2]))
DIRECTION = (jnp.asarray(0.7), jnp.array([0.3, -0.5]))


def along(function, derivative_step=1e-4):
    """The central difference along the direction."""
    moved = lambda e: jax.tree.map(lambda p, d: p + e * d, PARAMETERS, DIRECTION)
    difference = function(moved(derivative_step)) - function(moved(-derivative_step))
    return float(difference) / (2 * derivative_step)


@pytest.mark.parametrize(
    "order, adjoint",
    [
        pytest.param(4, dfx.RecursiveCheckpointAdjoint(), marks=pytest.mark.slow),
        pytest.param(4, dfx.DirectAdjoint(), marks=pytest.mark.slow),
        (3, dfx.ForwardMode()),
    ],
    ids=["checkpoints", "direct", "forward"],
)
def test_gradient_is_that_of_the_steps(order, adjoint):
    solver = VariableBDF2DC(order, *TIGHT)
    saveat = dfx.SaveAt(ts=jnp.array([0.31, float(GRID[-1])]))

    def function(parameters):
        mu, y0 = parameters
        solution = on_grid(
            VAN_DER_POL,
            solver,
            GRID,
            y0,
            mu,
            saveat=saveat,
            adjoint=adjoint,
            max_steps=32,
        )
        return jnp.sum(solution.ys**2)

    if isinstance(adjoint, dfx.ForwardMode):
        got = float(jax.jvp(function, (PARAMETERS,), (DIRECTION,))[1])
    else:
        gradient = jax.grad(function)(PARAMETERS)
        products = jax.tree.map(lambda g, d: jnp.sum(g * d), gradient, DIRECTION)
        got = float(sum(jax.tree.leaves(products)))
    assert got == pytest.approx(along(function), rel=1e-6)


@pytest.mark.slow
def test_gradient_where_steps_fail():
    """The field is NaN where a long step goes: those are rejected, and leave no NaN."""
    root = dfx.ODETerm(lambda t, y, a: -a * jnp.sqrt(y))
    controller = dfx.PIDController(1e-5, 1e-7, pcoeff=0.3, icoeff=0.3)
    y0 = jnp.array([1.0])

    def end(a):
        solution = solve(
            root, VariableBDF2DC(), y0, a, controller, 0.0, 1.5, 1.4, max_steps=128
        )
        return solution.ys[0, 0], solution.stats["num_rejected_steps"]

    gradient, num_rejected_steps = jax.grad(end, has_aux=True)(jnp.asarray(1.0))
    assert int(num_rejected_steps) > 0
    # y = (1 − a t/2)².
    assert float(gradient) == pytest.approx(-2 * (1 - 0.75) * 0.75, rel=1e-3)


@pytest.mark.slow
def test_gradient_of_recorded_errors():
    """The error estimates of the steps are differentiated as well."""

    def recorded(parameters):
        mu, y0 = parameters
        solver = RecordHeuristics(VariableBDF2DC(4, *TIGHT), 1e-4, 1e-4)
        solution = on_grid(VAN_DER_POL, solver, GRID, y0, mu, max_steps=32)
        return heuristics_of(solution).error_estimate

    gradient = jax.grad(recorded)(PARAMETERS)
    products = jax.tree.map(lambda g, d: jnp.sum(g * d), gradient, DIRECTION)
    got = float(sum(jax.tree.leaves(products)))
    assert got == pytest.approx(along(recorded), rel=1e-5)
