"""Test functions, means over balls, and weak residuals of exact solutions."""

import itertools
import math

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.integrate

from sciml.weak_forms import GaussBall, MeshBall, Particles, Wendland, latin_hypercube


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_wendlands_function(ndim):
    v = Wendland(ndim)
    places = jr.normal(jr.key(0), (40, ndim)) * 0.6
    slopes = jax.vmap(jax.grad(v))(places)
    np.testing.assert_allclose(v.gradient(places), slopes, atol=1e-12)
    np.testing.assert_array_equal(v(jnp.zeros((1, ndim))), 1.0)
    np.testing.assert_array_equal(jax.grad(v)(jnp.zeros(ndim)), 0.0)
    far = jnp.concatenate([jnp.ones((3, 1)), jnp.zeros((3, ndim - 1))], 1)
    assert not np.any(v(far)) and not np.any(v.gradient(2 * far))
    # Smooth at the centre, and of a zero of fifth order at the surface.
    along = lambda r: v(jnp.zeros(ndim).at[0].set(r))
    third = jax.grad(jax.grad(jax.grad(along)))
    assert abs(third(jnp.asarray(1e-6))) < 1e-2
    near = [float(along(jnp.asarray(1 - h))) for h in (1e-2, 5e-3)]
    order = math.log2(near[0] / near[1])
    assert abs(order - (v.order + 2)) < 0.1


@pytest.mark.parametrize(
    ("ndim", "formula"),
    [
        (1, lambda r: (1 - r) ** 5 * (24 * r**2 + 15 * r + 3) / 3),
        (2, lambda r: (1 - r) ** 6 * (35 * r**2 + 18 * r + 3) / 3),
        (3, lambda r: (1 - r) ** 6 * (35 * r**2 + 18 * r + 3) / 3),
    ],
)
def test_wendlands_published_polynomials(ndim, formula):
    r = jnp.linspace(0, 1, 11)
    places = jnp.zeros((11, ndim)).at[:, -1].set(-r)
    np.testing.assert_allclose(Wendland(ndim)(places), formula(r), atol=1e-14)


def _mean_of_monomial(powers):
    """Over the unit ball, by gamma functions."""
    if any(p % 2 for p in powers):
        return 0.0
    d, total = len(powers), sum(powers)
    log = sum(math.lgamma((p + 1) / 2) for p in powers)
    log -= math.lgamma((total + d) / 2)
    sphere = 2 * math.exp(log)
    volume = math.pi ** (d / 2) / math.gamma(d / 2 + 1)
    return sphere / (total + d) / volume


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_gauss_is_exact_for_polynomials(ndim):
    rule = GaussBall(num_radial=4, num_angles=8)
    nodes, weights = rule.rule(ndim)
    assert len(nodes) == {1: 8, 2: 32, 3: 128}[ndim]
    assert np.all(np.sum(nodes**2, -1) < 1) and np.all(weights > 0)
    for powers in itertools.product(range(8), repeat=ndim):
        if sum(powers) <= 7:
            found = weights @ np.prod(nodes ** np.array(powers), -1)
            assert abs(found - _mean_of_monomial(powers)) < 1e-14
    beyond = (8,) + (0,) * (ndim - 1)
    found = weights @ np.prod(nodes ** np.array(beyond), -1)
    assert abs(found - _mean_of_monomial(beyond)) > 1e-6
    # Opposite nodes: rounding alone is left of odd functions.
    np.testing.assert_allclose(weights @ nodes, 0.0, atol=1e-16)


@pytest.mark.parametrize(("num_points", "count"), [(7, 25), (8, 32), (9, 45)])
def test_the_published_mesh(num_points, count):
    nodes, weights = MeshBall(num_points).rule(2)
    assert nodes.shape == (count, 2) and weights.sum() == pytest.approx(1)


def test_means_of_test_functions():
    # 2 ∫ r v dr over the unit disc.
    profile = lambda r: 2 * r * float(Wendland(2)(jnp.array([r, 0.0])))
    expected, _ = scipy.integrate.quad(profile, 0, 1)
    particles = Particles(jnp.zeros((1, 2)), 0.1)
    np.testing.assert_allclose(jnp.sum(particles.values), expected, rtol=1e-12)


def _exact(ndim):
    """u, a and f of −∇·(a∇u) = f at one place."""
    u = lambda x: jnp.prod(jnp.sin(2.0 * x + 0.3)) + x[0] ** 3
    a = lambda x: jnp.exp(jnp.sum(x) / 2)
    flux = lambda x: a(x) * jax.grad(u)(x)
    source = lambda x: -jnp.trace(jax.jacfwd(flux)(x))
    del ndim
    return flux, source


