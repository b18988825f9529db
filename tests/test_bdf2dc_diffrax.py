"""What diffrax asks of a solver, of `VariableBDF2DC`."""

# Wrong arguments are the point here.
# pyright: reportArgumentType=false, reportOptionalSubscript=false
# pyright: reportOptionalMemberAccess=false, reportCallIssue=false
# pyright: reportOptionalOperand=false

import math

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from bdf2dc_cases import (
    CUBIC,
    END,
    GRID,
    PID,
    START,
    TIGHT,
    VAN_DER_POL,
    exact,
    on_grid,
    solve,
    van_der_pol,
)

from sciml.neural_odes import VariableBDF2DC


@pytest.mark.slow
def test_batch_is_the_loop():
    """Samples of different stiffness, of which some begin anew while others do not.

    Those that are done wait, in steps of no length, which must leave no NaN behind.
    """
    solver = VariableBDF2DC()

    def end(mu):
        solution = solve(VAN_DER_POL, solver, START, mu)
        return jnp.sum(solution.ys), solution

    run = jax.value_and_grad(end, has_aux=True)
    mus = jnp.array([1.0, 30.0, 200.0])
    (_, batch), gradients = jax.vmap(run)(mus)
    for k, mu in enumerate(mus):
        (_, one), gradient = run(mu)
        np.testing.assert_allclose(batch.ys[k], one.ys, rtol=1e-9)
        np.testing.assert_allclose(gradients[k], gradient, rtol=1e-6)
        for name in ("num_accepted_steps", "num_rejected_steps"):
            assert batch.stats[name][k] == one.stats[name]
        assert batch.solver_state.num_newton_steps[k] == (
            one.solver_state.num_newton_steps
        )


@pytest.mark.parametrize("order", [3, 4])
def test_single_precision_stays(order):
    pid = dfx.PIDController(rtol=1e-4, atol=1e-6)
    single = jnp.float32
    solver = VariableBDF2DC(order)
    args = single(0.0), single(0.7)
    low = solve(VAN_DER_POL, solver, START.astype(single), single(30), pid, *args)
    assert low.ys.dtype == single and low.result == dfx.RESULTS.successful
    high = solve(VAN_DER_POL, solver, START, 30.0, pid, t1=0.7)
    np.testing.assert_allclose(low.ys, high.ys, rtol=1e-3)
    numbers = [x for x in jax.tree.leaves(low.solver_state) if eqx.is_inexact_array(x)]
    assert {x.dtype for x in numbers} == {np.dtype(np.float32)}


def test_states_of_any_shape():
    def field(t, y, mu):
        du = van_der_pol(t, jnp.stack([y["u"][0, 0], y["v"][0]]), mu)
        return {"u": du[:1][None], "v": (du[1],)}

    y0 = {"u": START[:1][None], "v": (START[1],)}
    tree = solve(dfx.ODETerm(field), VariableBDF2DC(), y0, 30.0).ys
    flat = solve(VAN_DER_POL, VariableBDF2DC(), START, 30.0).ys
    assert tree["u"].shape == (1, 1, 1) and tree["v"][0].shape == (1,)
    got = jnp.stack([tree["u"][:, 0, 0], tree["v"][0]], axis=1)
    np.testing.assert_allclose(got, flat, rtol=1e-12)


@pytest.mark.slow
def test_dense_output_is_of_fourth_order():
    def largest_error(n):
        ts = np.linspace(0, END, n + 1)
        times = jnp.linspace(0, END, 7 * n)
        saveat = dfx.SaveAt(ts=times)
        y0 = exact(0.0)[None]
        ys = on_grid(CUBIC, VariableBDF2DC(4, *TIGHT), ts, y0, saveat=saveat).ys
        return float(jnp.max(jnp.abs(ys[:, 0] - exact(times))))

    coarse, fine = largest_error(40), largest_error(80)
    assert fine < 1e-6 and math.log2(coarse / fine) > 3.8


def test_backwards_in_time():
    saveat = dfx.SaveAt(ts=jnp.array([3.0, 1.5, 0.0]))
    grow = dfx.ODETerm(lambda t, y, a: y * jnp.cos(t))
    run = lambda t0, y0, **kw: solve(
        grow, VariableBDF2DC(), y0, None, PID, t0, 3.0 - t0, **kw
    )
    forth = run(0.0, jnp.array([1.0]))
    back = run(3.0, forth.ys[0], saveat=saveat)
    assert float(forth.ys[0, 0]) == pytest.approx(np.exp(np.sin(3.0)), rel=1e-5)
    expected = np.exp(np.sin([3.0, 1.5, 0.0]))
    np.testing.assert_allclose(back.ys[:, 0], expected, rtol=1e-5)


