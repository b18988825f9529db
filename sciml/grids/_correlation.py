"""Correlations of arrays with channels last, and gradients that suit the processor.

XLA's CPU code needs more time for the gradient of a convolution with respect to its
weight than for all else in it: it transposes both arrays first, and then runs a
convolution whose kernel is as large as the grid. On a CPU `correlate` is therefore a
bilinear primitive of its own, the gradient of which is a few products of matrices. On
other devices it is XLA's convolution.

Weights are brought into the one order of axes that XLA's fast CPU code takes. Outside
of loops XLA would do that by itself; in a `scan` or a `while_loop` (rollouts, a network
in every step of CG) it takes loops over single numbers instead, twenty times as slow.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

# Below so many windows of a sample XLA's own gradient is faster.
_FEW = 900


def correlate(x: Array, weight: Array, stride: int) -> Array:
    """out[n, J, o] = Σ_i Σ_t weight[o, i, t] x[n, stride·J + t, i].

    Where the whole kernel fits inside x; one or two axes.

    **Arguments:**

    - `x`: shape `(samples, *nodes, in_channels)`.
    - `weight`: shape `(out_channels, in_channels, *kernel)`, all of one length.
    - `stride`: 1 or 2.
    """
    if jax.default_backend() != "cpu":
        return _convolution(x, weight, stride=stride)
    return _correlate_p.bind(x, weight, stride=stride)


def _convolution(x: Array, weight: Array, *, stride: int) -> Array:
    ndim = weight.ndim - 2
    return _in_order(x, weight, (stride,) * ndim, [(0, 0)] * ndim, (1,) * ndim)


def _in_order(
    x: Array,
    weight: Array,
    strides: tuple[int, ...],
    padding: list[tuple[int, int]],
    dilation: tuple[int, ...],
) -> Array:
    axes = "XY"[: weight.ndim - 2]
    return lax.conv_general_dilated(
        x,
        jnp.moveaxis(weight, (0, 1), (-1, -2)),
        window_strides=strides,
        padding=padding,
        lhs_dilation=dilation,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
    )


def _padded_convolution(x: Array, weight: Array, *, stride: int) -> Array:
    """The same. XLA's CPU code is up to five times faster where there is padding.

    One node that is not there will do, and what is computed with it is cut off again.
    """
    ndim = weight.ndim - 2
    size = (x.shape[-2] - weight.shape[-1]) // stride + 1
    padding = [*[(0, 0)] * (ndim - 1), (0, 1)]
    out = _in_order(x, weight, (stride,) * ndim, padding, (1,) * ndim)
    return lax.slice_in_dim(out, 0, size, axis=-2)


_correlate_p = Primitive("correlate")


@_correlate_p.def_impl
def _run(x, weight, *, stride):
    return _jitted(x, weight, stride=stride)


_jitted = jax.jit(_padded_convolution, static_argnames="stride")


@_correlate_p.def_abstract_eval
def _shape(x, weight, *, stride):
    out = jax.eval_shape(functools.partial(_convolution, stride=stride), x, weight)
    return ShapedArray(out.shape, out.dtype)


def _x_gradient(cotangent, x, weight, *, stride):
    """Σ_o Σ_t weight[o, i, t] cotangent[n, (J − t)/stride, o], shape of x."""
    ndim, length = weight.ndim - 2, weight.shape[-1]
    turned = jnp.swapaxes(jnp.flip(weight, range(2, 2 + ndim)), 0, 1)
    padding = [
        (length - 1, n - stride * (windows - 1) - 1)
        for n, windows in zip(x.aval.shape[1:-1], cotangent.shape[1:-1], strict=True)
    ]
    return _in_order(cotangent, turned, (1,) * ndim, padding, (stride,) * ndim)


def _weight_gradient(cotangent, x, weight, *, stride):
    length = weight.aval.shape[-1]
    if math.prod(cotangent.shape[1:-1]) < _FEW:
        return _windows(x, cotangent, length, stride)
    if jax.device_count() > 1:
        # (Samples may be on different devices.)
        return _products(x, cotangent, length, stride)

    # Sample by sample all of it stays in the cache.
    def add(total, pair):
        x, cotangent = pair
        return total + _products(x[None], cotangent[None], length, stride), None

    zeros = jnp.zeros(weight.aval.shape, weight.aval.dtype)
    return lax.scan(add, zeros, (x, cotangent))[0]


def _windows(x: Array, cotangent: Array, length: int, stride: int) -> Array:
    """What `_products` computes, as a convolution whose kernel is the cotangent."""
    ndim = x.ndim - 2
    seen = [stride * (n - 1) + length for n in cotangent.shape[1:-1]]
    x = x[(slice(None), *(slice(n) for n in seen))]
    axes = "XY"[:ndim]
    gradient = lax.conv_general_dilated(
        jnp.swapaxes(x, 0, -1),
        jnp.moveaxis(cotangent, 0, -2),
        window_strides=(1,) * ndim,
        padding="VALID",
        rhs_dilation=(stride,) * ndim,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
    )
    return jnp.moveaxis(gradient, (-1, 0), (0, 1))


def _products(x: Array, cotangent: Array, length: int, stride: int) -> Array:
    """Σ_n Σ_J x[n, stride·J + t, i] cotangent[n, J, o], shape (o, i, *kernel).

    Nodes are numbered through, over samples and axes, with the cotangent filled up by
    zeros so that its rows are as long as those of x: for each t the sum is then a
    product of two matrices, one of them moved by a few rows.
    """
    ndim = x.ndim - 2
    reach = (length - 1) // stride
    sizes = [n + reach for n in cotangent.shape[1:-1]]
    fill = [(0, 0, 0), *[(0, reach, 0)] * ndim, (0, 0, 0)]
    zero = jnp.zeros((), x.dtype)
    right = lax.pad(cotangent, zero, fill).reshape(-1, cotangent.shape[-1])
    # (Nodes that no window sees are cut off, missing ones are filled up.)
    fill[1:-1] = [
        (0, stride * size - n, 0) for size, n in zip(sizes, x.shape[1:-1], strict=True)
    ]
    left = lax.pad(x, zero, fill)
    split = [part for size in sizes for part in (size, stride)]
    left = left.reshape(-1, *split, x.shape[-1])
    phases = [2 + 2 * k for k in range(ndim)]
    nodes = [1 + 2 * k for k in range(ndim)]
    left = left.transpose(*phases, 0, *nodes, 2 * ndim + 1)
    left = left.reshape(*(stride,) * ndim, -1, x.shape[-1])
    steps = [math.prod(sizes[k + 1 :]) for k in range(ndim)]
    # Along the first axis it is the cotangent that moves, along the second one x: that
    # is fewer copies than one for each t, and products of larger matrices.
    gradient = {}
    for first in range(min(stride, length)):
        along = range(first, length, stride)
        moved = [_moved(right, steps[0] * (t // stride)) for t in along]
        stacked = jnp.concatenate(moved, -1)
        for rest in itertools.product(range(length), repeat=ndim - 1):
            phase = (first, *(t % stride for t in rest))
            back = sum(d * (t // stride) for d, t in zip(steps[1:], rest, strict=True))
            # (The other order of the result takes twice as long.)
            found = jnp.einsum("ni,no->io", _moved(left[phase], -back), stacked)
            parts = jnp.split(found, len(along), axis=1)
            gradient |= {(t, *rest): p for t, p in zip(along, parts, strict=True)}
    in_order = itertools.product(range(length), repeat=ndim)
    stacked = jnp.stack([gradient[t] for t in in_order], -1)
    stacked = stacked.reshape(x.shape[-1], cotangent.shape[-1], *(length,) * ndim)
    return jnp.swapaxes(stacked, 0, 1)


def _moved(rows: Array, count: int) -> Array:
    """Rows moved down, or up by a negative number, with zeros for the missing ones."""
    zero = jnp.zeros((), rows.dtype)
    return lax.pad(rows, zero, [(count, -count, 0), (0, 0, 0)])


def _batched(arguments, axes, *, stride):
    x, weight = arguments
    x_axis, weight_axis = axes
    if weight_axis is not None:
        # A convolution in groups, for a batch of models.
        both = functools.partial(_convolution, stride=stride)
        return jax.vmap(both, (x_axis, weight_axis))(x, weight), 0
    x = jnp.moveaxis(x, x_axis, 0)
    out = correlate(x.reshape(-1, *x.shape[2:]), weight, stride)
    return out.reshape(*x.shape[:2], *out.shape[1:]), 0


ad.defbilinear(_correlate_p, _x_gradient, _weight_gradient)
batching.primitive_batchers[_correlate_p] = _batched
mlir.register_lowering(
    _correlate_p, mlir.lower_fun(_padded_convolution, multiple_results=False)
)
