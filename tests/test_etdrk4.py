"""Exponential time differencing and Fourier space, by themselves."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from problems._etdrk4 import ETDRK4
from problems._fourier import FourierSpace, refined

REAL = np.concatenate([-np.logspace(-9, 1, 41), [0.0, 0.7, 3.0]])


def phi(order, z):
    """φ_k(z) = Σ z^j / (j + k)!, which for |z| ≤ 10 loses four digits of nineteen."""
    terms = [z**j / math.factorial(j + order) for j in range(80)]
    return np.sum(terms, axis=0)


def expected(z):
    """q, f₁, f₂ and f₃ for h = 1 in the functions φ."""
    one, two, three = (phi(k, z.astype(np.clongdouble)) for k in (1, 2, 3))
    half = phi(1, z.astype(np.clongdouble) / 2) / 2
    return half, one - 3 * two + 4 * three, 2 * two - 4 * three, 4 * three - two


@pytest.mark.parametrize("z", [REAL, 1j * REAL, (0.6 + 0.8j) * REAL])
def test_coefficients(z):
    for symbol in (z, jnp.asarray(z)):
        step = ETDRK4(symbol, 1.0)
        assert step.whole.dtype == z.dtype
        for found, value in zip(step.weights, expected(z), strict=True):
            value = value if np.iscomplexobj(z) else value.real
            value = value.astype(z.dtype)
            np.testing.assert_allclose(found, value, rtol=1e-12, atol=1e-14)


def test_coefficients_in_single_precision():
    """And for symbols so large that their cubes overflow."""
    z = np.concatenate([-np.logspace(-8, 14, 100), [0.0]])
    on_host, traced = ETDRK4(z, 1.0), ETDRK4(jnp.asarray(z, jnp.float32), 1.0)
    for found, value in zip(traced.weights, on_host.weights, strict=True):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, value, rtol=2e-5, atol=1e-7)
    slopes = jax.vmap(jax.grad(lambda z: sum(ETDRK4(z, 1.0).weights)))
    assert jnp.isfinite(slopes(jnp.asarray(z, jnp.float32))).all()


def test_order_with_a_complex_symbol():
    """v' = (2i − 1) v + v² has a solution in closed form."""
    symbol, v0 = 2j - 1, 0.5 + 0.2j
    growth = np.exp(symbol)
    exact = growth * v0 / (1 + v0 * (1 - growth) / symbol)
    errors = []
    for count in (8, 16, 32):
        step, v = ETDRK4(np.array(symbol), 1 / count), jnp.asarray(v0)
        for _ in range(count):
            v = step(v, lambda v: v**2)
        errors.append(abs(complex(v) - exact))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all((3.8 < orders) & (orders < 4.4)) and errors[-1] < 1e-6
    # Without N a step is exact.
    free = ETDRK4(np.array(symbol), 1.0)(jnp.asarray(v0), lambda v: 0 * v)
    np.testing.assert_allclose(free, growth * v0, rtol=1e-14)


@pytest.mark.parametrize("shape", [(8,), (9,), (8, 9), (6, 7, 8)])
def test_refined_fields(shape):
    field = jr.normal(jr.key(0), shape)
    fine = refined(field, 3)
    assert fine.shape == tuple(3 * n for n in shape)
    np.testing.assert_allclose(fine[(slice(None, None, 3),) * field.ndim], field)
    n = shape[0]
    line = np.cos(np.pi * 2 * (n // 2) * np.arange(3 * n) / (3 * n))
    if field.ndim == 1:  # The highest mode is a cosine, in between as well.
        np.testing.assert_allclose(refined(jnp.asarray(line[::3]), 3), line, atol=1e-14)


@pytest.mark.parametrize("shape", [(12, 9), (16, 15), (10, 8)])
def test_products_of_kept_modes_have_no_aliases(shape):
    """What is kept of a product is what a finer grid gives."""
    coarse, fine = (
        FourierSpace(tuple(k * n for n in shape), (1.0, 2.0)) for k in (1, 2)
    )
    u = coarse.field(coarse.truncate(coarse.coefficients(jr.normal(jr.key(1), shape))))
    here = coarse.truncate(coarse.coefficients(u**2))
    there = fine.coefficients(refined(u, 2) ** 2) / 4
    rows = np.fft.fftfreq(shape[0], 1 / shape[0]).astype(int)
    there = there[rows][:, : here.shape[1]]
    np.testing.assert_allclose(here, coarse.truncate(there), atol=1e-11)
    # All modes have aliases.
    full = FourierSpace(shape, (1.0, 2.0), 1.0)
    assert full.mask().all() and not coarse.mask().all()


def test_derivatives_in_fourier_space():
    space = FourierSpace((8, 10), (2.0, 3.0))
    x, y = np.meshgrid(2 * np.arange(8) / 8, 3 * np.arange(10) / 10, indexing="ij")
    u = np.sin(np.pi * x) * np.cos(2 * np.pi * y / 3)
    v = space.coefficients(jnp.asarray(u))
    along_x = np.pi * np.cos(np.pi * x) * np.cos(2 * np.pi * y / 3)
    along_y = -2 * np.pi / 3 * np.sin(np.pi * x) * np.sin(2 * np.pi * y / 3)
    for axis, value in enumerate((along_x, along_y)):
        found = space.field(space.derivative(v, axis))
        np.testing.assert_allclose(found, value, atol=1e-14)
    squares = space.field(v * jnp.asarray(space.squares(), v.dtype))
    np.testing.assert_allclose(squares, (1 + 4 / 9) * np.pi**2 * u, atol=1e-13)
