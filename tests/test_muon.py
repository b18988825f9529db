"""Muon: directions against singular value decompositions, and what is left to AdamW."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from training_cases import Network, mean_square, network_data, same_bits

from sciml.grids import Convolution, DepthwiseConvolution
from sciml.neural_operators import FNO, MgNO, StableFNO
from sciml.training import fit, muon_optimiser
from sciml.training._muon import _axes

# Its five steps move every singular value to one between these.
SMALLEST, LARGEST = 0.65, 1.25


def first_update(model, gradients, **kwargs):
    """Of the first of 20 steps, whose rates are a tenth of the peaks."""
    optimiser: Any = muon_optimiser(20, weight_decay=0.0, **kwargs)
    parameters = eqx.filter(model, eqx.is_inexact_array)
    with jax.numpy_dtype_promotion("standard"):
        state = optimiser.init(parameters)
        updates, _ = jax.jit(optimiser.update)(gradients, state, parameters)
    return updates


def random_gradients(model, key):
    leaves, structure = jax.tree.flatten(eqx.filter(model, eqx.is_inexact_array))
    keys = jr.split(key, len(leaves))
    found = [jr.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, found)


def check_direction(update, gradient, rate):
    """−rate U Vᵀ of the gradient's decomposition, roughly; of the last two axes."""
    outputs, inputs = gradient.shape[-2:]
    rate = rate * np.sqrt(max(1, outputs / inputs))
    u, _, vt = np.linalg.svd(np.asarray(gradient, float), full_matrices=False)
    turned = np.swapaxes(u, -2, -1) @ (-np.asarray(update, float) / rate)
    turned = turned @ np.swapaxes(vt, -2, -1)
    values = np.diagonal(turned, axis1=-2, axis2=-1)
    assert (values > SMALLEST).all() and (values < LARGEST).all()
    rest = turned - values[..., None] * np.eye(values.shape[-1])
    assert np.abs(rest).max() < 1e-3


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_kernels_of_mgno(getkey, dtype):
    model = MgNO(2, 1, 1, width=4, depth=2, num_levels=2, key=getkey())
    model = jax.tree.map(lambda x: x.astype(dtype) if eqx.is_array(x) else x, model)
    gradients = random_gradients(model, getkey())
    updates = first_update(model, gradients, learning_rate=0.5, adamw_learning_rate=0.1)
    seen = {True: 0, False: 0}
    leaves = zip(jax.tree.leaves(updates), jax.tree.leaves(gradients), strict=True)
    for update, gradient in leaves:
        assert update.dtype == dtype and update.shape == gradient.shape
        matrix = gradient.ndim > 1 and min(gradient.shape[:2]) > 1
        seen[matrix] += 1
        if matrix:
            flat = (gradient.shape[0], -1)
            check_direction(update.reshape(flat), gradient.reshape(flat), 0.05)
        else:
            # The first step of Adam: the rate, against the sign of the gradient.
            np.testing.assert_allclose(update, -0.01 * jnp.sign(gradient), rtol=1e-3)
    assert seen[True] > 10 and seen[False] > 5


def test_a_matrix_for_each_frequency(getkey):
    model = FNO(1, 1, 1, width=3, depth=2, num_modes=4, key=getkey())
    gradients = random_gradients(model, getkey())
    updates = first_update(model, gradients, learning_rate=0.5)

    def matrices(tree):
        weight = tree.layers[0].spectral.weight
        outputs, inputs, modes = weight.shape[1:]
        # (modes, outputs, (real, imaginary) x inputs)
        return weight.transpose(3, 1, 0, 2).reshape(modes, outputs, 2 * inputs)

    check_direction(matrices(updates), matrices(gradients), 0.05)


def test_factors_of_entries_are_no_matrices(getkey):
    """Gains of frequencies and channels, tables, groups, and what is not known."""
    stable = StableFNO(2, 1, 1, width=4, num_modes=3, depth=1, key=getkey())
    models = [
        stable.layers[0].spectral,
        DepthwiseConvolution(2, 4, 8, key=getkey()),
        eqx.nn.LayerNorm((3, 4)),
        eqx.nn.RMSNorm((3, 4)),
        eqx.nn.Embedding(3, 4, key=getkey()),
        eqx.nn.Conv1d(4, 4, 3, groups=2, key=getkey()),
        eqx.nn.Linear(1, 4, key=getkey()),
        eqx.tree_at(
            lambda m: m.weight, Convolution(2, 2, 2, 3, key=getkey()), jnp.ones((2, 2))
        ),
        {"weight": jnp.ones((3, 4))},
    ]
    for model in models:
        gradients = random_gradients(model, getkey())
        updates = first_update(model, gradients, adamw_learning_rate=0.1)
        leaves = zip(jax.tree.leaves(updates), jax.tree.leaves(gradients), strict=True)
        for update, gradient in leaves:
            np.testing.assert_allclose(update, -0.01 * jnp.sign(gradient), rtol=1e-3)


