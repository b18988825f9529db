"""Solves of every kind of operator and vector, with our verb and with lineax's."""

# Wrong arguments are the point here, and NumPy takes JAX scalars.
# pyright: reportArgumentType=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from linear_cases import PSD, matrix_operator, outcome, spd_matrix

import sciml
from sciml.grids import Grid
from sciml.linear import adjoint_solve, diffusion_operator, frozen, linear_solve
from sciml.preconditioners import Jacobi, Multigrid

N = 16


def hermitian(n=N, seed=0):
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n)))
    return (q * np.geomspace(1, 50, n)) @ q.conj().T


# --- kinds of operators ---------------------------------------------------------------


def ours(A, b, **options):
    return linear_solve(A, b, sciml.CG(rtol=1e-10), **options)


def lineaxs(A, b, **options):
    options = {{"x0": "y0"}.get(k, k): v for k, v in options.items()}
    return lx.linear_solve(A, b, sciml.CG(rtol=1e-10), options=options)


@pytest.mark.parametrize("solve", [ours, lineaxs])
def test_complex_hermitian(solve):
    A = hermitian()
    rng = np.random.default_rng(1)
    b = jnp.asarray(rng.normal(size=N) + 1j * rng.normal(size=N))
    x0 = jnp.asarray(rng.normal(size=N) + 1j * rng.normal(size=N))
    expected = np.linalg.solve(A, b)
    for options in ({}, {"x0": x0}, {"preconditioner": Jacobi()}):
        solution = solve(matrix_operator(A), b, **options)
        np.testing.assert_allclose(solution.value, expected, atol=1e-8)
        residual = np.linalg.norm(b - A @ np.asarray(solution.value))
        relative = residual / np.linalg.norm(b)
        np.testing.assert_allclose(solution.stats["relative_residual"], relative, 1e-3)


def mixed(vector):
    """A symmetric positive definite map on arrays of two shapes and dtypes."""
    a, c = vector["a"], vector["c"]
    shared = jnp.sum(a) + jnp.sum(c.astype(a.dtype))
    return {"a": 3 * a + shared, "c": 2 * c + shared.astype(c.dtype)}


@pytest.mark.parametrize("solve", [linear_solve, lx.linear_solve])
def test_pytrees_of_two_shapes_and_dtypes(solve):
    b = {"a": jnp.arange(6.0).reshape(2, 3), "c": jnp.array([1.0, -2.0], jnp.float32)}
    structure = jax.eval_shape(lambda: b)
    A = sciml.linear.SymmetricOperator(mixed, structure, PSD)
    solver = sciml.CG(rtol=1e-5)
    matrix = np.diag([3.0] * 6 + [2.0] * 2) + 1.0
    flat = np.concatenate([np.ravel(b["a"]), np.asarray(b["c"], float)])
    expected = np.linalg.solve(matrix, flat)
    # lineax asks for the common type of all leaves.
    strictness = "strict" if solve is linear_solve else "standard"
    with jax.numpy_dtype_promotion(strictness):
        solution = solve(A, b, solver)
    assert jax.eval_shape(lambda: solution.value) == structure
    np.testing.assert_allclose(np.ravel(solution.value["a"]), expected[:6], atol=1e-4)
    np.testing.assert_allclose(solution.value["c"], expected[6:], atol=1e-4)
    # In lists, which cannot be hashed, and with a built preconditioner.
    listed = lx.FunctionLinearOperator(lambda v: [2 * v[0]], [structure["a"]], PSD)
    M = Jacobi().build(listed)
    assert not lx.is_diagonal(M)
    solution = linear_solve(listed, [b["a"]], preconditioner=M)
    np.testing.assert_allclose(solution.value[0], b["a"] / 2)


def energy_slope(x, scale):
    return scale * x + x**3 + 0.3 * jnp.sum(x)


@pytest.mark.parametrize("solve", [linear_solve, lx.linear_solve])
def test_jacobian_operator(solve):
    x, b = jnp.linspace(-1, 1, N), jnp.cos(jnp.arange(float(N)))
    A = lx.JacobianLinearOperator(lambda x, s: energy_slope(x, s), x, 2.0, PSD)
    matrix = np.asarray(jax.jacfwd(energy_slope)(x, 2.0))
    solution = solve(A, b, sciml.CG(rtol=1e-10))
    np.testing.assert_allclose(solution.value, np.linalg.solve(matrix, b), atol=1e-9)

    # Derivatives reach the point of linearisation.
    def value(x, solve=solve):
        A = lx.JacobianLinearOperator(lambda x, s: energy_slope(x, s), x, 2.0, PSD)
        return jnp.sum(solve(A, b, sciml.CG(rtol=1e-12)).value ** 2)

    def dense(x):
        matrix = jax.jacfwd(energy_slope)(x, 2.0)
        return jnp.sum(jnp.linalg.solve(matrix, b) ** 2)

    np.testing.assert_allclose(jax.grad(value)(x), jax.grad(dense)(x), atol=1e-9)


