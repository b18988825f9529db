"""Random fields have the covariance that they promise, on every grid."""

# Wrong arguments are the point here, and NumPy takes JAX scalars.
# pyright: reportArgumentType=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from sciml.grids import (
    Dirichlet,
    GaussianField,
    Grid,
    LogNormalField,
    Neumann,
    Periodic,
    TwoPhaseField,
)

NUM_SAMPLES = 4000


def modes(grid, count):
    """Orthonormal eigenfunctions of −Δ on each axis and their eigenvalues."""
    lines = []
    for axis, wraps in enumerate(grid.periodic):
        x = grid.coordinates(axis, closed=True) - grid.origin[axis]
        length = grid.extent[axis]
        values, squares = [np.full(len(x), length**-0.5)], [0.0]
        for k in range(1, count):
            if wraps:
                w = 2 * np.pi * ((k + 1) // 2) / length
                wave = np.cos(w * x) if k % 2 else np.sin(w * x)
            else:
                w = np.pi * k / length
                wave = np.cos(w * x)
            values.append(np.sqrt(2 / length) * wave)
            squares.append(w**2)
        lines.append((np.array(values).T, np.array(squares)))
    return lines


@pytest.mark.parametrize(
    "grid",
    [
        Grid(15, 2.0, origin=3.0),
        Grid((12, 11), (1.0, 2.0), [Periodic(), Neumann()]),
        Grid((6, 5, 7)),
    ],
    ids=["1", "2", "3"],
)
def test_covariance_is_that_of_the_formula(grid, getkey):
    """Each mode has the variance σ²(κ² + τ²)^(−alpha); different modes none."""
    tau, alpha, scale, count = 2.0, 1.5, 3.0, 4
    field = GaussianField(tau, alpha, scale, num_modes=count)
    keys = jr.split(getkey(), NUM_SAMPLES)
    samples = jax.jit(jax.vmap(lambda k: field.sample(grid, key=k, closed=True)))(keys)
    assert samples.shape == (NUM_SAMPLES, *grid.closed_shape)
    basis, squares = np.ones((1, 1)), np.zeros(1)
    for line, square in modes(grid, count):
        basis = np.kron(basis, line)
        squares = np.add.outer(squares, square).ravel()
    flat = np.asarray(samples).reshape(NUM_SAMPLES, -1)
    weights, residual, *_ = np.linalg.lstsq(basis, flat.T)
    # They span the field.
    np.testing.assert_allclose(basis @ weights, flat.T, atol=1e-12)
    expected = scale**2 * (squares + tau**2) ** -alpha
    expected[0] = 0.0
    assert np.abs(weights[0]).max() < 1e-12
    white = weights[1:] / np.sqrt(expected[1:, None])
    deviation = np.sqrt(2 / NUM_SAMPLES)
    assert np.abs(np.mean(white**2, 1) - 1).max() < 5 * deviation
    assert np.abs(np.mean(white, 1)).max() < 5 * deviation
    correlation = white @ white.T / NUM_SAMPLES
    assert np.abs(correlation - np.diag(np.diag(correlation))).max() < 5 * deviation
    # Normal, not merely of the right variance: the fourth moment.
    assert abs(np.mean(white**4) - 3) < 0.2


def test_default_scale_is_that_of_the_data_of_fourier_operators(getkey):
    key, grid = getkey(), Grid((9, 9))
    default = GaussianField(tau=5.0, alpha=3.0).sample(grid, key=key)
    given = GaussianField(tau=5.0, alpha=3.0, scale=25.0).sample(grid, key=key)
    np.testing.assert_array_equal(default, given)
    assert jnp.std(default) > 0


@pytest.mark.parametrize("condition", [Dirichlet(), Neumann(), Periodic()])
def test_the_same_field_on_nested_grids(condition, getkey):
    """With `num_modes`, values at common nodes agree."""
    coarse_n, fine_n = {
        "dirichlet": (7, 15),
        "neumann": (8, 15),
        "periodic": (8, 16),
    }[condition.kind]
    first = 1 if condition.kind == "dirichlet" else 0
    key, field = getkey(), GaussianField(num_modes=6)
    coarse, fine = (Grid((n, n), boundary=condition) for n in (coarse_n, fine_n))
    small, large = (field.sample(g, key=key) for g in (coarse, fine))
    np.testing.assert_allclose(large[first::2, first::2], small, atol=1e-13)
    # Without, a finer grid only adds modes: it stays close.
    small, large = (GaussianField().sample(g, key=key) for g in (coarse, fine))
    gap = jnp.linalg.norm(large[first::2, first::2] - small)
    assert 0 < gap < 0.3 * jnp.linalg.norm(small)
    assert not jnp.allclose(GaussianField().sample(coarse, key=getkey()), small)


def test_periodic_fields_wrap(getkey):
    """One more node, at x = extent, would repeat the first."""
    key, field = getkey(), GaussianField(num_modes=7)
    around = Grid((16, 9), boundary=[Periodic(), Neumann()])
    beyond = Grid((16, 9), origin=(1.0, 0.0), boundary=[Periodic(), Neumann()])
    values = field.sample(around, key=key)
    np.testing.assert_allclose(field.sample(beyond, key=key), values, atol=1e-13)
    # Smooth across the seam.
    jumps = jnp.abs(jnp.roll(values, -1, 0) - values).max(1)
    assert jumps[-1] < 3 * jnp.mean(jumps)


def test_closed_samples_hold_the_open_ones(getkey):
    key, grid = getkey(), Grid((6, 7), boundary=[Dirichlet(), Neumann()])
    field = GaussianField(num_modes=5)
    closed = field.sample(grid, key=key, closed=True)
    assert closed.shape == grid.closed_shape == (8, 7)
    np.testing.assert_allclose(closed[1:-1], field.sample(grid, key=key), atol=1e-14)


def test_two_phase_and_log_normal(getkey):
    key, grid = getkey(), Grid((15, 15))
    gaussian = GaussianField().sample(grid, key=key)
    phases = TwoPhaseField(0.5, 20.0).sample(grid, key=key)
    np.testing.assert_array_equal(phases, np.where(gaussian >= 0, 20.0, 0.5))
    assert set(np.unique(phases)) == {0.5, 20.0}
    positive = LogNormalField(mean=1.0).sample(grid, key=key)
    np.testing.assert_allclose(positive, np.exp(1.0 + gaussian), rtol=1e-14)
    rough = LogNormalField(GaussianField(scale=500.0)).sample(grid, key=key)
    assert (rough > 0).all() and jnp.isfinite(rough).all()


@pytest.mark.parametrize("field", [GaussianField(), LogNormalField(), TwoPhaseField()])
def test_vmap_and_jit(field, getkey):
    keys, grid = jr.split(getkey(), 3), Grid((6, 5))
    sample = lambda k: field.sample(grid, key=k)
    together = jax.jit(jax.vmap(sample))(keys)
    for key, one in zip(keys, together, strict=True):
        np.testing.assert_allclose(sample(key), one, atol=1e-14)
    assert together.dtype == jnp.float64


def test_phases_are_balanced(getkey):
    """By symmetry both phases have half of the domain on average."""
    keys = jr.split(getkey(), 500)
    sample = lambda k: TwoPhaseField(0.0, 1.0).sample(Grid((8, 8)), key=k)
    share = jnp.mean(jax.jit(jax.vmap(sample))(keys))
    assert abs(share - 0.5) < 0.05


def test_wrong_arguments():
    for arguments in (dict(tau=-1.0), dict(alpha=0.0)):
        with pytest.raises(ValueError, match="Expected tau ≥ 0 and alpha > 0, got"):
            GaussianField(**arguments)
    # The default scale τ^(alpha − 1) would make the field zero.
    with pytest.raises(ValueError, match="tau = 0 .* scale"):
        GaussianField(tau=0.0)
    assert jnp.std(GaussianField(0.0, scale=1.0).sample(Grid(9), key=jr.key(0))) > 0
