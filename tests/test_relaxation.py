"""Methods that choose ω: their formulas, against SciPy and ports to NumPy."""

# Wrong arguments are the point here.
# pyright: reportArgumentType=false

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.optimize as so
from relaxation_cases import INTERVAL, counts
from scipy.special import softmax

from sciml.preconditioners import (
    ChebCB,
    MonotoneNewton,
    PublishedNewton,
    ResponseSurface,
    TsallisINF,
)
from sciml.preconditioners._box_least_squares import (
    box_least_squares,
    least_norm_solution,
)

# --- formulas -------------------------------------------------------------------------


@pytest.mark.parametrize("num_rounds", [0, 3, 40, 5000])
def test_tsallis_probabilities_minimise_their_objective(num_rounds):
    method = TsallisINF(num_arms=5)
    rng = np.random.default_rng(num_rounds)
    losses = num_rounds * rng.uniform(3, 9, size=5)
    state = dataclasses.replace(
        method.init(),
        losses=jnp.asarray(losses),
        mean_loss=jnp.asarray(7.0),
        num_rounds=jnp.asarray(num_rounds, jnp.int32),
    )
    eta = 2 / np.sqrt(num_rounds + 1)
    objective = lambda p: p @ losses / 6.0 - 4 / eta * np.sqrt(p).sum()
    gradient = lambda p: losses / 6.0 - 2 / eta / np.sqrt(p)
    # Without constraints, in terms of v with p = softmax(v).
    found = so.minimize(lambda v: objective(softmax(v)), np.zeros(5), tol=1e-12)
    p = np.asarray(method.probabilities(state))
    np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-12)
    np.testing.assert_allclose(p, softmax(found.x), atol=1e-4)
    # And by its conditions: ∂/∂p is the same for all arms.
    slope = gradient(p)
    assert np.ptp(slope) <= 1e-8 * abs(slope).max()


@pytest.mark.parametrize(
    "losses, t, found",
    [
        ((90, 100, 140), 100, True),
        ((300, 320, 500), 400, False),
        ((700, 900, 1500), 400, None),
    ],
)
def test_the_published_newton(losses, t, found):
    """Twenty steps from −1, as the source writes them: not the minimiser for long."""
    scaled, x, eta = np.array(losses) / 6.0, -1.0, 2 / np.sqrt(t + 1)
    with np.errstate(all="ignore"):
        for _ in range(20):
            p = 4 / (eta * (scaled - x)) ** 2
            x -= (p.sum() - 1) / (eta * (p**1.5).sum())
        p = 4 / (eta * (scaled - x)) ** 2
        # Where that is nothing, it draws uniformly.
        p = p / p.sum() if np.isfinite(p / p.sum()).all() else np.full(3, 1 / 3)
    method = TsallisINF(num_arms=3, newton=PublishedNewton())
    state = dataclasses.replace(
        method.init(),
        losses=jnp.asarray(losses, float),
        mean_loss=jnp.asarray(7.0),
        num_rounds=jnp.asarray(t, jnp.int32),
    )
    got = np.asarray(method.probabilities(state))
    np.testing.assert_allclose(got, p, atol=1e-9)
    exact = TsallisINF(num_arms=3, newton=MonotoneNewton()).probabilities(state)
    assert (abs(got - np.asarray(exact)).max() < 1e-9) == (found is True)
    assert np.allclose(got, 1 / 3) == (found is None)


