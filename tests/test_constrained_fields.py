"""Fields with exact mass, divergence and bounds, on random inputs."""

# Wrong arguments are the point here.
# pyright: reportArgumentType=false

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.test_util import check_grads
from linear_cases import boundaries, outcome

from sciml.constraints import (
    Between,
    Clip,
    CurlOfPotential,
    LerayProjection,
    NonNegativeWithMass,
    Positive,
    ScaleToEnergy,
    ScaleToMass,
    ShiftToMass,
    central_symbol,
    energy,
    mass,
    spectral_symbol,
)
from sciml.grids import Dirichlet, Grid, Neumann, Periodic, divergence, l2_norm

DTYPES = [np.float32, np.float64]
GRIDS = {
    "line": Grid(64, 2.0, Periodic()),
    "square": Grid((33, 20), (1.0, 3.0), (Neumann(), Periodic())),
    "cube": Grid((8, 7, 9), boundary=Dirichlet(stored=True)),
}


def volumes(grid):
    return grid.cell_weights() * math.prod(grid.spacing)


# --- mass and energy ------------------------------------------------------------------


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("grid", GRIDS.values(), ids=list(GRIDS))
def test_mass_and_energy_are_exact(grid, dtype, getkey):
    fields = jr.normal(getkey(), (40, *grid.num_points), dtype)
    targets = jr.uniform(getkey(), (40,), dtype, minval=0.1, maxval=3.0)
    w = volumes(grid)
    eps = np.finfo(dtype).eps
    axes = tuple(range(1, fields.ndim))
    wide = lambda v: np.asarray(v, np.float64)

    shifted = ShiftToMass(grid)(fields, targets)
    size = np.sum(w * np.abs(wide(shifted)), axes)
    missed = np.abs(np.sum(w * wide(shifted), axes) - wide(targets))
    assert np.max(missed / size) <= 4 * eps
    scaled = ScaleToMass(grid)(jnp.abs(fields), targets)
    assert np.min(scaled) >= 0
    found = np.sum(w * wide(scaled), axes)
    np.testing.assert_allclose(found, wide(targets), rtol=8 * eps)
    loud = ScaleToEnergy(grid)(fields, targets)
    found = np.sum(w * wide(loud) ** 2, axes)
    np.testing.assert_allclose(found, wide(targets), rtol=8 * eps)
    for value in (shifted, scaled, loud):
        assert value.dtype == dtype and value.shape == fields.shape
    # Without the layers they are off by as much as there is.
    assert np.max(np.abs(np.sum(w * wide(fields), axes) - wide(targets))) > 0.5
    np.testing.assert_allclose(mass(shifted, grid), targets, atol=8 * eps * size.max())
    np.testing.assert_allclose(energy(loud, grid), targets, rtol=8 * eps)


def test_shift_and_scale_are_nearest(getkey):
    """Nothing that keeps the constraint leads nearer to the field."""
    grid = GRIDS["square"]
    u, d = jr.normal(getkey(), (2, *grid.num_points))
    x = ShiftToMass(grid)(u, 1.0)
    along = ShiftToMass(grid)(d, 0.0)
    assert abs(mass((x - u) * along, grid)) < 1e-13
    x = ScaleToEnergy(grid)(u, 1.0)
    other = ScaleToEnergy(grid)(u + 0.1 * d, 1.0)
    assert l2_norm(x - u, grid) < l2_norm(other - u, grid)


def test_derivatives_of_conservation(getkey):
    grid = Grid((4, 3), boundary=Neumann())
    u = jr.uniform(getkey(), grid.num_points, minval=0.5, maxval=1.5)
    for layer in (ShiftToMass(grid), ScaleToMass(grid), ScaleToEnergy(grid)):
        check_grads(layer, (u, jnp.asarray(2.0)), 2, ("fwd", "rev"), rtol=1e-5)
        rough = eqx.filter_jit(eqx.filter_vmap(layer, in_axes=(0, None)))
        np.testing.assert_allclose(rough(u[None], 2.0)[0], layer(u, 2.0), rtol=1e-13)