def test_composed_operators():
    """Sums, multiples and tags of operators, and one without a matrix."""
    grid = Grid((5, 6))
    stencil = diffusion_operator(2.0, grid)
    identity = lx.IdentityLinearOperator(stencil.in_structure())
    shifted = lx.TaggedLinearOperator(stencil + 3.0 * identity, PSD)
    b = np.random.default_rng(0).normal(size=grid.shape)
    matrix = np.asarray(stencil.as_matrix()) + 3.0 * np.eye(30)
    expected = np.linalg.solve(matrix, b.ravel()).reshape(grid.shape)
    for M in (Jacobi(), Multigrid().build(stencil)):
        solution = linear_solve(shifted, b, preconditioner=M)
        np.testing.assert_allclose(solution.value, expected, atol=1e-8)


# --- lineax's own verb ----------------------------------------------------------------


def test_lineax_gets_its_results_and_the_exact_one_in_the_statistics():
    A, b = matrix_operator(spd_matrix(N)), jnp.ones(N)
    cases = {
        "successful": (lx.RESULTS.successful, {}),
        "max_steps_reached": (lx.RESULTS.max_steps_reached, {"max_steps": 2}),
    }
    for name, (theirs, arguments) in cases.items():
        solution = lx.linear_solve(A, b, sciml.CG(**arguments), throw=False)
        assert bool(solution.result == theirs)
        assert outcome(solution.stats["status"]) == name
    bad = {"preconditioner": matrix_operator(-np.eye(N))}
    solution = lx.linear_solve(A, b, sciml.CG(), options=bad, throw=False)
    assert bool(solution.result == lx.RESULTS.breakdown)
    assert outcome(solution.stats["status"]) == "indefinite_preconditioner"
    with pytest.raises(eqx.EquinoxRuntimeError):
        lx.linear_solve(A, b, sciml.CG(), options=bad)
    with pytest.raises(ValueError, match="'preconditionner'.*Did you mean 'precond"):
        lx.linear_solve(A, b, sciml.CG(), options={"preconditionner": Jacobi()})


def test_options_in_lineax():
    grid = Grid((9, 8))
    a = jnp.asarray(10.0 ** np.random.default_rng(0).uniform(size=grid.shape))
    A = diffusion_operator(a, grid)
    b = jnp.ones(grid.shape)
    expected = np.linalg.solve(A.as_matrix(), np.ravel(b)).reshape(grid.shape)
    steps = []
    for M in (Jacobi(), Multigrid()):
        options = {"preconditioner": M}
        solution = lx.linear_solve(A, b, sciml.CG(rtol=1e-9), options=options)
        np.testing.assert_allclose(solution.value, expected, atol=1e-9)
        steps.append(int(solution.stats["num_steps"]))
    assert steps[1] < steps[0] / 2
    warm = {"y0": jnp.asarray(expected)}
    solution = lx.linear_solve(A, b, sciml.CG(rtol=1e-9), options=warm)
    assert int(solution.stats["num_steps"]) == 0
    # `init` once, many right-hand sides.
    solver = sciml.CG(rtol=1e-9)
    state = solver.init(A, {"preconditioner": Jacobi()})
    solution = lx.linear_solve(A, 2 * b, solver, state=state)
    np.testing.assert_allclose(solution.value, 2 * expected, atol=1e-9)


def test_gradient_in_lineax_with_a_frozen_preconditioner():
    grid = Grid((7, 7))
    b = jnp.asarray(np.random.default_rng(0).normal(size=grid.shape))

    @jax.jit
    @jax.grad
    def through_lineax(a):
        A = diffusion_operator(a, grid)
        options = {"preconditioner": frozen(Multigrid().build(A))}
        solution = lx.linear_solve(A, b, sciml.CG(rtol=1e-12), options=options)
        return jnp.sum(solution.value**3)

    @jax.jit
    @jax.grad
    def dense(a):
        matrix = diffusion_operator(a, grid).as_matrix()
        return jnp.sum(jnp.linalg.solve(matrix, b.ravel()) ** 3)

    a = jnp.asarray(5.0 ** np.random.default_rng(1).uniform(size=grid.shape))
    np.testing.assert_allclose(
        through_lineax(a), dense(a), rtol=1e-8, atol=1e-9 * jnp.abs(dense(a)).max()
    )


def test_gradient_of_complex_systems_in_lineax():
    """Uses the solver's `conj`."""
    A = hermitian(6)
    rng = np.random.default_rng(1)
    b = jnp.asarray(rng.normal(size=6) + 1j * rng.normal(size=6))

    def through(solve):
        return jax.grad(lambda b: jnp.sum(jnp.abs(solve(b)) ** 2))(b)

    solver = sciml.CG(rtol=1e-12)
    expected = through(lambda b: jnp.linalg.solve(jnp.asarray(A), b))
    for solve in (linear_solve, lx.linear_solve):
        actual = through(lambda b, s=solve: s(matrix_operator(A), b, solver).value)
        np.testing.assert_allclose(actual, expected, atol=1e-9)


# --- our verb -------------------------------------------------------------------------


