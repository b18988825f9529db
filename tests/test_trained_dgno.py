"""A model with its prior and its provenance: file, foreign coefficients, posterior."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import problems
import sciml
from sciml.inverse import LatentPrior, Observations, TrainedDGNO, posterior
from sciml.neural_operators import DGNO, DenseEncoder
from sciml.preconditioners import Provenance
from sciml.weak_forms import PrescribedValues, SmoothCoefficient, TwoPhaseCoefficient

PROBLEM = problems.TwoPhaseDarcy((7, 7))
HOW = Provenance("sciml train dgno", 3, "two phases", "1 s", ("error", "0.5"))


@pytest.fixture(scope="module")
def media():
    return PROBLEM.coefficients(300, key=jr.key(0))


@pytest.fixture(scope="module")
def trained(media) -> TrainedDGNO:
    form = PROBLEM.weak_form(10)
    model = DGNO(form, 4, 6, 3, 2, 6, DenseEncoder((7, 7), (9,)), key=jr.key(1))
    scales = lambda m: tuple(d.scales for d in m.decoders.values())
    model = eqx.tree_at(scales, model, (jnp.ones((2, 1)),) * 3)
    return TrainedDGNO.of(model, media, HOW)


def test_what_is_in_the_file(trained, media, tmp_path):
    sciml.save(tmp_path / "trained.safetensors", trained)
    found = sciml.load(tmp_path / "trained.safetensors")
    a = jnp.asarray(media.inputs[0])
    np.testing.assert_array_equal(found(a), trained.model(a))
    np.testing.assert_array_equal(found.prior.factor, trained.prior.factor)
    assert found.provenance == HOW and found.values == (5.0, 10.0)
    assert found.distance == trained.distance


def test_distance_is_that_of_whitened_vectors(trained, media):
    """Against NumPy's own covariance of the latent vectors."""
    raw = jax.vmap(trained.model.raw_latent)(jnp.asarray(media.inputs))
    raw = np.asarray(raw)
    covariance = np.cov(raw.T)
    covariance += 1e-3 * np.trace(covariance) / 4 * np.eye(4)
    off = raw - raw.mean(0)
    squares = np.einsum("ki,ij,kj->k", off, np.linalg.inv(covariance), off) / 4
    found = jax.vmap(lambda a: trained.prior.distance(trained.model, a))(
        jnp.asarray(media.inputs)
    )
    np.testing.assert_allclose(found, np.sqrt(squares), rtol=1e-6)
    np.testing.assert_allclose(trained.distance, np.quantile(found, 0.999), rtol=1e-6)


def test_foreign_coefficients(trained, media):
    assert all(trained.misses(a) is None for a in media.inputs[:20])
    a = media.inputs[0]
    assert "values from" in str(trained.misses(2 * a))
    assert "values from" in str(trained.misses(np.where(a > 7, np.nan, a)))
    far = TrainedDGNO(trained.model, trained.prior, (5.0, 10.0), 1e-3)
    assert "latent vector" in str(far.misses(a))
    with pytest.raises(ValueError, match=r"from 5 to 10, got others at \d+ of"):
        trained(2 * a)
    # Of what is being traced nothing is known.
    assert jnp.all(jnp.isfinite(eqx.filter_jit(trained)(jnp.asarray(2 * a))))


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (TwoPhaseCoefficient(5.0, 10.0), [5.0, 7.0, 10.0], [5.0, 10.1]),
        (SmoothCoefficient(), [1e-3, 1e3], [1.0, 0.0]),
        (PrescribedValues(), [-1.0, 2.0], [1.0, np.inf]),
    ],
)
def test_values_of_a_kind(kind, good, bad):
    kind.check(jnp.array(good))
    with pytest.raises(ValueError, match="got others at 1 of 2 nodes"):
        kind.check(jnp.array(bad))
    with pytest.raises(ValueError, match="nan"):
        kind.check(jnp.array([jnp.nan]))
    jax.jit(lambda values: kind.check(values))(jnp.array(bad))


def test_posterior_has_its_prior(trained, getkey):
    points = jr.uniform(getkey(), (6, 2))
    seen = Observations(points, 0.01 * jr.normal(getkey(), (6,)), std=0.1)
    key = getkey()
    found = posterior(trained, seen, key=key)
    same = posterior(trained.model, seen, prior=trained.prior, key=key)
    np.testing.assert_allclose(found.mode, same.mode, rtol=1e-6)
    other = LatentPrior.standard(trained.model)
    found = posterior(trained, seen, prior=other, key=key)
    assert jnp.max(jnp.abs(found.misfit.prior.mean)) == 0
