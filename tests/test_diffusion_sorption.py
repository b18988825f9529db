"""Diffusion with sorption: a series, SciPy's Radau, PDEBench's scheme, balances."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.sparse

import problems
from problems.cli._train_task import TrainingTask
from sciml.grids import LogNormalField, SquaredExponentialField

D, FACTOR, EXPONENT = 5e-4, (1 - 0.29) / 0.29 * 2880.0 * 3.5e-4, 0.874


def retardation(u, exponent=EXPONENT):
    return 1 + FACTOR * exponent * (u + 1e-6) ** (exponent - 1)


def constant(n, value):
    return jnp.full(n, value)


def radau(rate, u0, times):
    """SciPy's, for rates in which neighbours meet; errors of about 1e-9."""
    pattern = scipy.sparse.csr_array(np.tri(len(u0), k=1) - np.tri(len(u0), k=-2))
    done = scipy.integrate.solve_ivp(
        rate,
        (0, times[-1]),
        u0,
        method="Radau",
        t_eval=times,
        rtol=1e-8,
        atol=1e-10,
        jac_sparsity=pattern,
    )
    assert done.success
    return done.y.T


# --- other ways to the solution -------------------------------------------------------


def series(x, times, start, slowness, count=400):
    """The linear problem by its eigenfunctions sin μx, tan μ = −Dμ."""
    condition = lambda mu: np.sin(mu) + D * mu * np.cos(mu)
    # One in each interval ((j − 1/2)π, (j + 1/2)π), j = 1, 2, …
    roots = np.array(
        [
            scipy.optimize.brentq(condition, (j - 0.5) * np.pi, (j + 0.5) * np.pi)
            for j in range(1, count)
        ]
    )
    slope = -1 / (1 + D)
    steady = 1 + slope * x
    # ∫ (start − steady) sin μx and ∫ sin² μx over (0, 1).
    cosine, sine = np.cos(roots), np.sin(roots)
    whole = (start - 1) * (1 - cosine) / roots
    whole -= slope * (sine / roots**2 - cosine / roots)
    squares = 0.5 - np.sin(2 * roots) / (4 * roots)
    decay = np.exp(-np.outer(times, roots**2) * D / slowness)
    return steady + (decay * whole / squares) @ np.sin(np.outer(roots, x))


def test_the_linear_problem_is_the_series():
    """n = 1: both sides, the jump at the start, order 2 in space."""
    errors = []
    for n in (17, 33, 65, 129):
        problem = problems.DiffusionSorption(
            n, freundlich_exponent=1.0, relative_step=0.05, refine=1
        )
        saved = problem.solve(constant(n, 0.15), num_saves=5)
        x = problem.grid.coordinates(0)
        known = series(x, problem.times(5), 0.15, 1 + FACTOR)
        errors.append(np.abs(saved - known).max(1))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all((orders[1:] > 1.9) & (orders[1:] < 2.1))
    assert errors[-1].max() < 5e-5


def test_radau_finds_the_same():
    """The same volumes, but for u, and by SciPy: what is left is the error in time."""
    n, h = 33, 1 / 32
    start = np.linspace(0.2, 0.05, n)

    def rate(_, u):
        closed = np.concatenate([[1.0], u])
        flux = D * np.diff(closed) / h
        out = np.append(flux[1:], -u[-1]) - flux
        out[-1] *= 2
        return out / h / retardation(u)

    problem = problems.DiffusionSorption(n, relative_step=0.05, refine=1)
    saved = problem.solve(jnp.asarray(start), num_saves=10)
    known = radau(rate, start[1:], problem.times(10))
    np.testing.assert_allclose(saved[:, 1:], known, rtol=0, atol=2e-8)
    np.testing.assert_array_equal(saved[:, 0], 1.0)


