"""Convolutions against dense matrices written out tap by tap, and their derivatives."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

from sciml.grids import Dirichlet, Neumann, Periodic, coarse_alignment
from sciml.grids._convolution import Convolution, TransposedConvolution

PAIRS = {
    "dirichlet": (Dirichlet(), Dirichlet()),
    "stored": (Dirichlet(stored=True), Dirichlet(stored=True)),
    "one stored": (Dirichlet(stored=True), Dirichlet()),
    "neumann": (Neumann(), Neumann()),
    "periodic": (Periodic(), Periodic()),
    "mixed": (Dirichlet(), Neumann()),
    "mixed back": (Neumann(), Dirichlet()),
}


def continued(place, n, pair):
    """The stored place that a place outside of 0 … n - 1 stands for; None for zero."""
    for side, corner in enumerate((0, n - 1)):
        if (place - corner) * (2 * side - 1) <= 0:
            continue
        if isinstance(pair[side], Dirichlet):
            return None
        if isinstance(pair[side], Periodic):
            return place % n
        return 2 * corner - place if n > 1 else corner
    return place


def tap_matrix(n, pair, tap, kernel_size, stride):
    """The matrix of one axis and one tap of a convolution."""
    start, count = coarse_alignment(n, pair) if stride == 2 else (0, n)
    matrix = np.zeros((count, n))
    for j in range(count):
        place = continued(start + stride * j + tap - kernel_size // 2, n, pair)
        if place is not None:
            matrix[j, place] = 1
    return matrix


def transposed_tap_matrix(n, pair, tap):
    """The same for a transposed convolution; mirrors are those of the fine grid."""
    start, count = coarse_alignment(n, pair)
    matrix = np.zeros((n, count))
    for j in range(-1, count + 1):
        fine = start + 2 * j + tap - 1
        if not 0 <= fine < n:
            continue
        if isinstance(pair[0], Periodic):
            matrix[fine, j % count] += 1
            continue
        place = start + 2 * j
        if j in (-1, count):
            place = continued(place, n, pair) if not 0 <= place < n else None
        if place is not None:
            matrix[fine, (place - start) // 2] += 1
    return matrix


def assemble(x, weight, matrices):
    """Σ_t weight[o, i, t] (⊗_k matrices[k][t_k]) x[i]."""
    out = 0
    for taps in itertools.product(*(range(k) for k in weight.shape[2:])):
        moved = x
        for axis, tap in enumerate(taps):
            moved = np.moveaxis(
                np.tensordot(matrices[axis][tap], moved, (1, axis + 1)), 0, axis + 1
            )
        out = out + np.tensordot(weight[(slice(None), slice(None), *taps)], moved, 1)
    return out


@pytest.mark.parametrize(
    "name, kernel_size",
    [(name, 3) for name in PAIRS] + [("mixed", 1), ("mixed back", 5), ("periodic", 5)],
)
@pytest.mark.parametrize("stride", [1, 2])
def test_one_axis(name, kernel_size, stride, getkey):
    convolution = Convolution(
        1, 2, 3, kernel_size, stride, (PAIRS[name],), key=getkey()
    )
    for n in (4, 5, 9):
        x = np.asarray(jr.normal(getkey(), (2, n)))
        taps = range(kernel_size)
        matrices = [[tap_matrix(n, PAIRS[name], t, kernel_size, stride) for t in taps]]
        expected = assemble(x, np.asarray(convolution.weight), matrices)
        np.testing.assert_allclose(
            eqx.filter_jit(convolution)(jnp.asarray(x)), expected, atol=1e-13
        )


@pytest.mark.parametrize("name", PAIRS)
def test_transposed_one_axis(name, getkey):
    convolution = TransposedConvolution(1, 2, 3, (PAIRS[name],), key=getkey())
    for n in (4, 5, 9):
        count = coarse_alignment(n, PAIRS[name])[1]
        x = np.asarray(jr.normal(getkey(), (2, count)))
        matrices = [[transposed_tap_matrix(n, PAIRS[name], t) for t in range(4)]]
        expected = assemble(x, np.asarray(convolution.weight), matrices)
        actual = jax.jit(lambda x, n=n: convolution(x, (n,)))(x)
        np.testing.assert_allclose(actual, expected, atol=1e-13)


SHAPES = [
    ((5, 6), ("mixed", "periodic")),
    ((4, 7), ("neumann", "one stored")),
    ((5, 4, 6), ("mixed back", "dirichlet", "periodic")),
]


@pytest.mark.parametrize("shape, names", SHAPES)
@pytest.mark.parametrize("stride", [1, 2])
def test_more_axes(shape, names, stride, getkey):
    pairs = [PAIRS[name] for name in names]
    convolution = Convolution(
        len(shape), 2, 3, stride=stride, boundary=pairs, use_bias=True, key=getkey()
    )
    assert convolution.bias is not None
    x = np.asarray(jr.normal(getkey(), (2, *shape)))
    matrices = [
        [tap_matrix(n, pair, t, 3, stride) for t in range(3)]
        for n, pair in zip(shape, pairs, strict=True)
    ]
    expected = assemble(x, np.asarray(convolution.weight), matrices)
    expected += np.asarray(convolution.bias).reshape(-1, *(1,) * len(shape))
    np.testing.assert_allclose(
        eqx.filter_jit(convolution)(jnp.asarray(x)), expected, atol=1e-13
    )


@pytest.mark.parametrize("shape, names", SHAPES)
def test_transposed_more_axes(shape, names, getkey):
    pairs = [PAIRS[name] for name in names]
    convolution = TransposedConvolution(len(shape), 2, 3, pairs, key=getkey())
    coarse = [coarse_alignment(n, p)[1] for n, p in zip(shape, pairs, strict=True)]
    x = np.asarray(jr.normal(getkey(), (2, *coarse)))
    matrices = [
        [transposed_tap_matrix(n, pair, t) for t in range(4)]
        for n, pair in zip(shape, pairs, strict=True)
    ]
    expected = assemble(x, np.asarray(convolution.weight), matrices)
    actual = jax.jit(lambda x: convolution(x, shape))(x)
    np.testing.assert_allclose(actual, expected, atol=1e-13)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_forms_agree_with_plain_xla(ndim, getkey):
    """The phases and the sum of planes are XLA's own convolutions, only faster."""
    space = (8, 6, 4)[:ndim]
    axes = "XYZ"[:ndim]
    numbers = (f"NC{axes}", f"OI{axes}", f"NC{axes}")
    x = jr.normal(getkey(), (3, *space))
    convolution = Convolution(ndim, 3, 4, key=getkey())
    plain = lax.conv_general_dilated(
        x[None], convolution.weight, (1,) * ndim, "SAME", dimension_numbers=numbers
    )[0]
    np.testing.assert_allclose(eqx.filter_jit(convolution)(x), plain, atol=1e-13)

    transposed = TransposedConvolution(ndim, 3, 4, key=getkey())
    fine = tuple(2 * n for n in space)
    plain = lax.conv_general_dilated(
        x[None],
        jnp.flip(transposed.weight, range(2, 2 + ndim)),
        (1,) * ndim,
        # Interior nodes: the first coarse node is the fine node 1.
        ((3, 1),) * ndim,
        lhs_dilation=(2,) * ndim,
        dimension_numbers=numbers,
    )[0]
    actual = jax.jit(lambda x: transposed(x, fine))(x)
    np.testing.assert_allclose(actual, plain, atol=1e-13)