def test_tsallis_weighs_losses_by_probabilities():
    method = TsallisINF(num_arms=4)
    state = method.init()
    losses, seen = np.zeros(4), []
    for key in jr.split(jr.key(0), 30):
        p = np.asarray(method.probabilities(state))
        omega, state = method.choose(state, key=key)
        arm = int(state.arm)
        assert np.isclose(omega, 1 + 0.95 * arm / 3)
        seen.append(float(counts(omega, 5.0)))
        losses[arm] += (seen[-1] - 1) / p[arm]
        state = method.update(state, seen[-1])
    np.testing.assert_allclose(state.losses, losses, rtol=1e-12)
    np.testing.assert_allclose(state.mean_loss, np.mean(seen), rtol=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_box_least_squares(seed):
    """Against SciPy: full rank, deficient, fewer rows than unknowns, a bound of 0."""
    rng = np.random.default_rng(seed)
    rows = (30, 6, 3)[seed % 3]
    F = rng.normal(size=(rows, 6)) * 10.0 ** rng.uniform(-3, 1, size=6)
    if seed % 4 == 3:
        F[:, 2] = F[:, 0] - F[:, 1]
    y = rng.normal(size=rows) * 10.0 ** rng.uniform(-2, 2)
    bounds = rng.uniform(0.01, 2, size=6)
    theirs = so.lsq_linear(F, y, (-bounds, bounds), method="bvls", tol=1e-14)
    solve = jax.jit(box_least_squares)
    ours = np.asarray(solve(*map(jnp.asarray, (F, y, bounds))))
    assert (abs(ours) <= bounds * (1 + 1e-12)).all()
    best, got = (np.sum((F @ x - y) ** 2) for x in (theirs.x, ours))
    assert got <= best * (1 + 1e-9) + 1e-14 * (y @ y)
    if rows >= 6 and seed % 4 != 3:
        np.testing.assert_allclose(ours, theirs.x, atol=2e-5 * abs(bounds).max())
    bounds[3] = 0.0
    held = np.asarray(solve(*map(jnp.asarray, (F, y, bounds))))
    assert held[3] == 0 and np.isfinite(held).all()
    single = solve(*(jnp.asarray(v, jnp.float32) for v in (F, y, bounds)))
    assert single.dtype == jnp.float32
    reached = np.sum((F @ np.asarray(single, float) - y) ** 2)
    assert reached <= np.sum((F @ held - y) ** 2) * (1 + 1e-2) + 1e-5 * (y @ y)


def test_least_norm_solution():
    rng = np.random.default_rng(0)
    F = rng.normal(size=(6, 3)) @ rng.normal(size=(3, 6))
    y = rng.normal(size=6)
    expected = np.linalg.lstsq(F, y, rcond=1e-12)[0]
    got = least_norm_solution(jnp.asarray(F), jnp.asarray(y))
    np.testing.assert_allclose(got, expected, rtol=1e-8)
    nothing = least_norm_solution(jnp.zeros((6, 6)), jnp.zeros(6))
    assert (nothing == 0).all()


def port_of_cheb_cb(arms, losses, features, feature, d, width):
    """The probabilities after a history, from all of it at once, in NumPy."""
    t, m = len(losses), features.shape[1]
    errors, residual = 0.0, 0.0

    def fit(until):
        K, low = max(losses[:until]), min(losses[:until])
        N = 2 + 4 * (K - low) / K * (1 + np.log(m))
        scale = K * N
        bound = [1 / N] + [2 * (K - low) / scale / j for j in range(1, m)]
        thetas, total = np.zeros((d, m)), 0.0
        for i in range(d):
            rows = [k for k in range(until) if arms[k] == i]
            if rows:
                F, y = features[rows], (np.array(losses)[rows] - 1) / scale
                theta = np.linalg.lstsq(F, y, rcond=1e-13)[0]
                if (abs(theta) > bound).any():
                    box = np.maximum(bound, 1e-30)
                    theta = so.lsq_linear(F, y, (-box, box), method="bvls").x
                thetas[i], total = theta, total + np.sum((F @ theta - y) ** 2)
        return thetas, total, scale, K - low

    thetas, scale, span = np.zeros((d, m)), 1.0, 0.0
    for k in range(t):
        guess = thetas[arms[k]] @ features[k]
        thetas, residual, scale, span = fit(k + 1)
        errors += (guess - (losses[k] - 1) / scale) ** 2
    alpha = (np.pi + 2 / np.pi * np.log(2 * m + 1)) / (2 * scale * (m + 1)) * span
    eta = 2 * t * np.sqrt(d * t / (errors - residual + 2 * alpha**2 * t))
    s = thetas @ feature
    p = 1 / (d + eta * (s - s.min()))
    p[s.argmin()] = 0
    p[s.argmin()] = 1 - p.sum()
    return p


def test_cheb_cb_against_its_port():
    """Both see the same rounds; the port fits anew from all of them each time."""
    method = ChebCB(INTERVAL, num_arms=4, num_features=3)
    state, arms, losses, rows = method.init(), [], [], []
    choose, update = jax.jit(method.choose), jax.jit(method.update)
    compared = 0
    for k, key in enumerate(jr.split(jr.key(1), 60)):
        context = 5 + 5 * np.sin(0.3 * k)
        x = 2 * context / 10 - 1
        feature = np.array([1.0, x, 2 * x**2 - 1])
        if k >= 20 and k % 5 == 0:
            p = port_of_cheb_cb(arms, losses, np.array(rows), feature, 4, 10.0)
            got = method.probabilities(state, jnp.asarray(feature))
            np.testing.assert_allclose(got, p, atol=2e-3)
            compared += 1
        omega, state = choose(state, context, key=key)
        np.testing.assert_allclose(state.features, feature, atol=1e-12)
        losses.append(float(counts(omega, context)))
        arms.append(int(state.arm))
        rows.append(feature)
        state = update(state, losses[-1])
    assert compared == 8 and len(set(arms)) == 4


def test_the_surface_is_a_regression():
    """Recursive updates give the posterior of all observations at once."""
    method = ResponseSurface(INTERVAL, num_arms=15, num_nodes=6, num_features=3)
    prior = state = method.init()
    size = 18
    rows, values, noises = [], [], []
    for k, key in enumerate(jr.split(jr.key(0), 12)):
        context = 10 * (k % 4) / 3
        omega, state = method.choose(state, context, key=key)
        rows.append(np.outer(state.features, state.weights).ravel())
        loss = float(counts(omega, context))
        values.append(np.log(loss))
        noises.append(0.03**2 + (0.15 / loss) ** 2)
        state = method.update(state, loss)
    P0 = np.asarray(prior.covariance).reshape(size, size)
    H, R = np.array(rows), np.diag(noises)
    gain = P0 @ H.T @ np.linalg.inv(H @ P0 @ H.T + R)
    mean = np.ravel(prior.mean) + gain @ (values - H @ np.ravel(prior.mean))
    np.testing.assert_allclose(np.ravel(state.mean), mean, rtol=1e-7, atol=1e-9)
    covariance = np.asarray(state.covariance).reshape(size, size)
    np.testing.assert_allclose(covariance, P0 - gain @ H @ P0, atol=1e-9)
