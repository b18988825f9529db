"""The low frequencies of a field, by products with waves and by fast transforms."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from sciml.neural_operators import _modes as module
from sciml.neural_operators._modes import (
    low_field,
    low_modes,
    low_transform,
    modes_shape,
)

# The last ones are all frequencies that a grid has.
CASES = [((32,), 5), ((15, 16), 3), ((8, 9, 10), 2), ((16,), 8), ((7, 9), 4)]


@pytest.fixture(params=[True, False], ids=["products", "fast transforms"], autouse=True)
def way(request, monkeypatch):
    monkeypatch.setattr(module, "_by_products", lambda space, num_modes: request.param)


@pytest.mark.sampled(6)
@pytest.mark.parametrize(("space", "num_modes"), CASES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_frequencies_are_those_of_the_transform(space, num_modes, dtype):
    f = jr.normal(jr.key(0), (2, *space), dtype)
    found = low_transform(f, num_modes)
    assert found.dtype == dtype
    assert found.shape == (2, 2, *modes_shape(len(space), num_modes))
    axes = range(1, f.ndim)
    transform = np.fft.rfftn(np.asarray(f, float), axes=axes, norm="forward")
    expected = low_modes(jnp.asarray(transform), num_modes)
    atol = 1e-6 if dtype == jnp.float32 else 1e-14
    np.testing.assert_allclose(found[0], expected.real, atol=atol)
    np.testing.assert_allclose(found[1], expected.imag, atol=atol)

    back = low_field(found, space, num_modes)
    assert back.dtype == dtype and back.shape == f.shape
    again = low_transform(back, num_modes)
    np.testing.assert_allclose(again, found, atol=10 * atol)


@pytest.mark.parametrize(("space", "num_modes"), CASES)
def test_a_wave_is_one_frequency(space, num_modes):
    mesh = np.meshgrid(*(np.arange(n) / n for n in space), indexing="ij")
    k = [-1] * (len(space) - 1) + [1]
    angle = 2 * np.pi * sum(w * x for w, x in zip(k, mesh, strict=True))
    low = low_transform(jnp.asarray(np.cos(angle) + 3 * np.sin(angle))[None], num_modes)
    place = (0, *(w + num_modes - 1 for w in k[:-1]), 1)
    np.testing.assert_allclose(low[(0, *place)], 0.5, atol=1e-14)
    np.testing.assert_allclose(low[(1, *place)], -1.5, atol=1e-14)
    field = low_field(low, space, num_modes)
    np.testing.assert_allclose(field[0], np.cos(angle) + 3 * np.sin(angle), atol=1e-13)


def test_few_frequencies_are_products(monkeypatch):
    monkeypatch.undo()
    for space, num_modes, products in (
        ((64, 64), 16, True),
        ((64, 64), 17, False),
        ((16,), 8, True),
        ((1024,), 33, False),
    ):
        f = jnp.zeros((1, *space))
        text = str(jax.make_jaxpr(lambda f, m=num_modes: low_transform(f, m))(f))
        assert ("fft" not in text) == products
