"""Cases with known truth, what they are judged by, and the benchmark on them."""

from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import problems
from problems._inverse_cases import InverseCase, inverse_case, judged
from problems.bench import (
    DGNO_METHODS,
    bench_dgno,
    bench_inverse,
    check_dgno,
    reliability,
)
from problems.bench._dgno_published import _loss, _parameters, published_loop
from sciml.inverse import Observations, TrainedDGNO
from sciml.neural_operators import DGNO, DenseEncoder

PROBLEM = problems.TwoPhaseDarcy((7, 7))


def test_case():
    case = inverse_case(PROBLEM, 3, num_observations=20, snr=20.0)
    again = inverse_case(PROBLEM, 3, num_observations=20, snr=20.0)
    np.testing.assert_array_equal(case.observations.values, again.observations.values)
    assert set(np.unique(case.coefficient)) <= {5.0, 10.0}
    places = np.rint(np.asarray(case.observations.points) * 6).astype(int)
    assert len({tuple(p) for p in places}) == 20 and places.min() == 1
    exact = case.solution[tuple(places.T)]
    size = np.sqrt(np.mean(exact**2) / 100)
    np.testing.assert_allclose(case.observations.std, size, rtol=1e-5)
    off = (np.asarray(case.observations.values) - exact) / size
    assert 0.5 < np.sqrt(np.mean(off**2)) < 1.6
    with pytest.raises(ValueError, match="25, the nodes inside"):
        inverse_case(PROBLEM, 3, num_observations=26)


def test_judged_by_hand():
    a = np.array([[5.0, 5.0, 5.0], [5.0, 10.0, 5.0], [5.0, 5.0, 5.0]])
    u = np.zeros((3, 3))
    u[1, 1] = 2.0
    seen = Observations(jnp.array([[0.5, 0.5]]), jnp.array([2.0]), std=0.1)
    found = SimpleNamespace(
        mean=(u + 0.5)[None],
        std=np.full((1, 3, 3), 0.25),
        coefficient_mean=np.full((3, 3), 6.0),
    )
    numbers = judged(InverseCase(a, u, seen), found, 5.0, 10.0)
    assert numbers["phase_right"] == 8 / 9
    assert numbers["coverage"] == 0.0  # 0.5 is two standard deviations
    np.testing.assert_allclose(numbers["brier"], (8 * 0.04 + 0.64) / 9)
    expected = np.sqrt(8 + 16) / np.sqrt(8 * 25 + 100)
    np.testing.assert_allclose(numbers["coefficient_error"], expected)
    np.testing.assert_allclose(numbers["solution_error"], 0.5 * 3 / 2)


def test_reliability_by_hand():
    probability = np.array([0.05, 0.05, 0.95, 0.95, 1.0, 0.5])
    phase = np.array([0, 1, 1, 1, 1, 0])
    shares, error = reliability(probability, phase)
    assert shares == [0.5, *[None] * 4, 0.0, *[None] * 3, 1.0]
    mean = (0.95 + 0.95 + 1.0) / 3
    np.testing.assert_allclose(error, (2 * 0.45 + 0.5 + 3 * (1 - mean)) / 6)


@pytest.mark.slow
def test_benchmark_on_a_small_model():
    form = PROBLEM.weak_form(10)
    model = DGNO(form, 4, 6, 3, 2, 6, DenseEncoder((7, 7), (9,)), key=jr.key(1))
    scales = lambda m: tuple(d.scales for d in m.decoders.values())
    model = eqx.tree_at(scales, model, (0.3 * jnp.ones((2, 1)),) * 3)
    trained = TrainedDGNO.of(model, PROBLEM.coefficients(50, key=jr.key(0)))
    rows = bench_inverse(
        trained, settings=[(12, 20.0)], cases=3, nuts_cases=0, variation_cases=2
    )
    methods = [row["method"] for row in rows]
    assert methods == [
        "Laplace",
        "point estimate, as published",
        "total variation",
        "total variation, one step",
    ]
    laplace, _, variation, short = rows
    for row, count in zip(rows, (3, 2, 2, 2), strict=True):
        assert row["cases"] == count and row["observations"] == 12
        assert row["run_time"] > 0
    assert 0 <= laplace["coverage"] <= 1 and 0 <= laplace["brier"] <= 1
    assert len(laplace["reliability"]) == 10 and "brier" not in variation
    # Adjoint solves know the equation; the model is not trained.
    assert variation["converged"] == 2
    assert variation["solution_error"] < 0.1 < laplace["solution_error"]
    assert variation["laplace_solution_error"] > 0.1
    assert short["num_steps"] == 1
    # One step is a step: between the even medium and the end of the search.
    assert variation["solution_error"] < short["solution_error"] < 0.5


def test_published_loop_with_and_without_shared_trunks():
    """Two ways to one loss and its slopes, at weights that are not zero."""
    media = jnp.asarray(PROBLEM.coefficients(3, key=jr.key(0)).inputs[:, 0])
    nodes = [axis.ravel() for axis in PROBLEM.grid.mesh()]
    grid = jnp.asarray(np.stack(nodes, -1))
    # (Single precision is what balls of radius 1e-4 have no digits left in.)
    double = lambda x: x.astype(jnp.float64)
    parameters = jax.tree.map(double, _parameters(49, jr.key(1)))
    for name in ("a", "u", "s1", "s2"):
        parameters[name]["scales"] = jnp.linspace(0.5, 1, 4)
    value = jax.jit(jax.value_and_grad(_loss), static_argnums=3)
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        own, slopes = value(parameters, media, grid, False, jr.key(2))
        shared, others = value(parameters, media, grid, True, jr.key(2))
    np.testing.assert_allclose(own, shared, rtol=1e-10)
    for one, other in zip(
        jax.tree.leaves(slopes), jax.tree.leaves(others), strict=True
    ):
        size = float(jnp.max(jnp.abs(one)))
        assert size > 0
        np.testing.assert_allclose(one, other, atol=1e-9 * size)
    seconds, loss = published_loop(np.asarray(media), 2, True, seed=0, batch_size=3)
    assert seconds > 0 and np.isfinite(loss)


@pytest.mark.slow
def test_every_training_of_the_benchmark():
    """Seconds of each: errors are finite, and no better than they can be."""
    rows = bench_dgno(minutes=0.01, num_train=100, num_test=3, seeds=1, speed=False)
    names = {row["method"] for row in rows}
    assert set(DGNO_METHODS) <= names
    for row in rows:
        assert 1e-4 < row["relative_l2"] < 2
    solvers = [row for row in rows if row["method"] == "finite volumes"]
    assert all(row["relative_l2"] < 5e-3 for row in solvers)


def test_unknown_names():
    assert check_dgno(None, ["DGNO"])[1] == ["DGNO"]
    assert check_dgno(None, None)[1] == list(DGNO_METHODS)
    with pytest.raises(ValueError, match="names: no 'x'"):
        check_dgno(["x"], None)
    with pytest.raises(ValueError, match="methods: no 'x'"):
        check_dgno(None, ["x"])
    with pytest.raises(ValueError, match="'MgNO' is not for burgers-dirichlet"):
        check_dgno(["burgers-dirichlet"], ["MgNO"])
