"""Helmholtz problems: observed orders, their spectra, MINRES and GMRES on them."""

# Wrong arguments are the point here, and NumPy takes JAX scalars.
# pyright: reportArgumentType=false

import math

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
import numpy as np
import pytest
from linear_cases import outcome, slope

import problems
import sciml
from sciml.grids import BoxesField
from sciml.linear import GMRES, MINRES, StencilOperator, to_scipy


def test_observed_order():
    """Of both, with an index of refraction that jumps and with absorption."""
    sizes, real, damped = (8, 16), [], []
    for n in sizes:
        problem = problems.Helmholtz((n - 1, n - 1), 5.0, BoxesField(0.5, 2.0))
        A, b = eqx.filter_jit(problem.linear_system)(key=jr.key(3))
        value = np.linalg.solve(to_scipy(A).toarray(), np.ravel(b))
        real.append(np.abs(value - np.ravel(problem.exact_solution())).max())
        problem = problems.ImpedanceHelmholtz((n + 1, n + 1), 3.0, 0.2)
        A, b = problem.linear_system()
        value = np.linalg.solve(to_scipy(A).toarray(), b)
        damped.append(np.abs(value - problem.exact_solution()).max())
    assert 1.7 < slope(sizes, real) < 2.4
    assert 1.8 < slope(sizes, damped) < 2.3


def test_indefinite_for_minres():
    """As many negative eigenvalues as −Δ has below k²; CG says so, MINRES solves."""
    problem = problems.Helmholtz((15, 15), 10.0)
    A, b = problem.linear_system(key=jr.key(0))
    assert lx.is_symmetric(A) and not lx.is_positive_semidefinite(A)
    below = sum(
        i * i + j * j < 100 / math.pi**2 for i in range(1, 9) for j in range(1, 9)
    )
    matrix = to_scipy(A).toarray()
    assert (np.linalg.eigvalsh(matrix) < 0).sum() == below == 6
    solution = sciml.linear_solve(A, b, MINRES(rtol=1e-10))
    assert outcome(solution.result) == "successful"
    expected = np.linalg.solve(matrix, np.ravel(b))
    np.testing.assert_allclose(np.ravel(solution.value), expected, rtol=1e-7)


def test_complex_for_gmres():
    problem = problems.ImpedanceHelmholtz((13, 12), 6.0, direction=(-1.0, 3.0))
    A, b = problem.linear_system()
    matrix = to_scipy(A).toarray()
    assert np.iscomplexobj(matrix) and not isinstance(A, StencilOperator)
    np.testing.assert_allclose(matrix, matrix.T)
    assert not np.allclose(matrix, matrix.conj().T) and not lx.is_symmetric(A)
    solution = sciml.linear_solve(A, b, GMRES(restart=156, rtol=1e-9))
    assert outcome(solution.result) == "successful"
    assert np.abs(solution.value - problem.exact_solution()).max() < 0.1
    # Energy leaves: without the sides the matrix were real.
    inside = matrix.imag.diagonal().reshape(13, 12)[1:-1, 1:-1]
    np.testing.assert_array_equal(inside, 0)


def test_a_plane_wave_by_hand():
    """One axis, three nodes, h = 1/2: the ends are half cells."""
    k = 1.5
    problem = problems.ImpedanceHelmholtz(3, k, direction=[-4.0])
    A, b = problem.linear_system()
    end, inside = 4 - k**2 / 2 - 2j * k, 8 - k**2
    np.testing.assert_allclose(
        A.as_matrix(), [[end, -4, 0], [-4, inside, -4], [0, -4, end]]
    )
    # u = exp(−ikx) enters at x = 1 and leaves at x = 0 without a reflection.
    np.testing.assert_allclose(b, [0, 0, -4j * k * np.exp(-1j * k)], atol=1e-14)
    expected = np.exp(-1j * k * np.array([0, 0.5, 1]))
    np.testing.assert_allclose(problem.exact_solution(), expected)


def test_mistakes():
    with pytest.raises(ValueError, match="wavenumber: expected a positive number, got"):
        problems.Helmholtz((3, 3), 0.0)
    with pytest.raises(ValueError, match="wavenumber: expected a positive number, got"):
        problems.ImpedanceHelmholtz((3, 3), math.nan)
    with pytest.raises(ValueError, match="absorption: expected a number ≥ 0, got -1.0"):
        problems.ImpedanceHelmholtz((3, 3), 1.0, -1.0)
    for direction in ((1.0,), (0.0, 0.0)):
        with pytest.raises(ValueError, match="direction: expected 2 numbers"):
            problems.ImpedanceHelmholtz((3, 3), direction=direction)
    with pytest.raises(ValueError, match=r"coefficient: expected shape \(3, 3\)"):
        problems.Helmholtz((3, 3)).assemble(jnp.ones((3, 4)))
