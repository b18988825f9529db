"""How a multigrid level makes the next coarser level's stencil."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..grids import (
    Coarsening,
    Interpolation,
    SymmetricStencil,
    half_offsets,
    interpolation_from_rows,
)
from ._probing import probed_stencil


class AbstractCoarseOperator(eqx.Module):
    """Describes a coarse-level stencil; `build` makes it."""

    @abc.abstractmethod
    def build(
        self, stencil: SymmetricStencil, interpolation: Interpolation
    ) -> SymmetricStencil:
        """The next coarser level's stencil."""


class Galerkin(AbstractCoarseOperator):
    """A_c = PᵀAP: the best coarse operator in the energy norm for this P.

    A full 3ᵈ-point stencil. Its entries are read off products with a few sparse
    vectors (one per colour of nodes that cannot interact), so the set-up costs 3ᵈ
    applications of P, A and Pᵀ.
    """

    def build(
        self, stencil: SymmetricStencil, interpolation: Interpolation
    ) -> SymmetricStencil:
        """PᵀAP by probing."""
        c = interpolation.coarsening
        product = lambda u: interpolation.restrict(stencil(interpolation.prolong(u)))
        dtype = stencil.diagonal.dtype
        return probed_stencil(product, c.num_coarse, c.periodic, dtype)


class Rediscretised(AbstractCoarseOperator):
    """Coarse conductances from fine ones: in series along an edge, parallel across it.

    The discretisation of −∇·(ā∇u) on the coarse grid with ā the harmonic mean along
    the edge and the arithmetic mean across it. Keeps the (2d + 1)-point stencil on all
    levels: less memory and a cheaper set-up than `Galerkin`, and a weaker correction
    where the coefficient jumps.
    """

    def build(
        self, stencil: SymmetricStencil, interpolation: Interpolation
    ) -> SymmetricStencil:
        """Coarse conductances, and Pᵀ applied to what the rows sum to."""
        c = interpolation.coarsening
        offsets = half_offsets(c.ndim, diagonals=False)
        if stencil.offsets != offsets:
            raise ValueError(
                "Rediscretised needs a stencil without diagonal couplings; "
                f"this one has the offsets {stencil.offsets}. Use Galerkin()."
            )
        edges = []
        for axis, edge in enumerate(stencil.edges):
            for k in range(c.ndim):
                edge = _in_series(edge, c, k) if k == axis else _parallel(edge, c, k)
            edges.append(edge)
        zero = jnp.zeros(c.num_coarse, stencil.diagonal.dtype)
        coarse = SymmetricStencil(zero, tuple(edges), offsets, c.periodic)
        # What rows sum to (Dirichlet faces, reactions) is lumped onto coarse nodes.
        lumped = _lumped(stencil, interpolation)
        return eqx.tree_at(lambda s: s.diagonal, coarse, lumped - coarse.row_sums())


def _lumped(stencil: SymmetricStencil, interpolation: Interpolation) -> Array:
    ones = jnp.ones(interpolation.coarsening.num_coarse, stencil.diagonal.dtype)
    return interpolation.restrict(stencil(interpolation.prolong(ones)))


def _in_series(edge: Array, c: Coarsening, axis: int) -> Array:
    """1/(1/c₁ + 1/c₂) of the two fine edges of each coarse edge along `axis`."""
    start = c.starts[axis]
    if start is None:
        return edge
    num = c.num_coarse[axis]
    # Fine edge p joins nodes p−1 and p; coarse node J is fine node start + 2J.
    low = _take(edge, axis, start + 1, num - 1)
    high = _take(edge, axis, start + 2, num - 1)
    inner = _series(low, high)
    width = [(0, 0)] * edge.ndim
    width[axis] = (1, 1)
    inner = jnp.pad(inner, width)
    if c.periodic[axis]:
        last = start + 2 * (num - 1) + 1
        if c.num_points[axis] % 2:
            wrap = _take(edge, axis, last, 1)
        else:
            wrap = _series(_take(edge, axis, last, 1), _take(edge, axis, last + 1, 1))
        index = [slice(None)] * edge.ndim
        for at in (0, num):
            index[axis] = slice(at, at + 1)
            inner = inner.at[tuple(index)].set(wrap)
    return inner


def _series(low: Array, high: Array) -> Array:
    """1/(1/low + 1/high), 0 where either is 0."""
    both = low * high
    return jnp.where(both != 0, both / jnp.where(both != 0, low + high, 1.0), 0.0)


def _parallel(edge: Array, c: Coarsening, axis: int) -> Array:
    """Sum across `axis`: each coarse edge gets its own and half of the next ones."""
    if c.starts[axis] is None:
        return edge
    line = Coarsening((c.num_points[axis],), (c.starts[axis],), (c.periodic[axis],))
    half = jnp.full(line.num_points[0] - line.num_coarse[0], 0.5, edge.dtype)
    share = interpolation_from_rows(line, {(-1,): half, (1,): half})
    moved = jnp.moveaxis(edge, axis, 0)
    flat = moved.reshape(moved.shape[0], -1)
    summed = jax.vmap(share.restrict, in_axes=1, out_axes=1)(flat)
    return jnp.moveaxis(summed.reshape(-1, *moved.shape[1:]), 0, axis)


def _take(array: Array, axis: int, first: int, count: int) -> Array:
    index = [slice(None)] * array.ndim
    index[axis] = slice(first, first + 2 * max(count - 1, 0) + 1 if count else first, 2)
    return array[tuple(index)]