def test_ends_of_conservation():
    grid = Grid(8, boundary=Periodic())
    one, wave = jnp.ones(8), jnp.asarray([1.0, -1] * 4)
    for layer, field, target, expected in [
        (ShiftToMass(grid), one * jnp.nan, 1.0, "nonfinite"),
        (ShiftToMass(grid), one, jnp.inf, "nonfinite"),
        (ShiftToMass(grid), 1e300 * one, -1e300, "successful"),
        (ScaleToMass(grid), wave, 1.0, "infeasible"),
        (ScaleToMass(grid), one, -1.0, "infeasible"),
        (ScaleToMass(grid), one, 0.0, "successful"),
        (ScaleToMass(grid), 0 * one, 0.0, "successful"),
        (ScaleToMass(grid), one * jnp.nan, 1.0, "nonfinite"),
        (ScaleToEnergy(grid), 0 * one, 1.0, "infeasible"),
        (ScaleToEnergy(grid), one, -1.0, "infeasible"),
        (ScaleToEnergy(grid), 1e-200 * one, 1.0, "successful"),
        (ScaleToEnergy(grid), one * jnp.inf, 1.0, "nonfinite"),
        (NonNegativeWithMass(grid), one, -1.0, "infeasible"),
        (NonNegativeWithMass(grid), -one, 0.0, "successful"),
        (NonNegativeWithMass(grid), one * jnp.nan, 1.0, "nonfinite"),
    ]:
        solution = layer.project(field, target, throw=False)
        assert outcome(solution.result) == expected, (layer, expected)
        if expected == "successful":
            continue
        with pytest.raises(eqx.EquinoxRuntimeError):
            layer(field, target)
        total = lambda u, layer=layer, t=target: jnp.sum(
            layer.project(u, t, throw=False).value
        )
        assert np.isnan(jax.grad(total)(field)).all()
    for layer in (ShiftToMass(grid), ScaleToMass(grid), ScaleToEnergy(grid)):
        with pytest.raises(ValueError, match=r"field: expected trailing shape \(8,\)"):
            layer(jnp.ones(7), 1.0)
        with pytest.raises(ValueError, match=r"target: expected .* shape \(2,\)"):
            layer(jnp.ones((2, 8)), jnp.ones(3))
        with pytest.raises(ValueError, match="field: expected real values"):
            layer(jnp.ones(8, int), 1.0)


# --- divergence -----------------------------------------------------------------------


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(16, 16), (15, 18), (9, 8, 6)])
def test_leray_projection(shape, dtype, getkey):
    grid = Grid(shape, tuple(1.0 + k for k in range(len(shape))), Periodic())
    v = jr.normal(getkey(), (5, grid.ndim, *shape), dtype)
    eps = np.finfo(dtype).eps
    size = np.max(np.abs(v)) * max(1 / h for h in grid.spacing)

    layer = LerayProjection(grid, central_symbol)
    value = layer(v)
    assert value.dtype == dtype
    worst = np.max(np.abs(jax.vmap(lambda f: divergence(f, grid))(value)))
    assert worst <= 20 * eps * size
    assert np.max(np.abs(jax.vmap(lambda f: divergence(f, grid))(v))) > 0.1 * size

    # The derivative of the Fourier modes, by NumPy in double precision.
    value = LerayProjection(grid)(v)
    axes = tuple(range(2, v.ndim))
    modes = np.fft.fftn(np.asarray(value, np.float64), axes=axes)
    k = np.stack(
        np.meshgrid(
            *(spectral_symbol(grid, a) for a in range(grid.ndim)), indexing="ij"
        )
    )
    found = np.fft.ifftn(
        1j * np.sum(k * modes, axis=1), axes=tuple(range(1, v.ndim - 1))
    )
    assert np.max(np.abs(found)) <= 60 * eps * math.pi * size

    # A projection, orthogonal, that keeps what is free of divergence already.
    for layer in (LerayProjection(grid, central_symbol), LerayProjection(grid)):
        value = layer(v)
        np.testing.assert_allclose(layer(value), value, atol=30 * eps)
        assert abs(jnp.mean(value * (v - value))) <= 30 * eps
        np.testing.assert_allclose(
            jnp.mean(value, axes), jnp.mean(v, axes), atol=30 * eps
        )
    check_grads(LerayProjection(grid), (v[0].astype(np.float64),), 1, rtol=1e-5)


