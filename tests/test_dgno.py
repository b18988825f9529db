"""DGNO: decoders, latents, the evidence bound, training without solutions."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.integrate

import problems
import sciml
from sciml.data import Dataset
from sciml.grids import Dirichlet, GaussianField, Grid, TwoPhaseField
from sciml.linear import diffusion_operator
from sciml.neural_operators import (
    DGNO,
    AbstractLatent,
    AnnealedPrecision,
    BoxLatent,
    D4Averaged,
    DenseEncoder,
    FixedPrecision,
    FlattenedField,
    GaussianLatent,
    LearnedPrecision,
    MultiONet,
    MultiONetDecoder,
    SequenceDecoder,
    VirtualObservables,
)
from sciml.training import D4Augmented, fit, muon_optimiser
from sciml.weak_forms import (
    EquilibratedDiffusion,
    MixedDiffusion,
    PlainDiffusion,
    TwoPhaseCoefficient,
)

GRID = Grid((9, 9), (2.0, 2.0), Dirichlet(stored=True), (-1.0, 0.0))
PHASES = TwoPhaseCoefficient(5.0, 10.0)
FORMS = [
    EquilibratedDiffusion(GRID, PHASES, 10.0, 20),
    MixedDiffusion(GRID, PHASES, 10.0, 3, 0.3),
    PlainDiffusion(GRID, PHASES, 10.0, 3, 0.3),
]


def small_model(form, key, latent: AbstractLatent | None = None, started=True):
    encoder = DenseEncoder((9, 9), (7,))
    latent = BoxLatent() if latent is None else latent
    model = DGNO(form, 5, 6, 3, 2, 8, encoder, latent, key=key)
    if not started:
        return model
    # As after some training: an untrained model is the zero function.
    where = lambda m: [
        leaf
        for d in (m.decoders[k] for k in sorted(m.decoders))
        for leaf in (d.scales, d.bias)
    ]
    shapes = [leaf.shape for leaf in where(model)]
    drawn = map(jr.normal, jr.split(key, len(shapes)), shapes)
    return eqx.tree_at(where, model, list(drawn))


def coefficients(count, key):
    field = TwoPhaseField(5.0, 10.0, GaussianField())
    sample = jax.vmap(lambda k: field.sample(GRID, key=k, closed=True))
    return Dataset(np.asarray(sample(jr.split(key, count)))[:, None], None, GRID)


# --- decoders -------------------------------------------------------------------------


def test_sequence_decoder_entry_by_entry(getkey):
    decoder = SequenceDecoder(2, 4, 3, 6, 4, 2, key=getkey())
    latent, points = jr.normal(getkey(), (4,)), jr.uniform(getkey(), (5, 2))
    of_place, of_latent = decoder.activations

    def layers(maps, x, activation):
        found = []
        for layer in maps:
            x = activation(layer.weight @ x + layer.bias)
            found.append(x)
        return found[-2:]

    expected = np.zeros((3, 5))
    for j, point in enumerate(points):
        t = layers(decoder.trunk, point, of_place)
        for m in range(4):
            b = layers(decoder.branch, latent[m : m + 1], of_latent)
            product = sum(float(p @ q) for p, q in zip(t, b, strict=True)) / 2
            expected[:, j] += np.asarray(decoder.mix.weight)[:, m] * product
    expected += np.asarray(decoder.mix.bias)[:, None]
    np.testing.assert_allclose(decoder(latent, points), expected, rtol=1e-11)


@pytest.mark.parametrize("kind", [MultiONetDecoder, SequenceDecoder])
def test_gradients_of_decoders(kind, getkey):
    decoder = kind(2, 4, 2, 6, 4, 2, periodic=(1,), key=getkey())
    if kind is MultiONetDecoder:
        drawn = jr.normal(getkey(), decoder.scales.shape)
        decoder = eqx.tree_at(lambda d: d.scales, decoder, drawn)
    latent, points = jr.normal(getkey(), (4,)), jr.uniform(getkey(), (5, 2))
    value, gradient = decoder.values_and_gradients(latent, points)
    np.testing.assert_allclose(value, decoder(latent, points), rtol=1e-12)
    of_point = lambda p: decoder(latent, p[None])[:, 0]
    expected = jnp.moveaxis(jax.vmap(jax.jacrev(of_point))(points), 0, 1)
    np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-12)
    around = decoder(latent, points + jnp.array([[0.0, 1.0]]))
    np.testing.assert_allclose(around, value, rtol=1e-9)


def test_one_summed_layer_of_weight_one_is_deeponet(getkey):
    """Branch of the sensors times trunk of the place, and a bias."""
    sensors = FlattenedField((9, 9))
    model = MultiONet(2, 1, 1, 6, 4, 1, encoder=sensors, key=getkey())
    one = lambda m: (m.decoder.scales, m.decoder.bias)
    model = eqx.tree_at(one, model, (jnp.ones((1, 1)), jnp.full(1, 0.3)))
    x, points = jr.normal(getkey(), (1, 9, 9)), jr.uniform(getkey(), (4, 2))
    t, b = points, x.reshape(-1)
    of_place, of_input = model.activations
    for trunk, branch in zip(model.decoder.trunk, model.decoder.branch, strict=True):
        t, b = of_place(trunk(t)), of_input(branch(b))
    np.testing.assert_allclose(model.at(x, points)[0], t @ b + 0.3, rtol=1e-11)


# --- latents --------------------------------------------------------------------------


def test_divergence_of_a_gaussian():
    """½ Σ (μ² + σ² − 1 − log σ²), by quadrature of q log(q/p)."""
    latent, raw = GaussianLatent(), jnp.array([0.7, -3.0])
    mean = float(latent.mean(raw)[0])
    deviation = math.exp(float(latent.log_variance(raw)[0]) / 2)

    def integrand(beta):
        z = (beta - mean) / deviation
        log_q = -0.5 * z**2 - math.log(deviation)
        q = math.exp(log_q) / math.sqrt(2 * math.pi)
        return q * (log_q + 0.5 * beta**2)

    low, high = mean - 9 * deviation, mean + 9 * deviation
    expected, _ = scipy.integrate.quad(integrand, low, high, epsabs=1e-12)
    np.testing.assert_allclose(latent.divergence(raw), expected, rtol=1e-8)


def test_draws_of_a_gaussian(getkey):
    latent, raw = GaussianLatent(), jnp.array([0.7, -1.0, 0.0, 2.0])
    draw = jax.vmap(lambda key: latent.draw(raw, key=key))
    drawn = draw(jr.split(getkey(), 4000))
    deviations = np.exp(latent.log_variance(raw) / 2)
    error = (drawn.mean(0) - latent.mean(raw)) / deviations
    assert np.all(np.abs(error) < 4 / math.sqrt(4000))
    np.testing.assert_allclose(drawn.std(0), deviations, rtol=0.1)
    extreme = (
        latent.log_variance(jnp.array([0.0, 1e6])),
        latent.log_variance(jnp.array([0.0, -1e6])),
    )
    np.testing.assert_allclose(jnp.concatenate(extreme), [4, -20])


# --- the model ------------------------------------------------------------------------


@pytest.mark.sampled(2)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: type(form).__name__)
def test_model(form, getkey):
    model = small_model(form, getkey(), started=False)
    a = jnp.asarray(coefficients(1, getkey()).inputs[0])
    assert not jnp.any(model(a))
    model = small_model(form, getkey())
    u = eqx.filter_jit(model)(a)
    assert u.shape == (1, 9, 9) and u.dtype == a.dtype and jnp.any(u)
    sides = [u[0, 0], u[0, -1], u[0, :, 0], u[0, :, -1]]
    assert max(float(jnp.max(jnp.abs(side))) for side in sides) < 1e-14
    points = jnp.array([[-0.75, 0.5], [0.5, 1.75]])
    np.testing.assert_allclose(model.at(a, points), u[:, [1, 6], [2, 7]], rtol=1e-9)
    low = model(a.astype(jnp.float32))
    assert low.dtype == jnp.float32
    np.testing.assert_allclose(low, u, atol=2e-5 * float(jnp.max(jnp.abs(u))))
    # Fields and coefficient come from one vector.
    latent = model.latent.mean(model.raw_latent(a))
    assert latent.shape == (5,) and jnp.all(jnp.abs(latent) < 1)
    np.testing.assert_allclose(model.solution(latent, points), model.at(a, points))
    values = model.coefficient(latent, points)
    assert jnp.all((values > 5) & (values < 10))
    for name, channels in form.outputs.items():
        value, gradient = model.fields(latent)(name, points)
        assert value.shape == (channels, 2)
        of_point = lambda p, name=name: model.fields(latent)(name, p[None])[0][:, 0]
        expected = jax.vmap(jax.jacfwd(of_point))(points)
        np.testing.assert_allclose(jnp.moveaxis(gradient, 1, 0), expected, rtol=1e-8)


def test_saved(tmp_path, getkey):
    model = small_model(FORMS[0], getkey(), GaussianLatent())
    sciml.save(tmp_path / "dgno.safetensors", model)
    loaded = sciml.load(tmp_path / "dgno.safetensors")
    a = jnp.asarray(coefficients(1, getkey()).inputs[0])
    np.testing.assert_array_equal(loaded(a), model(a))


def test_averaged_over_the_symmetries_of_the_square(getkey):
    model = small_model(FORMS[0], getkey())
    a = coefficients(1, getkey()).inputs[0, 0]
    averaged = eqx.filter_jit(D4Averaged(model))
    u = averaged(a[None])[0]
    solve, back = jax.jit(lambda x: model(x)[0]), []
    for k in range(4):
        back.append(np.rot90(solve(np.rot90(a, k)[None]), -k))
        back.append(np.rot90(solve(np.rot90(a, k).T[None]).T, -k))
    np.testing.assert_allclose(u, np.mean(back, 0), rtol=1e-9, atol=1e-12)
    assert np.max(np.abs(u - back[0])) > 1e-3 * np.max(np.abs(u))
    np.testing.assert_allclose(averaged(a.T[None])[0], u.T, rtol=1e-9, atol=1e-12)
    wide = Grid((9, 9), (2.0, 1.0), Dirichlet(stored=True))
    with pytest.raises(ValueError, match="extents differ"):
        D4Averaged(small_model(EquilibratedDiffusion(wide, PHASES), getkey()))
    # Of times and places: no field on the grid of what is given.
    form = problems.DirichletBurgers(9).weak_form(5, num_times=9)
    encoder = DenseEncoder((9,), (7,))
    flow = DGNO(form, 5, 6, 3, 2, 8, encoder, key=getkey())
    assert flow.boundary is None and model.boundary == GRID.boundary
    with pytest.raises(ValueError, match="in `boundary`"):
        D4Averaged(flow)


def test_refuses_what_does_not_fit(getkey):
    model = small_model(FORMS[0], getkey())
    with pytest.raises(ValueError, match="weak form's grid"):
        model(jnp.ones((1, 9, 8)))
    with pytest.raises(ValueError, match="vmap"):
        model(jnp.ones((1, 1, 9, 9)))
    with pytest.raises(ValueError, match=r"points: expected shape \(num, 2\)"):
        model.at(jnp.full((1, 9, 9), 5.0), jnp.ones((3, 1)))
    with pytest.raises(ValueError, match="widths"):
        DenseEncoder((9, 9), ())
    with pytest.raises(ValueError, match="num_summed_layers"):
        MultiONetDecoder(2, 4, depth=3, num_summed_layers=3, key=getkey())


# --- the loss -------------------------------------------------------------------------


@pytest.mark.sampled(2)
@pytest.mark.parametrize("latent", [BoxLatent(), GaussianLatent()])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: type(form).__name__)
def test_gradient_of_the_evidence_bound(form, latent, getkey):
    model, batch = small_model(form, getkey(), latent), coefficients(3, getkey())
    labelled = Dataset(batch.inputs, 1 + 0 * batch.inputs, GRID)
    precision = LearnedPrecision() if form is FORMS[0] else FixedPrecision(2.0)
    loss = VirtualObservables(precision, 30, 4, labelled, 0.5, 2)
    key, direction_key = getkey(), getkey()
    leaves, structure = jax.tree.flatten(eqx.filter(model, eqx.is_inexact_array))
    keys = jr.split(direction_key, len(leaves))
    step = [jr.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    direction = jax.tree.unflatten(structure, step)

    @eqx.filter_jit
    def along(t):
        moved = eqx.apply_updates(model, jax.tree.map(lambda d: t * d, direction))
        return loss(moved, batch, key)[0]

    _, slope = jax.jvp(along, (jnp.zeros(()),), (jnp.ones(()),))
    h = 1e-4
    across = lambda t: along(jnp.asarray(t)) - along(jnp.asarray(-t))
    # (Of fourth order: by chance a direction has a slope of next to nothing.)
    expected = (8 * across(h) - across(2 * h)) / (12 * h)
    np.testing.assert_allclose(slope, expected, rtol=1e-6)
    gradient = eqx.filter_grad(lambda m: loss(m, batch, key)[0])(model)
    products = jax.tree.map(lambda g, d: jnp.sum(g * d), gradient, direction)
    np.testing.assert_allclose(sum(jax.tree.leaves(products)), slope, rtol=1e-9)


def test_loss_is_what_it_says(getkey):
    model, batch = small_model(FORMS[0], getkey(), GaussianLatent()), None
    batch = coefficients(4, getkey())
    key = getkey()
    value, aux = VirtualObservables(FixedPrecision(3.0), 1000)(model, batch, key)
    expected = aux["reconstruction"] + aux["divergence"] / 81
    expected = expected + 3 * aux["residual"] ** 2
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    # All nodes were compared; the draws are those of the loss's own keys.
    raw = jax.vmap(model.raw_latent)(jnp.asarray(batch.inputs))
    divergences = jax.vmap(model.latent.divergence)(raw)
    np.testing.assert_allclose(aux["divergence"], divergences.mean(), rtol=1e-12)
    # The hardest count again, and all of them are all.
    again, _ = VirtualObservables(FixedPrecision(3.0), 1000, 10**6)(model, batch, key)
    np.testing.assert_allclose(again, value + 3 * aux["residual"] ** 2, rtol=1e-12)
    harder, _ = VirtualObservables(FixedPrecision(3.0), 1000, 5)(model, batch, key)
    assert harder > again
    # Other keys, other points and draws.
    assert value != VirtualObservables(FixedPrecision(3.0))(model, batch, getkey())[0]


def test_precisions():
    residuals = jnp.array([0.1, -0.3, 0.2])
    square = float(jnp.mean(residuals**2))
    np.testing.assert_allclose(FixedPrecision(2.0).misfit(residuals), 2 * square)
    annealed = AnnealedPrecision(1.0, 100.0, 10)
    for step, weight in ((0, 1.0), (5, 10.0), (10, 100.0), (50, 100.0)):
        found = annealed.at_step(step).misfit(residuals)
        np.testing.assert_allclose(found, weight * square, rtol=1e-6)
    with pytest.raises(RuntimeError, match="has to be asked for a step"):
        annealed.misfit(residuals)
    # ½ (λ mean r² − log λ), at its smallest: a constant of ½ more.
    precisions = np.geomspace(0.1, 1e4, 200_001)
    smallest = np.min(0.5 * (precisions * square - np.log(precisions)))
    learned = LearnedPrecision(floor=1e-12).misfit(residuals)
    np.testing.assert_allclose(learned + 0.5, smallest, rtol=1e-7)


def test_bad_losses():
    with pytest.raises(ValueError, match="weight"):
        FixedPrecision(0.0)
    with pytest.raises(ValueError, match="last"):
        AnnealedPrecision(last=math.nan)
    with pytest.raises(ValueError, match="floor"):
        LearnedPrecision(floor=-1.0)
    with pytest.raises(ValueError, match="hardest"):
        VirtualObservables(hardest=-1)
    with pytest.raises(ValueError, match="num_nodes"):
        VirtualObservables(num_nodes=0)
    with pytest.raises(ValueError, match="with targets"):
        VirtualObservables(labelled=Dataset(np.ones((1, 1, 9, 9)), None, GRID))


def test_learns_without_solutions(getkey):
    """Errors fall far below those of the mean field, on coefficients it did not see."""
    form = EquilibratedDiffusion(GRID, PHASES, 10.0, 100)
    train, held = coefficients(100, getkey()), coefficients(20, getkey())
    as_single = lambda data: Dataset(data.inputs.astype(np.float32), None, GRID)
    model = DGNO(form, 16, 20, 4, 3, 20, key=getkey())
    model, history = fit(
        model,
        as_single(train),
        loss=D4Augmented(VirtualObservables(FixedPrecision(50.0), 40)),
        optimiser=muon_optimiser(150, 0.01, 5e-3),
        num_steps=150,
        batch_size=50,
        progress=False,
        key=getkey(),
    )
    exact = references(held.inputs[:, 0])
    found = np.asarray(jax.vmap(model)(held.inputs.astype(np.float32)))[:, 0]
    error = np.linalg.norm(found - exact, axis=(1, 2))
    error = np.mean(error / np.linalg.norm(exact, axis=(1, 2)))
    assert error < 0.08
    # Constants: the mean of the exact fields themselves is worse than this.
    mean = np.linalg.norm(exact.mean(0) - exact, axis=(1, 2))
    assert np.mean(mean / np.linalg.norm(exact, axis=(1, 2))) > 1.2 * error
    # The bound holds for what was learned.
    at = lambda x: lambda points: PHASES.between(x, GRID, points)
    x = jnp.asarray(held.inputs[0], jnp.float32)
    latent = model.latent.mean(model.raw_latent(x))
    assert 0.02 < form.error_bound(model.fields(latent), at(x[0])) < 0.6


def references(coefficients, factor=5):
    """Finite volumes on cells cut into factor², at the coarse nodes."""
    fine = Grid((8 * factor - 1,) * 2, 2.0)
    nodes = np.rint(np.arange(8 * factor + 1) / factor).astype(int)[1:-1]

    def solve(coefficient):
        A = diffusion_operator(coefficient[np.ix_(nodes, nodes)], fine)
        b = jnp.full(fine.shape, 10.0)
        solution = sciml.linear_solve(
            A, b, sciml.CG(), preconditioner=sciml.preconditioners.Jacobi()
        )
        return jnp.pad(solution.value, 1)[::factor, ::factor]

    return np.asarray(jax.jit(jax.vmap(solve))(jnp.asarray(coefficients)))
