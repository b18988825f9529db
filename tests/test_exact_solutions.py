"""Solutions in closed form: they solve the equations, and the solvers find them."""

import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
import scipy.integrate
import scipy.io
import scipy.linalg

import problems
from sciml.grids import Dirichlet, GaussianField, Neumann, Periodic

# --- Burgers --------------------------------------------------------------------------


def rows_of(problem, u, t, x):
    """The residual at points, by automatic differentiation."""

    def row(x):
        u_x = jax.grad(u, 1)
        return problem.residual(
            u(t, x), jax.grad(u)(t, x), u_x(t, x), jax.grad(u_x, 1)(t, x)
        )

    return jax.jit(jax.vmap(row))(x)


BURGERS: dict[str, Callable] = {
    "one": lambda p: p.exact_solution,
    "three": lambda p: functools.partial(
        p.exact_solution, amplitudes=(0.5, 0.3, -0.1), drift=0.7
    ),
    "sine": lambda p: functools.partial(p.exact_solution_from_sine, amplitude=1.2),
}


@pytest.mark.parametrize("name", BURGERS)
def test_burgers_solutions(name):
    problem = problems.Burgers(128, 0.1, extent=2.0, final_time=0.6, time_step=2.5e-3)
    u = BURGERS[name](problem)
    x = jnp.linspace(-1, 1, 21)
    rows = rows_of(problem, u, 0.3, x)
    np.testing.assert_allclose(rows, 0, atol=1e-12)
    found = problem.solve(u(0.0), num_saves=3)
    expected = u(problem.times(3))
    assert expected.shape == (3, 128) and jnp.abs(expected[-1] - u(0.0)).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)
    # Any places; with the period L.
    np.testing.assert_allclose(u(0.3, x - 2), u(0.3, x), rtol=0, atol=1e-13)
    np.testing.assert_allclose(
        u(jnp.asarray([[0.1], [0.2]]), x[:3])[1, 0], u(0.2, x[:3]), rtol=0, atol=1e-14
    )
    single = eqx.filter_jit(u)(jnp.asarray([0.0, 0.3], jnp.float32))
    assert single.dtype == jnp.float32 and single.shape == (2, 128)
    np.testing.assert_allclose(single, u(np.array([0.0, 0.3])), rtol=0, atol=2e-5)


def test_burgers_starts_as_it_says():
    problem = problems.Burgers(32, 0.03, extent=1.5)
    x = np.linspace(0, 1.5, 7)
    found = problem.exact_solution_from_sine(0.0, x, amplitude=0.8)
    expected = -0.8 * np.sin(2 * np.pi * x / 1.5)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)
    # The greatest speed, as documented.
    many = np.linspace(0, 1.5, 20001)
    found = jnp.abs(problem.exact_solution(0.0, many, amplitudes=(0.8,))).max()
    expected = 4 * np.pi * 0.03 / 1.5 * 0.8 / np.sqrt(1 - 0.8**2)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("viscosity", [0.005 / np.pi, 0.01 / np.pi, 0.1, 1.0])
def test_burgers_from_sine_by_adaptive_quadrature(viscosity):
    """The same integrals over y by SciPy, at places in and off the layer."""
    problem = problems.Burgers(8, viscosity, extent=2.0)
    steepness = 1 / (2 * viscosity * np.pi)
    end = np.sqrt(2 * steepness + 40)
    parts = np.linspace(-end, end, 41)

    def integral(factor, t, x):
        def g(eta):
            y = np.pi * (x - np.sqrt(4 * viscosity * t) * eta)
            # (With the height of the largest peak about 1.)
            return factor(y) * np.exp(-(eta**2) - steepness * np.cos(y) - top)

        eta = np.linspace(-end, end, 4001)
        y = np.pi * (x - np.sqrt(4 * viscosity * t) * eta)
        top = np.max(-(eta**2) - steepness * np.cos(y))
        ends = zip(parts[:-1], parts[1:], strict=True)
        return sum(
            scipy.integrate.quad(g, a, b, epsabs=1e-14, epsrel=1e-12)[0]
            for a, b in ends
        )

    for t in (0.05, 0.6, 3.0, 10.0):
        for x in (0.011, 0.4):
            expected = -integral(np.sin, t, x) / integral(np.ones_like, t, x)
            found = problem.exact_solution_from_sine(t, x)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