def test_leray_keeps_a_vortex_and_drops_a_gradient():
    grid = Grid((16, 20), boundary=Periodic())
    x, y = (2 * math.pi * jnp.asarray(c) for c in grid.mesh())
    vortex = jnp.stack([jnp.sin(x) * jnp.cos(y), -jnp.cos(x) * jnp.sin(y)])
    slope = jnp.stack([jnp.cos(x) * jnp.sin(y), jnp.sin(x) * jnp.cos(y)])
    value = LerayProjection(grid)(vortex + slope)
    np.testing.assert_allclose(value, vortex, atol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ndim", [2, 3])
def test_curl_of_a_potential(ndim, dtype, getkey):
    for name, pairs in boundaries(ndim).items():
        grid = Grid((7, 9, 8)[:ndim], (1.0, 2.0, 3.0)[:ndim], pairs)
        shape = grid.num_points if ndim == 2 else (3, *grid.num_points)
        potential = jr.normal(getkey(), shape, dtype)
        v = CurlOfPotential(grid)(potential)
        assert v.shape == (ndim, *grid.num_points) and v.dtype == dtype
        size = np.max(np.abs(v)) * max(1 / h for h in grid.spacing)
        worst = np.max(np.abs(divergence(v, grid)))
        assert worst <= 10 * np.finfo(dtype).eps * size, name
        assert np.max(np.abs(v)) > 1


def test_curl_is_the_curl():
    """ψ = x² y and A = (y z, z x², x y²), which the stencils differentiate exactly."""
    grid = Grid((6, 5), boundary=Neumann())
    x, y = (jnp.asarray(c) for c in grid.mesh())
    v = CurlOfPotential(grid)(x**2 * y)
    np.testing.assert_allclose(v, jnp.stack([x**2, -2 * x * y]), atol=1e-13)
    grid = Grid((6, 5, 4), boundary=Neumann())
    x, y, z = (jnp.asarray(c) for c in grid.mesh())
    v = CurlOfPotential(grid)(jnp.stack([y * z, z * x**2, x * y**2]))
    exact = jnp.stack([2 * x * y - x**2, y - y**2, 2 * x * z - z])
    np.testing.assert_allclose(v, exact, atol=1e-13)


def test_refused_flows():
    line, square = Grid(8, boundary=Periodic()), Grid((8, 8))
    torus = Grid((8, 8), boundary=Periodic())
    for grid in (line, square):
        with pytest.raises(ValueError, match="grid: expected two or three axes, all"):
            LerayProjection(grid)
    with pytest.raises(ValueError, match="grid: expected two or three axes, got one"):
        CurlOfPotential(line)
    with pytest.raises(ValueError, match=r"trailing shape \(2, 8, 8\), got \(8, 8\)"):
        LerayProjection(torus)(jnp.ones((8, 8)))
    with pytest.raises(ValueError, match="vector_field: expected real values"):
        LerayProjection(torus)(jnp.ones((2, 8, 8), int))
    with pytest.raises(ValueError, match=r"potential: expected .* \(8, 8\)"):
        CurlOfPotential(torus)(jnp.ones((2, 8, 8)))
    assert np.isnan(LerayProjection(torus)(jnp.full((2, 8, 8), jnp.nan))).all()


# --- bounds ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_bounds_hold(dtype, getkey):
    u = 100 * jr.normal(getkey(), (1000,), dtype)
    low, high = jnp.asarray(0.1, dtype), jnp.asarray(0.3, dtype)
    for layer in (Between(low, high), Clip(low, high)):
        value = layer(u)
        assert value.dtype == dtype
        assert np.all((value >= low) & (value <= high))
    assert np.all(Positive()(u) >= 0) and np.all(Positive(low)(u) >= low)
    np.testing.assert_array_equal(
        Clip(low, high)(u), np.clip(u, 0.1, 0.3).astype(dtype)
    )
    np.testing.assert_allclose(Positive(sharpness=50.0)(u), np.maximum(u, 0), atol=0.02)
    for layer in (Positive(), Between(0.0, 1.0), Clip(0.0, 1.0)):
        assert np.isnan(layer(jnp.array([jnp.nan], dtype))).all()


def test_derivatives_of_bounds():
    u = jnp.array([-3.0, -0.4, 0.2, 0.9, 4.0])
    for layer in (Positive(), Between(-1.0, 2.0), Clip(-1.0, 2.0)):
        check_grads(layer, (u,), 2, rtol=1e-5)
    slope = jax.vmap(jax.grad(Clip(0.0, 1.0)))(jnp.array([-1.0, 0, 0.5, 1, 2]))
    np.testing.assert_array_equal(slope, [0.0, 1, 1, 1, 0])
    slope = jax.grad(lambda low: jnp.sum(Clip(low, 1.0)(u)))(0.0)
    assert slope == 2.0


def test_refused_bounds():
    for kind in (Between, Clip):
        with pytest.raises(ValueError, match="low, high: expected low ≤ high"):
            kind(1.0, 0.0)
        with pytest.raises(
            ValueError, match=r"high: .* shape \(3,\), got shape \(2,\)"
        ):
            kind(0.0, jnp.ones(2))(jnp.ones(3))
    with pytest.raises(ValueError, match="sharpness: expected above 0"):
        Positive(sharpness=0.0)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("grid", GRIDS.values(), ids=list(GRIDS))
def test_non_negative_with_mass(grid, dtype, getkey):
    fields = jr.normal(getkey(), (20, *grid.num_points), dtype)
    layer = NonNegativeWithMass(grid)
    value = jax.vmap(lambda u: layer(u, 0.7))(fields)
    assert value.dtype == dtype and np.min(value) == 0.0
    w = volumes(grid)
    found = np.sum(w * np.asarray(value, np.float64), tuple(range(1, fields.ndim)))
    np.testing.assert_allclose(found, 0.7, rtol=8 * np.finfo(dtype).eps)
    # The conditions of the nearest point: one threshold for all, nothing below it.
    gap = np.asarray(fields - value)
    for k in range(20):
        threshold = gap[k][value[k] > 0]
        np.testing.assert_allclose(
            threshold, threshold[0], atol=20 * np.finfo(dtype).eps
        )
        assert np.max(fields[k][value[k] == 0]) <= threshold[0] + 1e-5


@pytest.mark.slow
def test_derivative_of_non_negative_with_mass(getkey):
    grid = Grid((3, 4), boundary=Neumann())
    u = jr.normal(getkey(), grid.num_points)
    layer = NonNegativeWithMass(grid)
    assert 0 < np.sum(layer(u, 0.5) > 0) < 12
    check_grads(layer, (u, jnp.asarray(0.5)), 2, rtol=1e-5)
    with pytest.raises(
        ValueError, match=r"field: expected real values of shape \(3, 4\)"
    ):
        layer(u[0], 0.5)
    with pytest.raises(ValueError, match="target: expected a number"):
        layer(u, jnp.ones(3))
