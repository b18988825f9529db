"""Grids and their stencils: orders of convergence, symmetry, exact cases, mistakes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_cases import AXES, boundaries, is_free, points, random_field, slope

import problems
import sciml
from sciml.grids import (
    Dirichlet,
    Grid,
    Neumann,
    Periodic,
    boundary_source,
    diffusion_stencil,
    divergence,
    gradient,
    h1_norm,
    h1_seminorm,
    l2_norm,
    laplacian,
    source_vector,
)
from sciml.linear import diffusion_operator, linear_solve

KINDS = [(ndim, name) for ndim in (1, 2, 3) for name in boundaries(ndim)]
# In three dimensions every kind of side, but most of their combinations apart.
SAMPLE = [
    pytest.param(
        ndim,
        name,
        marks=[pytest.mark.slow] if ndim == 3 and not name.startswith("mixed") else [],
    )
    for ndim, name in KINDS
]
SIZES = {
    1: (16, 36, 81),
    2: (10, 22, 50),
    3: (8, 15, 27),
}
SMALL = {1: (9,), 2: (5, 6), 3: (4, 3, 5)}


# --- orders of convergence ------------------------------------------------------------


def size_of(error, grid):
    """The L2 norm, of the part that is not constant where constants are free."""
    if is_free(grid.boundary):
        weights = jnp.asarray(grid.cell_weights())
        error = error - jnp.sum(weights * error) / jnp.sum(weights)
    return l2_norm(error, grid)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("ndim, name", SAMPLE)
def test_poisson_converges_with_order_two(ndim, name):
    pairs = boundaries(ndim)[name]

    def error(intervals):
        problem = problems.Poisson(points(intervals, pairs), pairs)
        A, b = problem.assemble(problem.constant_coefficient())
        u = linear_solve(A, b, sciml.CG(rtol=1e-10), throw=False).value
        return size_of(u - problem.exact_solution(), problem.grid)

    errors = [jax.jit(lambda n=n: error(n))() for n in SIZES[ndim]]
    assert abs(slope(SIZES[ndim], errors) - 2.0) < 0.1
    assert errors[-1] < 0.02


@pytest.mark.sampled(2)
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("closed", [False, True])
def test_a_variable_coefficient_converges_with_order_two(stored, closed):
    """−∇·(a∇u) + c u = f, every side with data that are not zero."""
    u = lambda x, y: jnp.exp(0.5 * x) * jnp.sin(2 * y) + x * y
    a = lambda x, y: 1 + 0.5 * jnp.sin(3 * x + 2 * y)
    c = lambda x, y: 2 + x

    def flux(x, y, k):
        return a(x, y) * jax.grad(u, k)(x, y)

    def f(x, y):
        inner = sum(jax.grad(flux, k)(x, y, k) for k in (0, 1))
        return c(x, y) * u(x, y) - inner

    def on(function, *sign_and_axis):
        def data(x, y):
            points = jnp.ravel(jnp.asarray(x)), jnp.ravel(jnp.asarray(y))
            return jax.vmap(function)(*points).reshape(jnp.shape(x))

        return data

    def error(n):
        grid = Grid(
            (n + stored, n * 5 // 4),
            (1.0, 1.25),
            [
                (Dirichlet(on(u), stored), Neumann(on(lambda x, y: flux(x, y, 0)))),
                (Neumann(on(lambda x, y: -flux(x, y, 1))), Dirichlet(on(u))),
            ],
        )
        field = on(a)(*grid.mesh(closed=closed))
        source, reaction = on(f)(*grid.mesh()), on(c)(*grid.mesh())
        A = diffusion_operator(field, grid, reaction=reaction)
        b = source_vector(source, field, grid)
        solution = linear_solve(A, b, sciml.CG(rtol=1e-11), throw=False)
        return l2_norm(solution.value - on(u)(*grid.mesh()), grid)

    sizes = (12, 20, 32, 52)
    errors = [jax.jit(lambda n=n: error(n))() for n in sizes]
    assert abs(slope(sizes, errors) - 2.0) < 0.1


@pytest.mark.parametrize("name", ["dirichlet", "stored", "neumann", "periodic"])
def test_derivatives_converge_with_order_two(name):
    w = 2 * np.pi
    u = lambda x, y: np.sin(w * x + 0.3) * np.cos(w * y) + 1
    ux = lambda x, y: w * np.cos(w * x + 0.3) * np.cos(w * y)
    uy = lambda x, y: -w * np.sin(w * x + 0.3) * np.sin(w * y)
    lap = lambda x, y: -2 * w**2 * (u(x, y) - 1)

    def side(axis, side):
        outward = (2 * side - 1) * np.ones(())
        return {
            "dirichlet": Dirichlet(u),
            "stored": Dirichlet(u, stored=True),
            "neumann": Neumann(lambda x, y: outward * (ux, uy)[axis](x, y)),
            "periodic": Periodic(),
        }[name]

    pairs = [(side(axis, 0), side(axis, 1)) for axis in (0, 1)]
    sizes, errors = (24, 36, 54, 80), []
    for n in sizes:
        grid = Grid((n, n), boundary=pairs)
        x, y = grid.mesh()

        @jax.jit
        def all_three(field, vector, grid=grid):
            return (
                gradient(field, grid),
                divergence(vector, grid),
                laplacian(field, grid),
            )

        exact = np.stack([ux(x, y), uy(x, y)])
        slopes, div, second = all_three(jnp.asarray(u(x, y)), jnp.asarray(exact))
        # One-sided second differences at a Neumann side are of first order.
        inner = slice(1, -1) if name in ("stored", "neumann") else slice(None)
        errors.append(
            [
                np.sqrt(np.mean((slopes - exact) ** 2)),
                np.sqrt(np.mean((div - lap(x, y)) ** 2)),
                np.sqrt(np.mean((second - lap(x, y))[inner, inner] ** 2)),
            ]
        )
    for each in np.array(errors).T:
        assert abs(slope(sizes, each) - 2.0) < 0.15


def test_derivatives_of_quadratics_are_exact():
    u = lambda x, y: 1 + 2 * x - y + 3 * x**2 + x * y - 0.5 * y**2
    grid = Grid((5, 6), (1.0, 2.0), Dirichlet(u))
    x, y = grid.mesh()
    field = jnp.asarray(u(x, y))
    slopes = gradient(field, grid)
    np.testing.assert_allclose(slopes[0], 2 + 6 * x + y, atol=1e-12)
    np.testing.assert_allclose(slopes[1], -1 + x - y, atol=1e-12)
    np.testing.assert_allclose(laplacian(field, grid), 5.0, atol=1e-10)
    np.testing.assert_allclose(divergence(slopes, grid), 5.0, atol=1e-10)


# --- the stencil ----------------------------------------------------------------------


@functools.cache
def case(ndim, name, dtype=np.float64):
    """A stencil with a rough coefficient, compiled in one go."""
    grid = Grid(SMALL[ndim], boundary=boundaries(ndim)[name])
    field = jnp.asarray(random_field(grid.shape, 1e4), dtype)
    return grid, field, jax.jit(lambda a: diffusion_stencil(a, grid))(field)


@pytest.mark.sampled(12)
@pytest.mark.parametrize("ndim, name", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_stencil_is_a_symmetric_matrix(ndim, name, dtype):
    grid, _, A = case(ndim, name, dtype)
    rng = np.random.default_rng(0)
    u, v = (jnp.asarray(rng.normal(size=grid.shape), dtype) for _ in range(2))
    matrix, Au, Av = jax.jit(lambda A, u, v: (A.dense(), A(u), A(v)))(A, u, v)
    assert Au.dtype == dtype
    size = np.linalg.norm(np.asarray(matrix, float), 2)
    bound = 100 * np.finfo(dtype).eps * size
    gap = abs(float(jnp.sum(Au * v) - jnp.sum(u * Av)))
    assert gap <= bound * float(jnp.linalg.norm(u) * jnp.linalg.norm(v))
    # The dense matrix is exactly symmetric, and the same map.
    np.testing.assert_array_equal(matrix, matrix.T)
    flat = np.asarray(matrix, float) @ np.ravel(np.asarray(u, float))
    np.testing.assert_allclose(np.ravel(Au), flat, rtol=0, atol=bound)


@pytest.mark.parametrize("ndim, name", KINDS)
def test_stencil_is_positive(ndim, name):
    grid, _, A = case(ndim, name)
    matrix, sums, absolute = jax.jit(
        lambda A: (A.dense(), A.row_sums(), A.absolute_row_sums())
    )(A)
    matrix = np.asarray(matrix)
    values = np.linalg.eigvalsh(matrix)
    scale = values[-1]
    np.testing.assert_allclose(np.ravel(sums), matrix.sum(1), atol=1e-14 * scale)
    np.testing.assert_allclose(np.ravel(absolute), np.abs(matrix).sum(1), rtol=1e-13)
    if is_free(grid.boundary):
        # One null vector, the constants, and no other.
        np.testing.assert_allclose(matrix.sum(1), 0, atol=1e-13 * scale)
        assert abs(values[0]) < 1e-13 * scale and values[1] > 1e-9 * scale
    else:
        assert values[0] > 1e-9 * scale
        assert matrix.sum(1).max() > 0 > -1e-13 * scale
        assert matrix.sum(1).min() > -1e-13 * scale


@pytest.mark.parametrize("ndim, name", KINDS)
def test_coupling(ndim, name):
    """Entries by offset against the matrix, for every offset of either sign."""
    grid, _, A = case(ndim, name)
    matrix = np.asarray(A.dense())
    index = np.arange(grid.size).reshape(grid.shape)
    total = np.diag(np.ravel(A.coupling((0,) * ndim)))
    for axis in range(ndim):
        for sign in (1, -1):
            offset = tuple(sign * (k == axis) for k in range(ndim))
            assert A.couples(offset)
            entries = np.ravel(A.coupling(offset))
            neighbour = np.roll(index, -sign, axis)
            np.add.at(total, (index.ravel(), neighbour.ravel()), entries)
    np.testing.assert_array_equal(total, matrix)
    assert not A.couples((1,) * ndim) or ndim == 1


def test_harmonic_mean_is_exact_across_a_jump():
    """In 1-D, where a jumps half way between two nodes, u is exact at the nodes."""
    grid = Grid(10, boundary=[(Dirichlet(0.0, True), Dirichlet(1.0, True))])
    x, jump = grid.coordinates(0), 0.5
    assert np.isclose(x, jump).sum() == 0 and np.isclose(x[4:6].mean(), jump)
    low, high = 1.0, 1e4
    a = jnp.where(jnp.asarray(x) < jump, low, high)
    matrix = np.asarray(diffusion_stencil(a, grid).dense())
    u = np.linalg.solve(matrix, source_vector(0.0, a, grid))
    # Continuous flux q: u = q x/low on the left, 1 − q (1 − x)/high on the right.
    q = 1 / (jump / low + (1 - jump) / high)
    expected = np.where(x < jump, q * x / low, 1 - q * (1 - x) / high)
    np.testing.assert_allclose(u, expected, atol=1e-14)


@pytest.mark.parametrize("name", AXES)
def test_linear_functions_are_solved_exactly(name):
    """u = 1 + 2x − y with the data it has on any side, f = 0 and any constant a."""
    if name == "periodic":
        return
    u = lambda x, y: 1 + 2 * x - y
    a, slopes = 3.0, (2.0, -1.0)
    pairs = []
    for axis in (0, 1):
        ends = AXES[name] if isinstance(AXES[name], tuple) else (AXES[name],) * 2
        pairs.append(
            tuple(
                Neumann((2 * side - 1) * a * slopes[axis])
                if isinstance(end, Neumann)
                else Dirichlet(u, end.stored)
                for side, end in enumerate(ends)
            )
        )
    grid = Grid((5, 4), boundary=pairs)
    exact = u(*grid.mesh())
    residual = diffusion_stencil(a, grid)(jnp.asarray(exact))
    residual = residual - boundary_source(a, grid)
    np.testing.assert_allclose(residual, 0, atol=1e-11)


def test_reaction():
    """c u, and stored Dirichlet values that it must not move."""
    grid = Grid((6, 5), boundary=[Dirichlet(2.0, stored=True), Neumann()])
    c = random_field(grid.shape, 10.0)
    with_c = diffusion_operator(1.0, grid, reaction=c)
    extra = np.asarray(with_c.as_matrix() - diffusion_operator(1.0, grid).as_matrix())
    expected = c * grid.cell_weights()
    expected[[0, -1]] = 0
    np.testing.assert_allclose(extra, np.diag(np.ravel(expected)), atol=1e-12)
    b = source_vector(1.0, 1.0, grid)
    u = np.linalg.solve(with_c.as_matrix(), np.ravel(b)).reshape(grid.shape)
    np.testing.assert_allclose(u[[0, -1]], 2.0, rtol=1e-13)
    free = Grid((4, 4), boundary=Neumann())
    assert diffusion_operator(1.0, free).constant_null_space
    assert not diffusion_operator(1.0, free, reaction=1.0).constant_null_space


# --- norms ----------------------------------------------------------------------------


def test_norms():
    w = 2 * np.pi
    for pair in (Periodic(), Dirichlet(), Dirichlet(stored=True)):
        grid = Grid((64, 48), (1.0, 2.0), pair)
        x, y = grid.mesh()
        u = jnp.asarray(np.sin(w * x) * np.sin(w * y))
        l2, h1 = np.sqrt(0.5), np.sqrt(0.5 * 2 * w**2)
        np.testing.assert_allclose(l2_norm(u, grid), l2, rtol=1e-12)
        np.testing.assert_allclose(h1_seminorm(u, grid), h1, rtol=2e-2)
        both = np.hypot(float(l2_norm(u, grid)), float(h1_seminorm(u, grid)))
        np.testing.assert_allclose(h1_norm(u, grid), both, rtol=1e-12)
        stack = jnp.stack([u, 2 * u])
        np.testing.assert_allclose(l2_norm(stack, grid), np.sqrt(5) * l2, rtol=1e-12)
    grid = Grid((5, 7), (2.0, 3.0), Neumann())
    np.testing.assert_allclose(l2_norm(jnp.ones((5, 7)), grid), np.sqrt(6.0))
    x, y = grid.mesh()
    np.testing.assert_allclose(h1_seminorm(jnp.asarray(x - y), grid), np.sqrt(12.0))


def test_energy_is_the_h1_seminorm():
    """uᵀAu times the cell volume, for every condition: two codes, one number."""
    for name in boundaries(2):
        grid = Grid((6, 5), (1.0, 2.0), boundaries(2)[name])
        u = jnp.asarray(np.random.default_rng(0).normal(size=grid.shape))
        u = grid.homogeneous().impose(u)
        volume = np.prod(grid.spacing)
        energy = jnp.sum(u * diffusion_stencil(1.0, grid)(u)) * volume
        np.testing.assert_allclose(h1_seminorm(u, grid) ** 2, energy, rtol=1e-12)
