"""Posteriors in a latent space: optimum, spread, flags, and what is refused."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import sciml
from sciml.data import Dataset
from sciml.grids import Dirichlet, Grid
from sciml.inverse import (
    Laplace,
    LatentPrior,
    Observations,
    PointEstimate,
    posterior,
)
from sciml.neural_operators import DGNO, BoxLatent, DenseEncoder, GaussianLatent
from sciml.weak_forms import EquilibratedDiffusion, TwoPhaseCoefficient

GRID = Grid((7, 7), (2.0, 1.0), Dirichlet(stored=True))
FORM = EquilibratedDiffusion(GRID, TwoPhaseCoefficient(5.0, 10.0), 10.0, 20)


@pytest.fixture(scope="module", params=[BoxLatent(), GaussianLatent()])
def model(request) -> DGNO:
    """Random decoders: what the solution is does not matter here."""
    encoder = DenseEncoder((7, 7), (9,))
    model = DGNO(FORM, 4, 8, 3, 2, 8, encoder, request.param, key=jr.key(3))
    scales = lambda m: (m.decoders["u"].scales, m.decoders["coefficient"].scales)
    return eqx.tree_at(scales, model, (3 * jnp.ones((2, 1)), jnp.ones((2, 1))))


@pytest.fixture(scope="module")
def prior(model) -> LatentPrior:
    return LatentPrior(0.1 * jnp.arange(4.0), 0.3 * jnp.eye(4) + 0.05)


def measured(model, prior, key, count=12, std=0.02):
    """A truth of the prior, and values of it."""
    keys = jr.split(key, 3)
    w = jr.normal(keys[0], (4,))
    points = jr.uniform(keys[1], (count, 2)) * jnp.array([[2.0, 1.0]])
    u = model.solution(prior.latent(model, w), points)[0]
    values = u + std * jr.normal(keys[2], (count,))
    return w, Observations(points, values, std=std)


def test_optimum_and_spread(model, prior, getkey):
    """Against finite differences of the sum of squares, and dense algebra."""
    _, seen = measured(model, prior, getkey())
    found = posterior(model, seen, prior=prior, key=getkey())
    assert found.result == sciml.RESULTS.successful
    points, values = np.asarray(seen.points), np.asarray(seen.values)

    @jax.jit
    def rows(w):
        z = prior.mean + prior.factor @ w
        latent = jnp.tanh(z) if isinstance(model.latent, BoxLatent) else z
        u = model.solution(latent, jnp.asarray(points))[0]
        return jnp.concatenate([(u - values) / 0.02, w])

    # All draws are about the mode: the mode is theirs less the noise that made them.
    w = np.asarray(found.draws).mean(0)
    steps = 1e-5 * np.eye(4)
    from scipy.optimize import least_squares

    best = least_squares(lambda w: np.asarray(rows(w)), w, xtol=1e-12, ftol=1e-14)
    np.testing.assert_allclose(found.stats["misfit"], best.cost, rtol=1e-8)
    J = np.stack(
        [(np.asarray(rows(best.x + s)) - rows(best.x - s)) / 2e-5 for s in steps], 1
    )
    covariance = np.linalg.inv(J.T @ J)
    np.testing.assert_allclose(
        found.stats["num_informed"], 4 - np.trace(covariance), rtol=1e-5
    )
    nodes = jnp.asarray(model.nodes)
    most_probable = prior.latent(model, jnp.asarray(best.x))
    np.testing.assert_allclose(found.latent, most_probable, atol=1e-5)
    u = lambda w: np.asarray(model.solution(prior.latent(model, jnp.asarray(w)), nodes))
    np.testing.assert_allclose(found.mean.reshape(1, -1), u(best.x), atol=1e-6)
    slopes = np.stack([(u(best.x + s) - u(best.x - s))[0] / 2e-5 for s in steps], 1)
    std = np.sqrt(np.sum((slopes @ covariance) * slopes, 1))
    np.testing.assert_allclose(found.std.ravel(), std, rtol=1e-4, atol=1e-9)
    spread = np.cov(np.asarray(found.draws).T)
    error = np.linalg.norm(spread - covariance) / np.linalg.norm(covariance)
    assert error < 5 / math.sqrt(256)


def test_draws_are_what_the_averages_are_of(model, prior, getkey):
    _, seen = measured(model, prior, getkey())
    found = posterior(model, seen, prior=prior, method=Laplace(2), key=getkey())
    a = found.coefficients()
    assert a.shape == (256, 49) and found.latents.shape == (256, 4)
    np.testing.assert_allclose(found.coefficient_mean.ravel(), a.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.coefficient_std.ravel(), a.std(0), rtol=1e-9)
    inside = jnp.array([[1.0, 0.5]])
    u = found.solutions(inside)
    assert u.shape == (256, 1, 1)
    # u is nearly linear where this much is known: both spreads agree.
    np.testing.assert_allclose(u.std(), found.std[0, 3, 3], rtol=0.25)
    sides = jnp.stack([found.std[0, 0], found.mean[0, :, -1]])
    assert jnp.max(jnp.abs(sides)) < 1e-14


def test_truth_is_found_where_much_is_known(model, prior, getkey):
    w, seen = measured(model, prior, getkey(), 200, 1e-5)
    found = posterior(model, seen, prior=prior, key=getkey())
    nodes = jnp.asarray(model.nodes)
    truth = model.solution(prior.latent(model, w), nodes).reshape(1, 7, 7)
    np.testing.assert_allclose(found.mean, truth, atol=1e-4)
    a = model.coefficient(prior.latent(model, w), nodes).reshape(7, 7)
    np.testing.assert_allclose(found.coefficient_mean, a, rtol=1e-2)
    assert found.stats["num_informed"] > 3.5
    assert not found.stats["out_of_distribution"]


def test_prior_is_left_where_nothing_is_known(model, prior, getkey):
    """With errors far larger than u the posterior is the prior."""
    _, seen = measured(model, prior, getkey(), 3, 1e4)
    found = posterior(model, seen, prior=prior, key=getkey())
    assert found.stats["num_informed"] < 1e-3
    np.testing.assert_allclose(found.draws.mean(0), jnp.zeros(4), atol=0.3)
    nodes = jnp.asarray(model.nodes)
    middle = model.solution(prior.latent(model, jnp.zeros(4)), nodes).reshape(1, 7, 7)
    np.testing.assert_allclose(found.mean, middle, atol=1e-3)


def test_chi_squared_of_the_misfit(model, prior):
    """Under its own assumptions 5 % of p-values are below 5 %, and so on."""

    def p_value(key):
        _, seen = measured(model, prior, key, 12, 0.05)
        return float(
            posterior(model, seen, prior=prior, method=Laplace(1), key=key).stats[
                "p_value"
            ]
        )

    p = np.sort([p_value(key) for key in jr.split(jr.key(8), 60)])
    # Kolmogorov and Smirnov's distance from the uniform distribution, at 1 %.
    steps = np.arange(61) / 60
    assert max(np.max(steps[1:] - p), np.max(p - steps[:-1])) < 1.63 / math.sqrt(60)


def test_flags_what_the_model_cannot_explain(model, prior, getkey):
    _, seen = measured(model, prior, getkey(), 30)
    wrong = Observations(seen.points, seen.values[::-1] + 3.0, std=0.02)
    found = posterior(model, wrong, prior=prior, throw=False, key=getkey())
    assert found.stats["out_of_distribution"] and found.stats["p_value"] < 1e-6
    fine = posterior(model, seen, prior=prior, key=getkey())
    assert not fine.stats["out_of_distribution"]


def test_single_precision(model, prior, getkey):
    _, seen = measured(model, prior, getkey())
    double = posterior(model, seen, prior=prior, key=getkey())
    single = Observations(
        np.asarray(seen.points, np.float32),
        np.asarray(seen.values, np.float32),
        std=0.02,
    )
    found = posterior(model, single, prior=prior, key=getkey())
    assert found.mean.dtype == found.coefficient_mean.dtype == jnp.float32
    assert found.result == sciml.RESULTS.successful
    np.testing.assert_allclose(found.mean, double.mean, atol=2e-3)


def test_a_search_that_is_stopped_says_so(model, prior, getkey):
    _, seen = measured(model, prior, getkey(), 30, 1e-4)
    few = Laplace(1, max_steps=1)
    found = posterior(model, seen, prior=prior, method=few, throw=False, key=getkey())
    assert found.result == sciml.RESULTS.max_steps_reached
    with pytest.raises(Exception, match="maximum number of"):
        posterior(model, seen, prior=prior, method=few, key=getkey())


def test_priors(model, tmp_path, getkey):
    inputs = jr.uniform(getkey(), (20, 1, 7, 7), minval=5.0, maxval=10.0)
    data = Dataset(np.asarray(inputs), None, GRID)
    prior = LatentPrior.fit(model, data)
    raw = np.asarray(jax.vmap(model.raw_latent)(inputs))
    covariance = np.cov(raw[:, :4].T)
    if isinstance(model.latent, GaussianLatent):
        logs = jax.vmap(model.latent.log_variance)(jnp.asarray(raw))
        covariance = covariance + np.diag(np.exp(logs).mean(0))
    covariance = covariance + 1e-3 * np.trace(covariance) / 4 * np.eye(4)
    np.testing.assert_allclose(prior.mean, raw[:, :4].mean(0), rtol=1e-9)
    np.testing.assert_allclose(prior.factor @ prior.factor.T, covariance, rtol=1e-8)
    sciml.save(tmp_path / "prior.safetensors", prior)
    loaded = sciml.load(tmp_path / "prior.safetensors")
    np.testing.assert_array_equal(loaded.factor, prior.factor)
    standard = LatentPrior.standard(model)
    draws = jax.vmap(lambda w: standard.latent(model, w))(
        jr.normal(getkey(), (9000, 4))
    )
    flat = isinstance(model.latent, BoxLatent)
    # Nearly uniform on (−1, 1), or normal.
    np.testing.assert_allclose(draws.std(0), 1 / math.sqrt(3) if flat else 1, rtol=0.06)
    with pytest.raises(ValueError, match="at least two"):
        LatentPrior.fit(model, data[:1])
    with pytest.raises(ValueError, match="shrinkage"):
        LatentPrior.fit(model, data, shrinkage=0.0)
    with pytest.raises(ValueError, match="latent_dim"):
        LatentPrior(jnp.zeros(3), jnp.eye(4))


POINTS, VALUES = np.array([[0.5, 0.5], [1.0, 0.25]]), np.array([0.1, 0.2])


@pytest.mark.parametrize(
    ("points", "values", "given", "message"),
    [
        (POINTS, VALUES, {}, "expected one of them"),
        (POINTS, VALUES, {"std": 0.1, "snr": 25.0}, "expected one of them"),
        (POINTS, VALUES, {"std": 0.0}, "positive numbers"),
        (POINTS, VALUES, {"std": np.ones(3)}, "one for each of 2"),
        (POINTS, 0 * VALUES, {"snr": 25.0}, "positive numbers"),
        (POINTS, VALUES, {"snr": math.inf}, "snr: expected a finite"),
        (POINTS[:1], VALUES, {"std": 0.1}, "expected shapes"),
        (POINTS[:0], VALUES[:0], {"std": 0.1}, "at least one point"),
        (
            POINTS,
            np.array([0.1, math.nan]),
            {"std": 0.1},
            "values: 1 of 2 are not finite",
        ),
        (np.array([[0.1, math.inf], [1, 1]]), VALUES, {"std": 0.1}, "points: 1 of 2"),
        (POINTS[[0, 0]], VALUES[[0, 0]], {"std": 0.1}, "number 0 is there 2 times"),
    ],
)
def test_bad_observations(points, values, given, message):
    with pytest.raises(ValueError, match=message):
        Observations(points, values, **given)


def test_noise_of_a_ratio():
    """25 decibels: the errors' square is 10^−2.5 of the mean square."""
    seen = Observations(POINTS, VALUES, snr=25.0)
    expected = math.sqrt(np.mean(VALUES**2) / 10**2.5)
    np.testing.assert_allclose(seen.std, [expected] * 2)
    assert len(seen) == 2
    # Measured twice at one point is fine.
    assert len(Observations(POINTS[[0, 0]], VALUES, std=VALUES)) == 2


