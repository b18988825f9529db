"""SOR and SSOR with traced matrices and ω, and the stationary iteration."""

# Wrong arguments are the point here, and SciPy's annotations know one diagonal.
# pyright: reportArgumentType=false

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.sparse as sp
from linear_cases import PSD, outcome

import sciml
from sciml.linear import Stationary, from_scipy, linear_solve, to_scipy
from sciml.preconditioners import JacobiSweeps, LevelSchedule, RelaxationPlan


def grid_matrix(n=5, shift=0.0):
    line = sp.csr_array(2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1))
    return (sp.kronsum(line, line) + shift * sp.eye(n * n)).tocsr()


def scattered_matrix(seed, n=24):
    """Hermitian, dominant, of one pattern for all seeds."""
    pattern = np.tril(np.random.default_rng(0).uniform(size=(n, n)) < 0.2, -1)
    rng = np.random.default_rng(seed)
    lower = pattern * np.exp(2j * np.pi * rng.uniform(size=(n, n)))
    full = lower + lower.conj().T
    return sp.csr_matrix(full + np.diag(1.1 * abs(full).sum(1) + 0.1))


def dense_ssor(A, omega):
    A = np.asarray(A)
    D, L = np.diag(np.diag(A)), np.tril(A, -1)
    X = D + omega * L
    return omega * (2 - omega) * np.linalg.inv(X @ np.linalg.inv(D) @ X.conj().T)


def dense_sor(A, omega):
    A = np.asarray(A)
    return np.linalg.inv(np.diag(np.diag(A)) / omega + np.tril(A, -1))


@eqx.filter_jit
def matrices(plan, A, omega):
    return plan.ssor(A, omega).as_matrix(), plan.sor(A, omega).as_matrix()


