"""FNO and normalisation: spectra, transfer between grids, statistics, transforms."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from sciml._serialisation import load, save
from sciml.grids import Dirichlet, Periodic
from sciml.neural_operators import (
    FNO,
    MgNO,
    NoCoordinates,
    Normalised,
    SpectralConvolution,
    normalised,
)

SPACES = {1: (16,), 2: (9, 12), 3: (7, 5, 6)}


def small_model(key, ndim=2, **given):
    arguments: dict[str, Any] = dict(width=3, depth=2, num_modes=3) | given
    return FNO(ndim, 1, 2, **arguments, key=key)


# --- the spectral layer ---------------------------------------------------------------


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_spectral_layer_is_a_filter(ndim, getkey):
    """Against the complex transform over all frequencies, weights made Hermitian."""
    space, m = SPACES[ndim], 3
    layer = SpectralConvolution(ndim, 2, 3, m, key=getkey())
    real, imaginary = np.asarray(layer.weight)
    weight = real + 1j * imaginary
    f = np.asarray(jr.normal(getkey(), (2, *space)))
    axes = range(1, ndim + 1)
    transform = np.fft.fftn(f, axes=axes)
    product = np.zeros((3, *space), complex)
    for index in np.ndindex(*(2 * m - 1,) * ndim):
        k = np.array(index) - (m - 1)

        def at(k):
            return weight[(..., *(k[:-1] + m - 1), k[-1])]

        if k[-1] > 0:
            matrix = at(k)
        elif k[-1] < 0:
            matrix = at(-k).conj()
        else:
            matrix = (at(k) + at(-k).conj()) / 2
        product[(slice(None), *k)] = matrix @ transform[(slice(None), *k)]
    expected = np.fft.ifftn(product, axes=axes)
    assert np.max(np.abs(expected.imag)) < 1e-14
    actual = eqx.filter_jit(layer)(jnp.asarray(f))
    np.testing.assert_allclose(actual, expected.real, atol=1e-14)


def test_spectral_layer_is_linear(getkey):
    layer = eqx.filter_jit(SpectralConvolution(2, 2, 3, 3, key=getkey()))
    f, g = jr.normal(getkey(), (2, 2, 9, 12))
    together, apart = layer(2 * f - 5 * g), 2 * layer(f) - 5 * layer(g)
    np.testing.assert_allclose(together, apart, atol=1e-13)


# --- the model ------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_shapes(ndim, getkey):
    model = small_model(getkey(), ndim, depth=1)
    out = eqx.filter_jit(jax.vmap(model))(jr.normal(getkey(), (2, 1, *SPACES[ndim])))
    assert out.shape == (2, 2, *SPACES[ndim])


def test_transforms(getkey):
    model = small_model(getkey())
    x = jr.normal(getkey(), (2, 1, 9, 12))
    batch = eqx.filter_jit(jax.vmap(model))(x)
    np.testing.assert_allclose(batch[0], eqx.filter_jit(model)(x[0]), atol=1e-13)

    parameters, static = eqx.partition(model, eqx.is_array)

    @jax.jit
    @jax.value_and_grad
    def loss(parameters):
        return jnp.mean(jax.vmap(eqx.combine(parameters, static))(x) ** 2)

    gradient = loss(parameters)[1]
    assert all(jnp.any(g != 0) for g in jax.tree.leaves(gradient))

    # Along the gradient the loss rises by as much as the gradient says.
    def value(step):
        return loss(jax.tree.map(lambda p, g: p + step * g, parameters, gradient))[0]

    slope = sum(jnp.vdot(g, g) for g in jax.tree.leaves(gradient))
    difference = (value(1e-5) - value(-1e-5)) / 2e-5
    np.testing.assert_allclose(difference, slope, rtol=1e-6)


def test_resolution_transfer(getkey):
    """A band-limited input gives the same function on every periodic grid.

    The depth is one: gelu makes frequencies that a coarse grid cannot hold.
    """
    model = eqx.filter_jit(
        small_model(getkey(), depth=1, boundary=Periodic(), coordinates=NoCoordinates())
    )

    def sample(n):
        x, y = np.meshgrid(*(np.arange(n) / n,) * 2, indexing="ij")
        wave = np.cos(2 * np.pi * (2 * x - y) + 1) + 0.3 * np.sin(2 * np.pi * y)
        return jnp.asarray(wave + 0.1)[None]

    coarse, fine = model(sample(8)), model(sample(24))
    np.testing.assert_allclose(fine[:, ::3, ::3], coarse, atol=1e-13)
    # The same by shifts that are no multiple of anything.
    moved = model(jnp.roll(sample(8), 3, 1))
    np.testing.assert_allclose(moved, jnp.roll(coarse, 3, 1), atol=1e-13)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_output_follows_the_dtype_of_the_input(dtype, getkey):
    boundary = [(Dirichlet(), Dirichlet(value=3, stored=True)), Periodic()]
    model = eqx.filter_jit(small_model(getkey(), depth=1, boundary=boundary))
    out = model(jr.normal(getkey(), (1, 8, 9), dtype))
    assert out.dtype == dtype
    assert jnp.all(out[:, -1] == 3)


def test_wrong_use(getkey):
    model = small_model(getkey(), num_modes=5)
    with pytest.raises(ValueError, match="axis 1 has 8. .* num_modes=4 or fewer"):
        model(jnp.ones((1, 9, 8)))
    with pytest.raises(ValueError, match="expected 1 channels"):
        model(jnp.ones((2, 9, 9)))
    with pytest.raises(ValueError, match="num_modes"):
        small_model(getkey(), num_modes=0)


# --- normalisation --------------------------------------------------------------------


def small_normalised(key, **arguments):
    boundary = [(Dirichlet(value=1.25, stored=True), Dirichlet()), Periodic()]
    model = MgNO(2, 2, 1, 3, 1, 2, boundary, key=key)
    return Normalised(model, (1.0, -2.0), (0.5, 4.0), 10.0, 0.3)


def test_normalised_is_the_formula(getkey):
    model = small_normalised(getkey())
    x = jr.normal(getkey(), (2, 8, 8))
    inner = jnp.stack([(x[0] - 1) / 0.5, (x[1] + 2) / 4])
    expected = 10 + 0.3 * eqx.filter_jit(model.model)(inner)
    out = eqx.filter_jit(model)(x)
    np.testing.assert_allclose(out[:, 1:], expected[:, 1:], atol=1e-13)
    assert jnp.all(out[:, 0] == 1.25)
    assert model.boundary == model.model.boundary  # pyright: ignore[reportFunctionMemberAccess]


def test_statistics_of_data(getkey):
    inputs = np.asarray(jr.normal(getkey(), (5, 2, 6, 7))) * 3 + 1
    inputs[:, 1] = 0.1
    targets = np.asarray(jr.normal(getkey(), (5, 1, 6, 7), jnp.float32)) > 0
    model = normalised(MgNO(2, 2, 1, 3, 1, 2, key=getkey()), inputs, targets)
    np.testing.assert_allclose(model.input_mean, inputs.mean((0, 2, 3)), rtol=1e-14)
    assert model.input_std[0] == pytest.approx(inputs[:, 0].std())
    assert model.input_std[1] == 1
    assert model.output_mean[0] == pytest.approx(targets.mean())
    assert all(type(v) is float for v in model.input_mean + model.output_std)


def test_statistics_are_not_trained(tmp_path, getkey):
    model = small_normalised(getkey())
    inner = jax.tree.leaves(eqx.filter(model.model, eqx.is_array))
    assert len(jax.tree.leaves(eqx.filter(model, eqx.is_array))) == len(inner)
    x = jr.normal(getkey(), (3, 2, 8, 8), jnp.float32)

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(model):
        return jnp.mean(jax.vmap(model)(x))

    assert all(jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(gradient(model)))
    save(tmp_path / "model.safetensors", model)
    loaded = load(tmp_path / "model.safetensors")
    assert loaded.input_std == (0.5, 4.0)
    assert bool(eqx.tree_equal(model, loaded))
    assert eqx.filter_eval_shape(model, x[0]).dtype == jnp.float32


@pytest.mark.parametrize(
    "statistics, message",
    [
        ((0.0, 0.0, 0.0, 1.0), "input_std: expected positive"),
        ((0.0, (1.0, 1.0), 0.0, 1.0), "input_std: expected as many"),
        ((0.0, 1.0, (0.0, 0.0), (1.0, 1.0)), "output_mean: the model has 1"),
        ((float("nan"), 1.0, 0.0, 1.0), "input_mean: expected one finite"),
    ],
)
def test_wrong_statistics(statistics, message, getkey):
    model = MgNO(2, 1, 1, 3, 1, 2, key=getkey())
    with pytest.raises(ValueError, match=message):
        Normalised(model, *statistics)


def test_wrong_data(getkey):
    model = small_normalised(getkey())
    with pytest.raises(ValueError, match="x: expected one sample .* 2 channels"):
        model(jnp.ones((1, 8, 8)))
    good = np.ones((3, 1, 4, 4))
    with pytest.raises(ValueError, match="targets: some values are NaN"):
        normalised(lambda x: x, good, good * np.nan)
    with pytest.raises(ValueError, match=r"inputs: expected shape"):
        normalised(lambda x: x, good[:0], good[:0])
