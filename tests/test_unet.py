"""UNet: sizes, sides, shifts, its number of parameters, normalisations, learning."""

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
    ChannelNormalisation,
    NodeCoordinates,
    NoNormalisation,
    SpaceNormalisation,
    UNet,
)
from sciml.training import RelativeL2, fit

NORMALISATIONS = [NoNormalisation(), SpaceNormalisation(), ChannelNormalisation()]


def small_model(key, ndim=2, **given):
    arguments: dict[str, Any] = dict(width=2, num_levels=3) | given
    return UNet(ndim, 1, 1, **arguments, key=key)


# --- sizes and parameters -------------------------------------------------------------


@pytest.mark.parametrize("ndim, space", [(1, (21,)), (2, (9, 12)), (3, (5, 6, 8))])
def test_every_dimension(ndim, space, getkey):
    model = small_model(getkey(), ndim, num_levels=2)
    x = jr.normal(getkey(), (2, 1, *space))
    batch = eqx.filter_jit(jax.vmap(model))(x)
    assert batch.shape == x.shape
    np.testing.assert_allclose(batch[1], eqx.filter_jit(model)(x[1]), atol=1e-13)


@pytest.mark.parametrize(
    "boundary",
    [Dirichlet(), Dirichlet(stored=True), Neumann(), Periodic()],
    ids=["dirichlet", "stored", "neumann", "periodic"],
)
def test_any_size(boundary, getkey):
    model = small_model(getkey(), num_levels=5, boundary=boundary)
    for space in ((33, 33), (48, 64), (101, 70)):
        x = jax.ShapeDtypeStruct((1, *space), jnp.float32)
        out = eqx.filter_eval_shape(model, x)
        assert out.shape == x.shape and out.dtype == x.dtype


@pytest.mark.parametrize(
    "ndim, width, num_levels, in_channels, coordinates",
    [(1, 5, 1, 2, 0), (2, 4, 3, 1, 2), (2, 16, 4, 1, 0), (3, 3, 2, 3, 3)],
)
def test_number_of_parameters(ndim, width, num_levels, in_channels, coordinates):
    """The formula of the docstring, and 659,041 by it."""
    given: dict[str, Any] = {"coordinates": NodeCoordinates()} if coordinates else {}
    model = eqx.filter_eval_shape(
        lambda key: UNet(ndim, in_channels, 2, width, num_levels, key=key, **given),
        jr.key(0),
    )
    k, p = 3**ndim, 4**ndim
    c = [width * 2**l for l in range(num_levels)]
    pairs = sum(a * b for a, b in zip(c, c[1:], strict=False))
    squares = sum(a * a for a in c[:-1])
    expected = (
        k * (in_channels + coordinates) * c[0]
        + k * pairs
        + sum(k * a * a + 2 * a for a in c)
        + k * squares
        + p * pairs
        + sum(3 * k * a * a + 2 * a for a in c[:-1])
        + (c[0] + 1) * 2
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(model)) == expected
    if (ndim, width, num_levels) == (2, 16, 4):
        # One output channel less has 17 parameters less.
        assert expected - 17 == 659_041


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_every_parameter_is_used(normalisation, getkey):
    model = small_model(getkey(), num_levels=2, normalisation=normalisation)
    x = jr.normal(getkey(), (1, 9, 12))
    gradient = eqx.filter_jit(eqx.filter_grad(lambda m: jnp.sum(m(x) ** 2)))(model)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert jnp.all(jnp.isfinite(leaf))
        # What is added before the mean over space is taken off has no influence.
        removed = normalisation == SpaceNormalisation() and "bias" in str(path)
        assert (removed and "output" not in str(path)) or jnp.any(leaf != 0)


# --- symmetries and sides -------------------------------------------------------------


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_periodic_shifts(normalisation, getkey):
    model = small_model(getkey(), boundary=Periodic(), normalisation=normalisation)
    model = eqx.filter_jit(model)
    x = jr.normal(getkey(), (1, 16, 12))
    expected = jnp.roll(model(x), (4, -8), (1, 2))
    moved = model(jnp.roll(x, (4, -8), (1, 2)))
    np.testing.assert_allclose(moved, expected, atol=1e-13)
    # By less than the coarsest spacing it is another function: the test can fail.
    moved = model(jnp.roll(x, 2, 1))
    assert jnp.max(jnp.abs(moved - jnp.roll(model(x), 2, 1))) > 1e-6


def test_dirichlet_values_are_exact(getkey):
    boundary = [
        (Dirichlet(value=1.5, stored=True), Neumann()),
        (Dirichlet(), Dirichlet(value=-2, stored=True)),
    ]
    model = eqx.filter_jit(small_model(getkey(), boundary=boundary))
    for space in ((12, 9), (17, 14)):
        out = model(jr.normal(getkey(), (1, *space)))
        assert out.shape == (1, *space)
        assert jnp.all(out[:, 0, :-1] == 1.5) and jnp.all(out[..., -1] == -2)
        assert jnp.all((out[:, 1:, :-1] != 1.5) & (out[:, 1:, :-1] != -2))


