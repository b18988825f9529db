"""Convolutions that know what holds on the sides of the grid.

Both act on arrays that keep their channels last: XLA's CPU convolutions work on those,
and transposing around every convolution costs a third of a training step.
`channels_last` is that inner form, for models that hold on to the layout; the call
operator takes and returns a field with its channels first.
"""

import math
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from ._alignment import coarse_alignment
from ._boundary import (
    AbstractBoundary,
    BoundaryPair,
    Dirichlet,
    Neumann,
    Periodic,
    boundary_pairs,
)
from ._correlation import correlate

# Given and Result have names of their own, since sizes and channels differ.
Given = Shaped[Array, "in_channels *nodes"]
GivenLast = Shaped[Array, "*nodes in_channels"]
Result = Float[Array, "out_channels *out_nodes"]
ResultLast = Float[Array, "*out_nodes out_channels"]

_BLOCK = 4096


class Convolution(eqx.Module):
    """A convolution of the nodes of a grid, continued over each side as that side says.

        out[o, J] = Σ_i Σ_t weight[o, i, t] · in[i, first + stride·J + t − reach] + b[o]

    with reach = (kernel_size − 1)/2 and, per axis, t = 0 … kernel_size − 1. With
    `stride=1` the output has the size of the input (first = 0). With `stride=2` it
    lives on the coarse nodes of `coarse_alignment` (first = start), so that a
    Dirichlet boundary stays a multiple of the coarse spacing away, for odd and even
    sizes alike. Beyond a side the input is

        Dirichlet   zero (of the boundary's kind only this is used, not the value)
        Neumann     its mirror image about the first or last node
        Periodic    its periodic continuation

    Without bias it is linear in the input. It may be differentiated in every mode and
    order, and the parameters follow the input's dtype.

    **Arguments:**

    - `ndim`: number of axes, 1 to 3.
    - `in_channels`, `out_channels`: channels of the input and of the output.
    - `kernel_size`: odd; the same along every axis. Default 3, nearest neighbours.
    - `stride`: 1 or 2.
    - `boundary`: one condition for all sides, or per axis one condition or a
        (low, high) pair. Default `Dirichlet()`.
    - `use_bias`: whether b is there. Default False: the map is linear.
    - `key`: draws weight (shape `(out_channels, in_channels, *kernel)`) and b
        uniformly from ±1/√(in_channels · kernel_size^ndim), PyTorch's default.

    **Raises:** `ValueError` for arguments out of range, and when called with an array
    of another rank, dtype or number of channels.

    !!! example

        ```python
        blur = Convolution(2, 1, 8, boundary=Periodic(), key=jr.key(0))
        blur(jnp.ones((1, 32, 48))).shape  # (8, 32, 48)
        ```
    """

    weight: Float[Array, "out_channels in_channels *kernel"]
    bias: Float[Array, " out_channels"] | None
    ndim: int = eqx.field(static=True)
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    kernel_size: int = eqx.field(static=True)
    stride: int = eqx.field(static=True)
    boundary: tuple[BoundaryPair, ...] = eqx.field(static=True)
    use_bias: bool = eqx.field(static=True)

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        boundary: AbstractBoundary | Sequence = Dirichlet(),
        use_bias: bool = False,
        *,
        key: PRNGKeyArray,
    ):
        check_sizes(ndim, in_channels, out_channels)
        check_kernel(kernel_size)
        if stride not in (1, 2):
            raise ValueError(f"stride: expected 1 or 2, got {stride}.")
        weight_key, bias_key = jr.split(key)
        limit = 1 / math.sqrt(in_channels * kernel_size**ndim)
        shape = (out_channels, in_channels, *(kernel_size,) * ndim)
        self.weight = uniform(weight_key, shape, limit)
        self.bias = uniform(bias_key, (out_channels,), limit) if use_bias else None
        self.ndim = ndim
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.boundary = kinds(boundary, ndim)
        self.use_bias = use_bias

    def __call__(self, x: Given) -> Result:
        """The convolution of a field whose channels come first."""
        check_input(x, self.ndim, self.in_channels, channel_axis=0)
        return jnp.moveaxis(self.channels_last(jnp.moveaxis(x, 0, -1)), -1, 0)

    def channels_last(self, x: GivenLast) -> ResultLast:
        """The same for an array whose channels come last."""
        check_input(x, self.ndim, self.in_channels, channel_axis=-1)
        reach = self.kernel_size // 2
        widths, mirrors = [], []
        for n, pair in zip(x.shape[:-1], self.boundary, strict=True):
            start, count = coarse_alignment(n, pair) if self.stride == 2 else (0, n)
            if count < 1:
                raise ValueError(
                    f"x: an axis with {n} interior node between two boundaries has no "
                    "coarse node; use fewer levels or a finer grid."
                )
            last = start + self.stride * (count - 1)
            widths.append((reach - start, reach + last - (n - 1)))
            mirrors.append(("reflect", "reflect"))
        padded = continued(x, self.boundary, widths, mirrors)
        out = _correlate(padded, self.weight, self.stride)
        return out if self.bias is None else out + _broadcast(self.bias, out)


