"""Anisotropic diffusion: its stencil, order, definiteness, and multigrid on it."""

# Wrong arguments are the point here, and NumPy takes JAX scalars.
# pyright: reportArgumentType=false

import math

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from linear_cases import outcome, slope

import problems
import sciml
from sciml.linear import to_scipy

ANGLES = [0.0, math.pi / 6, -1.1]
assemble = eqx.filter_jit(lambda problem, a: problem.assemble(a))


@pytest.mark.parametrize("theta", ANGLES)
def test_entries_are_those_of_pyamg(theta):
    """Times h² they are those of PyAMG's gallery."""
    gallery = pytest.importorskip("pyamg.gallery")
    problem = problems.AnisotropicDiffusion((6, 6), 0.05, theta)
    A, _ = assemble(problem, problem.constant_coefficient())
    theirs = gallery.diffusion_stencil_2d(epsilon=0.05, theta=theta, type="FD")
    expected = gallery.stencil_grid(theirs, (6, 6)).toarray()
    np.testing.assert_allclose(np.asarray(A.as_matrix()) / 49, expected, atol=1e-12)


@pytest.mark.parametrize("theta", ANGLES[1:])
def test_second_order(theta):
    """u = x(1−x) sin πy with a = 1 + x y, on unequal spacings."""
    sizes, errors, epsilon = [8, 16], [], 0.05
    for n in sizes:
        bare = problems.AnisotropicDiffusion((n - 1, 2 * n - 1), epsilon, theta)
        k11, k12, k22 = bare.tensor()
        x, y = bare.grid.mesh()
        wave, slope_y = np.sin(np.pi * y), np.pi * np.cos(np.pi * y)
        u, ux, uy = x * (1 - x) * wave, (1 - 2 * x) * wave, x * (1 - x) * slope_y
        uxx, uxy, uyy = -2 * wave, (1 - 2 * x) * slope_y, -(np.pi**2) * u
        a = 1 + x * y
        flux = y * (k11 * ux + k12 * uy) + x * (k12 * ux + k22 * uy)
        f = -flux - a * (k11 * uxx + 2 * k12 * uxy + k22 * uyy)
        problem = problems.AnisotropicDiffusion((n - 1, 2 * n - 1), epsilon, theta, f)
        xs, ys = problem.grid.mesh(closed=True)
        A, b = assemble(problem, jnp.asarray(1 + xs * ys))
        value = np.linalg.solve(to_scipy(A).toarray(), np.ravel(b))
        errors.append(np.abs(value - u.ravel()).max())
    assert 1.9 < slope(sizes, errors) < 2.2


@pytest.mark.parametrize("epsilon", [1e-6, 1e3])
@pytest.mark.parametrize("theta", ANGLES)
def test_definite_whatever_the_coefficient(epsilon, theta):
    problem = problems.AnisotropicDiffusion((6, 6), epsilon, theta)
    a = 10.0 ** np.random.default_rng(0).uniform(-3, 3, (6, 6))
    A, _ = assemble(problem, jnp.asarray(a))
    matrix = np.asarray(A.as_matrix())
    np.testing.assert_array_equal(matrix, matrix.T)
    scale = 1 / np.sqrt(np.diag(matrix))
    assert np.linalg.eigvalsh(scale[:, None] * matrix * scale).min() > 0


def test_multigrid_solves_it():
    """As fast as usual without anisotropy; with it as fast as it goes."""
    steps = []
    for epsilon, theta in ((1.0, 0.0), (1e-3, 0.0), (1e-3, math.pi / 6)):
        problem = problems.AnisotropicDiffusion((15, 15), epsilon, theta)
        assert isinstance(problem, sciml.AbstractLinearProblem)
        solution = problem.solve(problem.sample_coefficient(key=jr.key(0)))
        assert outcome(solution.result) == "successful"
        steps.append(int(solution.stats["num_steps"]))
    assert steps[0] < 10 and max(steps) < 50


def test_mistakes():
    make = problems.AnisotropicDiffusion
    with pytest.raises(ValueError, match="num_points: expected two axes, got 3"):
        make((3, 3, 3))
    with pytest.raises(ValueError, match="epsilon: expected a positive number, got 0"):
        make((3, 3), 0.0)
    with pytest.raises(
        ValueError, match="theta: expected an angle in radians, got inf"
    ):
        make((3, 3), theta=math.inf)
    with pytest.raises(ValueError, match="coefficient: expected finite values above 0"):
        make((3, 3)).assemble(jnp.zeros((3, 3)))
    with pytest.raises(ValueError, match="has a constant coefficient"):
        problems.get_problem("diffusion-anisotropic", contrast=2.0)
