"""The heat equation: modes, finite differences, a sine transform, its first states."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.fft
import scipy.linalg

import problems
from problems.cli._train_task import TrainingTask
from sciml.grids import Dirichlet, Grid, Neumann, Periodic, laplacian

BOUNDARIES = {
    "dirichlet": Dirichlet(),
    "stored": Dirichlet(stored=True),
    "neumann": Neumann(),
    "low": [(Dirichlet(), Neumann())],
    "high": [(Neumann(), Dirichlet(stored=True))],
    "periodic": Periodic(),
}


def differences(problem):
    """−Δ_h on the nodes, dense, from the grid's own Laplacian."""
    grid = problem.grid
    units = jnp.eye(grid.size).reshape(grid.size, *grid.shape)
    rows = jax.vmap(lambda u: laplacian(u, grid))(units)
    return -np.asarray(rows).reshape(grid.size, grid.size).T


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", BOUNDARIES)
def test_heat_against_finite_differences(name, getkey):
    """exp(t κ Δ_h) tends to it with the order of Δ_h, for a random u(0)."""
    errors, key = [], getkey()
    for intervals in (24, 48, 96):
        bare = Grid(4, boundary=BOUNDARIES[name])
        ends = 4 - round(1 / bare.spacing[0])  # nodes less intervals
        problem = problems.Heat(
            intervals + ends, 0.02, boundary=BOUNDARIES[name], final_time=0.4
        )
        u0 = problem.initial(key=key)
        found = problem.solve(u0, num_saves=2)
        matrix = differences(problem)
        expected = [
            scipy.linalg.expm(-0.02 * t * matrix) @ np.asarray(u0)
            for t in problem.times(2)
        ]
        errors.append(np.abs(found - np.stack(expected)).max())
        assert np.abs(found[-1] - u0).max() > 0.1
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(orders - 2) < 0.15), orders


@pytest.mark.parametrize("name", BOUNDARIES)
def test_heat_modes(name):
    """What is found is the closed form to rounding; that solves the equation."""
    problem = problems.Heat(12, 0.07, extent=1.5, boundary=BOUNDARIES[name])
    terms = {"modes": (1, 3, 4), "amplitudes": jnp.asarray([1.0, -0.5, 0.25])}
    u = functools.partial(problem.exact_solution, **terms)
    found = problem.solve(u(0.0), num_saves=3)
    np.testing.assert_allclose(found, u(problem.times(3)), rtol=0, atol=1e-14)
    single = problem.solve(u(jnp.float32(0)), num_saves=3)
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, found, rtol=0, atol=2e-6)
    x, t = jnp.linspace(0, 1.5, 7), 0.3
    u_t = jax.vmap(lambda x: jax.grad(u)(t, x))(x)
    u_xx = jax.vmap(lambda x: jax.grad(jax.grad(u, 1), 1)(t, x))(x)
    rows = problem.residual(u(t, x), u_t, u_xx)
    np.testing.assert_allclose(rows, 0, atol=1e-13)
    assert jnp.abs(u_t).max() > 0.05
    # What holds at the sides.
    value = np.array([u(t, 0.0), u(t, 1.5)])
    slope = np.array([jax.grad(u, 1)(t, 0.0), jax.grad(u, 1)(t, 1.5)])
    kinds = [c.kind for c in problem.grid.boundary[0]]
    for side, kind in enumerate(kinds):
        known = {"dirichlet": value, "neumann": slope}.get(kind, value - value[::-1])
        np.testing.assert_allclose(known[side], 0, atol=1e-13)


def test_heat_in_more_dimensions():
    """Different conditions along three axes, against their modes."""
    boundary = [Dirichlet(), (Neumann(), Dirichlet(stored=True)), Periodic()]
    problem = problems.Heat((5, 6, 7), 0.04, (1.0, 1.25, 0.5), boundary)
    terms = {"modes": [(1, 2, 0), (3, 1, 1)], "amplitudes": jnp.asarray([1.0, 2.0])}
    u = functools.partial(problem.exact_solution, **terms)
    t = problem.times(3)
    found = problem.solve(u(0.0), num_saves=3)
    np.testing.assert_allclose(found, u(t), rtol=0, atol=1e-14)
    np.testing.assert_allclose(u(t, *problem.grid.mesh()), u(t), rtol=0, atol=0)
    # By hand, at one place.
    x, y, z = (mesh[1, 2, 3] for mesh in problem.grid.mesh())
    pi = np.pi
    squares = pi**2 + (1.5 * pi / 1.25) ** 2, 9 * pi**2 + (0.5 * pi / 1.25) ** 2
    expected = np.exp(-0.04 * squares[0] * t[1]) * np.sin(pi * x) * np.cos(1.2 * pi * y)
    wave = np.sin(3 * pi * x) * np.cos(0.4 * pi * y) * np.cos(4 * pi * z)
    expected += 2 * np.exp(-0.04 * (squares[1] + 16 * pi**2) * t[1]) * wave
    np.testing.assert_allclose(found[1, 1, 2, 3], expected, rtol=1e-12)


