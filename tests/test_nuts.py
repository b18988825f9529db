"""Samples of the posterior against weighted draws of the prior."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import sciml
from sciml.grids import Dirichlet, Grid
from sciml.inverse import NUTS, LatentPrior, Observations, posterior
from sciml.neural_operators import DGNO, DenseEncoder
from sciml.weak_forms import EquilibratedDiffusion, TwoPhaseCoefficient

pytest.importorskip("blackjax")
GRID = Grid((7, 7), boundary=Dirichlet(stored=True))
FORM = EquilibratedDiffusion(GRID, TwoPhaseCoefficient(5.0, 10.0), 10.0, 20)


def test_agrees_with_weighted_draws_of_the_prior():
    """Far from normal: noise is as large as the solution."""
    model = DGNO(FORM, 3, 8, 3, 2, 8, DenseEncoder((7, 7), (9,)), key=jr.key(3))
    scales = lambda m: (m.decoders["u"].scales, m.decoders["coefficient"].scales)
    model = eqx.tree_at(scales, model, (6 * jnp.ones((2, 1)), jnp.ones((2, 1))))
    prior = LatentPrior(jnp.zeros(3), 0.8 * jnp.eye(3))
    points = jr.uniform(jr.key(1), (8, 2))
    truth = model.solution(prior.latent(model, jnp.array([0.5, -0.5, 1.0])), points)[0]
    std = float(jnp.std(truth)) / 3
    values = truth + std * jr.normal(jr.key(2), (8,))
    seen = Observations(points, values, std=std)
    method = NUTS(num_samples=400, num_warmup=100)
    found = posterior(model, seen, prior=prior, method=method, key=jr.key(4))
    assert found.result == sciml.RESULTS.successful
    stats = found.stats
    assert stats["r_hat"] < 1.05 and stats["effective_sample_size"] > 200
    assert 0.6 < stats["acceptance"] < 1 and stats["num_divergent"] < 40

    @jax.jit
    def of_prior(w):
        u = jax.vmap(lambda w: model.solution(prior.latent(model, w), points)[0])(w)
        at_nodes = lambda w: model.solution(prior.latent(model, w), nodes)[0]
        log_weights = -0.5 * jnp.sum(((u - values[None]) / std) ** 2, 1)
        return log_weights, jax.vmap(at_nodes)(w)

    nodes = jnp.asarray(model.nodes)
    draws = jr.normal(jr.key(5), (160_000, 3))
    log_weights, u = (np.asarray(x) for x in of_prior(draws))
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    assert 1 / np.sum(weights**2) > 400  # enough of them count
    mean = weights @ u
    deviation = np.sqrt(weights @ (u - mean) ** 2)
    size = deviation.max()
    np.testing.assert_allclose(found.mean.ravel(), mean, atol=0.15 * size)
    np.testing.assert_allclose(found.std.ravel(), deviation, atol=0.15 * size)
    w = weights @ np.asarray(draws)
    spread = np.sqrt(weights @ (np.asarray(draws) - w) ** 2)
    np.testing.assert_allclose(found.draws.mean(0), w, atol=0.2 * spread.max())
    np.testing.assert_allclose(found.draws.std(0), spread, rtol=0.15)


def test_refuses_too_little():
    with pytest.raises(ValueError, match="num_samples: expected at least 4"):
        NUTS(num_samples=1)
    with pytest.raises(ValueError, match="num_warmup: expected at least 20"):
        NUTS(num_warmup=2)
    with pytest.raises(ValueError, match="num_chains: expected at least 2"):
        NUTS(num_chains=1)


def test_names_what_is_missing(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "blackjax", None)
    from sciml.inverse._nuts import _blackjax

    with pytest.raises(ImportError, match=r"sciml-solvers\[inverse\]"):
        _blackjax()
