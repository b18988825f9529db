"""Rollouts that are bounded whatever the weights are, and what they are made of."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from sciml._serialisation import load, save
from sciml.grids import Dirichlet
from sciml.neural_operators import (
    BoundedStep,
    DepthwiseSpectralConvolution,
    StableFNO,
    normalised,
)
from sciml.neural_operators._stable_fno import BoundedLinear


def small(key, ndim=1, **given):
    arguments: Any = {"width": 4, "depth": 2, "num_modes": 5} | given
    return StableFNO(ndim, 1, 1, **arguments, key=key)


def bounded(key, ndim=1, **given: Any):
    return BoundedStep(small(key, ndim), ndim, 1, 4, **given)


def wild(model, key, size):
    """The model with weights far from any that are trained, biases included."""
    trained, rest = eqx.partition(model, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(trained)
    keys = jr.split(key, len(leaves))
    leaves = [
        size * jr.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)
    ]
    return eqx.combine(jax.tree.unflatten(structure, leaves), rest)


def rms(u):
    return float(jnp.sqrt(jnp.mean(jnp.sum(u**2, axis=0))))


@pytest.mark.parametrize("size", [0.3, 3.0, 30.0])
@pytest.mark.parametrize("ndim", [1, 2])
def test_no_weights_leave_the_ball(size, ndim, getkey):
    model = wild(bounded(getkey(), ndim, radius=2.0, rate=0.9), getkey(), size)
    step = eqx.filter_jit(model)
    u = 100 * jr.normal(getkey(), (1, *(12, 11)[:ndim]))
    for _ in range(60):
        before, u = rms(u), step(u)
        assert rms(u) <= 0.9 * before + 2 + 1e-9
    assert rms(u) <= 20 + 1e-9


def test_the_ball_is_four_deviations_by_default(getkey):
    model = wild(bounded(getkey()), getkey(), 30.0)
    assert model.radius / (1 - model.rate) == 4
    u = 3 * jr.normal(getkey(), (1, 16))
    for _ in range(20):
        u = model(u)
    assert rms(u) <= 4


def test_within_the_ball_a_model_is_free(getkey):
    """Small changes are the model's own, filtered; the state passes on."""

    class Small(eqx.Module):
        def __call__(self, u):
            return 1e-3 * jnp.sin(u) + 1e-3

    model = BoundedStep(Small(), 1, 1, 4, rate=0.999)
    x = jnp.cos(2 * jnp.pi * jnp.arange(16.0) / 16)[None]
    change = np.fft.rfft(np.asarray(Small()(x)[0]))
    change[4:] = 0
    gain = 0.999 / (1 + np.exp(-4.0))
    np.testing.assert_allclose(
        model(x)[0], gain * x[0] + np.fft.irfft(change, 16), atol=1e-8
    )


def test_the_bound_is_no_excuse_to_do_nothing(getkey):
    """Small states can grow, and the map is not linear."""
    model = wild(bounded(getkey()), getkey(), 1.0)
    x = 1e-3 * jr.normal(getkey(), (1, 16))
    assert rms(model(x)) > 2 * rms(x)
    assert jnp.max(jnp.abs(model(2 * x) - 2 * model(x))) > 1e-3


def test_bounded_refusals(getkey, tmp_path):
    refused: Any = ({"rate": 1.0}, {"rate": 0.0}, {"radius": 0.0}, {"radius": np.inf})
    for given in refused:
        with pytest.raises(ValueError, match=next(iter(given))):
            bounded(getkey(), **given)
    with pytest.raises(ValueError, match="model: expected a state"):
        BoundedStep(lambda u: u[:, :4], 1, 1, 4)(jnp.ones((1, 16)))
    assert jnp.all(jnp.isnan(BoundedStep(jnp.log, 1, 1, 4)(-jnp.ones((1, 16)))))
    model = bounded(getkey(), 2)
    save(tmp_path / "m.safetensors", model)
    x = jr.normal(getkey(), (1, 9, 12))
    np.testing.assert_array_equal(load(tmp_path / "m.safetensors")(x), model(x))
    states = jr.normal(getkey(), (3, 1, 9, 12))
    assert normalised(model, states, states)(x).shape == x.shape


