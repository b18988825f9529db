"""Media from observations by adjoint solves: optimum, noise level, what is refused."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.optimize

import problems
import sciml
from sciml.inverse import Laplace, Observations, TotalVariation, posterior
from sciml.neural_operators import DGNO
from sciml.weak_forms import SmoothCoefficient, TwoPhaseCoefficient

PROBLEM = problems.TwoPhaseDarcy((7, 7))
PHASES = TwoPhaseCoefficient(5.0, 10.0)


def solved(a):
    """Finite volumes with harmonic means on faces, written anew; a direct solve."""
    a = np.asarray(a).reshape(7, 7)
    number = -np.ones((7, 7), int)
    number[1:-1, 1:-1] = np.arange(25).reshape(5, 5)
    matrix = np.zeros((25, 25))
    for i in range(1, 6):
        for j in range(1, 6):
            for k, m in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
                face = 36 * 2 * a[i, j] * a[k, m] / (a[i, j] + a[k, m])
                matrix[number[i, j], number[i, j]] += face
                if number[k, m] >= 0:
                    matrix[number[i, j], number[k, m]] -= face
    return np.pad(np.linalg.solve(matrix, np.full(25, 10.0)).reshape(5, 5), 1)


def measured(key, std=1e-3, dtype: Any = float):
    """A medium, and values of u at nodes and in the middle of cells."""
    a = np.asarray(PROBLEM.sample_coefficient(key=key))
    u = solved(a)
    middles = (u[1:4, 1:4] + u[2:5, 1:4] + u[1:4, 2:5] + u[2:5, 2:5]) / 4
    middle = [(i + 1.5, j + 1.5) for i in range(3) for j in range(3)]
    nodes = [(i, j) for i in (2, 4, 5) for j in (1, 3, 5)]
    values = np.r_[u[tuple(np.transpose(nodes))], middles.ravel()]
    values = values + std * np.asarray(jr.normal(key, values.shape))
    points = np.array(nodes + middle) / 6
    return a, Observations(points.astype(dtype), values.astype(dtype), std=std)


def objective(z, seen, strength, smoothing=0.05):
    """Written anew, with loops and without the library's solver."""
    phase = 1 / (1 + np.exp(-z.reshape(7, 7)))
    u = solved(5 + 5 * phase)
    total = 0.0
    for (x, y), value, std in zip(seen.points, seen.values, seen.std, strict=True):
        i, j = min(int(6 * x + 1e-9), 5), min(int(6 * y + 1e-9), 5)
        s, t = 6 * float(x) - i, 6 * float(y) - j
        low = (1 - t) * u[i, j] + t * u[i, j + 1]
        high = (1 - t) * u[i + 1, j] + t * u[i + 1, j + 1]
        total += 0.5 * ((((1 - s) * low + s * high) - value) / std) ** 2
    p, variation = 2 * phase - 1, 0.0
    for i in range(7):
        for j in range(7):
            down = p[i + 1, j] - p[i, j] if i < 6 else 0.0
            right = p[i, j + 1] - p[i, j] if j < 6 else 0.0
            variation += np.sqrt(down**2 + right**2 + smoothing**2) / 6
    return float(total + strength * variation)


def test_optimum_of_a_given_strength(getkey):
    _, seen = measured(getkey())
    method = TotalVariation(PHASES, strength=2.0)
    found = posterior(PROBLEM, seen, method=method, key=getkey())
    assert found.result == sciml.RESULTS.successful
    mode = np.asarray(found.mode)
    cost = objective(mode, seen, 2.0)
    stats = {name: float(value) for name, value in found.stats.items()}
    total = stats["misfit"] + 2.0 * stats["total_variation"]
    np.testing.assert_allclose(total, cost, rtol=1e-4)
    # Another method goes on from there and finds nothing better.
    other = scipy.optimize.minimize(
        objective,
        mode,
        (seen, 2.0),
        "L-BFGS-B",
        bounds=[(-4, 4)] * 49,
        options={"maxiter": 10},
    )
    assert cost < other.fun * 1.01
    chance = scipy.stats.chi2.sf(2 * stats["misfit"], 18)
    np.testing.assert_allclose(stats["p_value"], chance, rtol=1e-6)
    np.testing.assert_allclose(
        found.coefficient_mean.ravel(), 5 + 5 / (1 + np.exp(-mode)), rtol=1e-10
    )
    np.testing.assert_allclose(
        found.mean[0],
        solved(found.coefficient_mean),
        atol=1e-6 * float(found.mean.max()),
    )


