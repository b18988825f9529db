"""Unrolled Runge-Kutta steps are those of Diffrax, whatever is done with them."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from sciml.neural_odes import (
    ErrorEstimate,
    EvaluationCounter,
    Local,
    RecordHeuristics,
    Stiffness,
    UnrolledRungeKutta,
    heuristics_of,
    regularised_diffeqsolve,
)

SOLVERS = {
    "Tsit5": dfx.Tsit5(),
    "Dopri8": dfx.Dopri8(),
    "Bosh3": dfx.Bosh3(),
    "Heun": dfx.Heun(),
}
CONTROLLER = dfx.PIDController(rtol=1e-5, atol=1e-5)


class Field(eqx.Module):
    """A little network on a pytree, which also sees the time."""

    network: eqx.nn.MLP

    def __init__(self):
        self.network = eqx.nn.MLP(4, 3, 8, 1, activation=jnp.tanh, key=jr.key(0))

    def __call__(self, t, y, args):
        a, b = y
        time = jnp.reshape(jnp.asarray(t, a.dtype), (1,))
        out = self.network(jnp.concatenate([a, b[None], time]))
        return 3 * out[:2] - args * a, out[2]


Y0 = (jnp.array([1.0, -2.0]), jnp.array(0.5))


def solve(solver, field, y0=Y0, t1=2.0, **options: Any) -> Any:
    settings: dict[str, Any] = {"stepsize_controller": CONTROLLER} | options
    term = dfx.ODETerm(field)
    # (The first step is too long, so that some are rejected.)
    return dfx.diffeqsolve(term, solver, 0.0, t1, 0.75 * t1, y0, 2.0, **settings)


def close(a, b, rtol=1e-10):
    parts = zip(*map(jax.tree.leaves, (a, b)), strict=True)
    return all(np.allclose(x, y, rtol=rtol, atol=rtol) for x, y in parts)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", SOLVERS)
def test_same_steps(name):
    own, other = UnrolledRungeKutta(SOLVERS[name]), SOLVERS[name]
    saveat = dfx.SaveAt(t0=True, steps=True)
    for t1 in (2.0, -1.0) if name == "Tsit5" else (2.0,):
        a, b = (solve(s, Field(), t1=t1, saveat=saveat) for s in (own, other))
        assert a.stats["num_steps"] == b.stats["num_steps"]
        assert a.stats["num_rejected_steps"] == b.stats["num_rejected_steps"]
        assert close(a.ys, b.ys) and close(a.ts, b.ts)


def test_dense_output_in_float32():
    single = lambda x: x.astype(jnp.float32) if eqx.is_array(x) else x
    # (Times of float64 would make it float64.)
    y0, field, end = jax.tree.map(single, (Y0, Field(), jnp.array(2.0)))
    a, b = (
        solve(s, field, y0, end, saveat=dfx.SaveAt(dense=True, t1=True))
        for s in (UnrolledRungeKutta(dfx.Tsit5()), dfx.Tsit5())
    )
    ts = jnp.linspace(0.1, 1.9, 5, dtype=jnp.float32)
    assert close(jax.vmap(a.evaluate)(ts), jax.vmap(b.evaluate)(ts), 1e-4)
    assert {leaf.dtype for leaf in jax.tree.leaves(a.ys)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    "adjoint",
    [
        dfx.RecursiveCheckpointAdjoint(),
        pytest.param(dfx.DirectAdjoint(), marks=pytest.mark.slow),
        pytest.param(dfx.BacksolveAdjoint(), marks=pytest.mark.slow),
    ],
    ids=lambda adjoint: type(adjoint).__name__,
)
def test_same_gradients(adjoint):
    def loss(field, solver):
        sol = solve(solver, field, adjoint=adjoint, max_steps=64)
        return jnp.sum(sol.ys[0] ** 2) + jnp.sum(sol.ys[1])

    a, b = (
        eqx.filter_grad(loss)(Field(), solver)
        for solver in (UnrolledRungeKutta(dfx.Tsit5()), dfx.Tsit5())
    )
    # (The backward solve's own steps differ by rounding, and so does what is near a
    # rejection.)
    assert close(a, b, 1e-6 if isinstance(adjoint, dfx.BacksolveAdjoint) else 1e-9)


def test_forward_mode_equals_reverse():
    def loss(scale, adjoint):
        field = lambda t, y, args: (jnp.sin(scale * y[0]) - args * y[0], y[1] * scale)
        sol = solve(UnrolledRungeKutta(dfx.Tsit5()), field, adjoint=adjoint)
        return jnp.sum(sol.ys[0]) + jnp.sum(sol.ys[1])

    forward = jax.jacfwd(lambda s: loss(s, dfx.ForwardMode()))(0.7)
    reverse = jax.grad(lambda s: loss(s, dfx.RecursiveCheckpointAdjoint()))(0.7)
    assert np.allclose(forward, reverse, rtol=1e-10)


def test_each_sample_of_a_batch_and_after_a_jump():
    kick = dfx.ClipStepSizeController(CONTROLLER, jump_ts=jnp.array([0.7]))
    field = lambda t, y, args: (jnp.where(t < 0.7, 1.0, -3.0) * y[0], -(y[1] ** 2))

    def end(solver, scale):
        y0 = jax.tree.map(lambda x: scale * x, Y0)
        return solve(solver, field, y0, stepsize_controller=kick).ys

    scales = jnp.array([0.5, 1.0, 3.0])
    own, other = (
        jax.vmap(lambda scale, s=s: end(s, scale))(scales)
        for s in (UnrolledRungeKutta(dfx.Tsit5()), dfx.Tsit5())
    )
    assert close(own, other)
    exact = np.exp(0.7 - 3 * 1.3) * np.asarray(Y0[0])
    assert np.allclose(own[0][1, 0], exact, rtol=1e-4)


@pytest.mark.slow
def test_heuristics_and_penalties():
    def both(solver) -> Any:
        recorded = heuristics_of(
            solve(
                RecordHeuristics(solver),
                Field(),
                saveat=dfx.SaveAt(t1=True, solver_state=True),
            )
        )
        penalties = regularised_diffeqsolve(
            dfx.ODETerm(Field()),
            solver,
            0.0,
            2.0,
            None,
            Y0,
            2.0,
            penalty=(ErrorEstimate(), Stiffness(), Local()),
            stepsize_controller=CONTROLLER,
            key=jr.key(3),
        )[1]
        return recorded, penalties

    own, other = both(UnrolledRungeKutta(dfx.Tsit5())), both(dfx.Tsit5())
    assert close(own, other, 1e-7)
    assert own[0].num_steps < own[0].nfe // 6


def test_evaluations():
    counter = EvaluationCounter()
    sol = solve(
        RecordHeuristics(UnrolledRungeKutta(dfx.Tsit5())),
        counter.counted(Field()),
        saveat=dfx.SaveAt(t1=True, solver_state=True),
    )
    # (Diffrax evaluates a first step that is rejected anew.)
    assert counter.read() == heuristics_of(sol).nfe == 6 * sol.stats["num_steps"] + 1


@pytest.mark.parametrize(
    "solver", [dfx.Kvaerno3(), dfx.Euler(), dfx.SPaRK(), dfx.KenCarp3()], ids=str
)
def test_others_are_refused(solver):
    with pytest.raises(ValueError, match="expected an explicit Runge-Kutta method"):
        UnrolledRungeKutta(solver)