def test_far_nodes_do_not_see_each_other_on_one_level(getkey):
    """Two blocks of two 3-node convolutions reach 2 nodes; levels reach farther."""
    field = jnp.zeros((1, 41)).at[0, 20].set(1.0)
    for num_levels in (1, 3):
        model = small_model(getkey(), 1, num_levels=num_levels)
        out = eqx.filter_jit(lambda x, m=model: m(x) - m(0 * x))(field)[0]
        reach = np.max(np.abs(np.flatnonzero(np.abs(out) > 1e-14) - 20))
        assert reach == 2 if num_levels == 1 else reach > 8


# --- normalisation --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_standardised_features(dtype, getkey):
    u = 3 + 2 * jr.normal(getkey(), (6, 7, 4), dtype)
    for normalisation, axes in [
        (SpaceNormalisation(0.25), (0, 1)),
        (ChannelNormalisation(0.25), 2),
    ]:
        out = normalisation.build(4)(u)
        assert out.dtype == dtype
        host = np.asarray(u, float)
        variance = host.var(axes, keepdims=True)
        expected = (host - host.mean(axes, keepdims=True)) / np.sqrt(variance + 0.25)
        np.testing.assert_allclose(out, expected, atol=1e-6)
    assert NoNormalisation().build(4)(u) is u


def test_normalisation_over_space_has_a_limit():
    """Finer grids of one function give one function, at second order or better."""
    build = SpaceNormalisation().build(1)

    def at(n):
        x = jnp.arange(n + 1) / n
        return build((jnp.exp(x) * jnp.sin(3 * x))[:, None])[:: n // 8, 0]

    gaps = [float(jnp.max(jnp.abs(at(n) - at(4096)))) for n in (16, 32, 64)]
    assert gaps[0] > 1.9 * gaps[1] > 3.6 * gaps[2]


# --- use ------------------------------------------------------------------------------


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_saving_and_loading(normalisation, tmp_path, getkey):
    model = small_model(
        getkey(),
        boundary=[(Dirichlet(value=1.0, stored=True), Neumann()), Periodic()],
        normalisation=normalisation,
        coordinates=NodeCoordinates(),
    )
    save(tmp_path / "model.safetensors", model)
    assert bool(eqx.tree_equal(model, load(tmp_path / "model.safetensors")))


def test_output_follows_the_dtype_of_the_input(getkey):
    model = eqx.filter_jit(small_model(getkey(), num_levels=2))
    x = jr.normal(getkey(), (1, 8, 9))
    assert model(x).dtype == jnp.float64
    single = model(x.astype(jnp.float32))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, model(x), atol=1e-5)
    np.testing.assert_array_equal(model(x > 0), model((x > 0).astype(float)))


def test_learns_to_solve_poisson(getkey):
    """−u″ = f from sums of sines, whose solutions are known; samples not seen."""
    grid, waves = Grid(15), np.arange(1, 4)
    sines = np.sin(np.pi * waves[:, None] * grid.coordinates(0))
    amplitudes = np.asarray(jr.normal(getkey(), (80, 3)))
    inputs = amplitudes @ sines
    targets = 10 * (amplitudes / (np.pi * waves) ** 2) @ sines
    train, test = Dataset(inputs[:, None], targets[:, None], grid).split(64)
    model, _ = fit(
        small_model(getkey(), 1, width=8, num_levels=2),
        train,
        loss=RelativeL2(),
        optimiser=optax.adam(1e-2),
        num_steps=100,
        batch_size=16,
        progress=False,
        key=getkey(),
    )
    # The mean of all solutions is zero, with an error of 1.
    assert evaluate(model, test)["relative_l2"] < 0.4


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(width=0), "width"),
        (dict(num_levels=0), "num_levels"),
        (dict(boundary=Dirichlet(value=np.ones(8))), "boundary: .* needs one number"),
    ],
)
def test_wrong_arguments(arguments, message, getkey):
    with pytest.raises(ValueError, match=message):
        small_model(getkey(), **arguments)


def test_wrong_inputs(getkey):
    model = small_model(getkey(), num_levels=5)
    with pytest.raises(ValueError, match=r"axis 1 with 14 .* num_levels=4"):
        model(jnp.ones((1, 31, 14)))
    with pytest.raises(ValueError, match="expected 1 channels .* in_channels=2"):
        model(jnp.ones((2, 32, 32)))
    for normalisation in (SpaceNormalisation, ChannelNormalisation):
        with pytest.raises(ValueError, match="epsilon"):
            normalisation(0.0)
