"""Algebraic multigrid: as few steps as PyAMG, definite, and clear about its limits."""

# pyright: reportArgumentType=false

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.sparse as sp
from linear_cases import PSD, outcome, random_field

import problems
import sciml
from sciml.grids import Grid
from sciml.linear import diffusion_operator, from_scipy, linear_solve, to_scipy
from sciml.preconditioners import (
    AlgebraicMultigrid,
    DampedJacobi,
    Jacobi,
    RugeStuben,
    SmoothedAggregation,
)

pyamg = pytest.importorskip("pyamg")


def unstructured(refinements=4) -> sp.csr_matrix:
    """P1 elements for −∇·(a∇u) on an L-shape, a of two values, u = 0 around it."""
    skfem = pytest.importorskip("skfem")
    mesh = skfem.MeshTri.init_lshaped().refined(refinements)
    basis = skfem.Basis(mesh, skfem.ElementTriP1())

    @skfem.BilinearForm
    def form(u, v, w):
        a = np.where(w.x[0] > 0.2, 100.0, 1.0)
        return a * (u.grad[0] * v.grad[0] + u.grad[1] * v.grad[1])

    inner = mesh.interior_nodes()
    return form.assemble(basis)[inner][:, inner].tocsr()


def steps_of_pyamg(build, matrix, b) -> int:
    residuals = []
    build(matrix).solve(b, tol=1e-8, accel="cg", maxiter=200, residuals=residuals)
    return len(residuals) - 1


@pytest.mark.filterwarnings("ignore")
def test_steps_are_those_of_pyamg():
    matrix = unstructured()
    A, b = (
        from_scipy(matrix, PSD),
        np.random.default_rng(0).normal(size=len(matrix.indptr) - 1),
    )
    solver = sciml.CG(rtol=1e-8)
    plain = int(linear_solve(A, b, solver, preconditioner=Jacobi()).stats["num_steps"])
    for aggregation, rival in (
        (RugeStuben(), pyamg.ruge_stuben_solver),
        (SmoothedAggregation(), pyamg.smoothed_aggregation_solver),
    ):
        builder = AlgebraicMultigrid(aggregation)
        solution = linear_solve(A, b, solver, preconditioner=builder)
        residual = np.linalg.norm(b - matrix @ solution.value) / np.linalg.norm(b)
        assert residual <= 1.01e-8
        steps = int(solution.stats["num_steps"])
        assert steps <= steps_of_pyamg(rival, matrix, b) + 3 < plain / 2


@pytest.mark.parametrize("unit", [1.0, 1e-150, 1e150])
def test_definite_in_any_units(unit):
    matrix = unstructured(2) * unit
    A = from_scipy(matrix, PSD)
    exact = AlgebraicMultigrid(max_coarse_size=5, cycle_dtype=None)
    for builder, eps in ((exact, 1e-13), (AlgebraicMultigrid(max_coarse_size=5), 1e-5)):
        M = builder.build(A)
        assert M.in_structure() == A.in_structure() and lx.is_positive_semidefinite(M)
        m = np.asarray(eqx.filter_jit(lambda M: M.as_matrix())(M)) * unit
        assert np.abs(m - m.T).max() <= eps * np.abs(m).max()
        values = np.linalg.eigvals(m @ matrix.toarray() / unit).real
        # An energy contraction: Galerkin operators, smoothers that converge.
        assert 0.05 < values.min() and values.max() < 1 + 1e-4


def test_on_a_grid_and_with_another_smoother():
    """No grid is asked for: white noise of contrast 1e4, fields keep their shape."""
    grid = Grid((15, 16))
    A = diffusion_operator(random_field(grid.shape, 1e4), grid)
    b = np.random.default_rng(1).normal(size=grid.shape)
    builder = AlgebraicMultigrid(smoother=DampedJacobi(2), max_coarse_size=20)
    solution = linear_solve(A, b, sciml.CG(rtol=1e-10), preconditioner=builder)
    exact = np.linalg.solve(A.as_matrix(), b.ravel()).reshape(b.shape)
    np.testing.assert_allclose(solution.value, exact, atol=1e-7 * np.abs(exact).max())
    assert int(solution.stats["num_steps"]) < 25


def test_set_up_once_then_jit_vmap_and_grad():
    matrix = unstructured(2)
    A = from_scipy(matrix, PSD)
    M = AlgebraicMultigrid(max_coarse_size=10).build(A)
    bs = np.random.default_rng(2).normal(size=(3, A.in_size()))
    solver = sciml.CG(rtol=1e-11)

    @jax.jit
    def solve(A, b):
        return linear_solve(A, b, solver, preconditioner=M).value

    together = jax.vmap(solve, (None, 0))(A, jnp.asarray(bs))
    np.testing.assert_allclose(
        together, np.linalg.solve(matrix.toarray(), bs.T).T, atol=1e-8
    )
    gradient = jax.grad(lambda b: jnp.sum(solve(A, b) ** 2))(jnp.asarray(bs[0]))
    expected = 2 * np.linalg.solve(matrix.toarray(), together[0])
    np.testing.assert_allclose(gradient, expected, atol=1e-7)


def test_mistakes(data_folder):
    A = from_scipy(unstructured(1), PSD)
    with pytest.raises(TypeError, match="set up on the host.* outside of jit"):
        jax.jit(lambda A: AlgebraicMultigrid().build(A).mv(jnp.ones(A.in_size())))(A)
    with pytest.raises(TypeError, match="operator: .*"):
        structure = jax.eval_shape(lambda: jnp.ones(3))
        AlgebraicMultigrid().build(lx.FunctionLinearOperator(lambda x: x, structure))
    bad = to_scipy(A)
    bad[2, 2] = -1.0
    with pytest.raises(ValueError, match="positive diagonal, but A has .* in row 2"):
        AlgebraicMultigrid().build(from_scipy(bad, PSD))
    # Classical interpolation does not suit this matrix: said, and the other one works.
    matrix = sp.load_npz(data_folder / "matrices" / "nos5.npz")
    A = from_scipy(matrix, PSD)
    with pytest.raises(
        ValueError, match="coarse matrix of level .*SmoothedAggregation"
    ):
        AlgebraicMultigrid().build(A)
    builder = AlgebraicMultigrid(SmoothedAggregation())
    b = matrix @ np.ones(A.in_size())
    solution = linear_solve(A, b, sciml.CG(rtol=1e-8), preconditioner=builder)
    assert outcome(solution.result) == "successful"


def test_rigid_motions_of_elasticity():
    """Interpolating them is what makes aggregation work there."""
    pytest.importorskip("skfem")
    system = problems.LinearElasticity((16, 8)).discretise()
    plain = SmoothedAggregation()
    rigid = SmoothedAggregation(
        near_null_space=system.near_null_space, block_size=system.block_size
    )
    steps = []
    for aggregation in (plain, rigid):
        builder = AlgebraicMultigrid(aggregation, max_coarse_size=30)
        solution = sciml.linear_solve(
            system.operator, system.vector, sciml.CG(rtol=1e-8), preconditioner=builder
        )
        steps.append(int(solution.stats["num_steps"]))
    assert steps[1] <= 25 and steps[1] < steps[0] / 2
    for wrong, message in (
        (SmoothedAggregation(near_null_space=np.ones((3, 1))), "near_null_space"),
        (SmoothedAggregation(block_size=5), "block_size"),
    ):
        with pytest.raises(ValueError, match=message):
            AlgebraicMultigrid(wrong).build(system.operator)