def test_gains(getkey):
    """Each frequency of each channel is multiplied by its own number below 1."""
    layer = DepthwiseSpectralConvolution(2, 3, 4, key=getkey())
    x, y = np.meshgrid(*(np.arange(n) / n for n in (16, 12)), indexing="ij")
    for k in ((1, 2), (-3, 1), (2, 0), (0, 0)):
        wave = np.cos(2 * np.pi * (k[0] * x + k[1] * y) + 0.3)
        u = layer(jnp.asarray(np.stack([wave] * 3)))
        spectra = np.fft.fft2(np.asarray(u))[:, *k] / np.fft.fft2(wave)[k]
        magnitude, phase = np.asarray(layer.weight)[:, :, k[0] + 3, k[1]]
        gain = np.exp(1j * phase) / (1 + np.exp(-magnitude))
        if k[1] == 0:
            m, p = np.asarray(layer.weight)[:, :, 3 - k[0], 0]
            gain = (gain + np.exp(-1j * p) / (1 + np.exp(-m))) / 2
        np.testing.assert_allclose(spectra, gain, atol=1e-12)
        assert np.all(np.abs(gain) < 1)
    # Beyond the cutoff, which is a ball: (3, 3) is inside of the box.
    for k in ((3, 3), (4, 0), (0, 5)):
        wave = np.cos(2 * np.pi * (k[0] * x + k[1] * y))
        assert jnp.max(
            jnp.abs(layer(jnp.asarray(wave)[None] * jnp.ones((3, 1, 1))))
        ) < (1e-12)


def test_bounded_matrices(getkey):
    linear = BoundedLinear(3, 5, False, key=getkey())
    u = jr.normal(getkey(), (3, 7))
    np.testing.assert_allclose(linear(u), linear.weight @ u, rtol=1e-12)
    large = eqx.tree_at(lambda m: m.weight, linear, 100 * linear.weight)
    top = np.linalg.svd(np.asarray(large.weight))[1][0]
    np.testing.assert_allclose(large(u), large.weight @ u / top, rtol=1e-12)
    assert top > 1


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_same_function_on_every_grid(dtype, getkey):
    model = small(getkey())
    x = lambda n: np.sin(2 * np.pi * np.arange(n) / n)[None]
    coarse, fine = (model(jnp.asarray(x(n), dtype)) for n in (24, 48))
    assert coarse.dtype == dtype
    # Up to the frequencies that silu makes and the coarse grid cannot carry.
    np.testing.assert_allclose(fine[:, ::2], coarse, atol=1e-5)


def test_shifts_gradients_and_files(getkey, tmp_path):
    model = small(getkey(), 2)
    x = jr.normal(getkey(), (1, 9, 12))
    moved = jnp.roll(x, (2, 5), (1, 2))
    np.testing.assert_allclose(
        model(moved), jnp.roll(model(x), (2, 5), (1, 2)), atol=1e-12
    )
    gradient = eqx.filter_grad(lambda m: jnp.sum(m(x) ** 2))(model)
    for leaf in jax.tree.leaves(gradient):
        assert jnp.all(jnp.isfinite(leaf)) and jnp.any(leaf != 0)
    save(tmp_path / "m.safetensors", model)
    np.testing.assert_array_equal(load(tmp_path / "m.safetensors")(x), model(x))


def test_boundary_and_refusals(getkey):
    model = small(getkey(), boundary=Dirichlet(2.0, stored=True))
    assert jnp.all(model(jnp.zeros((1, 12)))[0, jnp.array([0, -1])] == 2)
    with pytest.raises(ValueError, match="5 modes need at least 9 nodes"):
        small(getkey())(jnp.ones((1, 8)))