def test_refuses_what_does_not_fit(model, getkey):
    ask = lambda seen, **given: posterior(model, seen, key=getkey(), **given)
    with pytest.raises(
        ValueError, match=r"1 of 2 are outside.*number 1 at \[1.0, 1.25"
    ):
        ask(Observations(POINTS + np.array([[0, 0], [0, 1]]), VALUES, std=0.1))
    with pytest.raises(ValueError, match="expected 2 coordinates"):
        ask(Observations(POINTS[:, :1], VALUES, std=0.1))
    with pytest.raises(ValueError, match="latent_dim"):
        prior = LatentPrior(jnp.zeros(3), jnp.eye(3))
        ask(Observations(POINTS, VALUES, std=0.1), prior=prior)
    with pytest.raises(ValueError, match="num_starts"):
        Laplace(0)
    with pytest.raises(TypeError, match="outside of jit"):
        jax.jit(lambda v: Observations(POINTS, v, std=0.1).values)(jnp.asarray(VALUES))


# --- the published point estimate -----------------------------------------------------


@pytest.mark.sampled(1)
def test_point_estimate(model, prior, getkey):
    # (Weight decay leaves a misfit in proportion to the values: noise above that.)
    w, seen = measured(model, prior, jr.key(5), count=30, std=6e-3)
    method = PointEstimate(num_starts=2, residual_weight=0.0)
    found = posterior(model, seen, method=method, prior=prior, key=getkey())
    assert found.result == sciml.RESULTS.successful
    assert found.stats["p_value"] > 1e-3 and found.stats["loss"] > 0
    nodes = jnp.asarray(model.nodes)
    exact = model.solution(prior.latent(model, w), nodes)
    off = jnp.linalg.norm(found.mean.reshape(1, -1) - exact)
    assert off < 0.1 * jnp.linalg.norm(exact)
    assert jnp.all(jnp.isnan(found.std)) and jnp.all(jnp.isnan(found.coefficient_std))
    # The vector at the end is that of the mode, whatever the prior.
    u = model.solution(found.latent, nodes)
    np.testing.assert_allclose(u, found.mean.reshape(1, -1), rtol=1e-10)
    # A residual that cannot vanish pulls it away from the observations.
    pulled = posterior(
        model,
        seen,
        method=PointEstimate(20, residual_weight=1e4),
        prior=prior,
        throw=False,
        key=getkey(),
    )
    assert pulled.stats["out_of_distribution"]
    assert pulled.stats["misfit"] > 10 * found.stats["misfit"]
    # The published settings stop where they are told to.
    early = PointEstimate(40, 1e-3)
    stopped = posterior(
        model, seen, method=early, prior=prior, throw=False, key=getkey()
    )
    assert stopped.result == sciml.RESULTS.max_steps_reached
    wrong: tuple[dict[str, Any], ...] = (
        {"num_steps": 0},
        {"num_starts": 0},
        {"learning_rate": 0.0},
    )
    for given in wrong:
        with pytest.raises(ValueError, match=next(iter(given))):
            PointEstimate(**given)


def test_relaxed_samples(getkey):
    """Mean of 25 logistic numbers: variance π²/75."""
    kind = TwoPhaseCoefficient(5.0, 10.0)
    found = np.asarray(kind.relaxed(jnp.full(4000, 0.3), key=getkey()))
    raw = np.log((found - 5) / (10 - found))
    assert abs(raw.mean() - 0.3) < 0.03
    assert abs(raw.std() - math.pi / math.sqrt(75)) < 0.02
