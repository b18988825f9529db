"""The benchmarks measure what they say."""

import math

import jax.random as jr
import numpy as np
import pytest

import problems
import sciml
from problems.bench import bench_linear
from problems.bench._contraction import contraction_factor
from sciml.grids import Dirichlet, Grid, Neumann, Periodic, diffusion_stencil
from sciml.linear import StencilOperator, to_scipy
from sciml.preconditioners import Chebyshev, Multigrid

GRIDS = {
    "dirichlet": Grid((6, 5)),
    "one axis": Grid(7, boundary=[(Dirichlet(), Neumann())]),
    "neumann": Grid((5, 6), boundary=Neumann()),
    "periodic": Grid((5, 4), boundary=Periodic()),
    "mixed": Grid(
        (5, 6), boundary=((Dirichlet(stored=True), Neumann()), Periodic()), extent=2.0
    ),
    "three axes": Grid(
        (3, 4, 3), boundary=(Periodic(), (Neumann(), Dirichlet()), Dirichlet())
    ),
}


@pytest.mark.parametrize("name", GRIDS)
def test_csr_is_the_dense_matrix(name, getkey):
    grid = GRIDS[name]
    coefficient = jr.uniform(getkey(), grid.shape, minval=0.1, maxval=10.0)
    stencil = diffusion_stencil(coefficient, grid)
    matrix = to_scipy(StencilOperator(stencil, grid))
    dense = np.asarray(stencil.dense())
    np.testing.assert_array_equal(matrix.toarray(), dense)
    assert matrix.nnz == np.count_nonzero(dense)  # no zeros and no duplicates


def test_csr_of_a_galerkin_stencil(getkey):
    # Couplings along the diagonals as well.
    problem = problems.Diffusion((9, 9), contrast=100.0)
    A, _ = problem.assemble(problem.sample_coefficient(key=getkey()))
    levels, coarsest = Multigrid(max_coarse_size=20).hierarchy(A)
    assert len(levels) == 1 and len(coarsest.offsets) == 4
    matrix = to_scipy(StencilOperator(coarsest, Grid(coarsest.shape))).toarray()
    np.testing.assert_array_equal(matrix, np.asarray(coarsest.dense()))


@pytest.fixture(scope="module")
def measured():
    """Rows as they were returned, and as they were told."""
    told = []
    rows = bench_linear(
        31, (10.0, 1000.0), rtol=1e-8, repeats=2, cap=60, seed=5, on_row=told.append
    )
    return rows, told


FIELDS = [
    "contrast",
    "method",
    "iterations",
    "status",
    "relative_residual",
    "setup_time",
    "solve_time",
    "total_time",
    "cold_time",
    "ratio",
    "history",
]
OURS = [
    "sciml CG + Multigrid",
    "sciml CG + Multigrid, float64 cycle",
    "sciml CG + Jacobi",
    "sciml CG",
]
AMG = ["PyAMG Ruge–Stüben + CG", "PyAMG smoothed aggregation + CG"]


def test_rows_of_the_linear_benchmark(measured):
    rows, told = measured
    assert told == rows
    methods = [row["method"] for row in rows if row["contrast"] == 10.0]
    pytest.importorskip("pyamg")
    assert methods == [*OURS, "SciPy SuperLU", *AMG]
    assert [row["method"] for row in rows] == 2 * methods
    assert [row["contrast"] for row in rows] == [10.0] * 7 + [1000.0] * 7
    for row in rows:
        assert list(row) == FIELDS
        for name in ("setup_time", "solve_time", "total_time", "cold_time", "ratio"):
            assert math.isfinite(row[name]) and row[name] > 0
        parts = row["setup_time"] + row["solve_time"]
        # Medians of two rounds are means, and add up.
        assert row["total_time"] == pytest.approx(parts, rel=1e-6)
        if row["method"] == "sciml CG + Multigrid":
            assert row["ratio"] == 1.0


def test_who_says_successful_is(measured):
    """Against our operator: the benchmark itself recomputes with SciPy's matrix."""
    for row in measured[0]:
        if row["status"] == "successful":
            assert row["relative_residual"] <= 1e-8
        else:
            assert row["status"] == "max_steps_reached" and row["iterations"] == 60
            assert row["relative_residual"] > 1e-8
    statuses = {(r["contrast"], r["method"]): r["status"] for r in measured[0]}
    for contrast in (10.0, 1000.0):
        # Capped at 60 steps, plain CG has no chance; it must not claim one.
        assert statuses[contrast, "sciml CG"] == "max_steps_reached"
        for method in (*OURS[:2], "SciPy SuperLU"):
            assert statuses[contrast, method] == "successful"


def test_histories_end_where_the_residual_is(measured):
    for row in measured[0]:
        history = row["history"]
        if row["method"] == "SciPy SuperLU":
            assert history is None and row["iterations"] is None
            continue
        assert len(history) == row["iterations"] + 1
        assert history[0] == pytest.approx(1.0)
        assert history[-1] == pytest.approx(row["relative_residual"], rel=1e-2)


def test_iterations(measured):
    steps = {(r["contrast"], r["method"]): r["iterations"] for r in measured[0]}
    assert steps[10.0, OURS[0]] <= 8 and steps[1000.0, OURS[0]] <= 10
    # Rounding the cycle to float32 may cost a step, not more.
    for contrast in (10.0, 1000.0):
        assert abs(steps[contrast, OURS[1]] - steps[contrast, OURS[0]]) <= 1


def test_all_methods_solve_the_same_system():
    """The matrix that the rivals get is our operator."""
    problem = problems.Diffusion((15, 15), contrast=1e3)
    A, b = problem.assemble(problem.sample_coefficient(key=jr.key(5)))
    vector = np.asarray(b).ravel()
    solution = sciml.linear_solve(A, b, sciml.CG(rtol=1e-12))
    residual = vector - to_scipy(A) @ np.asarray(solution.value).ravel()
    assert np.linalg.norm(residual) <= 1.1e-12 * np.linalg.norm(vector)


def test_contraction():
    factor = contraction_factor((63, 63), Chebyshev(2))
    assert 0.02 < float(factor) <= 0.15
