"""Models driven by noise, and by data."""

# pyright: reportArgumentType=false, reportOptionalSubscript=false

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from sciml.neural_odes import (
    ErrorEstimate,
    LinearField,
    NeuralCDE,
    NeuralSDE,
    NumSteps,
    TimeMLP,
    heuristics_of,
)

NUM = 300
TIMES = jnp.array([0.25, 0.5, 1.0])


def steep(gradient) -> bool:
    """Whether there are slopes, all of them finite."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(gradient)]
    return all(np.isfinite(leaf).all() and np.any(leaf) for leaf in leaves)


# --- stochastic -----------------------------------------------------------------------

STRATONOVICH = dfx.SPaRK()
ITO = dfx.HalfSolver(dfx.ItoMilstein())
DRIFT, SPREAD = 0.3, 0.5


@eqx.filter_jit
def linear(solver, y0, coefficients, key):
    """Trajectories of dy = a y dt + (b + c y) dW."""
    model = NeuralSDE(
        lambda t, y, args: args[0] * y, lambda t, y, args: args[1] + args[2] * y, solver
    )
    return model.trajectories(y0, TIMES, NUM, key=key, args=coefficients)


@pytest.mark.parametrize("solver", [STRATONOVICH, ITO], ids=["Stratonovich", "Ito"])
def test_linear_noise_is_geometric_brownian_motion(solver):
    key, y0 = jr.key(3), jnp.array([1.0, 2.0])
    # What the key stands for: dy = dW.
    W = np.asarray(linear(solver, jnp.zeros(2), jnp.array([0.0, 1.0, 0.0]), key))
    # Mean, variance and covariance in time, to four standard errors.
    t = np.asarray(TIMES)
    samples = 2 * NUM
    flat = np.moveaxis(W, 1, 0).reshape(3, samples)
    assert np.all(np.abs(flat.mean(1)) < 4 * np.sqrt(t / samples))
    expected = np.minimum(t[:, None], t[None, :])
    error = np.sqrt((expected**2 + np.outer(t, t)) / samples)
    assert np.all(np.abs(flat @ flat.T / samples - expected) < 4 * error)
    assert abs(np.corrcoef(W[:, -1, 0], W[:, -1, 1])[0, 1]) < 4 / np.sqrt(NUM)

    got = np.asarray(linear(solver, y0, jnp.array([DRIFT, 0.0, SPREAD]), key))
    drift = DRIFT - SPREAD**2 / 2 if solver is ITO else DRIFT
    exact = np.asarray(y0) * np.exp(drift * t[:, None] + SPREAD * W)
    # The same paths, though not the same steps: the error of the solver, and not that
    # of statistics.
    assert np.sqrt(np.mean((got - exact) ** 2)) < 0.02
    # Moments of the log-normal distribution, whose parameters are Itô's.
    rate = drift + SPREAD**2 / 2
    mean = np.asarray(y0) * np.exp(rate * t[:, None])
    variance = mean**2 * (np.exp(SPREAD**2 * t[:, None]) - 1)
    assert np.all(np.abs(got.mean(0) - mean) < 4.5 * np.sqrt(variance / NUM))
    assert np.all(np.abs(got.var(0) / variance - 1) < 0.5)


@pytest.mark.slow
def test_the_price_of_a_noisy_solve_has_slopes():
    # In single precision, which is that of the result.
    dtype = jnp.float32
    model = NeuralSDE(
        TimeMLP(2, 4, key=jr.key(0)), LinearField(2, key=jr.key(1)), rtol=0.1, atol=0.1
    )
    to = lambda x: x.astype(dtype) if eqx.is_array(x) else x
    model = jax.tree.map(to, model).jointly()
    y0 = jnp.ones((3, 2), dtype)
    ts = jnp.linspace(0.0, 1.0, 4, dtype=dtype)

    @eqx.filter_jit
    @eqx.filter_value_and_grad(has_aux=True)
    def price_of(model):
        settings = {"key": jr.key(2), "ts": ts, "penalty": ErrorEstimate()}
        solution, price = model.solve(y0, **settings)
        return price, solution

    (price, solution), gradient = price_of(model)
    assert price > 0 and steep(gradient.drift) and steep(gradient.diffusion)
    assert solution.ys.dtype == dtype and solution.ys.shape == (4, 3, 2)
    # A step to each of the times after the first.
    assert int(solution.stats["num_accepted_steps"]) >= 3
    assert heuristics_of(solution).nfe == 3 * solution.stats["num_steps"]
    # Every sample has a path of its own.
    assert len(np.unique(np.asarray(solution.ys)[-1, :, 0])) == 3


# --- controlled -----------------------------------------------------------------------

TS = jnp.array([0.0, 0.2, 0.3, 0.7, 1.0])
MASK = jnp.array(
    [
        [[1, 1], [1, 0], [0, 1], [1, 0], [1, 1]],
        [[0, 1], [1, 1], [0, 0], [1, 0], [0, 0]],
        [[0, 1], [0, 0], [0, 0], [0, 0], [0, 0]],
    ],
    bool,
)
VALUES = jnp.where(MASK, jr.normal(jr.key(0), (3, 5, 2)), jnp.nan)
CDE = NeuralCDE(2, 3, 4, 5, rtol=1e-6, atol=1e-6, key=jr.key(1))


@eqx.filter_jit
def logits_of(model, values, mask, ts):
    return model.classify(values, mask, ts)[0]


def test_the_path_goes_through_what_was_observed():
    for values, mask in zip(VALUES, MASK, strict=True):
        path = CDE.path(values, mask, TS)
        at = np.asarray(jax.vmap(path.evaluate)(TS))
        np.testing.assert_allclose(at[:, 0], TS, atol=1e-12)
        assert np.isfinite(at).all()
        np.testing.assert_allclose(at[:, 1:][mask], values[mask], atol=1e-12)
        # The slope does not jump, not even at the end of a gap.
        slopes = [jax.vmap(path.derivative)(TS[1:-1] + e) for e in (-1e-9, 1e-9)]
        np.testing.assert_allclose(*slopes, atol=1e-6)
    # Before the first observation and after the last it rests, unseen channels at 0.
    path = CDE.path(VALUES[1], MASK[1], TS)
    np.testing.assert_allclose(path.evaluate(0.1)[1], VALUES[1, 1, 0], atol=1e-12)
    np.testing.assert_allclose(path.evaluate(1.0)[1], VALUES[1, 3, 0], atol=1e-12)
    empty = CDE.path(VALUES[2], jnp.zeros((5,), bool), TS)
    np.testing.assert_allclose(empty.evaluate(0.4)[1:], 0, atol=1e-12)


def test_it_is_the_solution_of_the_controlled_equation():
    values, mask = jr.normal(jr.key(2), (5, 2)), jnp.ones((5, 2), bool)
    rows = jnp.concatenate([TS[:, None], values], axis=1)
    path = dfx.CubicInterpolation(TS, dfx.backward_hermite_coefficients(TS, rows))
    term = dfx.ControlTerm(lambda t, z, args: CDE.field(z).reshape(3, 3), path)
    solution = dfx.diffeqsolve(
        term.to_ode(),
        dfx.Dopri8(),
        0.0,
        1.0,
        0.01,
        CDE.initial(path.evaluate(0.0)),
        # The second derivative of the path jumps at its knots.
        stepsize_controller=dfx.ClipStepSizeController(
            dfx.PIDController(rtol=1e-9, atol=1e-9), step_ts=TS
        ),
    )
    # (There the error of a step is easily underestimated.)
    logits = logits_of(CDE, values[None], mask[None], TS)[0]
    np.testing.assert_allclose(logits, CDE.head(solution.ys[-1]), atol=3e-4)


def test_a_batch_is_every_series():
    each = jax.jit(jax.vmap(CDE, in_axes=(0, 0, None)))(VALUES, MASK, TS)
    together = logits_of(CDE, VALUES, MASK, TS)
    np.testing.assert_allclose(together, each, atol=3e-4)
    # What is masked has no influence.
    other = logits_of(CDE, jnp.where(MASK, VALUES, 7.0), MASK, TS)
    assert np.array_equal(other, together)


def test_times_without_an_observation_change_nothing():
    ts = jnp.array([0.0, 0.2, 0.25, 0.3, 0.5, 0.6, 0.7, 1.0])
    old = np.array([0, 1, 3, 6, 7])
    # (And dt₀ is the same.)
    values = jnp.full((8, 2), jnp.nan).at[old].set(VALUES[0])[None]
    mask = jnp.zeros((8, 2), bool).at[old].set(MASK[0])[None]
    more = logits_of(CDE, values, mask, ts)
    few = logits_of(CDE, VALUES[:1], MASK[:1], TS)
    # (The path is the same to rounding, of which the knots make a part of a step.)
    np.testing.assert_allclose(more, few, atol=1e-5)


def test_the_price_of_a_driven_solve_has_slopes():
    @eqx.filter_jit
    @eqx.filter_value_and_grad(has_aux=True)
    def price_of(model):
        _, solution, price = model.classify(VALUES, MASK, TS, penalty=NumSteps())
        return price, solution

    (price, solution), gradient = price_of(CDE)
    assert steep(gradient.field) and steep(gradient.initial)
    # (The number of steps that would have been enough.)
    assert 1 < float(price) < int(heuristics_of(solution).num_steps)