def test_as_much_as_the_errors_allow(getkey):
    key = getkey()
    a, seen = measured(key)
    found = posterior(PROBLEM, seen, method=TotalVariation(PHASES), key=getkey())
    assert found.result == sciml.RESULTS.successful
    assert 4 < 2 * float(found.stats["misfit"]) <= 18
    off = lambda field: np.linalg.norm(field - a) / np.linalg.norm(a)
    assert off(found.coefficient_mean) < 0.75 * off(np.full_like(a, 7.5))
    assert not found.stats["out_of_distribution"]
    # Samples are spread as much as is said, in the linear part of the map.
    spread = np.asarray(found.coefficients()).std(0)
    assert spread.shape == (49,) and np.all(spread > 0)
    u = np.asarray(found.solutions(seen.points))
    assert u.shape == (128, 1, 18) and np.isfinite(u).all()
    ratio = np.asarray(found.solutions())[:, 0].std(0).reshape(7, 7)[1:-1, 1:-1]
    ratio = ratio / np.asarray(found.std[0])[1:-1, 1:-1]
    assert 0.3 < np.median(ratio) < 3
    # Ten times the noise: fewer jumps.
    values = seen.values + 1e-2 * jr.normal(key, seen.values.shape)
    rough = Observations(seen.points, values, std=1e-2)
    less = posterior(PROBLEM, rough, method=TotalVariation(PHASES), key=getkey())
    assert less.stats["total_variation"] < 0.8 * found.stats["total_variation"]


def test_continuous_media_in_single_precision(getkey):
    _, seen = measured(getkey(), dtype=np.float32)
    with jax.enable_x64(False):
        method = TotalVariation(SmoothCoefficient(7.0, 0.5), max_steps=60)
        seen = Observations(
            *(np.asarray(x) for x in (seen.points, seen.values)), std=1e-3
        )
        problem = problems.TwoPhaseDarcy((7, 7))
        found = posterior(problem, seen, method=method, key=jr.key(0))
        assert found.mean.dtype == found.coefficient_std.dtype == jnp.float32
        assert found.result == sciml.RESULTS.successful
        assert jnp.all(found.coefficient_mean > 0)


def test_a_search_that_is_stopped_says_so(getkey):
    _, seen = measured(getkey())
    method = TotalVariation(PHASES, max_steps=2)
    found = posterior(PROBLEM, seen, method=method, throw=False, key=getkey())
    assert found.result == sciml.RESULTS.max_steps_reached
    with pytest.raises(Exception, match="max_steps"):
        posterior(PROBLEM, seen, method=method, key=getkey())


def test_refuses_what_does_not_fit(getkey):
    _, seen = measured(getkey())
    method = TotalVariation(PHASES)
    model = DGNO(PROBLEM.weak_form(4), 2, 4, 3, 2, 4, key=getkey())
    with pytest.raises(TypeError, match="Laplace"):
        posterior(model, seen, method=method, key=getkey())
    with pytest.raises(TypeError, match="TotalVariation"):
        posterior(PROBLEM, seen, method=Laplace(), key=getkey())
    with pytest.raises(TypeError, match="prior"):
        posterior(PROBLEM, seen, method=method, prior=1, key=getkey())  # pyright: ignore
    with pytest.raises(ValueError, match="periodic"):
        posterior(problems.PressureStep((8, 8)), seen, method=method, key=getkey())
    outside = Observations(jnp.array([[0.5, 1.5]]), jnp.ones(1), std=0.1)
    with pytest.raises(ValueError, match="outside"):
        posterior(PROBLEM, outside, method=method, key=getkey())
    wrong: tuple[dict[str, Any], ...] = (
        {"strength": 0.0},
        {"smoothing": -1.0},
        {"max_steps": 0},
    )
    for given in wrong:
        with pytest.raises(ValueError, match=next(iter(given))):
            TotalVariation(PHASES, **given)