@pytest.mark.sampled(2)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_weak_residuals_vanish_at_the_quadratures_order(ndim):
    flux, source = _exact(ndim)

    def largest(radius, quadrature):
        particles = Particles.random(6, ndim, radius, quadrature, key=jr.key(1))
        at_nodes = lambda f: jax.vmap(jax.vmap(f))(particles.nodes)
        found = particles.divergence(at_nodes(flux), at_nodes(source))
        return float(jnp.max(jnp.abs(found)))

    coarse, fine = (largest(r, GaussBall()) for r in (0.4, 0.2))
    # Fluxes of degree 5 and sources of degree 4 are the first that are not exact.
    assert fine < coarse / 12 and fine < 1e-5
    # The published rule does not integrate v itself, whatever the radius.
    assert largest(0.01, MeshBall(7)) > 1e-3 > 1e3 * largest(0.01, GaussBall())


def test_a_discontinuity_that_the_flux_does_not_see():
    # −(a u′)′ = 1 with a jump of a at 1/2: the flux is linear, u is not smooth.
    particles = Particles(
        jnp.array([[0.45], [0.5], [0.62]]), jnp.array([0.2, 0.1, 0.3])
    )
    flux = 0.5 - particles.nodes
    found = particles.divergence(flux, jnp.ones(flux.shape[:2]))
    np.testing.assert_allclose(found, 0.0, atol=1e-13)


def test_rounding_grows_as_the_radius_falls():
    flux = lambda radius: _noise(radius, jnp.float32)
    assert flux(1e-4) > 30 * flux(1e-2)
    assert _noise(1e-4, jnp.float64) < 1e-10


def _noise(radius, dtype):
    centres = latin_hypercube(50, 2, key=jr.key(0)).astype(dtype) * 0.8 + 0.1
    particles = Particles(centres, radius)
    x, y = particles.nodes[..., 0], particles.nodes[..., 1]
    flux = jnp.stack([jnp.sin(3 * x) * y, -x * y], -1).astype(dtype)
    exact = 3 * jnp.cos(3 * x) * y - x
    return float(jnp.sqrt(jnp.mean(particles.divergence(flux, -exact) ** 2)))


def test_latin_hypercubes_fill_every_slice():
    points = latin_hypercube(64, 3, key=jr.key(0))
    assert points.shape == (64, 3) and np.all(points >= 0) and np.all(points < 1)
    slices = np.sort(np.floor(64 * np.asarray(points)), axis=0)
    np.testing.assert_array_equal(slices, np.arange(64)[:, None].repeat(3, 1))
    other = latin_hypercube(64, 3, key=jr.key(1))
    assert not np.array_equal(points, other)
    # Axes are shuffled independently of each other.
    assert abs(np.corrcoef(points[:, 0], points[:, 1])[0, 1]) < 0.5


def test_balls_lie_within_the_box():
    particles = Particles.random(200, 2, 0.2, key=jr.key(0))
    assert particles.nodes.shape == (200, 48, 2)
    assert np.all(particles.nodes > 0) and np.all(particles.nodes < 1)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="ndim"):
        Wendland(4)
    with pytest.raises(ValueError, match="last axis"):
        Wendland(2)(jnp.ones((3, 3)))
    with pytest.raises(ValueError, match="num_radial"):
        GaussBall(0)
    with pytest.raises(ValueError, match="num_angles"):
        GaussBall(num_angles=7)
    with pytest.raises(ValueError, match="num_points"):
        MeshBall(2)
    for rule in (GaussBall(), MeshBall()):
        with pytest.raises(ValueError, match="ndim"):
            rule.rule(4)
    with pytest.raises(ValueError, match="num_points, ndim"):
        latin_hypercube(0, 2, key=jr.key(0))
    for radius in (0.0, 0.5, float("nan")):
        with pytest.raises(ValueError, match="radius"):
            Particles.random(3, 2, radius, key=jr.key(0))
    centres = jnp.full((3, 2), 0.5)
    with pytest.raises(ValueError, match="radius"):
        Particles(centres, jnp.ones(2))
    with pytest.raises(ValueError, match="centres"):
        Particles(jnp.ones((3, 4)), 0.1)
    particles = Particles(centres, 0.1)
    with pytest.raises(ValueError, match="at the nodes"):
        particles.divergence(jnp.ones((3, 48, 2)), jnp.ones((3, 47)))