def test_heat_is_a_sine_transform():
    """Another code's, of a rough u(0) in two axes; the order for u(0) with a kink."""
    problem = problems.Heat((15, 10), 0.03, (1.0, 0.7))
    rough = np.asarray(jr.normal(jr.key(0), (15, 10)))
    squares = [
        (np.pi * np.arange(1, n + 1) / length) ** 2
        for n, length in zip((15, 10), (1.0, 0.7), strict=True)
    ]
    decay = np.exp(-0.03 * np.add.outer(*squares))
    expected = np.asarray(scipy.fft.idstn(decay * scipy.fft.dstn(rough, 1), 1))
    found = problem.solve(jnp.asarray(rough))[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)

    # x (1 − x): its odd continuation has a jump in the second derivative.
    errors = []
    for n in (7, 15, 31):
        x = Grid(n).coordinates(0)
        found = problems.Heat(n, 0.05).solve(jnp.asarray(x * (1 - x)))[0]
        m = np.arange(1, 200, 2)
        parts = 8 / (np.pi * m) ** 3 * np.exp(-0.05 * (np.pi * m) ** 2)
        errors.append(np.abs(found - np.sin(np.pi * np.outer(x, m)) @ parts).max())
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all((orders > 3) & (orders < 4.3)), orders


def test_heat_is_spectral_for_its_initial_states(getkey):
    """The same u(0) on finer grids; errors fall faster than any power."""
    key, ends = getkey(), []
    for n in (11, 23, 47, 95):
        problem = problems.Heat(n, 1e-3)
        ends.append(problem.solve(problem.initial(key=key))[0])
    errors = [
        np.abs(u - ends[-1][8 // 2**k - 1 :: 8 // 2**k]).max()
        for k, u in enumerate(ends[:-1])
    ]
    assert errors[0] > 1e-4
    assert errors[1] < errors[0] / 100 and errors[2] < 1e-12


@pytest.mark.parametrize("name", BOUNDARIES)
def test_heat_initial_states(name):
    """Of variance 1 inside, and with the conditions' symmetry at the sides."""
    problem = problems.Heat(33, boundary=BOUNDARIES[name])
    keys = jr.split(jr.key(5), 2000)
    states = np.asarray(jax.jit(jax.vmap(lambda k: problem.initial(key=k)))(keys))
    x = problem.grid.coordinates(0)
    inside = np.abs(x - 0.5) < 0.2
    np.testing.assert_allclose(states[:, inside].var(0), 1.0, atol=0.15)
    # Images are of sign ± at distance 2d: variance 1 ± exp(−(2d)² / (2 ℓ²)), ℓ = 0.1.
    for side, condition in enumerate(problem.grid.boundary[0]):
        image = np.exp(-((2 * np.abs(x - side)) ** 2) / 0.02)
        sign = {"dirichlet": -1, "neumann": 1}.get(condition.kind, 0)
        near = np.abs(x - side) < 0.2
        expected = 1 + sign * image[near]
        np.testing.assert_allclose(states[:, near].var(0), expected, atol=0.2)
    # What stands at stored sides is not read.
    u0 = jnp.asarray(states[0])
    if name == "stored":
        other = u0.at[0].set(3.0).at[-1].set(jnp.nan)
        np.testing.assert_array_equal(problem.solve(other), problem.solve(u0))
        np.testing.assert_array_equal(states[:, [0, -1]], 0.0)
    if name in ("neumann", "periodic"):
        weights = problem.grid.cell_weights()
        before, after = (np.sum(weights * u) for u in (u0, problem.solve(u0)[0]))
        np.testing.assert_allclose(after, before, rtol=1e-11)


@pytest.mark.parametrize("name", ["mgno", "fno"])
def test_models_of_the_command_line(name):
    task = TrainingTask("heat", None, None)
    model = task.model(name, width=4, depth=2, seed=0)
    state = task.problem.initial(key=jr.key(0)).astype(jnp.float32)
    assert eqx.filter_eval_shape(model, state[None]).shape == (1, 127)