def test_the_scheme_of_pdebench_converges_to_it():
    """Boundary values half a cell outside, hence order 1; at x = 1 it is −D u_x."""
    times, differences, ends = np.array([100.0, 300.0, 500.0]), [], []
    problem = problems.DiffusionSorption(513, final_time=500.0, refine=2)
    saved = problem.solve(constant(513, 0.1), num_saves=5)[jnp.array([0, 2, 4])]
    for cells in (64, 128, 256):
        h = 1 / cells

        def rate(_, u, h=h):
            outside = D * (u[-2] - u[-1]) / h
            closed = np.concatenate([[1.0], u, [outside]])
            return D * np.diff(closed, 2) / h**2 / retardation(u)

        found = radau(rate, np.full(cells, 0.1), times)
        places = (np.arange(cells) + 0.5) * h
        x = problem.grid.coordinates(0)
        ours = np.stack([np.interp(places, x, u) for u in saved])
        differences.append(np.abs(found - ours).max())
        outside = D * (found[:, -2] - found[:, -1]) / h
        ends.append(np.abs(outside / saved[:, -1] - 1).max())
    for found in (differences, ends):
        orders = np.log2(np.array(found[:-1]) / found[1:])
        assert np.all((orders > 0.8) & (orders < 1.1))
    # Relative to u(1, t) the outflow side's; with the other sign they would tend to 2.
    assert differences[-1] < 0.01 and ends[-1] < 0.01


# --- orders, conservation, the equation itself ----------------------------------------