@pytest.mark.parametrize("name, n", [("dirichlet", 8), ("stored", 9), ("periodic", 8)])
def test_transposed_is_the_transpose(name, n, getkey):
    pairs = [PAIRS[name]] * 2
    down = Convolution(2, 2, 3, stride=2, boundary=pairs, key=getkey())
    up = TransposedConvolution(2, 3, 2, pairs, key=getkey())
    weight = jnp.zeros_like(up.weight)
    weight = weight.at[..., :3, :3].set(jnp.swapaxes(down.weight, 0, 1))
    up = eqx.tree_at(lambda m: m.weight, up, weight)
    x = jr.normal(getkey(), (2, n, n))
    coarse = down(x)
    y = jr.normal(getkey(), coarse.shape)
    np.testing.assert_allclose(
        jnp.vdot(coarse, y), jnp.vdot(x, up(y, (n, n))), rtol=1e-12
    )


@pytest.mark.parametrize(
    "name, n",
    [("neumann", 8), ("neumann", 9), ("mixed back", 8), ("mixed back", 9)]
    + [("periodic", 8)],
)
def test_linear_interpolation_keeps_constants(name, n, getkey):
    """At a Neumann side, too, where the boundary node is no coarse node."""
    pair = PAIRS[name]
    up = TransposedConvolution(1, 1, 1, (pair,), key=getkey())
    weight = jnp.array([[[0.5, 1.0, 0.5, 0.0]]])
    up = eqx.tree_at(lambda m: m.weight, up, weight)
    fine = up(jnp.ones((1, coarse_alignment(n, pair)[1])), (n,))
    inside = fine[0] if name != "mixed back" else fine[0, :-1]
    np.testing.assert_allclose(inside, 1, atol=1e-15)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_derivatives(ndim, getkey):
    """Both modes and second derivatives, against finite differences."""
    space = (5, 4, 3)[:ndim]
    boundary = [Periodic(), (Neumann(), Dirichlet()), Dirichlet()][:ndim]
    down = Convolution(ndim, 2, 2, stride=2, boundary=boundary, key=getkey())
    up = TransposedConvolution(ndim, 2, 1, boundary, key=getkey())

    def f(down_weight, up_weight, x):
        y = eqx.tree_at(lambda m: m.weight, down, down_weight)(x)
        z = eqx.tree_at(lambda m: m.weight, up, up_weight)(jnp.tanh(y), space)
        return jnp.sum(jnp.sin(z))

    x = jr.normal(getkey(), (2, *space))
    check_grads(jax.jit(f), (down.weight, up.weight, x), order=2, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_batches_and_dtypes(dtype, getkey):
    convolution = Convolution(2, 1, 2, use_bias=True, key=getkey())
    up = TransposedConvolution(2, 1, 2, key=getkey())
    x = jr.normal(getkey(), (3, 1, 5, 5), dtype)
    batch = jax.jit(jax.vmap(convolution))(x)
    assert batch.dtype == dtype
    each = jnp.stack([convolution(sample) for sample in x])
    np.testing.assert_allclose(batch, each, atol=1e-6)
    batch = jax.jit(jax.vmap(lambda x: up(x, (11, 10))))(x)
    assert batch.dtype == dtype and batch.shape == (3, 2, 11, 10)


def test_no_array_but_parameters(getkey):
    """Boundary data do not end up in a convolution, nor in its static fields."""
    sides = Dirichlet(value=jnp.ones(5)), Neumann(flux=jnp.ones(5))
    boundary = [sides, Dirichlet(value=2.0)]
    convolution = Convolution(2, 1, 1, boundary=boundary, key=getkey())
    assert len(jax.tree.leaves(convolution)) == 1
    hash(jax.tree.structure(convolution))


def test_initial_weights(getkey):
    """Uniform up to PyTorch's limit, and different in every block that is drawn."""
    key = getkey()
    weight = np.asarray(Convolution(2, 30, 40, key=key).weight)
    limit = 1 / np.sqrt(30 * 9)
    assert np.abs(weight).max() <= limit
    np.testing.assert_allclose(weight.std(), limit / np.sqrt(3), rtol=0.02)
    assert np.unique(weight).size == weight.size
    np.testing.assert_array_equal(Convolution(2, 30, 40, key=key).weight, weight)


@pytest.mark.parametrize(
    "arguments, name",
    [
        (dict(ndim=4), "ndim"),
        (dict(in_channels=0), "in_channels"),
        (dict(kernel_size=2), "kernel_size"),
        (dict(stride=3), "stride"),
        (dict(boundary=[Dirichlet()]), "boundary"),
    ],
)
def test_wrong_arguments(arguments, name, getkey):
    arguments = dict(ndim=2, in_channels=1, out_channels=1) | arguments
    with pytest.raises(ValueError, match=name):
        Convolution(**arguments, key=getkey())


def test_wrong_inputs(getkey):
    convolution = Convolution(2, 2, 1, stride=2, key=getkey())
    for x in (jnp.ones((3, 4, 4)), jnp.ones((4, 4)), jnp.ones((5, 2, 4, 4))):
        with pytest.raises(ValueError, match="2 axes of space and 2 channels"):
            convolution(x)
    with pytest.raises(ValueError, match="floating"):
        convolution(jnp.ones((2, 4, 4), int))
    with pytest.raises(ValueError, match="no coarse node"):
        convolution(jnp.ones((2, 4, 1)))
    up = TransposedConvolution(2, 2, 1, key=getkey())
    with pytest.raises(ValueError, match=r"\(4, 4\)"):
        up(jnp.ones((2, 4, 5)), (8, 9))
