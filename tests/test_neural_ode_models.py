"""Models that are solutions of ODEs: maps, classifiers, generators of time series."""

# Wrong arguments are the point here.
# pyright: reportArgumentType=false, reportOptionalSubscript=false
# pyright: reportCallIssue=false

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from serialisation_cases import identical

import sciml
from sciml.neural_odes import (
    AugmentedNeuralODE,
    ErrorEstimate,
    KineticEnergy,
    LatentODE,
    LinearField,
    Local,
    NeuralCDE,
    NeuralODE,
    NeuralSDE,
    NumSteps,
    ODEClassifier,
    TimeMLP,
    UnrolledRungeKutta,
    negative_elbo,
)

# Fine enough that two sequences of steps give the same numbers.
FINE = 1e-8
FIELD = TimeMLP(3, 6, key=jr.key(0))
ODE = NeuralODE(FIELD, rtol=FINE, atol=FINE)
INPUTS = 3 * jr.normal(jr.key(1), (4, 3))


# --- fields ---------------------------------------------------------------------------


def test_every_layer_of_the_field_sees_the_time():
    y = np.array([0.3, -1.0, 0.5])
    for t in (0.0, 0.7):
        expected = y
        for layer in FIELD.layers:
            weight, bias = np.asarray(layer.weight), np.asarray(layer.bias)
            expected = np.tanh(weight @ np.append(expected, t) + bias)
        np.testing.assert_allclose(FIELD(t, jnp.asarray(y)), expected, rtol=1e-12)
    assert not np.allclose(FIELD(0.0, jnp.asarray(y)), FIELD(0.7, jnp.asarray(y)))


def test_fields_follow_the_type_of_the_state():
    single = jax.tree.map(
        lambda x: x.astype(jnp.float32) if eqx.is_array(x) else x,
        (FIELD, LinearField(3, key=jr.key(0))),
    )
    for field in single:
        assert field(0.5, jnp.ones(3, jnp.float32)).dtype == jnp.float32


def test_what_bounds_the_field_is_an_argument():
    unbounded = TimeMLP(
        3, 6, activation=jax.nn.gelu, final_activation=jax.nn.identity, key=jr.key(0)
    )
    y = jnp.full(3, 100.0)
    assert float(jnp.abs(FIELD(0.0, y)).max()) <= 1
    assert float(jnp.abs(unbounded(0.0, y)).max()) > 1


# --- neural ODEs ----------------------------------------------------------------------


def test_a_neural_ode_is_a_solution():
    decay = NeuralODE(lambda t, y, rate: -rate * y, t1=2.0, rtol=1e-9, atol=1e-9)
    y1 = decay(jnp.array([1.0, 2.0]), 0.5)
    np.testing.assert_allclose(y1, np.array([1.0, 2.0]) * np.exp(-1.0), rtol=1e-7)
    early, _ = decay.solve(jnp.ones(2), 0.5, t1=jnp.asarray(1.0))
    np.testing.assert_allclose(early.ys[-1], np.exp(-0.5), rtol=1e-7)


def test_tolerances_and_solver_are_replaced_and_the_field_is_not():
    loose = ODE.with_tolerances(1e-2)
    assert loose.rtol == loose.atol == 1e-2
    assert isinstance(loose.solver, UnrolledRungeKutta)
    other = ODE.with_tolerances(1e-3, 1e-4, dfx.Bosh3())
    assert (other.rtol, other.atol) == (1e-3, 1e-4)
    assert type(other.solver) is dfx.Bosh3
    assert (other.t0, other.t1, other.max_steps) == (ODE.t0, ODE.t1, ODE.max_steps)
    assert loose.field is ODE.field is other.field
    fine, coarse = ODE.solve(INPUTS[0])[0], loose.solve(INPUTS[0])[0]
    assert coarse.stats["num_steps"] < fine.stats["num_steps"]
    np.testing.assert_allclose(coarse.ys, fine.ys, atol=0.05)


