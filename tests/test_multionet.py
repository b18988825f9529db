"""MultiONet and DeepONet: the formula, published sizes, points, sides, encoders."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from sciml._serialisation import load, save
from sciml.data import Dataset
from sciml.evaluation import evaluate
from sciml.grids import Dirichlet, Grid, Neumann, Periodic
from sciml.neural_operators import (
    ConvolutionalEncoder,
    FlattenedField,
    MultiONet,
    SiLUIdentity,
    SiLUSin,
    TanhSin,
)
from sciml.neural_operators._encoders import box_means
from sciml.training import RelativeL2, fit

ENCODERS = [ConvolutionalEncoder(5, 3, 2, 2), FlattenedField((9, 12))]


def small_model(key, ndim=2, out_channels=1, started=True, **given):
    arguments: dict[str, Any] = dict(
        width=6, depth=4, num_summed_layers=2, encoder=ENCODERS[0]
    )
    key, scale_key, bias_key = jr.split(key, 3)
    model = MultiONet(ndim, 1, out_channels, **(arguments | given), key=key)
    if not started:
        return model
    # As after some training: an untrained model is the zero function.
    scales = jr.normal(scale_key, model.decoder.scales.shape)
    bias = jr.normal(bias_key, model.decoder.bias.shape)
    return eqx.tree_at(
        lambda m: (m.decoder.scales, m.decoder.bias), model, (scales, bias)
    )


# --- the formula ----------------------------------------------------------------------


@pytest.mark.parametrize("num_summed, out_channels", [(1, 1), (2, 3), (3, 2)])
def test_formula(num_summed, out_channels, getkey):
    """Point by point and layer by layer, in NumPy; one summed layer is DeepONet."""
    model = small_model(
        getkey(),
        out_channels=out_channels,
        num_summed_layers=num_summed,
        encoder=FlattenedField((4, 5)),
    )
    x = jr.normal(getkey(), (1, 4, 5))
    points = np.asarray(jr.uniform(getkey(), (7, 2)))
    out = eqx.filter_jit(model.at)(x, points)
    assert out.shape == (out_channels, 7)

    def layers(parts, v, activation):
        kept = []
        for part in parts:
            v = activation(np.asarray(part.weight) @ v + np.asarray(part.bias))
            kept.append(v)
        return kept

    def of_input(v):
        return v / (1 + np.exp(-v)) + v

    def of_place(v):
        return np.tanh(np.sin(np.pi * (v + 1))) + v

    b = layers(model.decoder.branch, np.asarray(x).ravel(), of_input)
    size = 6 // out_channels
    for n, point in enumerate(points):
        t = layers(model.decoder.trunk, point, of_place)
        for c in range(out_channels):
            block = slice(c * size, (c + 1) * size)
            expected = float(model.decoder.bias[c])
            for j in range(num_summed):
                k = 4 - num_summed + j
                product = float(np.sum(t[k][block] * b[k][block]))
                expected += float(model.decoder.scales[j, c]) * product / num_summed
            assert out[c, n] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("depth, summed, published", [(6, 5, 114_206), (5, 4, 94_005)])
def test_published_number_of_parameters(depth, summed, published, getkey):
    """The decoders of DGenNO for Burgers (x, t) and for two-phase Darcy (x, y)."""
    model = eqx.filter_eval_shape(
        lambda key: MultiONet(2, 1, 1, 100, depth, summed, key=key), getkey()
    )
    decoder = model.decoder
    assert sum(leaf.size for leaf in jax.tree.leaves(decoder)) == published


def test_starts_as_the_zero_function(getkey):
    model = small_model(getkey(), out_channels=2, started=False)
    x = jr.normal(getkey(), (1, 9, 12))

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def error(model):
        return jnp.mean((model(x) - 1) ** 2)

    value, gradient = error(model)
    assert value == 1
    # What learns first is what the product is multiplied with.
    assert jnp.all(gradient.decoder.scales != 0) and jnp.all(gradient.decoder.bias != 0)
    others = jax.tree.leaves(
        (gradient.decoder.trunk, gradient.decoder.branch, gradient.encode)
    )
    assert all(jnp.all(leaf == 0) for leaf in others)


def test_every_parameter_is_used(getkey):
    model = small_model(getkey(), out_channels=2)
    x = jr.normal(getkey(), (1, 9, 12))
    gradient = eqx.filter_jit(eqx.filter_grad(lambda m: jnp.sum(m(x) ** 2)))(model)
    for leaf in jax.tree.leaves(gradient):
        assert jnp.all(jnp.isfinite(leaf)) and jnp.all(leaf != 0)


@pytest.mark.parametrize(
    "activation, at_half",
    [
        # sin(π (1/2 + 1)) = −1.
        (TanhSin(), np.tanh(-1) + 0.5),
        (SiLUSin(), -1 / (1 + np.e) + 0.5),
        (SiLUIdentity(), 0.5 / (1 + np.exp(-0.5)) + 0.5),
    ],
)
def test_activations(activation, at_half):
    x = jnp.array([0.0, 0.5], jnp.float32)
    out = activation(x)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, [0, at_half], atol=1e-6)


# --- points and sides -----------------------------------------------------------------


def test_points_and_nodes_are_one_function(getkey):
    """On two grids; boundary values are exact at stored nodes."""
    boundary = [(Dirichlet(value=2.5, stored=True), Dirichlet()), Periodic()]
    model = small_model(getkey(), boundary=boundary)
    call, at = eqx.filter_jit(model), eqx.filter_jit(model.at)
    for shape in ((9, 12), (12, 8)):
        x = jr.normal(getkey(), (1, *shape))
        out = call(x)
        grid = Grid(shape, boundary=boundary)
        points = np.stack(grid.mesh(), -1).reshape(-1, 2)
        inside = at(x, points).reshape(1, *shape)
        np.testing.assert_allclose(out[:, 1:], inside[:, 1:], atol=1e-13)
        assert jnp.all(out[:, 0] == 2.5)
        # Periodic along the second axis, and along no other.
        around = at(x, points + np.array([0.0, 1.0])).reshape(inside.shape)
        np.testing.assert_allclose(around, inside, atol=1e-12)
        along = at(x, points + np.array([1.0, 0.0])).reshape(inside.shape)
        assert jnp.max(jnp.abs(along - inside)) > 1e-3


def test_slope_in_the_place(getkey):
    """Physics-informed losses need ∂u/∂x."""
    model = small_model(getkey())
    x, point = jr.normal(getkey(), (1, 9, 12)), jnp.array([0.3, 0.6])
    u = jax.jit(lambda p: model.decode(model.encode(x), p[None])[0, 0])
    gradient = jax.jit(jax.grad(u))(point)
    for axis in range(2):
        step = 1e-5 * np.eye(2)[axis]
        difference = (u(point + step) - u(point - step)) / 2e-5
        assert gradient[axis] == pytest.approx(float(difference), rel=1e-6)


# --- encoders -------------------------------------------------------------------------


def test_box_means(getkey):
    field = np.asarray(jr.normal(getkey(), (2, 12, 7)))
    assert box_means(jnp.asarray(field), (12, 7)).tolist() == field.tolist()
    blocks = field.reshape(2, 4, 3, 7).mean(2)
    means = box_means(jnp.asarray(field), (4, 7))
    np.testing.assert_allclose(means, blocks, atol=1e-15)
    # Boxes that cut cells: the mean of the means is the mean, whatever their number.
    for boxes in ((5, 3), (17, 9)):
        means = box_means(jnp.asarray(field), boxes)
        assert means.shape == (2, *boxes)
        np.testing.assert_allclose(
            jnp.mean(means, (1, 2)), field.mean((1, 2)), atol=1e-14
        )
    # 3 cells in 2 boxes: (a + b/2)/1.5 and (b/2 + c)/1.5.
    means = box_means(jnp.array([[3.0, 6.0, 12.0]]), (2,))
    np.testing.assert_allclose(means, [[4, 10]], rtol=1e-14)


def test_flattened_field_on_another_grid(getkey):
    """A field of blocks is the same vector at half the spacing."""
    model = small_model(getkey(), encoder=FlattenedField((4, 5)), boundary=Neumann())
    coarse = jr.normal(getkey(), (1, 4, 5))
    fine = jnp.repeat(jnp.repeat(coarse, 2, 1), 2, 2)
    np.testing.assert_allclose(model.encode(fine), coarse.reshape(-1), atol=1e-15)


@pytest.mark.parametrize("ndim, space", [(1, (21,)), (2, (9, 12)), (3, (5, 6, 8))])
def test_every_dimension(ndim, space, getkey):
    model = small_model(getkey(), ndim)
    x = jr.normal(getkey(), (2, 1, *space))
    batch = eqx.filter_jit(jax.vmap(model))(x)
    assert batch.shape == x.shape
    np.testing.assert_allclose(batch[1], eqx.filter_jit(model)(x[1]), atol=1e-13)
    assert jnp.max(jnp.abs(batch[0] - batch[1])) > 1e-6


# --- use ------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", ENCODERS)
def test_saving_and_loading(encoder, tmp_path, getkey):
    model = small_model(
        getkey(),
        boundary=[(Dirichlet(value=1.0, stored=True), Neumann()), Periodic()],
        encoder=encoder,
        activations=(SiLUSin(), jax.nn.gelu),
    )
    save(tmp_path / "model.safetensors", model)
    loaded = load(tmp_path / "model.safetensors")
    assert bool(eqx.tree_equal(model, loaded))
    x = jr.normal(getkey(), (1, 9, 12))
    assert jnp.array_equal(eqx.filter_jit(model)(x), eqx.filter_jit(loaded)(x))


def test_output_follows_the_dtype_of_the_input(getkey):
    model = eqx.filter_jit(small_model(getkey()))
    x = jr.normal(getkey(), (1, 9, 12))
    single = model(x.astype(jnp.float32))
    assert single.dtype == jnp.float32 and model(x).dtype == jnp.float64
    np.testing.assert_allclose(single, model(x), atol=1e-4)
    np.testing.assert_array_equal(model(x > 0), model((x > 0).astype(float)))


def test_learns_to_integrate(getkey):
    """u′ = f, u(0) = 0, for sums of cosines whose integrals are known."""
    grid = Grid(16, boundary=((Dirichlet(stored=True), Neumann()),))
    x, waves = grid.coordinates(0), np.pi * np.arange(1, 4)[:, None]
    amplitudes = np.asarray(jr.normal(getkey(), (160, 3)))
    inputs = amplitudes @ np.cos(waves * x)
    targets = amplitudes @ (np.sin(waves * x) / waves)
    train, test = Dataset(inputs[:, None], targets[:, None], grid).split(128)
    model, _ = fit(
        small_model(getkey(), 1, started=False, width=24, boundary=grid.boundary),
        train,
        loss=RelativeL2(),
        optimiser=optax.adam(3e-3),
        num_steps=300,
        batch_size=32,
        progress=False,
        key=getkey(),
    )
    # The mean of all solutions is zero, with an error of 1.
    assert evaluate(model, test)["relative_l2"] < 0.2


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(ndim=4), "ndim: expected 1, 2 or 3"),
        (dict(width=0), "width"),
        (dict(out_channels=4), r"width: expected a multiple of out_channels \(4\)"),
        (dict(num_summed_layers=4), "num_summed_layers: expected 1 to depth − 1 = 3"),
        (dict(num_summed_layers=0), "num_summed_layers"),
        (dict(encoder=FlattenedField((3,))), "num_points: .* 2 axes"),
        (dict(boundary=Dirichlet(value=np.ones(8))), "boundary: .* needs one number"),
    ],
)
def test_wrong_arguments(arguments, message, getkey):
    with pytest.raises(ValueError, match=message):
        small_model(getkey(), **arguments)


def test_wrong_inputs(getkey):
    model = small_model(getkey())
    with pytest.raises(ValueError, match="expected 1 channels"):
        model(jnp.ones((2, 9, 12)))
    with pytest.raises(ValueError, match=r"points: expected shape \(num, 2\)"):
        model.at(jnp.ones((1, 9, 12)), jnp.ones((4, 3)))
    with pytest.raises(ValueError, match="axis 0 with 3"):
        model(jnp.ones((1, 3, 12)))
    with pytest.raises(ValueError, match="num_points"):
        FlattenedField(())
    with pytest.raises(ValueError, match="num_boxes"):
        ConvolutionalEncoder(num_boxes=0)