def test_default_tolerances_and_dtypes():
    for dtype, rtol in ((jnp.float32, 1e-5), (jnp.float64, 1e-8)):
        A = diffusion_operator(jnp.ones((15,), dtype), Grid(15))
        solution = linear_solve(A, jnp.ones(15, dtype), preconditioner=Multigrid())
        assert solution.value.dtype == dtype
        assert solution.stats["relative_residual"].dtype == dtype
        assert float(solution.stats["relative_residual"]) <= rtol


@pytest.mark.parametrize("preconditioner", [None, Multigrid()])
def test_the_default_tolerance_knows_the_rounding_floor(preconditioner):
    """float32 cannot reach 1e-5 here, and is as right as it can be all the same."""
    grid = Grid((31, 31))
    b = np.ones(grid.shape)
    exact = linear_solve(diffusion_operator(1.0, grid), b, preconditioner=Multigrid())
    assert float(exact.stats["tolerance"]) == 1e-8
    A = diffusion_operator(jnp.float32(1.0), grid)
    b = b.astype(np.float32)
    solution = linear_solve(A, b, preconditioner=preconditioner)
    tolerance = float(solution.stats["tolerance"])
    assert 5e-5 < tolerance < 5e-4
    assert float(solution.stats["relative_residual"]) <= tolerance
    scale = float(jnp.abs(exact.value).max())
    np.testing.assert_allclose(solution.value, exact.value, rtol=0, atol=2e-5 * scale)
    # What the caller asks for is not relaxed.
    solver = sciml.CG(rtol=1e-6)
    solution = linear_solve(A, b, solver, preconditioner=preconditioner, throw=False)
    np.testing.assert_allclose(solution.stats["tolerance"], 1e-6, rtol=1e-6)
    assert outcome(solution.result) == "stagnated"


def test_the_rounding_floor_excuses_little():
    """In 1-D with 20,000 nodes rounding leaves more than b itself: no success."""
    A = diffusion_operator(jnp.float32(1.0), Grid(20_000))
    b = jnp.ones(20_000, jnp.float32)
    solution = linear_solve(A, b, preconditioner=Multigrid(), throw=False)
    assert outcome(solution.result) == "stagnated"
    assert float(solution.stats["relative_residual"]) > 1e-2
    np.testing.assert_allclose(solution.stats["tolerance"], 1e-2, rtol=1e-6)


def test_throw_raises_what_happened():
    A, b = matrix_operator(spd_matrix(N)), jnp.ones(N)
    with pytest.raises(eqx.EquinoxRuntimeError, match="not positive definite"):
        linear_solve(A, b, preconditioner=matrix_operator(-np.eye(N)))
    with pytest.raises(eqx.EquinoxRuntimeError, match="not positive definite"):
        eqx.filter_jit(linear_solve)(matrix_operator(-spd_matrix(N)), b)


def test_numpy_vectors_and_initial_guesses():
    A = spd_matrix(N)
    b = np.random.default_rng(0).normal(size=N)
    exact = np.linalg.solve(A, b)
    cold = linear_solve(matrix_operator(A), b)
    warm = linear_solve(matrix_operator(A), b, x0=exact + 1e-6)
    assert int(warm.stats["num_steps"]) < int(cold.stats["num_steps"])
    np.testing.assert_allclose(warm.value, exact, atol=1e-6)


def test_adjoint_solve_has_its_own_statistics():
    A = matrix_operator(spd_matrix(N, 1e3))
    g = jnp.asarray(np.random.default_rng(0).normal(size=N))
    solution = adjoint_solve(A, g, sciml.CG(rtol=1e-9), preconditioner=Jacobi())
    expected = np.linalg.solve(np.asarray(A.as_matrix()).T, g)
    np.testing.assert_allclose(solution.value, expected, atol=1e-6)
    assert int(solution.stats["num_steps"]) > 1
    solver = sciml.CG(rtol=1e-9, max_steps=2)
    solution = adjoint_solve(A, g, solver, throw=False)
    assert outcome(solution.result) == "max_steps_reached"
    warm = adjoint_solve(A, g, sciml.CG(rtol=1e-6), x0=jnp.asarray(expected))
    assert int(warm.stats["num_steps"]) == 0


@pytest.mark.parametrize("solve", [linear_solve, adjoint_solve])
def test_jit_vmap(solve):
    grid = Grid((6, 7))
    rng = np.random.default_rng(0)
    fields = jnp.asarray(10.0 ** rng.uniform(size=(3, *grid.shape)))
    b = jnp.asarray(rng.normal(size=(3, *grid.shape)))

    def one(a, b):
        A = diffusion_operator(a, grid)
        return solve(A, b, sciml.CG(rtol=1e-11), preconditioner=Multigrid()).value

    together = jax.jit(jax.vmap(one))(fields, b)
    for a, right, value in zip(fields, b, together, strict=True):
        matrix = diffusion_operator(a, grid).as_matrix()
        expected = np.linalg.solve(matrix, np.ravel(right)).reshape(grid.shape)
        np.testing.assert_allclose(value, expected, atol=1e-10)
