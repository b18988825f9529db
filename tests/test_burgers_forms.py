"""Burgers' equation between two ends: forms, data, and a model on times and places."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import problems
import sciml
from sciml.grids import Dirichlet, Grid, Neumann
from sciml.inverse import LatentPrior, Observations, posterior
from sciml.neural_operators import DGNO, DenseEncoder, VirtualObservables
from sciml.weak_forms import (
    GaussBall,
    PlainBurgers,
    PotentialBurgers,
    PrescribedValues,
)

NU = 0.02
# Half a wave: u of the exact solution vanishes at both ends.
GRID = Grid((11,), 0.5, Dirichlet(stored=True))
STATE = PrescribedValues(0.25)


def exact_theta(t, x):
    return 1 + 0.6 * jnp.exp(-NU * (2 * math.pi) ** 2 * t) * jnp.cos(2 * math.pi * x)


def exact_u(t, x):
    """Hopf and Cole's −2ν θ_x/θ, with θ_t = ν θ_xx."""
    return -2 * NU * jax.grad(exact_theta, 1)(t, x) / exact_theta(t, x)


def unused(points):
    raise AssertionError("the equation has no coefficient")


def exact_fields(name, points):
    """What a network would have to give: u without its bump, and the potential."""

    def u(point):
        t, x = point
        return exact_u(t, x) / jnp.sin(math.pi * x / 0.5) / STATE.scale

    def potential(point):
        # At places that are folded: x between the ends is (1 − cos(π x/L))/2.
        t, folded = point
        theta = 1 + 0.6 * jnp.exp(-NU * (2 * math.pi) ** 2 * t) * (1 - 4 * folded)
        return -2 * NU * jnp.log(theta) / STATE.scale

    of_point = {"u": u, "potential": potential}[name]
    value, slope = jax.vmap(jax.value_and_grad(of_point))(points)
    return value[None], slope[None]


def test_potential_residuals_of_the_exact_solution(getkey):
    form = PotentialBurgers(GRID, STATE, NU, 0.7, 5, 64)
    where = form.draw(key=getkey())
    assert where.shape == (64, 2)
    assert jnp.all((where >= 0) & (where <= jnp.array([[0.7, 0.5]])))
    found = form.residuals(exact_fields, unused, where)
    assert list(found) == ["flux"] and found["flux"].shape == (64,)
    assert float(jnp.max(jnp.abs(found["flux"]))) < 1e-12
    other = PotentialBurgers(GRID, STATE, 2 * NU, 0.7, 5, 64)
    found = other.residuals(exact_fields, unused, where)
    assert float(jnp.max(jnp.abs(found["flux"]))) > 0.1


def test_plain_residuals_fall_with_the_quadrature(getkey):
    largest, key = [], getkey()
    for nodes in (2, 4, 8):
        rule = GaussBall(nodes)
        form = PlainBurgers(GRID, STATE, NU, 0.7, 5, 30, 0.05, rule)
        times, particles = form.draw(key=key)
        assert times.shape == (30,) and jnp.all((times >= 0) & (times <= 0.7))
        residual = form.residuals(exact_fields, unused, (times, particles))["balance"]
        assert residual.shape == (30,)
        largest.append(float(jnp.max(jnp.abs(residual))))
    assert largest[1] < 0.1 * largest[0] and largest[2] < 1e-6
    wrong = PlainBurgers(GRID, STATE, 2 * NU, 0.7, 5, 30, 0.05)
    found = wrong.residuals(exact_fields, unused, wrong.draw(key=key))["balance"]
    assert float(jnp.max(jnp.abs(found))) > 0.1


@pytest.mark.parametrize("kind", [PotentialBurgers, PlainBurgers])
def test_solution_and_initial_state(kind):
    form = kind(GRID, STATE, NU, 0.7, 5)
    assert form.domain.shape == (5, 11) and form.domain.extent == (0.7, 0.5)
    points = jnp.array([[0.3, 0.0], [0.3, 0.5], [0.2, 0.1], [0.7, 0.4]])
    near = lambda name, p: exact_fields(name, p + 1e-9)
    u, slopes = form.solution(near, points)
    assert float(jnp.max(jnp.abs(u[0, :2]))) < 1e-9
    u, slopes = form.solution(exact_fields, points[2:])
    expected = jax.vmap(jax.value_and_grad(lambda p: exact_u(*p)))(points[2:])
    np.testing.assert_allclose(u[0], expected[0], rtol=1e-12)
    np.testing.assert_allclose(slopes[0], expected[1], rtol=1e-10)
    places = jnp.array([[0.1], [0.3]])
    state = form.raw_coefficient(exact_fields, places)
    start = jax.vmap(lambda x: exact_u(0.0, x))(places[:, 0])
    np.testing.assert_allclose(state, start, rtol=1e-10)