def test_a_batch_as_one_state_has_the_same_solutions():
    head = ODEClassifier(ODE, 3, 2, key=jr.key(2))
    logits, solution, price = eqx.filter_jit(head.classify)(
        INPUTS, penalty=ErrorEstimate()
    )
    each = jax.vmap(head)(INPUTS)
    assert logits.shape == (4, 2) and price.shape == ()
    np.testing.assert_allclose(logits, each, atol=1e-6)
    np.testing.assert_allclose(
        solution.ys[-1], ODE.jointly()(INPUTS), rtol=1e-12, atol=1e-12
    )


# --- augmented neural ODEs ------------------------------------------------------------


def test_without_extra_components_it_is_the_neural_ode():
    same = AugmentedNeuralODE(ODE, 0)
    assert np.array_equal(same(INPUTS[0]), ODE(INPUTS[0]))


def test_extra_components_start_from_zero():
    model = AugmentedNeuralODE(ODE, 1)
    y0 = INPUTS[:, :2]
    assert np.array_equal(model.augmented(y0)[:, 2], np.zeros(4))
    many = model.jointly()(y0)
    assert many.shape == (4, 3)
    np.testing.assert_allclose(many, jax.vmap(model)(y0), atol=1e-6)
    assert np.array_equal(model(y0[0]), ODE(jnp.append(y0[0], 0.0)))
    assert model.with_tolerances(1e-3).ode.rtol == 1e-3


def test_a_line_is_turned_around():
    # What no ODE on a line can do: y ↦ −y, by half a turn in the plane.
    turn = lambda t, y, args: jnp.pi * jnp.stack([-y[1], y[0]])
    model = AugmentedNeuralODE(NeuralODE(turn, rtol=1e-9, atol=1e-9), 1)
    np.testing.assert_allclose(model(jnp.array([2.0])), [-2.0, 0.0], atol=1e-6)


# --- latent ODEs ----------------------------------------------------------------------

TS = jnp.array([0.0, 0.15, 0.3, 0.6, 1.0])
LATENT = LatentODE(
    NeuralODE(TimeMLP(3, 5, key=jr.key(3)), rtol=FINE, atol=FINE),
    in_channels=2,
    latent_dim=3,
    width=4,
    noise_std=0.2,
    key=jr.key(4),
)
MASK = jnp.array(
    [
        [[1, 1], [1, 0], [0, 0], [0, 1], [1, 1]],
        [[0, 0], [1, 1], [1, 1], [0, 0], [0, 0]],
        [[0, 0], [0, 0], [0, 0], [0, 0], [0, 0]],
    ],
    bool,
)
VALUES = jr.normal(jr.key(5), (3, 5, 2))


@eqx.filter_jit
def priced_elbo(model, values, mask, ts, key, kl_weight):
    """Value and price of a latent ODE, and the gradient of their sum."""

    @eqx.filter_value_and_grad(has_aux=True)
    def loss(model):
        settings = {"kl_weight": kl_weight, "penalty": ErrorEstimate()}
        value, _, price = negative_elbo(model, values, mask, ts, key=key, **settings)
        return value + price, (value, price)

    (_, values), gradient = loss(model)
    return *values, gradient


def elbo(model, values=VALUES, mask=MASK, seed=6, kl_weight=1.0):
    # (One program for all of them: nothing but arrays differs.)
    weight = jnp.asarray(kl_weight)
    return priced_elbo(model.jointly(), values, mask, TS, jr.key(seed), weight)


def certain(model):
    """The same latent ODE with a posterior of hardly any width."""
    bias = lambda m: m.encoder.head.layers[-1].bias
    return eqx.tree_at(bias, model, bias(model).at[3:].add(-80.0))


def finite(tree) -> bool:
    return all(
        np.isfinite(x).all() for x in jax.tree.leaves(eqx.filter(tree, eqx.is_array))
    )


