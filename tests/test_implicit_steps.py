"""Implicit time steps: against eigenmodes, conserved means, predictions finished."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import problems
import sciml
from sciml.grids import Dirichlet, Neumann, Periodic
from sciml.preconditioners import Jacobi

TOLERANCE = {jnp.float32: 1e-5, jnp.float64: 1e-11}


def solve(step, state, rtol):
    A, b = step.linear_system(state)
    solver = sciml.CG(rtol=rtol, max_steps=400)
    return eqx.filter_jit(sciml.linear_solve)(A, b, solver).value


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_heat_of_an_eigenmode(dtype):
    n, time_step = 15, 0.02
    step = problems.HeatStep((n, n), time_step, conductivity=0.5)
    x = np.arange(1, n + 1) / (n + 1)
    mode = jnp.asarray(np.outer(np.sin(np.pi * x), np.sin(2 * np.pi * x)), dtype)
    half = np.pi / (2 * (n + 1))
    eigenvalue = 4 * (n + 1) ** 2 * (np.sin(half) ** 2 + np.sin(2 * half) ** 2)
    u = solve(step, mode, TOLERANCE[dtype])
    assert u.dtype == dtype
    expected = np.asarray(mode) / (1 + time_step * 0.5 * eigenvalue)
    np.testing.assert_allclose(u, expected, atol=10 * TOLERANCE[dtype])


def test_heat_is_of_first_order():
    """On a grid so fine that only the time step shows, up to t = 0.04."""
    n = 63
    x = np.arange(1, n + 1) / (n + 1)
    mode = jnp.asarray(np.sin(np.pi * x))
    exact = np.exp(-(np.pi**2) * 0.04) * mode
    errors = []
    for num_steps in (4, 8):
        step, u = problems.HeatStep(n, 0.04 / num_steps), mode
        for _ in range(num_steps):
            u = solve(step, u, 1e-12)
        errors.append(jnp.linalg.norm(u - exact) / jnp.linalg.norm(exact))
    assert 0.9 < np.log2(errors[0] / errors[1]) < 1.1


@pytest.mark.parametrize("boundary", [Neumann(), Periodic()])
def test_heat_is_conserved(boundary, getkey):
    conductivity = jnp.exp(jr.normal(getkey(), (8, 10)))
    step = problems.HeatStep((8, 10), 0.3, conductivity, boundary=boundary)
    state = step.sample_coefficient(key=getkey())
    u = solve(step, state, 1e-13)
    weights = step.grid.cell_weights()
    np.testing.assert_allclose(np.sum(weights * u), np.sum(weights * state), atol=1e-10)
    assert jnp.ptp(u) < jnp.ptp(state)


def test_heat_with_data_on_the_sides(getkey):
    """A long step ends at the steady state, which a source and the sides decide."""
    sides = [(Dirichlet(1.0, stored=True), Dirichlet(3.0))]
    step = problems.HeatStep(9, 1e6, source=2.0, boundary=sides)
    state = step.sample_coefficient(key=getkey())
    assert state[0] == 1
    x = step.grid.coordinates(0)
    steady = 1 + 2 * x + x * (1 - x)
    np.testing.assert_allclose(solve(step, state, 1e-13), steady, atol=1e-5)


def test_pressure_of_a_wave(getkey):
    step = problems.PressureStep((16, 12), extent=(2.0, 1.0))
    x, y = step.grid.mesh()
    p = np.cos(np.pi * x) * np.sin(4 * np.pi * y)
    hx, hy = step.grid.spacing
    eigenvalue = 4 * (np.sin(np.pi * hx / 2) / hx) ** 2
    eigenvalue += 4 * (np.sin(4 * np.pi * hy / 2) / hy) ** 2
    # A mean of d has no pressure: what is left of it is solved.
    found = solve(step, jnp.asarray(-eigenvalue * p + 0.7), 1e-12)
    np.testing.assert_allclose(found - found.mean(), p, atol=1e-9)
    assert step.sample_coefficient(key=getkey()).shape == (16, 12)


class Before(eqx.Module):
    """The state before, which costs nothing."""

    def __call__(self, x):
        return x


class Shrunk(eqx.Module):
    """A better guess."""

    factor: float

    def __call__(self, x):
        return self.factor * x


@pytest.mark.parametrize("make", [problems.HeatStep, problems.PressureStep])
def test_predictions_of_steps_are_finished(make, getkey):
    step = make((16, 16))
    state = step.sample_coefficient(key=getkey())
    out = sciml.predict(Before(), step, state, 1e-9, preconditioner=Jacobi())
    error = out.value - solve(step, state, 1e-12)
    if make is problems.PressureStep:  # known up to a constant, that of the guess
        np.testing.assert_allclose(jnp.mean(out.value), jnp.mean(state), atol=1e-9)
        error = error - jnp.mean(error)
    np.testing.assert_allclose(error, 0, atol=1e-6)
    A, b = step.linear_system(state)
    residual = np.linalg.norm(b - A.mv(out.value)) / np.linalg.norm(b)
    assert residual <= 1.01e-9


def test_a_march_where_every_step_is_certified(getkey):
    step = problems.HeatStep((15, 15), 0.05)
    u = true = step.sample_coefficient(key=getkey())
    for _ in range(3):
        out = sciml.predict(Shrunk(0.4), step, u, 1e-10, preconditioner=Jacobi())
        u, true = out.value, solve(step, true, 1e-13)
    np.testing.assert_allclose(u, true, atol=1e-9)


def test_refusals():
    with pytest.raises(ValueError, match="time_step"):
        problems.HeatStep((5, 5), 0.0)
    step = problems.HeatStep((5, 5))
    state = np.zeros((5, 5))
    state[1, 2] = np.inf
    with pytest.raises(ValueError, match=r"coefficient: the state .* index \(1, 2\)"):
        sciml.predict(Before(), step, state)


@pytest.mark.parametrize("make", [problems.HeatStep, problems.PressureStep])
def test_samples_to_train_on(make, getkey):
    step = make((8, 8))
    data = step.dataset(3, key=getkey(), rtol=1e-10)
    assert data.inputs.shape == data.targets.shape == (3, 1, 8, 8)
    for x, u in zip(data.inputs[:, 0], data.targets[:, 0], strict=True):
        A, b = step.assemble(jnp.asarray(x))
        residual = jnp.linalg.norm(b - A.mv(jnp.asarray(u)))
        assert residual <= 1.001e-10 * jnp.linalg.norm(b)
    # A better guess than zero costs fewer steps and gives the same.
    x, u = jnp.asarray(data.inputs[0, 0]), jnp.asarray(data.targets[0, 0])
    ours, zero = (step.solve(x, x0=x0) for x0 in (1.001 * u, None))
    assert ours.stats["num_steps"] < zero.stats["num_steps"]