def test_more_outputs_than_inputs_move_further(getkey):
    model = eqx.nn.Linear(3, 12, key=getkey())
    gradients = random_gradients(model, getkey())
    updates = first_update(model, gradients, learning_rate=0.5)
    check_direction(updates.weight, gradients.weight, 0.05)
    assert jnp.linalg.norm(updates.weight, 2) > 0.065


def test_stacked_layers_are_matrices_each(getkey):
    """Axes in front of a map's own count maps."""
    keys = jr.split(getkey(), 4)
    linear = eqx.filter_vmap(lambda k: eqx.nn.Linear(5, 3, key=k))(keys)
    fno = lambda k: FNO(1, 1, 1, width=3, depth=1, num_modes=2, key=k)
    spectral = eqx.filter_vmap(lambda k: fno(k).layers[0].spectral)(keys)
    for model in (linear, spectral):
        gradients = random_gradients(model, getkey())
        stacked = first_update(model, gradients)
        for k in range(4):
            part = jax.tree.map(lambda x, k=k: x[k], (model, gradients))
            alone = first_update(*part)
            np.testing.assert_allclose(stacked.weight[k], alone.weight, rtol=1e-5)


def test_momentum_and_decay(getkey):
    """The third of three steps: Nesterov's mean of the gradients, and W drawn to 0."""
    model = eqx.nn.Linear(4, 4, use_bias=False, key=getkey())
    gradients = [random_gradients(model, key) for key in jr.split(getkey(), 3)]
    # Below the norm of 1 that they are clipped to.
    gradients = [jax.tree.map(lambda x: 1e-2 * x, g) for g in gradients]

    def third(weight_decay):
        optimiser: Any = muon_optimiser(20, 0.5, weight_decay=weight_decay)
        parameters = eqx.filter(model, eqx.is_inexact_array)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = None, optimiser.init(parameters)
            for gradient in gradients:
                updates, state = optimiser.update(gradient, state, parameters)
        assert updates is not None
        return updates.weight

    schedule = optax.warmup_cosine_decay_schedule(0.05, 0.5, 2, 20, 0.005)
    rate = float(np.asarray(schedule(2)))
    first, second, last = (0.05 * g.weight for g in gradients)
    mean = 0.95 * (0.95 * first + second) + last
    nesterov = 0.95 * mean / (1 - 0.95**4) + last / (1 - 0.95**3)
    check_direction(third(0.0), nesterov, rate)
    drawn = third(0.1) - third(0.0)
    np.testing.assert_allclose(drawn, -rate * 0.1 * model.weight, atol=1e-6)


def test_kinds_of_numbers(getkey):
    """Half types are computed in single; complex matrices are AdamW's."""
    for dtype in (jnp.bfloat16, jnp.float16):
        model = eqx.nn.Linear(6, 4, dtype=dtype, key=getkey())
        zero = jax.tree.map(jnp.zeros_like, eqx.filter(model, eqx.is_array))
        assert jnp.isfinite(first_update(model, zero).weight).all()
        updates = first_update(model, random_gradients(model, getkey()))
        assert updates.weight.dtype == dtype
    mixed = [eqx.nn.Linear(3, 3, dtype=t, key=getkey()) for t in (float, jnp.float32)]
    updates = first_update(mixed, random_gradients(mixed, getkey()))
    assert [u.weight.dtype for u in updates] == [jnp.float64, jnp.float32]
    complex_map = eqx.nn.Linear(3, 3, dtype=complex, key=getkey())
    assert _axes(complex_map) == [None, None]
    with pytest.raises(ValueError, match="num_steps: expected at least 1, got 0"):
        muon_optimiser(0)


def test_the_scale_of_gradients_does_not_matter(getkey):
    model = eqx.nn.Linear(6, 3, key=getkey())
    gradients = random_gradients(model, getkey())
    small = jax.tree.map(lambda x: 1e-5 * x, gradients)
    for a, b in zip(
        *(jax.tree.leaves(first_update(model, g)) for g in (gradients, small)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-2)


def test_resumes_bit_for_bit(getkey, tmp_path):
    model, data, key = Network(key=getkey()), network_data(getkey()), getkey()

    def run(num_steps, folder):
        return fit(
            model,
            data,
            loss=mean_square,
            optimiser=muon_optimiser(12),
            num_steps=num_steps,
            batch_size=4,
            checkpoint_dir=folder,
            checkpoint_every=4,
            progress=False,
            key=key,
        )

    whole, _ = run(12, tmp_path / "whole")
    run(8, tmp_path / "parts")
    again, _ = run(12, tmp_path / "parts")
    assert same_bits(whole, again)