@pytest.mark.slow
def test_the_bound_is_what_it_says():
    model = certain(LATENT)
    each = eqx.filter_jit(lambda m, *a: jax.vmap(m, in_axes=(0, 0, None))(*a))
    decoded = np.asarray(each(model, VALUES, MASK, TS))
    misfit = (decoded - np.asarray(VALUES)) / 0.2
    surprise = misfit**2 / 2 + np.log(0.2 * np.sqrt(2 * np.pi))
    count = np.maximum(np.sum(MASK, (1, 2)), 1)
    expected = np.sum(np.where(MASK, surprise, 0), (1, 2)) / count
    value, _, _ = elbo(model, kl_weight=0.0)
    # (One solve for all has steps of its own.)
    np.testing.assert_allclose(value, np.mean(expected), rtol=1e-5)
    weighted, _, _ = elbo(model, kl_weight=0.5)
    mean, std = map(np.asarray, model.jointly().encode(VALUES, MASK, TS))
    divergence = np.sum((mean**2 + std**2 - 1) / 2 - np.log(std), -1)
    np.testing.assert_allclose(
        weighted - value, 0.5 * np.mean(divergence / count), rtol=1e-6
    )


def test_no_divergence_where_the_posterior_is_the_prior():
    last = lambda m: (m.encoder.head.layers[-1].weight, m.encoder.head.layers[-1].bias)
    prior = eqx.tree_at(last, LATENT, replace_fn=jnp.zeros_like)
    mean, std = prior.jointly().encode(VALUES, MASK, TS)
    assert not np.any(mean) and np.all(np.asarray(std) == 1)
    assert elbo(prior)[0] == elbo(prior, kl_weight=0.0)[0]


def test_what_is_masked_has_no_influence():
    clean = elbo(LATENT)
    dirty = elbo(LATENT, values=jnp.where(MASK, VALUES, jnp.nan))
    assert identical(clean, dirty)
    # (The third series is masked altogether.)
    _, price, gradient = clean
    assert price > 0
    for part in (gradient.ode.field, gradient.encoder, gradient.decoder):
        leaves = [np.asarray(x) for x in jax.tree.leaves(part)]
        assert all(np.isfinite(x).all() for x in leaves) and any(map(np.any, leaves))


def test_times_without_an_observation_do_not_exist():
    ts = jnp.array([0.0, 0.15, 0.2, 0.3, 0.6, 0.8, 1.0, 1.2])
    old = np.array([0, 1, 3, 4, 6])
    values = jnp.full((3, 8, 2), jnp.nan).at[:, old].set(VALUES)
    mask = jnp.zeros((3, 8, 2), bool).at[:, old].set(MASK)
    more = LATENT.jointly().encode(values, mask, ts)
    np.testing.assert_allclose(more, LATENT.jointly().encode(VALUES, MASK, TS))
    # But when something was observed counts, the first time and the last included.
    for later in (0.05 + TS, TS.at[-1].add(0.1)):
        moved, _ = LATENT.encode(VALUES[0], MASK[0], later)
        assert np.abs(moved - more[0][0]).max() > 1e-4


def test_integrals_over_the_latent_path_are_read_off_at_its_end():
    z0, ts = jnp.ones(3), jnp.array([0.0, 0.4])
    decoded, solution, price = LATENT.decode(z0, ts, penalty=KineticEnergy())
    assert price > 0 and decoded.shape == (2, 2)
    assert np.array_equal(solution.ts, [0.0, 0.4, 0.4])


def test_training_raises_the_bound():
    model, mask = LATENT, jnp.ones((3, 5, 2), bool)
    sizes = jnp.array([0.5, 1.0, 2.0])[:, None, None]
    values = jnp.broadcast_to(sizes * jnp.sin(3 * TS)[None, :, None], (3, 5, 2))
    history = []
    for seed in range(40):
        value, _, gradient = elbo(model, values, mask, seed)
        history.append(float(value))
        # The gradient is that of the joint model, of the same arrays.
        size = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))
        weights, rest = eqx.partition(model, eqx.is_inexact_array)
        weights, structure = jax.tree.flatten(weights)
        slopes = jax.tree.leaves(gradient)
        moved = [w - 0.1 * g / size for w, g in zip(weights, slopes, strict=True)]
        model = eqx.combine(jax.tree.unflatten(structure, moved), rest)
    assert np.mean(history[-5:]) < np.mean(history[:5]) - 1.0