def test_initial_states_as_coefficients():
    kind = PrescribedValues(2.0, 0.5)
    values = jnp.array([1.0, -3.0])
    np.testing.assert_allclose(kind.normalised(values), [0.5, -1.5])
    np.testing.assert_allclose(kind.value(values), values)
    np.testing.assert_allclose(kind.misfit(values + 1.0, values), [0.5, 0.5])
    field = jnp.arange(11.0) ** 2
    between = kind.between(field, GRID, jnp.array([[0.0], [0.075]]))
    np.testing.assert_allclose(between, [0.0, 2.5])
    for given in ({"scale": 0.0}, {"std": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(given))):
            PrescribedValues(**given)


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="one axis"):
        PotentialBurgers(Grid((5, 5)), STATE, NU)
    with pytest.raises(ValueError, match="Dirichlet"):
        PlainBurgers(Grid((5,), boundary=Neumann()), STATE, NU)
    wrong: tuple[dict[str, Any], ...] = (
        {"viscosity": 0.0},
        {"final_time": math.inf},
        {"num_times": 1},
        {"num_points": 0},
    )
    for given in wrong:
        with pytest.raises(ValueError, match=next(iter(given))):
            PotentialBurgers(GRID, STATE, **dict[str, Any](viscosity=NU) | given)
    wrong = ({"radius": 0.3}, {"num_particles": 0})
    for given in wrong:
        with pytest.raises(ValueError, match=next(iter(given))):
            PlainBurgers(GRID, STATE, NU, **given)


def test_data_of_the_benchmark(getkey):
    """The solver against the transform of Hopf and Cole, and what is drawn."""
    problem = problems.DirichletBurgers(64)
    u0 = -jnp.sin(math.pi * jnp.asarray(problem.grid.coordinates(0)))
    found = problem.reference(u0, 5)
    whole = problems.Burgers(8, problem.viscosity, 2.0)
    times = np.arange(1, 5) / 4
    exact = whole.exact_solution_from_sine(times, problem.grid.coordinates(0))
    np.testing.assert_allclose(found[0], u0)
    np.testing.assert_allclose(found[1:], exact, atol=2e-6)
    key = getkey()
    drawn = problem.coefficients(200, key=key)
    assert drawn.inputs.shape == (200, 1, 64) and drawn.targets is None
    assert np.all(drawn.inputs[:, :, [0, -1]] == 0)
    assert abs(np.sqrt(np.mean(drawn.inputs**2)) - 0.5) < 0.05
    data = problem.dataset(2, num_saves=2, key=key)
    np.testing.assert_allclose(data.inputs, drawn.inputs[:2])
    assert float(np.abs(data.targets[:, :, [0, -1]]).max()) < 1e-12
    with pytest.raises(ValueError, match="num_samples"):
        problem.coefficients(0, key=key)


def test_a_model_of_times_and_places(getkey, tmp_path):
    """Its domain is not its grid: output, loss, file, and a posterior of the start."""
    form = PotentialBurgers(GRID, STATE, NU, 0.7, 5, 6)
    model = DGNO(form, 3, 6, 3, 2, encoder=DenseEncoder((11,), (7,)), key=getkey())
    assert list(model.decoders) == ["potential"]
    scales = lambda m: tuple(d.scales for d in m.decoders.values())
    model = eqx.tree_at(scales, model, (jnp.ones((2, 1)),))
    states = jr.normal(getkey(), (4, 1, 11)) / 4
    u = model(states[0])
    assert u.shape == (1, 5, 11)
    assert float(jnp.max(jnp.abs(u[..., [0, -1]]))) < 1e-15
    points = jnp.array([[0.35, 0.1], [0.7, 0.45]])
    np.testing.assert_allclose(model.at(states[0], points)[0], u[0, [2, 4], [2, 9]])
    data = sciml.data.Dataset(np.asarray(states), None, GRID)
    loss, aux = VirtualObservables()(model, data, getkey())
    assert jnp.isfinite(loss) and aux["residual"] > 0
    sciml.save(tmp_path / "burgers.safetensors", model)
    np.testing.assert_array_equal(
        sciml.load(tmp_path / "burgers.safetensors")(states[0]), u
    )
    prior = LatentPrior.fit(model, data)
    values = model.at(states[0], points)[0]
    seen = Observations(points, values, std=1e-3)
    found = posterior(model, seen, prior=prior, key=getkey())
    assert found.mean.shape == found.std.shape == (1, 5, 11)
    assert found.coefficient_mean.shape == found.coefficient_std.shape == (11,)
    assert found.solutions().shape == (256, 1, 55)
    assert found.coefficients().shape == (256, 11)
    with pytest.raises(ValueError, match="outside"):
        posterior(model, Observations(points + 0.5, values, std=1e-3), key=getkey())
