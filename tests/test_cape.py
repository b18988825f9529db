"""CAPE: its formula by hand, what the parameters do, sides; depthwise convolutions."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from sciml._serialisation import load, save
from sciml.grids import Convolution, DepthwiseConvolution, Dirichlet, Neumann, Periodic
from sciml.neural_operators import (
    CAPE,
    FNO,
    AdditiveUpdate,
    MgNO,
    MultiplicativeUpdate,
    NoCoordinates,
    Normalised,
    UNet,
)


def small_model(key, ndim=2, boundary: Any = Dirichlet(), fields=1, **given):
    base_key, key = jr.split(key)
    base = MgNO(ndim, 2 * fields, 2 * fields, 3, 1, 2, boundary, key=base_key)
    arguments: dict[str, Any] = dict(width=4, num_modes=2) | given
    return CAPE(base, 2, **arguments, key=key)


def sample(key, space, parameters=(0.3, 5.0), fields=1):
    u = jr.normal(key, (fields, *space))
    tiled = [jnp.full((1, *space), value) for value in parameters]
    return jnp.concatenate([u, *tiled])


# --- the formula ----------------------------------------------------------------------


def gelu(v):
    return 0.5 * v * (1 + np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3)))


def shifted_sum(weight, u):
    """Σ_t weight[o, i, t] u[i, x + t − reach] on a circle."""
    reach = weight.shape[-1] // 2
    moved = [np.roll(u, reach - t, -1) for t in range(weight.shape[-1])]
    return np.einsum("oit,tix->ox", weight, np.stack(moved))


@pytest.mark.parametrize("update", [None, MultiplicativeUpdate()])
def test_formula(update, getkey):
    """The whole model in NumPy, on a circle of 16 nodes."""

    base = FNO(1, 2, 3, 4, 1, 2, Periodic(), NoCoordinates(), key=getkey())
    model = CAPE(base, 2, 4, 3, 5, 1, update, jax.nn.identity, key=getkey())
    # Other than its first value, so that its place in the formula is seen.
    scale = jnp.array([1.7])
    model = eqx.tree_at(lambda m: m.correction.normalise.scale, model, scale)
    x = sample(getkey(), (16,))
    out, estimate = eqx.filter_jit(model.with_intermediate)(x)
    assert jnp.array_equal(eqx.filter_jit(model)(x), out)

    c: Any = jax.tree.map(np.asarray, model.correction)
    u, parameters = np.asarray(x[:1]), np.array([0.3, 5.0])

    def affine(part, v):
        return part.weight @ v + part.bias

    def pointwise(part, v):
        return part.weight[..., 0] @ v + part.bias[:, None]

    y = gelu(shifted_sum(c.lifting.weight, u))
    kernel = c.spectral.weight[0] + 1j * c.spectral.weight[1]
    kernel[..., 0] = kernel[..., 0].real
    transform = np.fft.rfft(y)
    product = np.zeros((4, 9), complex)
    product[:, :3] = np.einsum("oik,ik->ok", kernel, transform[:, :3])
    depthwise = np.stack(
        [
            shifted_sum(c.depthwise.weight[o][None, None], y[o // 2][None])[0]
            for o in range(4)
        ]
    )
    seen = (np.fft.irfft(product, 16), pointwise(c.pointwise, y), depthwise)
    z = pointwise(c.unattended, y)
    for features, attention in zip(seen, c.attention, strict=True):
        weights = affine(attention.second, gelu(affine(attention.first, parameters)))
        z = z + weights[:, None] * features
    w = pointwise(c.projection, gelu(z))
    w = 1.7 * (w - w.mean()) / np.sqrt(w.var() + 1e-5)
    expected = u + w if update is None else u * (1 + w)
    np.testing.assert_allclose(estimate, expected, atol=1e-12)
    inner = eqx.filter_jit(model.base)(jnp.concatenate([jnp.asarray(u), estimate]))
    expected = pointwise(jax.tree.map(np.asarray, model.mixing), np.asarray(inner))
    np.testing.assert_allclose(out, expected, atol=1e-12)


def test_choices_of_the_paper(getkey):
    """Additive in 1-D, multiplicative in 2-D, where λ/(1 + λ) is σ(log λ)."""
    assert isinstance(small_model(getkey(), 1).update, AdditiveUpdate)
    model = small_model(getkey())
    assert isinstance(model.update, MultiplicativeUpdate)
    values = jnp.array([1e-6, 0.2, 3.0, 400.0])
    np.testing.assert_allclose(model.squash(values), jax.nn.sigmoid(jnp.log(values)))


# --- parameters and sides -------------------------------------------------------------


def test_parameters_matter_and_are_the_same_everywhere(getkey):
    boundary = Periodic()
    base = UNet(2, 2, 2, 2, 2, boundary, key=getkey())
    model = CAPE(base, 2, 4, 2, key=getkey())
    call = eqx.filter_jit(model.with_intermediate)
    x = sample(getkey(), (8, 12))
    other = x.at[1].set(0.9)
    for before, after in zip(call(x), call(other), strict=True):
        assert jnp.max(jnp.abs(before - after)) > 1e-6
    # Shifts commute, as with the base.
    moved = call(jnp.roll(x, (2, -4), (1, 2)))
    for at, there in zip(call(x), moved, strict=True):
        np.testing.assert_allclose(jnp.roll(at, (2, -4), (1, 2)), there, atol=1e-12)


@pytest.mark.parametrize("ndim, space", [(1, (9,)), (2, (8, 11)), (3, (4, 5, 6))])
def test_values_at_the_sides_are_exact(ndim, space, getkey):
    """In every dimension, at two sizes, for the estimate as for the output."""
    boundary = [(Dirichlet(value=1.5, stored=True), Neumann())] + [Neumann()] * (
        ndim - 1
    )
    model = small_model(getkey(), ndim, boundary, fields=2)
    for size in (space, tuple(n + 3 for n in space)):
        x = sample(getkey(), size, fields=2)
        if ndim == 3 and size != space:
            out, estimate = eqx.filter_eval_shape(model.with_intermediate, x)
        else:
            out, estimate = eqx.filter_jit(model.with_intermediate)(x)
            for field in (out, estimate):
                assert jnp.all(field[:, 0] == 1.5) and jnp.all(field[:, 1:] != 1.5)
        assert out.shape == estimate.shape == (2, *size)
    assert model.in_channels == 4 and model.out_channels == 2


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_gradients(dtype, getkey):
    model = small_model(getkey(), 1)
    x = jnp.stack([sample(getkey(), (9,)), sample(getkey(), (9,), (1.0, 0.1))])

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def loss(model):
        out, estimate = jax.vmap(model.with_intermediate)(x.astype(dtype))
        assert out.dtype == estimate.dtype == dtype
        return jnp.mean((out - 1) ** 2) + jnp.mean(estimate**3)

    _, gradient = loss(model)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert jnp.all(jnp.isfinite(leaf))
        # The mean over the nodes takes the projection's bias off again.
        assert "projection.bias" in jax.tree_util.keystr(path) or jnp.any(leaf != 0)


def test_in_physical_units(getkey):
    """`Normalised` gives both fields, the estimate with the state's statistics."""
    model = small_model(getkey(), 1, (Dirichlet(value=3.0, stored=True),))
    outer = Normalised(model, (1.0, 0.0, 0.5), (2.0, 1.0, 4.0), 5.0, 0.1)
    x = sample(getkey(), (9,))
    inside = jnp.stack([(x[0] - 1) / 2, x[1], (x[2] - 0.5) / 4])
    y, e = eqx.filter_jit(model.with_intermediate)(inside)
    out, estimate = eqx.filter_jit(outer.with_intermediate)(x)
    np.testing.assert_allclose(out[:, 1:-1], (5 + 0.1 * y)[:, 1:-1], atol=1e-13)
    np.testing.assert_allclose(estimate[:, 1:-1], (1 + 2 * e)[:, 1:-1], atol=1e-13)
    assert jnp.all(out[:, 0] == 3) and jnp.all(estimate[:, 0] == 3)
    plain = Normalised(model.base, (0.0, 0.0), (1.0, 1.0), (0.0, 0.0), (1.0, 1.0))
    with pytest.raises(ValueError, match=r"method `with_intermediate`.* got MgNO"):
        plain.with_intermediate(jnp.ones((2, 9)))