# --- files and errors -----------------------------------------------------------------

SDE = NeuralSDE(FIELD, LinearField(3, key=jr.key(7)), t1=0.5)
MODELS = {
    "ode": ODE,
    "classifier": ODEClassifier(ODE.with_tolerances(1e-3), 3, 2, key=jr.key(2)),
    "other field": NeuralODE(TimeMLP(2, 4, 3, activation=jax.nn.gelu, key=jr.key(8))),
    "augmented": AugmentedNeuralODE(ODE, 1),
    "latent": LATENT,
    "sde": SDE,
    "itô": NeuralSDE(FIELD, FIELD, dfx.HalfSolver(dfx.ItoMilstein()), rtol=0.1),
    "cde": NeuralCDE(2, 3, 4, 5, 2, solver=dfx.Bosh3(), key=jr.key(9)),
}


@pytest.mark.parametrize("name", MODELS)
def test_files(name, tmp_path):
    path, model = tmp_path / "model.safetensors", MODELS[name]
    sciml.save(path, model)
    assert identical(sciml.load(path), model)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: TimeMLP(0, 3, key=jr.key(0)), "size: expected a positive"),
        (lambda: TimeMLP(2, 3, 0, key=jr.key(0)), "depth: expected a positive"),
        (lambda: LinearField(0, key=jr.key(0)), "size: expected a positive"),
        (lambda: NeuralODE(FIELD, rtol=0.0), "rtol, atol: expected positive"),
        (lambda: AugmentedNeuralODE(ODE, -1), "extra_dims: expected zero"),
        (lambda: LatentODE(ODE, 0, 3, key=jr.key(0)), "in_channels: expected a pos"),
        (
            lambda: LatentODE(ODE, 2, 3, noise_std=0.0, key=jr.key(0)),
            "noise_std: expected a positive",
        ),
        (lambda: LATENT(jnp.ones((5, 3)), MASK[0], TS), "values: expected 2 channels"),
        (lambda: LATENT(VALUES[0], MASK[0, :3], TS), "mask: expected shape"),
        (lambda: NeuralSDE(FIELD, FIELD, atol=-1.0), "rtol, atol: expected positive"),
        (lambda: NeuralSDE(FIELD, FIELD, t0=1.0), "t1: expected a time after t0"),
        (
            lambda: SDE.trajectories(jnp.ones(3), TS, 0, key=jr.key(0)),
            "num_trajectories: expected at least 1",
        ),
        (lambda: NeuralCDE(2, 0, 3, 4, key=jr.key(0)), "latent_dim: expected a pos"),
        (lambda: NeuralCDE(2, 3, 3, 4, rtol=0.0, key=jr.key(0)), "rtol, atol: exp"),
        (
            lambda: MODELS["cde"](jnp.ones((5, 1)), MASK[0], TS),
            "values: expected 2 channels",
        ),
        (lambda: MODELS["cde"](VALUES[0], MASK[:, 0], TS), "mask: expected shape"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_prices_of_maps_are_finite_and_have_slopes():
    model = AugmentedNeuralODE(ODE, 1)

    @eqx.filter_jit
    @eqx.filter_jacrev
    def slopes(model):
        penalty = (ErrorEstimate(), NumSteps(), Local())
        _, prices = model.solve(INPUTS[0, :2], penalty=penalty, key=jr.key(0))
        return jnp.stack(prices)

    gradient = slopes(model)
    for leaf in jax.tree.leaves(gradient):
        sizes = np.abs(leaf).reshape(3, -1).max(1)
        assert np.all(np.isfinite(sizes)) and np.all(sizes > 0)