# With as many sweeps as rows that depend on each other they are exact.
@pytest.mark.parametrize("solve", [LevelSchedule(), JacobiSweeps(24)], ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_other_values_of_the_pattern(solve, dtype):
    """One plan and one program for all matrices and ω of the sequence."""
    complex_ = np.issubdtype(dtype, np.complexfloating)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    plan, traces = None, []

    @eqx.filter_jit
    def apply(plan, A, omega):
        traces.append(omega)
        return matrices(plan, A, omega)

    for seed, omega in ((0, 1.0), (1, 1.3), (2, 1.9)):
        matrix = scattered_matrix(seed)
        matrix = matrix if complex_ else matrix.real + 0 * matrix.real
        A = from_scipy(matrix.astype(dtype), PSD)
        plan = RelaxationPlan(A, solve) if plan is None else plan
        ssor, sor = apply(plan, A, jnp.asarray(omega))
        assert ssor.dtype == sor.dtype == dtype
        dense = to_scipy(A).toarray()
        for got, expected in (
            (ssor, dense_ssor(dense, omega)),
            (sor, dense_sor(dense, omega)),
        ):
            assert abs(got - expected).max() <= tolerance * abs(expected).max()
    assert len(traces) == 1


@pytest.mark.parametrize("kind", ["stencil", "diagonals", "dense", "tagged"])
def test_operators(kind):
    A = sciml.linear.diffusion_operator(2.0, sciml.grids.Grid((4, 3)), reaction=5.0)
    if kind != "stencil":
        csr = to_scipy(A)
        A = from_scipy(csr, PSD)
        if kind == "dense":
            A = lx.MatrixLinearOperator(jnp.asarray(csr.toarray()), PSD)
        if kind == "tagged":
            A = lx.TaggedLinearOperator(from_scipy(csr), PSD)
    dense = to_scipy(A).toarray()
    plan = RelaxationPlan(A)
    ssor, sor = matrices(plan, A, 1.4)
    assert np.allclose(ssor, dense_ssor(dense, 1.4), rtol=1e-12)
    assert np.allclose(sor, dense_sor(dense, 1.4), rtol=1e-12)
    # The adjoint is the sweep from the other end.
    M = plan.sor(A, 1.4)
    assert np.allclose(M.transpose().as_matrix(), sor.T, atol=1e-14)
    assert M.transpose().transpose().as_matrix().tolist() == sor.tolist()
    many = jax.vmap(lambda w: plan.ssor(A, w).mv(jnp.ones(M.in_structure().shape)))
    batch = many(jnp.array([1.0, 1.4]))
    assert np.allclose(batch[1].ravel(), dense_ssor(dense, 1.4).sum(1), rtol=1e-12)


def test_it_is_what_ssor_builds():
    A = from_scipy(grid_matrix(), PSD)
    built = sciml.preconditioners.SSOR(1.3).build(A).as_matrix()
    planned = RelaxationPlan(A).ssor(A, 1.3).as_matrix()
    assert np.allclose(built, planned, rtol=1e-14)


def test_an_entry_that_is_zero_at_first():
    """Stays what the plan took it for: the pattern is the first matrix's."""
    dense = np.array([[2.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 2.0]])
    A = lx.MatrixLinearOperator(jnp.asarray(dense), PSD)
    plan = RelaxationPlan(A)
    assert plan.sources.shape == (5,)
    other = lx.MatrixLinearOperator(jnp.asarray(dense).at[2, 0].set(7.0), PSD)
    assert np.array_equal(plan.sor(other, 1.0).as_matrix(), dense_sor(dense, 1.0))


def test_rows_that_store_zeros():
    """As those of finite elements with right angles do."""
    rows, columns = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    values = np.array([2.0, 0.0, 0.0, 3.0])
    A = sciml.linear.PaddedRowsOperator(rows, columns, values, (2, 2), PSD)
    M = sciml.preconditioners.SSOR(1.0).build(A)
    assert np.allclose(M.as_matrix(), np.diag([1 / 2, 1 / 3]))


def test_mistakes():
    A = from_scipy(grid_matrix(3), PSD)
    plan = RelaxationPlan(A)
    with pytest.raises(TypeError, match="traced here. Make the plan outside of jit"):
        eqx.filter_jit(RelaxationPlan)(A)
    with pytest.raises(ValueError, match="expected the structure of the one that was"):
        plan.ssor(from_scipy(grid_matrix(4), PSD), 1.2)
    with pytest.raises(ValueError, match=r"omega: expected one number, got shape \(2,"):
        plan.sor(A, jnp.ones(2))
    twice = np.array([0, 0, 1])
    doubled = sciml.linear.PaddedRowsOperator(twice, twice, np.ones(3), (2, 2), PSD)
    with pytest.raises(TypeError, match="cannot tell where"):
        RelaxationPlan(doubled)
    with pytest.raises(ValueError, match="positive diagonal"):
        RelaxationPlan(from_scipy(grid_matrix(3, -9.0), PSD))


@pytest.mark.parametrize(
    "omega, end", [(jnp.nan, "nonfinite"), (2.5, "indefinite_preconditioner")]
)
def test_cg_reports_what_no_relaxation_is(omega, end):
    A = from_scipy(grid_matrix(), PSD)
    M = RelaxationPlan(A).ssor(A, omega)
    solution = linear_solve(
        A, jnp.ones(25), sciml.CG(rtol=1e-8), preconditioner=M, throw=False
    )
    assert outcome(solution.result) == end


# --- stationary iterations ------------------------------------------------------------


def sor_steps(A, b, omega, rtol=1e-8):
    """SOR row by row, until the residual is small."""
    A, x, steps = A.toarray(), np.zeros(len(b)), 0
    while np.linalg.norm(b - A @ x) > rtol * np.linalg.norm(b):
        for i in range(len(b)):
            x[i] += omega * (b[i] - A[i] @ x) / A[i, i]
        steps += 1
    return steps, x


@pytest.mark.parametrize("omega", [1.0, 1.4, 1.8])
def test_sor_row_by_row(omega):
    matrix = grid_matrix(5, 0.1)
    A, b = from_scipy(matrix, PSD), np.random.default_rng(0).normal(size=25)
    steps, x = sor_steps(matrix, b, omega)
    M = RelaxationPlan(A).sor(A, omega)
    solution = linear_solve(A, jnp.asarray(b), Stationary(rtol=1e-8), preconditioner=M)
    assert solution.stats["num_steps"] == steps
    np.testing.assert_allclose(solution.value, x, rtol=1e-10, atol=1e-12)
    residual = np.linalg.norm(b - matrix @ np.asarray(solution.value))
    relative = residual / np.linalg.norm(b)
    np.testing.assert_allclose(solution.stats["relative_residual"], relative, rtol=1e-6)


def test_ends_of_stationary_iterations():
    A, b = from_scipy(grid_matrix(5), PSD), jnp.ones(25)
    M = RelaxationPlan(A).sor(A, 1.0)
    solve = lambda solver, M: linear_solve(A, b, solver, preconditioner=M, throw=False)
    few = solve(Stationary(rtol=1e-8, max_steps=7), M)
    assert outcome(few.result) == "max_steps_reached" and few.stats["num_steps"] == 7
    # Richardson's iteration with eigenvalues up to 8.
    assert outcome(solve(Stationary(rtol=1e-8), None).result) == "diverged"
    bad = RelaxationPlan(A).sor(A, jnp.nan)
    assert outcome(solve(Stationary(rtol=1e-8), bad).result) == "nonfinite"
    below = solve(Stationary(rtol=0.0), M)
    assert outcome(below.result) in ("stagnated", "max_steps_reached")
    tall = from_scipy(sp.csr_matrix(np.ones((3, 2))))
    with pytest.raises(ValueError, match="Stationary needs a square operator"):
        linear_solve(tall, jnp.ones(3), Stationary())


def test_gradients_through_sor():
    """Aᵀ is solved with the sweep the other way round."""
    matrix = grid_matrix(4, 0.5) + sp.diags_array([np.ones(15) / 4], offsets=[1])
    A, b = from_scipy(matrix.tocsr()), jnp.linspace(1.0, 2.0, 16)
    plan = RelaxationPlan(A)
    solver = Stationary(rtol=1e-12)

    def functional(b):
        M = plan.sor(A, 1.1)
        return jnp.sum(linear_solve(A, b, solver, preconditioner=M).value ** 2)

    x = np.linalg.solve(matrix.toarray(), b)
    expected = np.linalg.solve(matrix.toarray().T, 2 * x)
    np.testing.assert_allclose(jax.grad(functional)(b), expected, rtol=1e-9)