class TransposedConvolution(eqx.Module):
    """From the coarse nodes of a grid to all of its nodes: a learned prolongation.

        out[o, first + 2J + t − 1]  +=  Σ_i weight[o, i, t] · in[i, J],   t = 0 … 3

    per axis, where first + 2J is the fine node that is the coarse node J
    (`coarse_alignment`). A three-node prolongation such as linear interpolation
    (1/2, 1, 1/2) is t = 0 … 2 with a zero at t = 3; the transpose of a
    `Convolution(stride=2)` with kernel w is weight[i, o, t] = w[o, i, t] there. The
    coarse input is continued beyond the sides as in `Convolution` (a Neumann side
    mirrors about the boundary node of the *fine* grid, which need not be a coarse
    node), and what falls outside of the fine grid is cropped, so that every size can
    be produced. PyTorch pads with zeros here, whatever the boundary.

    Linear in the input.

    **Arguments:**

    - `ndim`: number of axes, 1 to 3.
    - `in_channels`, `out_channels`: channels of the input and of the output.
    - `boundary`: as in `Convolution`.
    - `key`: draws weight, shape `(out_channels, in_channels, *(4,) * ndim)`, uniformly
        from ±1/√(in_channels · 4^ndim).

    **Raises:** `ValueError` as `Convolution`, and if the coarse nodes of `fine_shape`
    are not as many as the input has.

    !!! example

        ```python
        prolong = TransposedConvolution(2, 8, 8, key=jr.key(0))
        prolong(jnp.ones((8, 15, 16)), (31, 33)).shape  # (8, 31, 33)
        ```
    """

    weight: Float[Array, "out_channels in_channels *kernel"]
    ndim: int = eqx.field(static=True)
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    boundary: tuple[BoundaryPair, ...] = eqx.field(static=True)

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        out_channels: int,
        boundary: AbstractBoundary | Sequence = Dirichlet(),
        *,
        key: PRNGKeyArray,
    ):
        check_sizes(ndim, in_channels, out_channels)
        limit = 1 / math.sqrt(in_channels * 4**ndim)
        shape = (out_channels, in_channels, *(4,) * ndim)
        self.weight = uniform(key, shape, limit)
        self.ndim = ndim
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.boundary = kinds(boundary, ndim)

    def __call__(self, x: Given, fine_shape: tuple[int, ...]) -> Result:
        """The fine field, of shape `(out_channels, *fine_shape)`, of a coarse one."""
        check_input(x, self.ndim, self.in_channels, channel_axis=0)
        fine = self.channels_last(jnp.moveaxis(x, 0, -1), fine_shape)
        return jnp.moveaxis(fine, -1, 0)

    def channels_last(self, x: GivenLast, fine_shape: tuple[int, ...]) -> ResultLast:
        """The same for an array whose channels come last."""
        check_input(x, self.ndim, self.in_channels, channel_axis=-1)
        aligned = [
            coarse_alignment(n, pair)
            for n, pair in zip(fine_shape, self.boundary, strict=True)
        ]
        expected = tuple(count for _, count in aligned)
        if x.shape[:-1] != expected:
            raise ValueError(
                f"x: a grid of shape {tuple(fine_shape)} has coarse nodes of shape "
                f"{expected}, but the input has shape {x.shape[:-1]} there."
            )
        mirrors = [
            (_mirror(start, 0), _mirror(start + 2 * (count - 1), n - 1))
            for n, (start, count) in zip(fine_shape, aligned, strict=True)
        ]
        padded = continued(x, self.boundary, [(1, 1)] * self.ndim, mirrors)
        # A window (J, J + 1) determines the fine nodes first + 2J + 1, of which the
        # nodes J and J + 1 are t = 2 and 0, and first + 2J + 2 with t = 3 and 1: two
        # phases per axis. They are channels of one short convolution without the
        # zeros that a dilated input has, whose weight gradient XLA's CPU code needs
        # twenty times as long for.
        phases = _correlate(padded, _phase_weight(self.weight), 1)
        fine = _interleaved(phases, self.ndim)
        # The first window starts at J = -1, hence at the fine node first - 1.
        begin = [1 - start for start, _ in aligned]
        end = [b + n for b, n in zip(begin, fine_shape, strict=True)]
        return lax.slice(fine, (*begin, 0), (*end, self.out_channels))


