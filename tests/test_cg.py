"""Conjugate gradients: every way to end, told truthfully; the same as other codes."""

# Wrong arguments are the point here, and NumPy takes JAX scalars.
# pyright: reportArgumentType=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
import numpy as np
import pytest
import scipy.sparse.linalg as sparse_linalg
from fault_cases import (
    DTYPES,
    RTOL,
    N,
    faults,
    relative_residual,
)
from linear_cases import PSD, matrix_operator, outcome, solve_dense, spd_matrix

import sciml
from sciml.grids import Grid
from sciml.linear import diffusion_operator, linear_solve
from sciml.preconditioners import Jacobi

# --- faults ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", faults())
def test_faults_are_named(case, dtype):
    A, b, M, x0, expected = faults()[case]
    x0 = np.zeros(N) if x0 is None else x0
    A, b, M, x0 = (jnp.asarray(v, dtype) for v in (A, b, M, x0))
    rtol = 1e-2 if case == "x0 far away" else RTOL[dtype]
    solution = solve_dense(A, b, M, x0, sciml.CG(rtol=rtol, max_steps=200))
    assert outcome(solution.result) in expected
    if case == "M = inverse":
        assert int(solution.stats["num_steps"]) <= 2
    if "nonfinite" not in expected:
        assert jnp.isfinite(solution.value).all()
        reported = float(solution.stats["relative_residual"])
        recomputed = relative_residual(A, solution.value, b)
        np.testing.assert_allclose(reported, recomputed, rtol=2e-2, atol=1e-2 * rtol)
        if outcome(solution.result) == "successful":
            assert recomputed <= 1.01 * rtol


def test_negative_tag_and_wrong_tag():
    A, b = spd_matrix(N), jnp.ones(N)
    negative = lx.MatrixLinearOperator(-jnp.asarray(A), lx.negative_semidefinite_tag)
    for solve in (linear_solve, sciml.linear.adjoint_solve):
        solution = solve(negative, b, preconditioner=Jacobi())
        np.testing.assert_allclose(
            solution.value, -np.linalg.solve(A, b), rtol=0, atol=1e-7
        )
    with pytest.raises(ValueError, match="not tagged so"):
        linear_solve(lx.MatrixLinearOperator(jnp.asarray(A)), b)
    M = lx.MatrixLinearOperator(jnp.eye(N))
    with pytest.raises(ValueError, match="preconditioner: .* not tagged so"):
        linear_solve(matrix_operator(A), b, preconditioner=M)


def test_zeros_in_the_right_hand_side():
    """A point source with atol = 0, where an elementwise test divides 0 by 0."""
    n = 50
    A = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    b = np.zeros(n)
    b[7] = 1.0
    solution = linear_solve(matrix_operator(A), b, sciml.CG(rtol=1e-8, atol=0.0))
    assert outcome(solution.result) == "successful"
    np.testing.assert_allclose(solution.value, np.linalg.solve(A, b), atol=1e-6)


# --- beginnings and ends --------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_easy_beginnings(dtype):
    A = jnp.asarray(spd_matrix(N), dtype)
    b, zero = jnp.ones(N, dtype), jnp.zeros(N, dtype)
    solver = sciml.CG(rtol=RTOL[dtype], max_steps=200)
    eye = jnp.eye(N, dtype=dtype)
    # b = 0 has the solution 0 whatever the initial guess.
    solution = solve_dense(A, zero, eye, b, solver)
    assert outcome(solution.result) == "successful"
    assert int(solution.stats["num_steps"]) == 0
    assert jnp.all(solution.value == 0) and solution.stats["relative_residual"] == 0
    # The exact solution as initial guess.
    exact = jnp.asarray(np.linalg.solve(np.asarray(A, float), np.ones(N)), dtype)
    solution = solve_dense(A, b, eye, exact, solver)
    assert int(solution.stats["num_steps"]) == 0
    assert jnp.array_equal(solution.value, exact)


def test_one_unknown():
    solution = linear_solve(matrix_operator([[4.0]]), jnp.array([2.0]))
    assert outcome(solution.result) == "successful"
    assert int(solution.stats["num_steps"]) == 1
    np.testing.assert_allclose(solution.value, [0.5], rtol=1e-15)


