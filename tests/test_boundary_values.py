"""Exact boundary values and exact periodicity, on random inputs."""

# Wrong arguments are the point here.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from sciml.constraints import (
    DirichletValues,
    DistanceMollifier,
    MatchedSides,
    PeriodicFeatures,
)
from sciml.grids import Dirichlet, Grid, Neumann

DTYPES = [np.float32, np.float64]


def values(dtype, getkey):
    """A box with data on three sides, stored on two of them, the fourth free."""
    side = lambda n: jr.normal(getkey(), (n,), dtype)
    pairs = (
        (Dirichlet(side(6), stored=True), Dirichlet(side(6), stored=True)),
        (Dirichlet(side(7)), Neumann()),
    )
    return Grid((7, 6), boundary=pairs)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dirichlet_values(dtype, getkey):
    grid = values(dtype, getkey)
    u = jr.normal(getkey(), (3, 7, 6), dtype)
    low, high = (condition.value for condition in grid.boundary[0])
    for layer in (DirichletValues(grid), DistanceMollifier(grid)):
        value = layer(u)
        assert value.dtype == dtype
        inner = slice(0, 6) if isinstance(layer, DirichletValues) else slice(1, 6)
        np.testing.assert_array_equal(
            value[:, 0, inner], jnp.tile(low[None, inner], (3, 1))
        )
        np.testing.assert_array_equal(
            value[:, -1, inner], jnp.tile(high[None, inner], (3, 1))
        )
    plain = DirichletValues(grid)(u)
    np.testing.assert_array_equal(plain[:, 1:-1], u[:, 1:-1])


def test_mollifier_goes_to_the_sides():
    """Also to sides that are not stored: half the distance, half of what is missing."""
    errors = []
    for n in (15, 31, 63):
        pairs = [(Dirichlet(1.0), Dirichlet(1.0))] * 2
        grid = Grid((n, n), boundary=pairs)
        value = DistanceMollifier(grid)(jnp.ones(grid.num_points))
        errors.append(float(jnp.max(jnp.abs(value[0] - 1.0))))
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 2.0, rtol=0.1)
    # At a corner where the data of two sides disagree it takes their mean.
    pairs = [(Dirichlet(0.0, True), Neumann()), (Dirichlet(1.0, True), Neumann())]
    value = DistanceMollifier(Grid((4, 4), boundary=pairs))(jnp.zeros((4, 4)))
    assert value[0, 0] == 0.5
    np.testing.assert_array_equal(value[0, 1:], 0.0)
    np.testing.assert_array_equal(value[1:, 0], 1.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_periodicity(dtype, getkey):
    layer = PeriodicFeatures((1.0, 2.5), num_modes=3)
    model = eqx.nn.MLP(12, "scalar", 16, 2, dtype=dtype, key=getkey())
    u = lambda x: model(layer(x))
    x = jr.uniform(getkey(), (20, 2), dtype)
    assert layer(x).shape == (20, 12) and layer(x).dtype == dtype
    eps = np.finfo(dtype).eps
    for shift in ([1.0, 0.0], [0.0, -2.5]):
        shift = jnp.asarray(shift, dtype)[None]
        for f in (jax.vmap(u), jax.vmap(jax.grad(u))):
            np.testing.assert_allclose(f(x + shift), f(x), atol=2000 * eps)
    # The sides themselves, bit for bit.
    corners = jnp.asarray([[0.0, 0.0], [1.0, 2.5]], dtype)
    assert layer(corners)[0].tolist() == layer(corners)[1].tolist()

    field = jr.normal(getkey(), (2, 6, 7), dtype)
    value = MatchedSides((-2, -1))(field)
    np.testing.assert_array_equal(value[:, 0], value[:, -1])
    np.testing.assert_array_equal(value[:, :, 0], value[:, :, -1])
    np.testing.assert_array_equal(value[:, 1:-1, 1:-1], field[:, 1:-1, 1:-1])
    np.testing.assert_array_equal(MatchedSides((-2, -1))(value), value)


def test_refused_sides():
    free = Grid(6, boundary=Neumann())
    with pytest.raises(ValueError, match="grid: expected a Dirichlet side with stored"):
        DirichletValues(Grid(6))
    with pytest.raises(ValueError, match="grid: expected a Dirichlet side"):
        DistanceMollifier(free)
    for layer in (
        DistanceMollifier(Grid(6)),
        DirichletValues(Grid(6, boundary=Dirichlet(0.0, True))),
    ):
        with pytest.raises(ValueError, match=r"trailing shape \(6,\)"):
            layer(jnp.ones(5))
    with pytest.raises(ValueError, match="extent: expected positive"):
        PeriodicFeatures((1.0, 0.0))
    with pytest.raises(ValueError, match="num_modes: expected at least 1"):
        PeriodicFeatures(1.0, 0)
    with pytest.raises(ValueError, match=r"coordinates: expected shape \(…, 1\)"):
        PeriodicFeatures(1.0)(jnp.ones(2))
    with pytest.raises(ValueError, match="axes: expected negative"):
        MatchedSides((0,))
    with pytest.raises(ValueError, match="field: expected axes"):
        MatchedSides((-2,))(jnp.ones(4))