def test_burgers_benchmark_of_the_file(data_folder):
    known = scipy.io.loadmat(data_folder / "pde_references" / "burgers_shock.mat")
    problem = problems.Burgers(256, 0.01 / np.pi, extent=2.0)
    t, x = known["t"].ravel(), known["x"].ravel()
    found = problem.exact_solution_from_sine(t, x)
    np.testing.assert_allclose(found, known["usol"].T, rtol=0, atol=1e-10)


# --- Navier–Stokes --------------------------------------------------------------------


@pytest.mark.parametrize("forcing", [0.0, 0.5])
def test_taylor_and_green(forcing):
    """The solver finds it, and the equation holds, to rounding; with forcing too."""
    problem = problems.NavierStokesVorticity(
        (16, 12), viscosity=0.01, forcing=forcing, final_time=1.0
    )
    u = functools.partial(problem.exact_solution, amplitude=2.0)
    found = problem.solve(u(0.0), num_saves=4)
    np.testing.assert_allclose(found, u(problem.times(4)), rtol=0, atol=1e-12)
    # The rows at every node, derivatives by differentiation of the closed form.
    t, (x, y) = 0.4, (jnp.asarray(z) for z in problem.grid.mesh())
    every = lambda f: jax.jit(jnp.vectorize(lambda x, y: f(t, x, y)))(x, y)
    w, w_t = u(t), every(jax.grad(u))
    slopes = jnp.stack([every(jax.grad(u, k)) for k in (1, 2)])
    curves = jnp.stack([every(jax.grad(jax.grad(u, k), k)) for k in (1, 2)])
    second = curves.sum(0)
    v = problem.velocity(w)
    rows = problem.residual(w, w_t, slopes, second, v)
    np.testing.assert_allclose(rows, 0, atol=1e-12)
    assert jnp.abs(w_t).max() > 0.5 and jnp.abs(v[0] * slopes[0]).max() > 0.1
    # At places of one's own, and for several times, which share the nodes.
    some = (slice(3, 5), slice(0, 7))
    parts = (w[some], w_t[some], slopes[:, *some], second[some], v[:, *some])
    np.testing.assert_allclose(
        problem.residual(*parts, x[some], y[some]), rows[some], rtol=0, atol=1e-13
    )
    several = jnp.stack([slopes, slopes], 1)
    twice = problem.residual(
        *(jnp.stack([a, a]) for a in (w, w_t)),
        several,
        jnp.stack([second, second]),
        jnp.stack([v, v], 1),
    )
    np.testing.assert_allclose(twice[1], rows, rtol=0, atol=1e-13)
    single = [a.astype(jnp.float32) for a in (w, w_t, slopes, second, v)]
    rows = eqx.filter_jit(problem.residual)(*single)
    assert rows.dtype == jnp.float32
    np.testing.assert_allclose(rows, 0, atol=1e-4)


def test_residual_of_navier_stokes_sees_every_term(getkey):
    """Of a solution that is not known: ω_t by differences of what is saved."""
    n = 32
    problem = problems.NavierStokesVorticity(
        (n, n), viscosity=5e-3, forcing=1.0, final_time=0.02, time_step=2e-3
    )
    start = problems.NavierStokesVorticity(
        (n, n), initial_field=GaussianField(7.0, 6.0, scale=1e6, num_modes=5)
    ).initial(key=getkey())
    saved = problem.solve(start, num_saves=5)
    w = saved[2]
    w_t = (8 * (saved[3] - saved[1]) - (saved[4] - saved[0])) / (12 * 0.004)
    # Derivatives by complex transforms in NumPy.
    kappa = 2j * np.pi * np.fft.fftfreq(n, 1 / n)
    v = np.fft.fft2(np.asarray(w))
    along = [kappa[:, None] * v, kappa * v]
    slopes = jnp.asarray(np.fft.ifft2(np.stack(along)).real)
    second = jnp.asarray(np.fft.ifft2((kappa[:, None] ** 2 + kappa**2) * v).real)
    terms = [w, w_t, slopes, second, problem.velocity(w)]
    rows = problem.residual(*terms)
    scale = float(jnp.abs(w_t).max())
    assert jnp.abs(rows).max() < 1e-5 * scale
    for k in range(1, 5):
        without = [0 * term if k == j else term for j, term in enumerate(terms)]
        assert jnp.abs(problem.residual(*without)).max() > 0.05 * scale
    still = eqx.tree_at(lambda p: p.forcing, problem, jnp.asarray(0.0))
    assert jnp.abs(still.residual(*terms)).max() > 0.05 * scale