def _correlate(x: Array, weight: Array, stride: int) -> Array:
    """Σ_t weight[o, i, t] x[stride·J + t, i] where the whole kernel fits inside x."""
    weight = weight.astype(x.dtype)
    if weight.ndim < 5:
        return correlate(x[None], weight, stride)[0]
    # Neighbouring planes as channels of a two-dimensional convolution: on CPUs XLA's
    # three-dimensional ones take four times as long, their gradients five times.
    length = weight.shape[2]
    last = stride * ((x.shape[0] - length) // stride)
    planes = [
        lax.slice_in_dim(x, t, t + last + 1, stride, axis=0) for t in range(length)
    ]
    merged = jnp.moveaxis(weight, 2, 1)
    merged = merged.reshape(weight.shape[0], -1, *weight.shape[3:])
    return correlate(jnp.concatenate(planes, -1), merged, stride)


def _phase_weight(weight: Array) -> Array:
    """(out, in, 4, …) as (phase, …, out merged; in; 2, …): t = 2 − 2 window + phase."""
    out_channels, in_channels, *kernel = weight.shape
    ndim = len(kernel)
    split = weight.reshape(out_channels, in_channels, *(2, 2) * ndim)
    split = jnp.flip(split, [2 + 2 * k for k in range(ndim)])
    phases = [3 + 2 * k for k in range(ndim)]
    windows = [2 + 2 * k for k in range(ndim)]
    split = split.transpose(*phases, 0, 1, *windows)
    return split.reshape(2**ndim * out_channels, in_channels, *(2,) * ndim)


def _interleaved(phases: Array, ndim: int) -> Array:
    """(*windows, (phase, …, channels merged)) as (*2 windows, channels)."""
    windows = phases.shape[:-1]
    split = phases.reshape(*windows, *(2,) * ndim, -1)
    order = [axis for k in range(ndim) for axis in (k, ndim + k)]
    split = split.transpose(*order, 2 * ndim)
    return split.reshape(*(2 * n for n in windows), -1)


def continued(
    x: Array,
    boundary: tuple[BoundaryPair, ...],
    widths: Sequence[tuple[int, int]],
    mirrors: Sequence[tuple[str, str]],
) -> Array:
    """x continued by (low, high) nodes per axis; a negative width crops."""
    zeros = [(0, 0, 0)] * x.ndim
    for axis, (pair, width, mirror) in enumerate(
        zip(boundary, widths, mirrors, strict=True)
    ):
        modes = ("wrap", "wrap") if isinstance(pair[0], Periodic) else mirror
        copied = [
            0 if isinstance(condition, Dirichlet) else max(w, 0)
            for condition, w in zip(pair, width, strict=True)
        ]
        zeros[axis] = (width[0] - copied[0], width[1] - copied[1], 0)
        if any(copied):
            # A few nodes at a time: cheaper than a gather of the whole axis.
            nodes = np.arange(x.shape[axis])
            low = _padded(nodes, (copied[0], 0), modes[0])[: copied[0]]
            high = _padded(nodes, (0, copied[1]), modes[1])[nodes.size :]
            pieces = [lax.slice_in_dim(x, i, i + 1, axis=axis) for i in low]
            pieces.append(x)
            pieces += [lax.slice_in_dim(x, i, i + 1, axis=axis) for i in high]
            x = jnp.concatenate(pieces, axis)
    if any(z != (0, 0, 0) for z in zeros):
        x = lax.pad(x, jnp.zeros((), x.dtype), zeros)
    return x


def _padded(nodes: np.ndarray, widths: tuple[int, int], mode: str) -> list[int]:
    return np.pad(nodes, widths, mode).tolist()  # pyright: ignore[reportCallIssue, reportArgumentType]


def _mirror(coarse_node: int, boundary_node: int) -> str:
    """How to mirror coarse nodes about a boundary node of the fine grid."""
    return "reflect" if coarse_node == boundary_node else "symmetric"


def uniform(key: PRNGKeyArray, shape: tuple[int, ...], limit: float) -> Array:
    """Uniform between ±limit, drawn in blocks of one size.

    XLA compiles a generator for every size that is drawn (a third of a second each);
    a model has weights of many sizes, and would take seconds to make.
    """
    size = math.prod(shape)
    blocks = [
        jr.uniform(jr.fold_in(key, k), (_BLOCK,), minval=-1.0, maxval=1.0)
        for k in range(-(-size // _BLOCK))
    ]
    return limit * jnp.concatenate(blocks)[:size].reshape(shape)


def _broadcast(bias: Array, out: Array) -> Array:
    return bias.astype(out.dtype).reshape((1,) * (out.ndim - 1) + (-1,))


def kinds(boundary: AbstractBoundary | Sequence, ndim: int) -> tuple:
    """The pairs without their data: all that a convolution needs, and static."""

    def kind(condition: AbstractBoundary) -> AbstractBoundary:
        if isinstance(condition, Dirichlet):
            return Dirichlet(stored=condition.stored)
        return Neumann() if isinstance(condition, Neumann) else Periodic()

    return tuple(
        (kind(low), kind(high)) for low, high in boundary_pairs(boundary, ndim)
    )


def check_sizes(ndim: int, in_channels: int, out_channels: int) -> None:
    """**Raises:** `ValueError` naming the first of them that is out of range."""
    if ndim not in (1, 2, 3):
        raise ValueError(f"ndim: expected 1, 2 or 3, got {ndim!r}.")
    for name, given in (("in_channels", in_channels), ("out_channels", out_channels)):
        if given < 1:
            raise ValueError(f"{name}: expected at least 1, got {given}.")


def check_kernel(kernel_size: int) -> None:
    """**Raises:** `ValueError` unless there is a centre node."""
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(
            f"kernel_size: expected an odd number, so that the kernel has a centre "
            f"node, got {kernel_size}."
        )


def check_input(x: Array, ndim: int, in_channels: int, channel_axis: int) -> None:
    """**Raises:** `ValueError` unless x is one sample of so many axes and channels."""
    wanted = f"{ndim} axes of space and {in_channels} channels"
    where = "first" if channel_axis == 0 else "last"
    if x.ndim != ndim + 1 or x.shape[channel_axis] != in_channels:
        raise ValueError(
            f"x: expected one sample with {wanted} (channels {where}), got shape "
            f"{x.shape}. Use `jax.vmap` for a batch."
        )
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise ValueError(f"x: expected a floating-point array, got {x.dtype}.")
