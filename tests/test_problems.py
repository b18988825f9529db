"""Problems: verified data, errors that name what came, singular cases."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from linear_cases import outcome

import problems
import sciml
from sciml.grids import Dirichlet, GaussianField, LogNormalField, Neumann, Periodic

SHAPE = (9, 8)


def relative_residual(problem, a, u):
    A, b = problem.linear_system(jnp.asarray(a))
    b = np.ravel(b)
    return np.linalg.norm(b - A.as_matrix() @ np.ravel(u)) / np.linalg.norm(b)


def test_data_sets_hold_verified_solutions(getkey):
    problem = problems.Darcy(SHAPE)
    key, done = getkey(), []
    data = problem.dataset(5, key=key, batch_size=3, progress=done.append)
    assert done == [3, 5] and len(data) == 5 and data.grid is problem.grid
    assert data.inputs.shape == data.targets.shape == (5, 1, *SHAPE)
    for a, u in zip(data.inputs[:, 0], data.targets[:, 0], strict=True):
        assert set(np.unique(a)) <= {1.0, 10.0}
        assert relative_residual(problem, a, u) <= 1e-8
    # Sample i depends on the key and on i only: more samples extend the set.
    fewer = problem.dataset(2, key=key, batch_size=3)
    np.testing.assert_array_equal(fewer.inputs, data.inputs[:2])
    np.testing.assert_allclose(fewer.targets, data.targets[:2], rtol=1e-10)
    other = problem.dataset(2, key=getkey(), batch_size=3)
    assert not np.array_equal(other.inputs, fewer.inputs)
    with pytest.raises(ValueError, match="num_samples: expected at least 1, got 0"):
        problem.dataset(0, key=key)


def test_data_sets_refuse_what_missed_the_tolerance(getkey):
    problem = problems.Darcy(SHAPE)
    with pytest.raises(RuntimeError, match=r"2 of 2 systems missed .* residual is"):
        problem.dataset(2, key=getkey(), rtol=1e-18)


@pytest.mark.parametrize(
    "coefficient, low, high",
    [
        ("two_phase", 1.0, 50.0),
        ("constant", 1.0, 1.0),
        ("lognormal", 1e-3, 1e3),
        (LogNormalField(GaussianField(scale=1.0)), 1e-3, 1e3),
    ],
)
def test_coefficients(coefficient, low, high, getkey):
    problem = problems.Diffusion(SHAPE, coefficient, 50.0)
    a = problem.sample_coefficient(key=getkey())
    assert a.shape == SHAPE and low <= a.min() and a.max() <= high
    A, b = problem.linear_system(a)
    u = np.linalg.solve(A.as_matrix(), np.ravel(b))
    assert u.min() > 0  # A maximum principle: the source is positive.
    again = problem.linear_system(key=jr.key(3)), problem.linear_system(key=jr.key(3))
    assert bool(eqx.tree_equal(*again))
    assert problem.inputs(a).shape == (1, *SHAPE)


def test_contrast_of_the_log_normal_field(getkey):
    """It is scaled to a range of about the contrast."""
    problem = problems.Diffusion((15, 15), "lognormal", 100.0)
    keys = jr.split(getkey(), 200)
    fields = jax.jit(jax.vmap(lambda k: problem.sample_coefficient(key=k)))(keys)
    ranges = fields.max((1, 2)) / fields.min((1, 2))
    assert 30.0 < np.median(ranges) < 300.0


def test_poisson_by_hand():
    """−u'' = f for u = sin πx + x²/2 on four nodes, with its boundary values."""
    problem = problems.Poisson(4)
    x = np.arange(1, 5) / 5
    np.testing.assert_allclose(
        problem.exact_solution(), np.sin(np.pi * x) + x**2 / 2, rtol=1e-14
    )
    A, b = problem.assemble(problem.constant_coefficient())
    expected = np.pi**2 * np.sin(np.pi * x) - 1
    expected[-1] += 25 * 0.5
    np.testing.assert_allclose(b, expected, rtol=1e-13)
    matrix = 25 * (2 * np.eye(4) - np.eye(4, k=1) - np.eye(4, k=-1))
    np.testing.assert_allclose(A.as_matrix(), matrix, rtol=1e-13)
    np.testing.assert_array_equal(problem.sample_coefficient(key=jr.key(0)), np.ones(4))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("boundary", [Neumann(), Periodic(), [Neumann(), Periodic()]])
def test_free_problems(boundary):
    """Compatible data are solved; a source of 1 has nowhere to go."""
    good = problems.Poisson(SHAPE, boundary)
    solution = good.solve(good.constant_coefficient())
    assert abs(float(jnp.mean(solution.value))) < 1e-14
    assert float(jnp.abs(solution.value - good.exact_solution()).max()) < 0.2
    bad = problems.Diffusion(SHAPE, boundary=boundary)
    solution = bad.solve(jnp.ones(SHAPE), throw=False)
    assert outcome(solution.result) == "infeasible"
    if boundary == Neumann():
        with pytest.raises(
            eqx.EquinoxRuntimeError, match="singular.*subtract the mean"
        ):
            bad.solve(jnp.ones(SHAPE))


def test_mistakes():
    D = problems.Diffusion
    with pytest.raises(ValueError, match="contrast: expected a finite number ≥ 1, got"):
        D(SHAPE, contrast=0.5)
    with pytest.raises(ValueError, match="contrast: expected a finite number ≥ 1, got"):
        problems.Darcy(SHAPE, contrast=float("nan"))
    with pytest.raises(ValueError, match="'channels', 'constant' .* got 'log_normal'"):
        D(SHAPE, "log_normal")
    with pytest.raises(ValueError, match="num_points: expected one to three axes"):
        problems.Poisson((2, 3, 4, 5))
    problem = D(SHAPE, boundary=Dirichlet())
    with pytest.raises(ValueError, match="linear_system: give a coefficient or a key"):
        problem.linear_system()
    with pytest.raises(ValueError, match=r"coefficient: expected .*\(9, 8\).*\(8, 9\)"):
        problem.linear_system(jnp.ones((8, 9)))
    for value in (np.nan, -2.0, 0.0):
        bad = np.ones(SHAPE)
        bad[3, 4] = value
        with pytest.raises(ValueError, match=r"coefficient: .* at index \(3, 4\)"):
            problem.solve(jnp.asarray(bad))
    with pytest.raises(ValueError, match=r"source: expected .*\(9, 8\), got .*\(3,\)"):
        D(SHAPE, source=np.ones(3)).linear_system(jnp.ones(SHAPE))


def test_a_bad_coefficient_that_is_traced_is_reported_by_the_solve():
    """Inside `jit` no value can be checked; the result still tells."""
    problem = problems.Diffusion(SHAPE)
    solve = jax.jit(lambda a: problem.solve(a, throw=False))
    # (The harmonic mean of 1 and −2 is positive: unchecked, nobody would notice.)
    for value in (jnp.nan, -2.0, 0.0, jnp.inf):
        bad = jnp.ones(SHAPE).at[3, 4].set(value)
        assert outcome(solve(bad).result) == "nonfinite"
    assert outcome(solve(jnp.ones(SHAPE)).result) == "successful"


def test_registry():
    for name, text in problems.problem_names().items():
        problem = problems.get_problem(name, points=5)
        assert isinstance(problem, sciml.AbstractLinearProblem) and text
        assert set(problem.grid.num_points) == {5}
    assert problems.get_problem("darcy", contrast=3.0).contrast == 3.0  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match="Unknown problem 'darsy'.*mean 'darcy'"):
        problems.get_problem("darsy")
    with pytest.raises(ValueError, match="contrast: 'poisson-1d' has a constant"):
        problems.get_problem("poisson-1d", contrast=2.0)