# --- Poisson --------------------------------------------------------------------------


@pytest.mark.parametrize("boundary", [Dirichlet(), Neumann(), Periodic()])
def test_poisson_anywhere(boundary):
    """(Its order is that of `test_poisson_converges_with_order_two`.)"""
    problem = problems.Poisson((7, 8), boundary)
    u, mesh = problem.exact_solution, problem.grid.mesh()
    np.testing.assert_array_equal(u(*mesh), u())
    x, y = (jnp.asarray(z) for z in mesh)
    second = sum(jnp.vectorize(jax.grad(jax.grad(u, k), k))(x, y) for k in (0, 1))
    # Where no side holds u, f is shifted by O(h²).
    shift = np.asarray(-second - problem.source)
    np.testing.assert_allclose(shift, shift.mean(), rtol=0, atol=1e-12)
    if boundary == Dirichlet():
        np.testing.assert_allclose(shift, 0, atol=1e-12)
    assert u(jnp.float32(0.2), jnp.float32(0.3)).dtype == jnp.float32


# --- all of them ----------------------------------------------------------------------

SOLUTIONS: dict[str, Callable] = {
    "heat": lambda a, t: problems.Heat((4, 5), a).exact_solution(
        t, amplitudes=a[None], modes=2
    ),
    "burgers": lambda a, t: problems.Burgers(8, a).exact_solution(
        t, amplitudes=3 * a[None], drift=a
    ),
    "sine": lambda a, t: problems.Burgers(8, a).exact_solution_from_sine(
        t, amplitude=1 + a
    ),
    "navier-stokes": lambda a, t: problems.NavierStokesVorticity(
        (4, 5), a, a
    ).exact_solution(t, amplitude=a),
}