def test_scale_of_b_changes_nothing_but_the_scale():
    A, b = spd_matrix(N), np.random.default_rng(0).normal(size=N)
    eye, solver = jnp.eye(N), sciml.CG(rtol=1e-5, max_steps=200)
    one = solve_dense(A, b, eye, jnp.zeros(N), solver)
    for scale in (2.0**-990, 2.0**-500, 2.0**500, 2.0**990):  # 1e-298 … 1e298
        other = solve_dense(A, scale * b, eye, jnp.zeros(N), solver)
        assert outcome(other.result) == "successful"
        assert int(other.stats["num_steps"]) == int(one.stats["num_steps"])
        np.testing.assert_array_equal(other.value / scale, one.value)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tiny_and_huge_right_hand_sides(dtype):
    """Squares of entries under- or overflow, and b is rounded differently."""
    A, eye = jnp.asarray(spd_matrix(N, 4.0), dtype), jnp.eye(N, dtype=dtype)
    single = dtype == np.float32
    solver = sciml.CG(rtol=1e-3 if single else 1e-5, max_steps=200)
    exponent, close = (30, 1e-5) if single else (300, 1e-12)
    for seed in range(3):
        b, zero = np.random.default_rng(seed).normal(size=N), jnp.zeros(N, dtype)
        one = solve_dense(A, jnp.asarray(b, dtype), eye, zero, solver)
        assert outcome(one.result) == "successful"
        for scale in (10.0**-exponent, 10.0**exponent):
            other = solve_dense(A, jnp.asarray(scale * b, dtype), eye, zero, solver)
            assert outcome(other.result) == "successful"
            assert int(other.stats["num_steps"]) == int(one.stats["num_steps"])
            value = np.asarray(other.value, float) / scale
            np.testing.assert_allclose(value, one.value, rtol=0, atol=close)


@pytest.mark.parametrize("seed", range(4))
def test_permuted_and_scaled_systems(seed):
    """P A Pᵀ and c A are as hard as A."""
    rng = np.random.default_rng(seed)
    A, b, order = spd_matrix(N, seed=seed), rng.normal(size=N), rng.permutation(N)
    factor = 10.0 ** rng.uniform(-100, 100)
    eye, solver = jnp.eye(N), sciml.CG(rtol=1e-5, max_steps=200)
    one = solve_dense(A, b, eye, jnp.zeros(N), solver)
    scaled = solve_dense(factor * A, b, eye, jnp.zeros(N), solver)
    moved = solve_dense(A[np.ix_(order, order)], b[order], eye, jnp.zeros(N), solver)
    for other in (scaled, moved):
        assert outcome(other.result) == "successful"
        assert abs(int(other.stats["num_steps"]) - int(one.stats["num_steps"])) <= 1
    np.testing.assert_allclose(factor * scaled.value, one.value, rtol=0, atol=1e-5)
    np.testing.assert_allclose(moved.value, one.value[order], rtol=0, atol=1e-5)


def test_absolute_tolerance():
    A, b = spd_matrix(N), np.random.default_rng(0).normal(size=N)
    solver = sciml.CG(rtol=0.0, atol=1e-3, max_steps=200)
    solution = solve_dense(A, b, jnp.eye(N), jnp.zeros(N), solver)
    norm = np.linalg.norm(b - A @ np.asarray(solution.value))
    assert outcome(solution.result) == "successful" and 1e-5 < norm <= 1e-3
    # atol is in the units of b.
    again = solve_dense(A, 1e-6 * b, jnp.eye(N), jnp.zeros(N), solver)
    assert int(again.stats["num_steps"]) == 0 and jnp.all(again.value == 0)


def test_max_steps():
    A, b = spd_matrix(N), np.ones(N)
    full = linear_solve(matrix_operator(A), b, sciml.CG(rtol=1e-9))
    needed = int(full.stats["num_steps"])
    for max_steps, expected in (
        (needed, "successful"),
        (needed - 1, "max_steps_reached"),
        (1, "max_steps_reached"),
    ):
        solver = sciml.CG(rtol=1e-9, max_steps=max_steps)
        solution = linear_solve(matrix_operator(A), b, solver, throw=False)
        assert outcome(solution.result) == expected
        assert int(solution.stats["num_steps"]) == max_steps
    with pytest.raises(eqx.EquinoxRuntimeError, match="maximum number of"):
        linear_solve(matrix_operator(A), b, sciml.CG(max_steps=1))


