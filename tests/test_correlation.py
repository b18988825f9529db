"""The bilinear primitive behind convolutions on a CPU, beside XLA's convolution."""

import functools
import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from sciml.grids import _correlation as module
from sciml.grids._correlation import _convolution, _products, _windows, correlate

# Nodes, length of the kernel, stride: exact fits and nodes that no window sees.
CASES = [
    ((9,), 3, 1),
    ((9,), 3, 2),
    ((8,), 3, 2),
    ((7, 9), 3, 1),
    ((7, 9), 3, 2),
    ((8, 6), 3, 2),
    ((10, 7), 5, 2),
    ((6, 5), 2, 1),
    ((6, 5), 1, 1),
    ((6, 5), 1, 2),
]
IDS = [f"{'x'.join(map(str, n))}-{k}-{s}" for n, k, s in CASES]


def arrays(nodes, length, dtype=jnp.float64):
    keys = jr.split(jr.key(len(nodes) + length), 2)
    x = jr.normal(keys[0], (3, *nodes, 2), dtype)
    return x, jr.normal(keys[1], (4, 2, *(length,) * len(nodes)), dtype)


@pytest.fixture(params=["products", "sample by sample"])
def every_size(request, monkeypatch):
    """The gradients of large grids, for small ones as well."""
    monkeypatch.setattr(module, "_FEW", 0)
    if request.param == "products":
        monkeypatch.setattr(jax, "device_count", lambda: 2)


PAD = ((0, 0), (1, 1), (1, 1), (0, 0))


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("nodes", "length", "stride"), CASES, ids=IDS)
def test_values_and_gradients(nodes, length, stride):
    x, weight = arrays(nodes, length)
    expected, pull = jax.vjp(functools.partial(_convolution, stride=stride), x, weight)
    np.testing.assert_allclose(correlate(x, weight, stride), expected, atol=1e-12)
    cotangent = jr.normal(jr.key(9), expected.shape)
    for gradient in (_products, _windows):
        found = gradient(x, cotangent, length, stride)
        np.testing.assert_allclose(found, pull(cotangent)[1], atol=1e-12)


def test_loops_see_the_order_of_axes_that_is_fast():
    """XLA's CPU code puts weights in order outside of loops only."""
    x, weight = arrays((9, 9), 3, jnp.float32)
    weight = weight[:2]

    def rolled(x, weight):
        step = lambda x, _: (jnp.pad(correlate(x, weight, 1), PAD), None)
        return jnp.sum(jax.lax.scan(step, x, None, length=2)[0])

    text = jax.jit(jax.grad(rolled, (0, 1))).lower(x, weight).as_text()
    orders = set(re.findall(r"dim_numbers = (\S.*?->\[.*?\])", text))
    assert orders == {"[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"}


@pytest.mark.parametrize(("nodes", "length", "stride"), [CASES[4], CASES[7]])
def test_every_mode_of_differentiation(every_size, nodes, length, stride):
    x, weight = arrays(nodes, length)

    def energy(correlation, x, weight):
        return jnp.sum(jnp.sin(correlation(x, weight, stride)))

    plain = lambda x, weight, stride: _convolution(x, weight, stride=stride)
    ours, theirs = (functools.partial(energy, f) for f in (correlate, plain))
    for derivative in (
        lambda f: jax.grad(f, (0, 1))(x, weight),
        lambda f: jax.jvp(f, (x, weight), (x + 1, weight - 1)),
        # The second derivatives, mixed ones too, in a direction.
        lambda f: jax.jvp(jax.grad(f, (0, 1)), (x, weight), (x + 1, weight - 1)),
        lambda f: jax.grad(lambda w: jnp.sum(jax.grad(f)(x, w) ** 2))(weight),
    ):
        leaves = [jax.tree.leaves(derivative(f)) for f in (ours, theirs)]
        pairs = zip(*leaves, strict=True)
        for found, expected in pairs:
            np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("axes", [(1, None), (None, 0), (2, 1)])
def test_batches_are_loops(every_size, axes):
    x, weight = arrays((5, 6), 3)
    xs = jnp.stack([x, 2 * x], 1 if axes[0] is None else axes[0])
    weights = jnp.stack([weight, weight + 1], axes[1] or 0)
    given = (
        xs if axes[0] is not None else x,
        weights if axes[1] is not None else weight,
    )

    def gradients(x, weight):
        return jax.grad(lambda x, w: jnp.sum(correlate(x, w, 2) ** 3), (0, 1))(
            x, weight
        )

    together = jax.vmap(gradients, axes)(*given)
    for k in range(2):
        one = [
            a if axis is None else jnp.take(a, k, axis)
            for a, axis in zip(given, axes, strict=True)
        ]
        alone = gradients(*one)
        for found, expected in zip(together, alone, strict=True):
            np.testing.assert_allclose(found[k], expected, rtol=1e-12, atol=1e-12)


def test_types_stay(every_size):
    x, weight = arrays((6, 6), 3, jnp.float32)
    out, pull = jax.vjp(lambda x, w: correlate(x, w, 1), x, weight)
    assert {a.dtype for a in (out, *pull(out))} == {jnp.dtype("float32")}
    assert jax.eval_shape(lambda x, w: correlate(x, w, 1), x, weight).shape == out.shape


def test_other_devices_have_their_own_convolution(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    x, weight = arrays((6, 6), 3)
    text = str(jax.make_jaxpr(lambda x, w: correlate(x, w, 1))(x, weight))
    assert "conv_general_dilated" in text and "correlate[" not in text
