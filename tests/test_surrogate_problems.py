"""Generators of surrogate benchmarks: multiscale coefficients, waves, coarser data."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.sparse.linalg as spla

import problems
from sciml.data import DataError, Dataset
from sciml.grids import Dirichlet, Grid, Neumann, Periodic, TrigonometricField
from sciml.linear import to_scipy

# --- the multiscale coefficient -------------------------------------------------------


def test_trigonometric_field(getkey):
    grid = Grid((81, 81), boundary=Neumann())
    x = grid.coordinates(0)
    one = TrigonometricField(1).sample(grid, key=getkey())
    # Where x₂ = −x₁ is out of the box only the corner is left: every wave is 1.5 there.
    assert one[0, 0] == 1.5
    # Along x₂ = 3 x₁ the sine is 0, and along x₁ = 0 both waves are functions of x₂:
    # the same frequency has to explain both.
    along = one[np.arange(21), 3 * np.arange(21)]
    a = np.arccos(2 * (along[1] - 1)) / (4 * np.pi * x[1])
    assert 1 <= a <= 1.5
    np.testing.assert_allclose(along, 1 + np.cos(4 * a * np.pi * x[:21]) / 2, rtol=1e-9)
    left = (1 + np.cos(a * np.pi * x) / 2) * (1 + np.sin(a * np.pi * x) / 2)
    np.testing.assert_allclose(one[0], left, rtol=1e-9)


def test_trigonometric_scales(getkey):
    """Scales multiply, and a coarser grid has the same field."""
    key = getkey()
    fine, coarse = Grid((63, 63), 2.0), Grid((31, 31), 2.0)
    field = TrigonometricField(6).sample(fine, key=key)
    np.testing.assert_allclose(
        field[1::2, 1::2], TrigonometricField(6).sample(coarse, key=key), rtol=1e-9
    )
    assert 2.0**-12 <= field.min() < 0.2 and 3 < field.max() <= 1.5**12
    ratio = field / TrigonometricField(5).sample(fine, key=key)
    assert 0.25 <= ratio.min() < ratio.max() <= 2.25
    with pytest.raises(ValueError, match="two axes"):
        TrigonometricField().sample(Grid(5), key=key)
    with pytest.raises(ValueError, match="num_scales"):
        TrigonometricField(0)


@pytest.mark.parametrize(
    ("name", "values"),
    [("darcy-smooth", {3.0, 12.0}), ("darcy-rough", {2.0, 12.0})],
)
def test_darcy_sets(name, values, getkey):
    problem = problems.get_problem(name, points=31)
    data = problem.dataset(2, key=getkey())
    assert set(np.unique(data.inputs)) == values
    A, b = problem.assemble(jnp.asarray(data.inputs[1, 0]))
    direct = np.asarray(spla.spsolve(to_scipy(A).tocsc(), np.asarray(b).ravel()))
    np.testing.assert_allclose(data.targets[1].ravel(), direct, rtol=1e-6)
    with pytest.raises(ValueError, match="contrast"):
        problems.get_problem(name, contrast=5.0)


def test_multiscale_is_on_a_box_of_two(getkey):
    problem = problems.get_problem("darcy-multiscale", points=15)
    assert problem.grid.extent == (2.0, 2.0)
    assert problem.dataset(1, key=getkey()).targets.min() > 0


# --- waves ----------------------------------------------------------------------------


def series(k, x, y, terms=400):
    """The wave in a uniform medium: cosines in x₁, each with its own wave in x₂."""
    u = np.zeros((x.size, y.size))
    for m in range(terms):
        if m == 0:
            share = 0.3
        else:
            share = (
                2 * (np.sin(m * np.pi * 0.65) - np.sin(m * np.pi * 0.35)) / m / np.pi
            )
        kappa = np.sqrt(complex(k**2 - (m * np.pi) ** 2))
        if abs(kappa.imag) > 200:
            profile = np.exp(-kappa.imag * (1 - y)) / kappa.imag
        else:
            profile = (np.cos(kappa * y) / (-kappa * np.sin(kappa))).real
        u += share * np.cos(m * np.pi * x)[:, None] * profile[None]
    return u


def test_waves_in_a_uniform_medium():
    errors = []
    for n in (41, 81):
        problem = problems.HelmholtzWaves((n, n), frequency=120.0)
        A, b = problem.assemble(jnp.full((n, n), 20.0))
        u = spla.spsolve(to_scipy(A).tocsc(), np.asarray(b).ravel()).reshape(n, n)
        x = problem.grid.coordinates(0)
        exact = series(6.0, x, x)
        errors.append(np.linalg.norm(u - exact) / np.linalg.norm(exact))
    assert errors[1] < 0.01
    assert 1.8 < np.log2(errors[0] / errors[1]) < 2.2


def test_wave_data(getkey):
    key = getkey()
    problem = problems.HelmholtzWaves((21, 19), frequency=200.0)
    data = problem.dataset(3, key=key)
    assert data.inputs.shape == (3, 1, 21, 19)
    assert 19 < data.inputs.min() < data.inputs.max() < 21
    speed = problem.sample_coefficient(key=jr.fold_in(key, 2))
    np.testing.assert_array_equal(data.inputs[2, 0], speed)
    np.testing.assert_array_equal(problem.dataset(2, key=key).targets, data.targets[:2])
    A, b = problem.assemble(speed)
    residual = b - A.mv(jnp.asarray(data.targets[2, 0]))
    assert jnp.linalg.norm(residual) < 1e-9 * jnp.linalg.norm(b)
    assert np.linalg.eigvalsh(to_scipy(A).toarray())[0] < 0  # waves, not diffusion


def test_wave_arguments(getkey):
    with pytest.raises(ValueError, match="two axes"):
        problems.HelmholtzWaves(5)
    with pytest.raises(ValueError, match="frequency"):
        problems.HelmholtzWaves((5, 5), frequency=0.0)
    problem = problems.HelmholtzWaves((5, 5))
    with pytest.raises(ValueError, match="num_samples"):
        problem.dataset(0, key=getkey())
    with pytest.raises(ValueError, match="coefficient: expected shape"):
        problem.assemble(jnp.ones((5, 4)))
    with pytest.raises(RuntimeError, match="sample 0: the relative residual"):
        problem.dataset(1, key=getkey(), rtol=1e-30)


# --- coarser data ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("boundary", "fine", "coarse", "first"),
    [
        (Dirichlet(), 15, 7, 1),
        (Dirichlet(stored=True), 17, 9, 0),
        ((Dirichlet(stored=True), Dirichlet()), 16, 8, 0),
        (Periodic(), 16, 8, 0),
        (Neumann(), 9, 5, 0),
    ],
)
def test_coarsen(boundary, fine, coarse, first, getkey):
    grid = Grid(fine, boundary=(boundary,))
    x, y = jr.normal(getkey(), (2, 3, 1, fine))
    data = Dataset(x, y, grid).coarsen(2)
    np.testing.assert_array_equal(data.inputs, x[:, :, first::2])
    np.testing.assert_array_equal(data.targets, y[:, :, first::2])
    kept = grid.coordinates(0)[first::2]
    np.testing.assert_allclose(data.grid.coordinates(0), kept)
    assert data.grid.num_points == (coarse,)


def test_coarsen_twice_and_refusals(getkey):
    x = jr.normal(getkey(), (2, 1, 15, 31))
    data = Dataset(x, None, Grid((15, 31)))
    np.testing.assert_array_equal(data.coarsen(4).inputs, x[:, :, 3::4, 3::4])
    assert data.coarsen(4).targets is None
    assert data.coarsen(1) is data
    with pytest.raises(DataError, match="axis 1 with 30 nodes has an odd number"):
        Dataset(x[..., :30], None, Grid((15, 30))).coarsen()
    with pytest.raises(DataError, match="power of two"):
        data.coarsen(3)
    with pytest.raises(DataError, match="no fields"):
        Dataset(x, None).coarsen()
    # As a program under `jit` never asks: the values stay where they are.
    assert isinstance(data.coarsen().inputs, jax.Array)


def test_two_phase_darcy(getkey):
    """Phases, their share, and two independent discretisations."""
    problem = problems.TwoPhaseDarcy()
    key = getkey()
    drawn = problem.coefficients(400, key=key)
    assert drawn.inputs.shape == (400, 1, 29, 29) and drawn.targets is None
    assert set(np.unique(drawn.inputs)) == {5.0, 10.0}
    assert abs(np.mean(drawn.inputs == 10.0) - 0.47) < 0.03
    few = problem.dataset(2, key=key)
    np.testing.assert_array_equal(few.inputs, drawn.inputs[:2])
    a = jnp.asarray(few.inputs[0, 0])
    finest = problem.reference(a, 9)
    off = lambda u: float(jnp.linalg.norm(u - finest) / jnp.linalg.norm(finest))
    errors = [off(problem.reference(a, refinement)) for refinement in (5, 3)]
    assert errors[0] < 3e-4 and errors[0] < errors[1] < 2e-3
    # The grid's own stencils, which take the sides in another way.
    assert errors[1] < off(jnp.asarray(few.targets[0, 0])) < 5e-3
    with pytest.raises(ValueError, match="from 3 on"):
        problem.reference(a, 1)
    with pytest.raises(ValueError, match="odd"):
        problem.reference(a, 4)
    with pytest.raises(ValueError, match="low, high"):
        problems.TwoPhaseDarcy(low=10.0, high=5.0)


def test_continuous_darcy(getkey):
    """Moments of log a, and two independent discretisations."""
    problem = problems.ContinuousDarcy()
    key = getkey()
    drawn = problem.coefficients(400, key=key)
    logs = np.log(drawn.inputs)
    assert abs(logs.mean()) < 0.03 and abs(logs.std() - 0.5) < 0.02
    few = problem.dataset(2, key=key)
    np.testing.assert_allclose(few.inputs, drawn.inputs[:2], rtol=1e-12)
    a = jnp.asarray(few.inputs[0, 0])
    finest = problem.reference(a, 8)
    off = lambda u: float(jnp.linalg.norm(u - finest) / jnp.linalg.norm(finest))
    errors = [off(problem.reference(a, refinement)) for refinement in (4, 2)]
    # Second order: errors of 1 and 1/4 of a draw's constant, less that of `finest`.
    # Over draws the former is 0.0006 to 0.003.
    assert errors[0] < errors[1] / 4 < 1e-3
    # The grid's own stencils, which take the sides in another way.
    assert off(jnp.asarray(few.targets[0, 0])) < 5e-3
    with pytest.raises(ValueError, match="refinement"):
        problem.reference(a, 1)
    with pytest.raises(ValueError, match="source"):
        problems.ContinuousDarcy(source=0.0)
