"""MgNO's networks for time steps and for waves, and models on finer grids."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from sciml._serialisation import load, save
from sciml.grids import Dirichlet, Grid, Neumann, Periodic, interpolate, resample
from sciml.neural_operators import (
    LayerNormMultigridOperator,
    MgNO,
    MgNOStepper,
    MultigridOperator,
    Transferred,
    WideningMgNO,
    normalised,
)

# --- parameters, against the counts of the published networks -------------------------


def count(make):
    leaves = jax.tree.leaves(eqx.filter_eval_shape(make, jr.key(0)))
    return sum(leaf.size for leaf in leaves if hasattr(leaf, "size"))


def test_published_parameter_counts():
    pipe = [(1, 0)] * 4 + [(1, 1), (2, 0)]
    assert count(lambda key: MgNO(2, 2, 1, 24, 5, 6, num_iterations=pipe, key=key)) == (
        783_876
    )
    stepper = lambda points: (
        lambda key: MgNOStepper(2, 1, 1, norm_points=points, key=key)
    )
    assert count(stepper((64, 64))) == 2_885_194
    assert count(stepper(None)) == 2_885_194 - 1_740_800


def test_published_counts_with_three_node_prolongations():
    # The published networks prolong with 3 nodes per axis where the finer size is odd;
    # here it is 4 always, which is 7 nodes more in two dimensions.
    smooth = count(lambda key: MgNO(2, 1, 1, 24, 5, key=key))
    sizes = [211, 106, 53, 27, 14]
    assert smooth - 5 * 7 * 24**2 * sum(n % 2 for n in sizes) == 678_093

    waves = count(lambda key: WideningMgNO(2, 1, 1, norm_points=(101, 101), key=key))
    odd = 1 * 2 + 4 * 5  # products of the channels of the levels 101 ← 50 and 11 ← 5
    prolongations = 7 * odd * (4 * 20**2 + 1)
    # Of the published layers the finest A is there but never applied.
    unused = (9 * 20 + 1) + 3 * (9 * 400 + 20) + (9 * 20 + 20)
    assert waves - prolongations + unused == 5_351_806


# --- the networks ---------------------------------------------------------------------


def small_stepper(key, **given):
    arguments: Any = dict(width=3, depth=2, num_levels=3) | given
    return MgNOStepper(2, 2, 1, **arguments, key=key)


def small_widening(key, **given):
    arguments: Any = dict(width=2, depth=1, num_levels=3) | given
    return WideningMgNO(2, 1, 2, **arguments, key=key)


def test_a_stepper_adds_to_the_last_channels(getkey):
    model = small_stepper(getkey())
    x = jr.normal(getkey(), (2, 12, 16))
    still = eqx.tree_at(lambda m: m.output.weight, model, replace_fn=jnp.zeros_like)
    np.testing.assert_array_equal(still(x), x[1:])
    assert jnp.max(jnp.abs(model(x) - x[1:])) > 1e-3


def test_a_stepper_is_equivariant_without_norms_only(getkey):
    x = jr.normal(getkey(), (2, 12, 16))
    moved = jnp.roll(x, (4, -8), (1, 2))
    for points, equivariant in ((None, True), ((12, 16), False)):
        model = small_stepper(getkey(), norm_points=points)
        norms = lambda m: [n.shift for layer in m.layers for n in layer.norms]
        if points:
            shifts = [jr.normal(getkey(), shift.shape) for shift in norms(model)]
            model = eqx.tree_at(norms, model, shifts)
        model = eqx.filter_jit(model)
        error = jnp.max(jnp.abs(model(moved) - jnp.roll(model(x), (4, -8), (1, 2))))
        assert (error < 1e-12) == equivariant


def test_widening_levels(getkey):
    operator = small_widening(getkey()).output
    assert [level.pre[0].smoother.out_channels for level in operator.levels] == [2, 4]
    assert operator.coarsest[0].smoother.in_channels == 3 * 2
    assert operator.coarsest[0].smoother.bias is not None


@pytest.mark.parametrize("make", [small_stepper, small_widening])
def test_boundary_and_grids(make, getkey):
    boundary = [(Dirichlet(2.0, stored=True), Neumann()), Periodic()]
    model = make(getkey(), boundary=boundary)
    for shape in ((9, 8), (12, 7)):
        y = eqx.filter_jit(model)(jr.normal(getkey(), (model.in_channels, *shape)))
        assert y.shape == (model.out_channels, *shape)
        assert jnp.all(y[:, 0] == 2)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("points", [None, (9, 8)])
@pytest.mark.parametrize("make", [small_stepper, small_widening])
def test_save_and_load(make, points, getkey, tmp_path):
    model = make(getkey(), norm_points=points)
    x = jr.normal(getkey(), (model.in_channels, 9, 8))
    save(tmp_path / "model.safetensors", model)
    np.testing.assert_array_equal(load(tmp_path / "model.safetensors")(x), model(x))


def test_layer_norms(getkey):
    """Against the operator without norms, with the formula written out."""
    given: Any = dict(num_levels=2, num_iterations=[(1, 0), (1, 0)])
    key = getkey()
    block = LayerNormMultigridOperator(2, 1, 3, (8, 9), **given, key=key)
    plain = MultigridOperator(2, 1, 3, **given, key=key)
    f = jr.normal(getkey(), (8, 9, 1))
    u = plain.channels_last(f)  # without post-smoothing this is what is normalised
    expected = (u - u.mean()) / np.sqrt(np.var(u) + 1e-5)
    np.testing.assert_allclose(block.channels_last(f), expected, atol=1e-12)
    with pytest.raises(ValueError, match=r"fields of \(8, 9\) nodes, got \(16, 9\)"):
        block.channels_last(jnp.ones((16, 9, 1)))


def test_bad_arguments(getkey):
    with pytest.raises(ValueError, match="out_channels: .* last 3 channels"):
        MgNOStepper(2, 2, 3, key=getkey())
    with pytest.raises(ValueError, match="num_points: expected 2 positive"):
        MgNOStepper(2, 1, 1, norm_points=(8,), key=getkey())
    with pytest.raises(ValueError, match="widening: expected one integer"):
        MultigridOperator(2, 1, 1, num_levels=2, widening=(2, 2), key=getkey())


# --- finer grids ----------------------------------------------------------------------

SIDES = {
    "open": (Dirichlet(0.5), (11, 13), (23, 27)),
    "stored": (Dirichlet(0.5, stored=True), (11, 13), (21, 25)),
    "mirror": (Neumann(), (11, 13), (21, 25)),
    "periodic": (Periodic(), (12, 16), (24, 32)),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_transfer_keeps_what_the_model_says(sides, dtype, getkey):
    boundary, small, large = SIDES[sides]
    model = MgNO(
        2, 1, 1, width=3, depth=1, num_levels=2, boundary=boundary, key=getkey()
    )
    x = jr.normal(getkey(), (1, *large), dtype)
    first = 1 if sides == "open" else 0
    coarse = model(x[:, first::2, first::2])
    fine = model.transfer(2)(x)
    assert fine.shape == x.shape and fine.dtype == dtype
    assert coarse.shape[1:] == small
    np.testing.assert_array_equal(fine[:, first::2, first::2], coarse)
    # Between the nodes: the mean of the neighbours, the boundary's value beyond.
    np.testing.assert_allclose(
        fine[:, first + 1, first::2][:, : small[1]],
        (coarse[:, 0] + coarse[:, 1]) / 2,
        rtol=1e-5,
    )
    if sides == "open":
        middle = (0.5 + coarse[:, 0]) / 2
        np.testing.assert_allclose(fine[:, 0, 1::2], middle, rtol=1e-5)


def test_transfers_compose_and_fit_any_size(getkey, tmp_path):
    model = MgNO(1, 1, 1, width=2, depth=1, num_levels=2, key=getkey())
    x = jr.normal(getkey(), (1, 63))
    twice = Transferred(model.transfer(2), 2)
    np.testing.assert_allclose(twice(x), model.transfer(4)(x), atol=1e-14)
    np.testing.assert_array_equal(model.transfer(1)(x), model(x))
    assert model.transfer(2)(x[:, :40]).shape == (1, 40)
    save(tmp_path / "m.safetensors", twice)
    np.testing.assert_array_equal(load(tmp_path / "m.safetensors")(x), twice(x))
    data = 3 + jr.normal(getkey(), (4, 1, 15))
    wrapped = normalised(model, data, data).transfer(2)
    assert wrapped(x).shape == (1, 63) and wrapped.boundary == model.boundary


def test_transfer_refuses(getkey):
    model = MgNO(1, 1, 1, width=2, depth=1, num_levels=2, key=getkey())
    for factor in (0, 3, -2, True):
        with pytest.raises(ValueError, match="power of two"):
            Transferred(model, factor)
    with pytest.raises(ValueError, match="boundary conditions"):
        Transferred(jnp.sin, 2)
    with pytest.raises(ValueError, match="one sample"):
        model.transfer(2)(jnp.ones((2, 1, 15)))


def test_resample(getkey):
    fine, coarse = Grid((9, 15)), Grid((4, 7))
    a = jr.normal(getkey(), (2, 9, 15))
    np.testing.assert_array_equal(resample(a, fine, coarse), a[:, 1::2, 1::2])
    # On a finer grid the field goes on beyond the last node as a constant, where
    # `interpolate` goes to the boundary data.
    ones = jnp.ones((4, 7))
    assert jnp.all(resample(ones, coarse, fine) == 1)
    assert interpolate(ones, coarse, fine)[0, 3] == 0.5
    periodic = Grid(4, boundary=Periodic())
    moved = resample(jnp.array([1.0, 0, 0, 0]), periodic, Grid(8, boundary=Periodic()))
    np.testing.assert_allclose(moved, [1, 0.5, 0, 0, 0, 0, 0, 0.5])
