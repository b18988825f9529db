"""Losses against finite differences and values by hand; the errors of models."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from training_cases import GRID, Identity, Pointwise, pointwise_data

from sciml.data import Dataset, read_darcy_small
from sciml.evaluation._metrics import evaluate
from sciml.grids import Dirichlet, Grid, Neumann, Periodic
from sciml.training import RelativeH1, RelativeL2, SpectralH1

LOSSES = {"L2": RelativeL2(), "H1": RelativeH1(), "spectral": SpectralH1(2.0)}


class Broken(eqx.Module):
    """NaN for samples whose first value is above 100."""

    def __call__(self, field):
        return jnp.where(field[0, 0, 0] > 100, jnp.nan, field)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", LOSSES)
def test_gradient_against_finite_differences(getkey, name, dtype):
    data, _ = pointwise_data(getkey(), dtype)
    weight, direction = jr.normal(getkey(), (2, 1, 2), dtype)
    loss = jax.jit(lambda w: LOSSES[name](Pointwise(w), data)[0])
    value, slope = jax.jvp(loss, (weight,), (direction,))
    assert value.dtype == dtype
    assert jnp.allclose(jnp.vdot(jax.grad(loss)(weight), direction), slope, rtol=1e-5)
    step, rtol = (1e-2, 1e-2) if dtype == jnp.float32 else (1e-5, 1e-8)
    quotient = (loss(weight + step * direction) - loss(weight - step * direction)) / (
        2 * step
    )
    assert jnp.allclose(slope, quotient, rtol=rtol)


@eqx.filter_jit
def value_of(loss, data):
    return loss(Identity(), data)[0]


def ratio(loss, grid, error, target):
    """A loss for one sample with the error and the target given at the nodes."""
    target = np.broadcast_to(np.asarray(target, float), grid.shape)[None, None]
    data = Dataset(target + np.asarray(error, float), target, grid)
    return float(value_of(loss, data))


def at_node(grid, *index):
    field = np.zeros(grid.shape)
    field[index] = 1.0
    return field


def test_exact_values_of_l2():
    stored = Dirichlet(stored=True)
    # ‖δ‖² is the volume of the node's cell, ‖1‖² the volume of all cells.
    for boundary, node, share in [
        (Dirichlet(), (1, 1), 1 / 12),
        (Periodic(), (0, 0), 1 / 12),
        (Neumann(), (1, 1), 1 / 6),
        (Neumann(), (0, 1), 1 / 12),
        (stored, (0, 0), 1 / 24),
    ]:
        grid = Grid((3, 4), extent=(2.0, 1.0), boundary=boundary)
        got = ratio(RelativeL2(), grid, at_node(grid, *node), 1.0)
        assert math.isclose(got, math.sqrt(share), rel_tol=1e-14)


def test_exact_values_of_h1():
    """‖δ‖²_H1 and ‖x‖²_H1 by hand, where x has slope 1 up to the boundary."""
    h, zero, one = 1 / 4, Dirichlet(value=0.0), Dirichlet(value=1.0)
    for low, high, node in [
        (zero, one, 1),
        (zero, Neumann(), 3),
        (Dirichlet(value=0.0, stored=True), Dirichlet(value=1.0, stored=True), 2),
        (Neumann(), one, 0),
    ]:
        num = 3 + (low.stores_nodes) + (high.stores_nodes)
        grid = Grid(num, boundary=((low, high),))
        x = grid.coordinates(0)
        weights = h * grid.cell_weights()
        at_end = weights[node] < h
        delta = weights[node] + (1 if at_end else 2) / h
        expected = math.sqrt(delta / (np.sum(weights * x**2) + 1))
        got = ratio(RelativeH1(), grid, at_node(grid, node), x)
        assert math.isclose(got, expected, rel_tol=1e-14)
    grid = Grid((7, 7))
    delta = 1 / 64 + 4.0
    # 1 inside and 0 on the boundary: a jump at both ends of 7 lines in 2 directions.
    one = 49 / 64 + 2 * 7 * 2 * (1 / 64) / (1 / 64)
    got = ratio(RelativeH1(), grid, at_node(grid, 0, 3), 1.0)
    assert math.isclose(got, math.sqrt(delta / one), rel_tol=1e-14)


def test_h1_converges_to_the_integral():
    """u = sin πx cos πy: ‖u‖² = 1/4, |u|² = π²/2; second order."""
    gaps = []
    for n in (8, 16, 32):
        grid = Grid((n - 1, n + 1), boundary=(Dirichlet(), Neumann()))
        x, y = grid.mesh()
        u = np.sin(np.pi * x) * np.cos(np.pi * y)
        # A first sample of known norm: the ratio of an error u to a target u is 1, so
        # the error is a delta, whose norm was checked by hand.
        delta = ratio(RelativeH1(), grid, at_node(grid, n // 2, n // 2), u) ** 2
        gaps.append(abs((1 / n**2 + 4) / delta - (1 / 4 + np.pi**2 / 2)))
    orders = [math.log2(a / b) for a, b in itertools.pairwise(gaps)]
    assert all(abs(order - 2) < 0.1 for order in orders)


def test_exact_values_of_spectral_h1():
    grid = Grid((64,), boundary=(Periodic(),))
    x = grid.coordinates(0)
    for k in (0, 3, 19, 20, 31):
        wave = np.cos(2 * np.pi * k * x)
        power = 1.0 if k == 0 else 0.5
        weight = 1 + k**2 if k < 20 else 1
        expected = math.sqrt(power * weight)
        got = ratio(SpectralH1(), grid, wave, 1.0)
        assert math.isclose(got, expected, rel_tol=1e-12)
    with pytest.raises(ValueError, match="max_wavenumber"):
        SpectralH1(0.0)


@pytest.mark.parametrize("name", LOSSES)
def test_mean_over_samples_and_channels(getkey, name):
    inputs, errors = jr.normal(getkey(), (2, 5, 2, *GRID.shape))
    data = Dataset(inputs + errors, inputs, GRID)
    one_by_one = [value_of(LOSSES[name], sample) for sample in data]
    assert jnp.allclose(value_of(LOSSES[name], data), sum(one_by_one) / 5)


@pytest.mark.parametrize("name", LOSSES)
def test_exact_prediction_has_zero_loss_and_gradient(getkey, name):
    data, _ = pointwise_data(getkey())
    weight = jnp.array([[1.0, 2.0]])
    data = Dataset(data.inputs, jax.vmap(Pointwise(weight))(data.inputs), GRID)
    loss = lambda w: LOSSES[name](Pointwise(w), data)[0]
    value, gradient = jax.jit(jax.value_and_grad(loss))(weight)
    assert value == 0 and (gradient == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_loss_errors(getkey, name):
    data, _ = pointwise_data(getkey())
    with pytest.raises(ValueError, match=r"expected an output of shape \(1, 4, 3\)"):
        LOSSES[name](Identity(), data)
    with pytest.raises(ValueError, match="has none"):
        LOSSES[name](Identity(), Dataset(data.inputs, None, GRID))


# Evaluation


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_evaluate_by_hand(dtype):
    grid = Grid((3, 4), boundary=(Dirichlet(value=2.0, stored=True), Neumann()))
    targets = np.full((5, 1, 3, 4), 2.0, dtype)
    inputs = targets.copy()
    inputs[1, 0, 1, 1] += 3.0
    inputs[3, 0, 0, 2] -= 1.0
    data = Dataset(inputs, targets, grid)
    got = evaluate(Identity(), data, batch_size=2)
    losses = [
        {"l2": value_of(RelativeL2(), s), "h1": value_of(RelativeH1(), s)} for s in data
    ]
    for name in ("l2", "h1"):
        mean = sum(float(loss[name]) for loss in losses) / 5
        assert math.isclose(got[f"relative_{name}"], mean, rel_tol=1e-6)
    # One error of 1 among 5 samples with 8 stored Dirichlet nodes each; rms(u) = 2.
    assert math.isclose(got["boundary_rmse"], math.sqrt(1 / 40) / 2, rel_tol=1e-6)
    assert got["max_error"] == 3.0
    for size in (1, 3, 5, 64):
        other = evaluate(Identity(), data, batch_size=size)
        assert all(math.isclose(other[k], got[k], rel_tol=1e-6) for k in got)


def test_boundary_without_stored_dirichlet_nodes():
    for boundary, nodes in [(Dirichlet(), 10), (Periodic(), 0), (Neumann(), 10)]:
        grid = Grid((3, 4), boundary=boundary)
        targets = np.ones((1, 1, 3, 4))
        got = evaluate(Identity(), Dataset(targets + 1, targets, grid))
        assert got["boundary_rmse"] == 1 if nodes else np.isnan(got["boundary_rmse"])
        inner = targets.copy()
        inner[0, 0, 1, 1:3] += 1
        got = evaluate(Identity(), Dataset(inner, targets, grid))
        assert got["boundary_rmse"] == 0 if nodes else np.isnan(got["boundary_rmse"])


def test_evaluate_is_honest_about_nan():
    grid = Grid((3, 4))
    targets = np.ones((5, 1, 3, 4))
    inputs = targets.copy()
    inputs[4] = 1000.0
    got = evaluate(Broken(), Dataset(inputs, targets, grid), batch_size=2)
    assert all(np.isnan(value) for value in got.values())
    with pytest.raises(ValueError, match="batch_size"):
        evaluate(Identity(), Dataset(inputs, targets, grid), batch_size=0)


def test_mean_field_of_the_real_set(data_folder):
    """48.7 % is what others measured for the mean of the training solutions."""

    class Mean(eqx.Module):
        field: jax.Array

        def __call__(self, coefficient):
            return self.field

    train, test = read_darcy_small(data_folder / "darcy_small")
    got = evaluate(Mean(jnp.asarray(train.targets.mean(0))), test)
    assert abs(got["relative_l2"] - 0.487) < 0.002
    assert got["boundary_rmse"] == 0