@pytest.mark.parametrize("name", SOLUTIONS)
def test_transforms(name):
    """Of closed forms: vmap = loop, derivatives = differences, in parameters and t."""
    f = lambda a, t: jnp.sum(jnp.cos(5 * SOLUTIONS[name](a, t)))
    a, t = jnp.linspace(0.05, 0.1, 3), jnp.linspace(0.1, 0.4, 3)
    found = jax.jit(jax.vmap(SOLUTIONS[name]))(a, t)
    loop = jnp.stack([SOLUTIONS[name](*pair) for pair in zip(a, t, strict=True)])
    np.testing.assert_allclose(found, loop, rtol=0, atol=1e-13)
    slopes, h = jax.grad(f, (0, 1))(a[0], t[0]), 1e-6
    finite = [
        (f(a[0] + h, t[0]) - f(a[0] - h, t[0])) / (2 * h),
        (f(a[0], t[0] + h) - f(a[0], t[0] - h)) / (2 * h),
    ]
    np.testing.assert_allclose(jnp.stack(slopes), jnp.stack(finite), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_residuals_in_both_precisions(dtype):
    u, first, second, third = (jnp.asarray(v, dtype) for v in (0.3, -1.0, 0.7, 4.0))
    heat, burgers = problems.Heat(8, 0.5), problems.Burgers(8, 0.5)
    flow = problems.NavierStokesVorticity((8, 8), 0.5, 2.0)
    pair, place = jnp.stack([first, second]), jnp.asarray(0.125, dtype)
    found = [
        eqx.filter_jit(heat.residual)(u, first, third),
        eqx.filter_jit(burgers.residual)(u, first, second, third),
        eqx.filter_jit(flow.residual)(
            u, first, pair, third, 2 * pair, place, 0 * place
        ),
    ]
    assert {rows.dtype for rows in found} == {jnp.dtype(dtype)}
    forcing = 2.0 * np.sqrt(2)
    expected = [-1.0 - 2.0, -1.0 + 0.21 - 2.0, -1.0 + 2 * 1.49 - 2.0 - forcing]
    np.testing.assert_allclose(jnp.stack(found), expected, rtol=1e-5)


# --- wrong arguments ------------------------------------------------------------------


def test_wrong_arguments():
    heat, burgers = problems.Heat(8), problems.Burgers(8)
    flow = problems.NavierStokesVorticity((8, 8))
    ones, field = jnp.ones(3), jnp.ones((8, 8))
    pair = jnp.ones((2, 8, 8))
    cases = [
        (
            lambda: heat.residual(ones, ones, ones[:2]),
            r"one shape, .*laplacian.*\(2,\)",
        ),
        (lambda: burgers.residual(ones, ones, ones[0], ones), "one shape, .*'u_x'"),
        (lambda: flow.residual(field, field[0], pair, field, pair), "vorticity_t"),
        (lambda: flow.residual(field, field, field, field, pair), "gradient: expected"),
        (lambda: flow.residual(field, field, pair, field, pair[0]), "velocity: exp"),
        (
            lambda: flow.residual(
                *(ones, ones, jnp.ones((2, 3)), ones, jnp.ones((2, 3)))
            ),
            r"coordinates: .*\(\.\.\., 8, 8\)",
        ),
        (
            lambda: flow.residual(field, field, pair, field, pair, ones, ones),
            r"coordinates: .* shape \(8, 8\), .* got shape \(3,\)",
        ),
        (lambda: heat.exact_solution(0.1, ones, ones), "coordinates: .* 1 of them"),
        (lambda: flow.exact_solution(0.1, ones, ones[:2]), "Expected arrays of one"),
        (lambda: problems.Poisson((4, 4)).exact_solution(ones), "coordinates: .* 2 of"),
        (lambda: burgers.exact_solution(-0.1), "times: expected numbers ≥ 0, got -0.1"),
        (lambda: burgers.exact_solution(0.1, amplitudes=(1.1,)), "amplitudes: .*-0.1"),
        (lambda: burgers.exact_solution(0.1, amplitudes=0.5), "amplitudes: .* shape"),
        (lambda: burgers.exact_solution(0.1, amplitudes=(np.nan,)), "amplitudes: "),
        (lambda: heat.exact_solution(0.1, modes=0), "modes: expected integers ≥ 1 on"),
        (lambda: heat.exact_solution(0.1, modes=(1.5,)), "modes: expected terms"),
        (lambda: heat.exact_solution(0.1, modes=[(1, 2)]), "modes: expected terms"),
        (lambda: heat.exact_solution(0.1, modes=()), "modes: expected terms"),
        (
            lambda: heat.exact_solution(0.1, modes=(1, 2), amplitudes=ones),
            r"amplitudes: expected one per term, 2 of them, got shape \(3,\)",
        ),
        (lambda: problems.Heat(8, 0.0), "diffusivity: expected a positive"),
        (lambda: problems.Heat(8, boundary=Dirichlet(1.0)), "boundary: .* data 0"),
        (lambda: problems.Heat(8, boundary=Neumann(1.0)), "boundary: .* data 0"),
        (lambda: problems.Heat(8).solve(jnp.ones(9)), r"u0: .*\(8,\).* \(9,\)"),
        (lambda: problems.Heat((2,) * 4), "num_points: expected one to three axes"),
    ]
    for wrong, message in cases:
        with pytest.raises(ValueError, match=message):
            wrong()
    with pytest.raises(problems.BlowUpError, match="Heat: .* Check that u0"):
        heat.solve(jnp.full(8, jnp.nan))
    # Under `jit` nobody can look at values; what comes is finite all the same.
    found = jax.jit(lambda a: burgers.exact_solution(0.1, amplitudes=a))(
        jnp.ones(1) / 2
    )
    assert bool(jnp.isfinite(found).all())