def test_tolerance_below_the_rounding_floor():
    A = jnp.asarray(spd_matrix(N, 1e3), jnp.float32)
    b = jnp.ones(N, jnp.float32)
    solver = sciml.CG(rtol=1e-12, max_steps=5000)
    solution = solve_dense(A, b, jnp.eye(N, dtype=b.dtype), 0 * b, solver)
    assert outcome(solution.result) == "stagnated"
    assert int(solution.stats["num_restarts"]) == 2
    assert int(solution.stats["num_steps"]) < 1000
    # It is nevertheless as good as float32 allows.
    assert float(solution.stats["relative_residual"]) < 1e-4


def test_plateaus_of_the_residual_are_no_stagnation():
    """The residual of an ill-conditioned system stays high for long, then falls."""
    d = jnp.geomspace(1.0, 1e12, 60)
    A = lx.TaggedLinearOperator(lx.DiagonalLinearOperator(d), PSD)
    solution = linear_solve(A, jnp.ones(60), sciml.CG(max_steps=20_000))
    assert int(solution.stats["num_steps"]) > 1000
    np.testing.assert_allclose(solution.value, 1 / d, rtol=0, atol=1e-6)


# --- the same as other codes ----------------------------------------------------------


@pytest.mark.parametrize("contrast", [1.0, 100.0])
def test_iteration_counts_are_those_of_scipy(contrast):
    grid = Grid((16, 17))
    rng = np.random.default_rng(0)
    A = diffusion_operator(contrast ** rng.uniform(size=grid.shape), grid)
    matrix, b = np.asarray(A.as_matrix()), rng.normal(size=grid.shape)
    for ours, theirs in ((None, None), (Jacobi(), np.diag(1 / np.diag(matrix)))):
        solution = linear_solve(A, b, sciml.CG(rtol=1e-8), preconditioner=ours)
        steps = []
        _, info = sparse_linalg.cg(
            matrix, b.ravel(), rtol=1e-8, M=theirs, callback=steps.append
        )
        assert info == 0
        assert abs(int(solution.stats["num_steps"]) - len(steps)) <= 2
        truth = relative_residual(matrix, np.ravel(solution.value), b.ravel())
        np.testing.assert_allclose(solution.stats["relative_residual"], truth, 1e-4)


def textbook(A, M, b, x, num_steps):
    """Hestenes and Stiefel, line by line: the residual norms."""
    r = b - A @ x
    z = M @ r
    p, norms = z, [np.linalg.norm(r)]
    for _ in range(num_steps):
        alpha = (r @ z) / (p @ A @ p)
        x, new = x + alpha * p, r - alpha * (A @ p)
        z_new = M @ new
        p = z_new + (new @ z_new) / (r @ z) * p
        r, z = new, z_new
        norms.append(np.linalg.norm(r))
    return np.array(norms) / np.linalg.norm(b)


def test_history():
    A, M = spd_matrix(N, 30.0), spd_matrix(N, 3.0, seed=1)
    b, x0 = np.random.default_rng(0).normal(size=(2, N))
    solver = sciml.CG(rtol=1e-9, max_steps=60)
    solution = solve_dense(A, b, M, x0, solver)
    history = np.asarray(solution.stats["residual_history"])
    steps = int(solution.stats["num_steps"])
    assert history.shape == (61,)
    assert np.isfinite(history[: steps + 1]).all()
    assert np.isnan(history[steps + 1 :]).all()
    assert history[steps] <= 1e-9 < history[steps - 1]
    expected = textbook(A, M, b, x0, 12)
    np.testing.assert_allclose(history[:13], expected, rtol=1e-8)
    short = sciml.CG(rtol=1e-9, max_steps=60, history_length=3)
    solution = solve_dense(A, b, M, x0, short)
    assert int(solution.stats["num_steps"]) == steps
    np.testing.assert_allclose(
        solution.stats["residual_history"], expected[:3], rtol=1e-8
    )


def test_tolerances_and_vectors_do_not_retrace(getkey):
    traces = []

    @eqx.filter_jit
    def solve(b, solver):
        traces.append(1)
        return linear_solve(matrix_operator(spd_matrix(N)), b, solver)

    residuals = []
    for rtol in (1e-2, 1e-5, np.float64(1e-8)):
        solution = solve(jr.normal(getkey(), (N,)), sciml.CG(rtol=rtol))
        residuals.append(float(solution.stats["relative_residual"]))
        assert residuals[-1] <= rtol
    assert len(traces) == 1 and residuals[0] > 1e-5 > residuals[1] > residuals[2]