def test_saving_and_loading(tmp_path, getkey):
    boundary = [(Dirichlet(value=1.0, stored=True), Neumann()), Periodic()]
    model = small_model(getkey(), 2, boundary, update=AdditiveUpdate())
    save(tmp_path / "model.safetensors", model)
    assert bool(eqx.tree_equal(model, load(tmp_path / "model.safetensors")))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(width=5), "width: expected an even number, got 5"),
        (dict(num_modes=0), "num_modes"),
        (dict(kernel_size=4), "kernel_size: expected an odd number"),
    ],
)
def test_wrong_arguments(arguments, message, getkey):
    with pytest.raises(ValueError, match=message):
        small_model(getkey(), **arguments)


def test_wrong_base_and_inputs(getkey):
    with pytest.raises(ValueError, match="base: .* in_channels=3"):
        CAPE(MgNO(1, 3, 3, 2, 1, 2, key=getkey()), 1, key=getkey())
    with pytest.raises(ValueError, match="base: .* without ndim, in_channels"):
        CAPE(lambda x: x, 1, key=getkey())
    with pytest.raises(ValueError, match="expected 3 channels"):
        small_model(getkey())(jnp.ones((2, 8, 8)))


# --- depthwise convolutions -----------------------------------------------------------


@pytest.mark.parametrize("boundary", [Dirichlet(), Neumann(), Periodic()])
@pytest.mark.parametrize("ndim, space", [(1, (7,)), (2, (5, 6)), (3, (5, 4, 6))])
def test_depthwise_is_a_convolution_with_a_diagonal(boundary, ndim, space, getkey):
    layer = DepthwiseConvolution(ndim, 3, 2, 3, boundary, key=getkey())
    full = Convolution(ndim, 3, 6, 3, boundary=boundary, key=getkey())
    weight = jnp.zeros(full.weight.shape)
    for o in range(6):
        weight = weight.at[o, o // 2].set(layer.weight[o])
    full = eqx.tree_at(lambda c: c.weight, full, weight)
    x = jr.normal(getkey(), (3, *space))
    expected = eqx.filter_jit(full)(x)
    np.testing.assert_allclose(eqx.filter_jit(layer)(x), expected, atol=1e-13)


def test_wrong_depthwise_use(getkey):
    with pytest.raises(ValueError, match="multiplier"):
        DepthwiseConvolution(2, 3, 0, key=getkey())
    with pytest.raises(ValueError, match="kernel_size"):
        DepthwiseConvolution(2, 3, 1, 2, key=getkey())
    with pytest.raises(ValueError, match="3 channels"):
        DepthwiseConvolution(2, 3, key=getkey())(jnp.ones((2, 8, 8)))