@pytest.mark.slow
def test_solves_in_a_chain():
    """Two solves that pass the state are the same as one."""
    solver = VariableBDF2DC(4, *TIGHT)
    whole = on_grid(VAN_DER_POL, solver, GRID, START, 5.0)
    first = on_grid(VAN_DER_POL, solver, GRID[:9], START, 5.0)
    state = first.solver_state
    second = on_grid(
        VAN_DER_POL, solver, GRID[8:], first.ys[0], 5.0, solver_state=state
    )
    np.testing.assert_allclose(second.ys, whole.ys, rtol=1e-13)


def test_jumps():
    """After one the earlier values of f say nothing; the order is as without."""
    jumping = dfx.ODETerm(lambda t, y, a: -y + jnp.where(t < 0.5, 0.0, 10.0))
    # At the end of [0, 0.5] f is taken from the left, as diffrax arranges it.
    controller = dfx.ClipStepSizeController(
        dfx.PIDController(1e-8, 1e-10, pcoeff=0.3, icoeff=0.3), jump_ts=jnp.array([0.5])
    )
    solution = solve(jumping, VariableBDF2DC(), jnp.array([1.0]), None, controller)
    expected = np.exp(-1) + 10 * (1 - np.exp(-0.5))
    assert float(solution.ys[0, 0]) == pytest.approx(expected, rel=1e-7)
    assert int(solution.stats["num_rejected_steps"]) < 5


@pytest.mark.slow
def test_steps_that_newton_cannot_solve():
    hopeless = VariableBDF2DC(4, *TIGHT, root_find_max_steps=1)
    fixed = on_grid(VAN_DER_POL, hopeless, GRID, START, 30.0, throw=False)
    assert fixed.result == dfx.RESULTS.nonlinear_divergence
    # A controller rejects them, and finds shorter ones.
    adaptive = solve(VAN_DER_POL, VariableBDF2DC(), START, 200.0, PID, dt0=0.9)
    assert int(adaptive.stats["num_rejected_steps"]) > 0
    other = solve(VAN_DER_POL, dfx.Kvaerno5(), START, 200.0, PID)
    np.testing.assert_allclose(adaptive.ys, other.ys, rtol=1e-4)


def test_other_linear_solvers():
    solutions = [
        solve(VAN_DER_POL, VariableBDF2DC(linear_solver=solver), START, 30.0).ys
        for solver in (None, lx.QR())
    ]
    np.testing.assert_allclose(solutions[1], solutions[0], rtol=1e-9)


def test_mistakes():
    for wrong in (2, 5):
        with pytest.raises(ValueError, match="order: expected 3 or 4"):
            VariableBDF2DC(wrong)
    with pytest.raises(ValueError, match="both or neither"):
        VariableBDF2DC(rtol=1e-3)
    with pytest.raises(ValueError, match="safety: expected a positive"):
        VariableBDF2DC(safety=0.0)
    with pytest.raises(ValueError, match="kappa: expected a positive"):
        VariableBDF2DC(kappa=-1.0)
    with pytest.raises(ValueError, match="root_find_max_steps: expected at least 1"):
        VariableBDF2DC(root_find_max_steps=0)
    with pytest.raises(ValueError, match="tolerances for the implicit solver"):
        on_grid(VAN_DER_POL, VariableBDF2DC(), GRID, START, 5.0)
    solver = VariableBDF2DC()
    state = solver.init(VAN_DER_POL, 0.0, 0.1, START, 5.0)
    with pytest.raises(ValueError, match="give `VariableBDF2DC"):
        solver.step(VAN_DER_POL, 0.0, 0.1, START, 5.0, state, False)
    with pytest.raises(TypeError, match="y0: .* real numbers"):
        solver.init(VAN_DER_POL, 0.0, 0.1, START.astype(jnp.complex128), 5.0)
    path = dfx.LinearInterpolation(jnp.array([0.0, 1.0]), jnp.array([0.0, 1.0]))
    controlled = dfx.MultiTerm(VAN_DER_POL, dfx.ControlTerm(van_der_pol, path))
    with pytest.raises(ValueError, match=r"terms: .*\.ControlTerm"):
        solver.init(controlled, 0.0, 0.1, START, 5.0)
