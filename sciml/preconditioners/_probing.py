"""The entries of a nearest-neighbour operator, read off its products."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

from ..grids import SymmetricStencil, half_offsets

Field = Shaped[Array, "*space"]


def probed_stencil(
    product: Callable[[Field], Field],
    num_points: tuple[int, ...],
    periodic: tuple[bool, ...],
    dtype,
    *,
    symmetric: bool = True,
) -> SymmetricStencil:
    """The 3ᵈ-point stencil of an operator that couples each node to its neighbours.

    One product per colour, the colours being such that no node has two neighbours of
    the same one: 3ᵈ of them, a few more where a periodic axis is no multiple of 3.

    **Arguments:**

    - `product`: u ↦ A u on arrays of shape `num_points`.
    - `num_points`, `periodic`, `dtype`: of these arrays.
    - `symmetric`: whether A is. If not, the stencil is that of (A + Aᵀ)/2.

    Source: Curtis, Powell & Reid, J. Inst. Math. Appl. 13 (1974) 117.
    """
    ndim = len(num_points)
    lines = [_colours(n, wraps) for n, wraps in zip(num_points, periodic, strict=True)]
    counts = [int(line.max()) + 1 for line in lines]

    def probe(colour):
        picks = [
            (jnp.asarray(line) == k).astype(dtype)
            for line, k in zip(lines, colour, strict=True)
        ]
        return product(_outer(picks))

    colours = np.array(list(itertools.product(*map(range, counts))))
    products = jax.lax.map(probe, jnp.asarray(colours))
    products = products.reshape(*counts, *num_points)
    # The node at J + offset has the colour that its entry in column J + offset was
    # probed with.
    offsets = half_offsets(ndim, diagonals=True)
    diagonal = _pick(products, lines, (0,) * ndim, periodic)
    edges = [_edge(products, lines, offset, periodic) for offset in offsets]
    if not symmetric:
        # Seen from its other end an edge has minus its offset.
        other = [tuple(-k for k in offset) for offset in offsets]
        back = [_edge(products, lines, offset, periodic) for offset in other]
        edges = [(a + b) / 2 for a, b in zip(edges, back, strict=True)]
    return SymmetricStencil(diagonal, tuple(edges), offsets, periodic)


def _colours(num: int, wraps: bool) -> np.ndarray:
    """A colour per node so that nodes at most two apart differ."""
    colours = np.arange(num) % 3
    if wraps and num % 3:
        # The seam: the last one or two nodes get colours of their own.
        rest = num % 3
        colours[num - rest :] = 3 + np.arange(rest)
    return colours


def _outer(lines: list[Array]) -> Array:
    field = lines[0]
    for line in lines[1:]:
        field = field[..., None] * line.reshape((1,) * field.ndim + (-1,))
    return field


def _pick(products: Array, lines, offset, periodic: tuple[bool, ...]) -> Array:
    """Entries A_{J, J+offset} at every node J."""
    num = products.shape[len(lines) :]
    ndim = len(lines)
    index = []
    for axis, (line, shift) in enumerate(zip(lines, offset, strict=True)):
        neighbour = np.arange(num[axis]) + shift
        if periodic[axis]:
            neighbour %= num[axis]
        colour = line[np.clip(neighbour, 0, num[axis] - 1)]
        index.append(np.expand_dims(colour, [k for k in range(ndim) if k != axis]))
    positions = np.meshgrid(*map(np.arange, num), indexing="ij", sparse=True)
    return products[(*index, *positions)]


def _edge(products: Array, lines, offset, periodic: tuple[bool, ...]) -> Array:
    """The padded edge array of one offset (see `SymmetricStencil`)."""
    values = _pick(products, lines, offset, periodic)
    ndim = len(lines)
    for axis, (shift, wraps) in enumerate(zip(offset, periodic, strict=True)):
        if shift == 0:
            continue
        index = [slice(None)] * ndim
        outside = [slice(None)] * ndim
        if not wraps:
            # Edges that leave the box were read from some inside entry: clear them.
            outside[axis] = slice(-1, None) if shift > 0 else slice(0, 1)
            values = values.at[tuple(outside)].set(0.0)
        width = [(0, 0)] * ndim
        # Position i + 1 holds the edge (i, i+1) for shift 1, position i for shift −1.
        width[axis] = (1, 0) if shift > 0 else (0, 1)
        if wraps:
            index[axis] = slice(-1, None) if shift > 0 else slice(0, 1)
            seam = values[tuple(index)]
            parts = [seam, values] if shift > 0 else [values, seam]
            values = jnp.concatenate(parts, axis)
        else:
            values = jnp.pad(values, width)
    return values