def test_order_in_space():
    # A start that is smooth inside, so that refined solves start from nearly the same.
    start = lambda n: jnp.asarray(0.1 + 0.05 * np.cos(np.pi * np.linspace(0, 1, n)))
    solve = lambda n, refine: problems.DiffusionSorption(
        n, relative_step=0.1, refine=refine
    ).solve(start(n), num_saves=5)
    fine = solve(513, 1)
    errors, refined = [], []
    for n in (17, 33, 65):
        same = fine[:, :: 512 // (n - 1)]
        errors.append(np.abs(solve(n, 1) - same).max(1))
        refined.append(np.abs(solve(n, 4) - same).max(1))
    for found in (errors, refined):
        orders = np.log2(np.array(found[:-1]) / found[1:])
        assert np.all((orders[1:] > 1.85) & (orders[1:] < 2.25)), orders
    # Refined by 4 the solve is 16 times as good.
    assert np.all(np.array(refined[-1]) < np.array(errors[-1]) / 10)


def test_order_in_time():
    solve = lambda step: problems.DiffusionSorption(
        65, relative_step=step, refine=1
    ).solve(constant(65, 0.1), num_saves=50)
    known = solve(0.01)
    errors = [np.abs(solve(step) - known).max() for step in (0.4, 0.2, 0.1, 0.05)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all((orders > 3.7) & (orders < 4.3))
    assert errors[2] < 3e-7


def test_errors_of_the_defaults():
    """What the docstring says of them; u(0) = 0 is the worst case."""

    def solve(**arguments):
        problem = problems.DiffusionSorption(**arguments)
        return problem.solve(constant(128, 0.0), num_saves=50)

    found = solve()
    error = np.abs(found - solve(relative_step=0.025)).max(1)
    assert 0.5e-7 < error[0] < 1.5e-7
    error = np.abs(found - solve(refine=16)).max(1)
    known = np.array([4e-5, 7e-6, 7e-7])
    assert np.all((error[[0, 4, 49]] < known) & (error[[0, 4, 49]] > known / 2))


@pytest.mark.parametrize("value", [0.0, 0.1, 0.2])
def test_what_enters_stays_or_leaves(value):
    """∂/∂t ∫w = inflow − u(1, t), integrated by Simpson's rule; 0 ≤ u ≤ 1."""
    n = 65
    problem = problems.DiffusionSorption(n, refine=1)
    saved = problem.solve(constant(n, value), num_saves=250)[49:]
    h, interval = problem.grid.spacing[0], 2.0
    content = problem.content(saved)
    mass = h * (content[:, 1:-1].sum(1) + content[:, -1] / 2)
    rate = D * (saved[:, 0] - saved[:, 1]) / h - saved[:, -1]
    gained = interval / 3 * (rate[:-2:2] + 4 * rate[1:-1:2] + rate[2::2])
    np.testing.assert_allclose(jnp.diff(mass[::2]), gained, rtol=0, atol=1e-8)
    assert mass[-1] - mass[0] > 0.1
    assert saved.min() > -1e-15 and saved.max() <= 1.0
    # They rise towards the inflow side, and fall to about D u_x on the other.
    assert jnp.all(jnp.diff(saved[-1]) < 0) and 0 < saved[-1, -1] < 2e-3


def test_the_equation_holds():
    """By differences of the solution, towards 0 with their order; not as u = D u_x."""
    worst, sides = [], []
    for n, saves in ((33, 50), (65, 100), (129, 200)):
        problem = problems.DiffusionSorption(n, refine=4)
        u = problem.solve(constant(n, 0.2), num_saves=saves)[saves // 2 :]
        h, interval = problem.grid.spacing[0], 500.0 / saves
        u_t = (u[2:, 1:-1] - u[:-2, 1:-1]) / (2 * interval)
        u_xx = (u[1:-1, 2:] - 2 * u[1:-1, 1:-1] + u[1:-1, :-2]) / h**2
        rows = problem.residual(u[1:-1, 1:-1], u_t, u_xx)
        worst.append(float(jnp.abs(rows).max() / jnp.abs(u_t).max()))
        u_x = (3 * u[:, -1] - 4 * u[:, -2] + u[:, -3]) / (2 * h)
        sides.append(float(jnp.abs(problem.outflow_residual(u[:, -1], u_x)).max()))
        other = jnp.abs(u[:, -1] - D * u_x).max()
        np.testing.assert_array_equal(problem.inflow_residual(u[:, 0]), 0.0)
    for found in (worst, sides):
        assert np.all(np.log2(np.array(found[:-1]) / found[1:]) > 1.7)
    assert worst[-1] < 3e-4 and sides[-1] < 2e-7 and other > 5e-4


# --- the pieces of the equation -------------------------------------------------------


def test_pieces_are_safe(dtype):
    problem = problems.DiffusionSorption(8)
    u = jnp.asarray([-1.0, -1e-7, 0.0, 1e-9, 1e-3, 0.2, 1.0], dtype)
    R = problem.retardation(u)
    assert R.dtype == dtype
    rtol = 1e-12 if dtype == jnp.float64 else 1e-5
    np.testing.assert_allclose(R[2:], retardation(np.asarray(u[2:], float)), rtol=rtol)
    np.testing.assert_array_equal(R[:2], R[2])
    # w' = R, also where u is 0 and below.
    slope = jax.vmap(jax.grad(problem.content))(u)
    np.testing.assert_allclose(slope, R, rtol=rtol)
    np.testing.assert_allclose(problem.content(u[2]), 0.0, atol=1e-12)
    total = lambda u: jnp.sum(problem.residual(u, 0.3 * u, jnp.ones_like(u)) ** 2)
    slope = jax.jit(jax.grad(total))(u)
    assert slope.dtype == dtype and bool(jnp.isfinite(slope).all())
    assert bool(jnp.isfinite(jax.jit(jax.hessian(total))(u)).all())
    expected = 0.3 - D / retardation(0.3) * 2.0
    found = problem.residual(*(jnp.asarray(v) for v in (0.3, 0.3, 2.0)))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    found = problem.outflow_residual(jnp.asarray(0.3), jnp.asarray(-600.0))
    np.testing.assert_allclose(found, 0.0, atol=1e-15)


def test_second_derivatives():
    """The derivative of a gradient against differences of it."""
    problem = problems.DiffusionSorption(12, relative_step=0.3, refine=1)
    u0 = jnp.asarray(0.1 + 0.05 * np.sin(np.arange(12.0)))
    direction = jnp.cos(jnp.arange(12.0))
    parameters, rest = eqx.partition(problem, eqx.is_inexact_array)

    def total(parameters, u0):
        return jnp.sum(eqx.combine(parameters, rest).solve(u0)[-1] ** 2)

    gradient = jax.jit(jax.grad(total, (0, 1)))
    second = jax.jit(
        lambda u0: jax.jvp(lambda u0: gradient(parameters, u0), (u0,), (direction,))[1]
    )(u0)
    h = 1e-5
    ends = [gradient(parameters, u0 + sign * h * direction) for sign in (1, -1)]
    finite = jax.tree.map(lambda a, b: (a - b) / (2 * h), *ends)
    for a, b in zip(jax.tree.leaves(second), jax.tree.leaves(finite), strict=True):
        scale = float(jnp.abs(b).max())
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6 * scale)
    assert float(jnp.abs(second[1]).max()) > 1e-4


# --- what goes in ---------------------------------------------------------------------


def test_initial_states():
    problem = problems.DiffusionSorption(16)
    states = jnp.stack([problem.initial(key=jr.key(k)) for k in range(200)])
    np.testing.assert_array_equal(states[:, 0], 1.0)
    np.testing.assert_array_equal(states[:, 1:], states[:, 1:2] * jnp.ones((1, 15)))
    assert 0 <= states[:, 1].min() < 0.01 and 0.19 < states[:, 1].max() < 0.2
    # What stands at x = 0 is not read.
    u0 = states[0]
    a, b = (problem.solve(u0.at[0].set(v)) for v in (0.0, 1.0))
    np.testing.assert_array_equal(a, b)
    smooth = LogNormalField(SquaredExponentialField(0.1, 0.3), mean=-2.0)
    problem = problems.DiffusionSorption(16, initial_field=smooth)
    data = problem.dataset(3, num_saves=2, key=jr.key(0))
    assert np.isfinite(data.targets).all() and np.std(data.inputs[0, 0, 1:]) > 1e-3


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", ["mgno", "fno"])
def test_models_of_the_command_line_know_the_inflow(name):
    task = TrainingTask("diffusion-sorption", None, None)
    model = task.model(name, width=4, depth=2, seed=0)
    state = task.problem.initial(key=jr.key(0)).astype(jnp.float32)
    out = model(state[None])
    assert out.shape == (1, 128) and out[0, 0] == 1.0


def test_single_precision_on_the_default_grid():
    """Differences are taken of neighbours, so that steps of 10 s cost no digits."""
    problem = problems.DiffusionSorption()
    u0 = constant(128, 0.1)
    double = problem.solve(u0, num_saves=50)
    single = problem.solve(u0.astype(jnp.float32), num_saves=50)
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, double, rtol=0, atol=5e-6)


def test_wrong_arguments():
    make = problems.DiffusionSorption
    ones = jnp.ones(3)
    cases = [
        (lambda: make(2), "num_points: .* 1 axis, at least 3, got 2"),
        (lambda: make((8, 8)), r"num_points: .* got \(8, 8\)"),
        (lambda: make(diffusivity=0.0), "diffusivity: expected a positive"),
        (lambda: make(porosity=1.0), "porosity: .* below 1, got 1.0"),
        (lambda: make(bulk_density=-1.0), "bulk_density: expected a positive"),
        (lambda: make(freundlich_coefficient=np.nan), "freundlich_coefficient: exp"),
        (lambda: make(freundlich_exponent=1.2), "freundlich_exponent: .* ≤ 1, got 1.2"),
        (lambda: make(final_time=0.0), "final_time: expected a positive"),
        (lambda: make(relative_step=0.0), "relative_step: expected a positive"),
        (lambda: make(refine=0), "refine: expected a positive integer"),
        (lambda: make(8).solve(jnp.ones(9)), r"u0: .*\(8,\).* \(9,\)"),
        (lambda: make(8).residual(ones, ones, ones[:2]), r"one shape, .*u_xx.*\(2,\)"),
        (lambda: make(8).outflow_residual(ones, ones[0]), "one shape"),
        (lambda: problems.UniformState(0.2, 0.2), "low < high, got 0.2 and 0.2"),
    ]
    for wrong, message in cases:
        with pytest.raises(ValueError, match=message):
            wrong()
    with pytest.raises(problems.BlowUpError, match="DiffusionSorption: .* u0 is ≥ 0"):
        make(8).solve(jnp.full(8, jnp.nan))


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return jnp.dtype(request.param)
