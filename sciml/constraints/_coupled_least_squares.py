"""One least-squares problem for the weights of all experts."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ._expert_rows import ExpertRows
from ._least_squares import AbstractLeastSquares, NormalEquations, ridge_rows
from ._links import Links
from ._normal_matrix import BlockTridiagonal
from ._partition import Boxes


class Chain(eqx.Module):
    """Experts in blocks in a row, so that only those of neighbouring blocks are linked.

    Blocks are what is level along one axis. If that is periodic, its ring is folded:
    the first block has the first and the last level, and so on, as many on either side.
    """

    order: tuple[int, ...] = eqx.field(static=True)
    length: int = eqx.field(static=True)

    def blocks(self, of_experts: Array) -> Array:
        """`(experts, n)` as `(length, experts per block · n)`."""
        ordered = of_experts[np.array(self.order)]
        return ordered.reshape(self.length, -1)

    def experts(self, blocks: Array) -> Array:
        """The inverse of `blocks`."""
        ordered = blocks.reshape(len(self.order), -1)
        back = sorted(range(len(self.order)), key=self.order.__getitem__)
        return ordered[np.array(back)]

    def place(self, experts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """In which block experts are, and where in it."""
        width = len(self.order) // self.length
        places = [divmod(self.order.index(k), width) for k in experts]
        block, within = zip(*places, strict=True)
        return np.array(block), np.array(within)


def chain(boxes: Boxes) -> Chain:
    """The chain along the axis along which it is longest.

    A ring of an odd number of boxes does not fold into equal blocks: if no other axis
    is cut, all experts are one block.
    """
    levels = [_levels(n, axis in boxes.periodic) for axis, n in enumerate(boxes.parts)]
    axis = max(range(len(levels)), key=lambda k: max(levels[k]))
    of = [(levels[axis][place[axis]], place) for place in boxes.places]
    order = sorted(range(boxes.count), key=of.__getitem__)
    return Chain(tuple(order), max(levels[axis]) + 1)


def _levels(count: int, ring: bool) -> list[int]:
    """The block that each box along an axis is in."""
    if not ring:
        return list(range(count))
    if count % 2:
        return [0] * count
    return [min(k, count - 1 - k) for k in range(count)]


class CoupledLeastSquares(AbstractLeastSquares):
    """min over all ω of ½ Σ ‖rows‖² + ½ Σ ‖links‖² + ½ Σ_k ω_kᵀ R_k ω_k.

    Weights are `(length, block)`, in the order of the chain: the normal equations are
    block tridiagonal, and cost as many factors of blocks as the chain is long.

    - `alive`: experts whose rows are finite; those of others count as zero.
    """

    groups: tuple[ExpertRows, ...]
    links: tuple[Links, ...]
    ridge: Float[Array, "experts n n"]
    alive: Bool[Array, " experts"]
    chain: Chain

    def rows(self, weights: Float[Array, "length block"]) -> Any:
        """Of all groups and links, and of the ridge."""
        own = self.chain.experts(weights)
        found = [
            jnp.where(group.own(self.alive)[:, None], group.of(own), 0)
            for group in self.groups
        ]
        links = [
            jnp.where(self._linked(link)[:, None], link.rows(own), 0)
            for link in self.links
        ]
        return found, links, jax.vmap(ridge_rows)(self.ridge, own)

    def normal(self, weights: Float[Array, "length block"]) -> NormalEquations:
        """From one linearisation of each group."""
        own = self.chain.experts(weights)
        diagonal = self.ridge
        gradient = jnp.einsum("kij,kj->ki", self.ridge, own)
        cost = 0.5 * jnp.sum(own * gradient)
        for group in self.groups:
            rows, jacobian = group.linearise(own)
            alive = group.own(self.alive)
            # (What is large is not masked: one pass over the Jacobian less.)
            rows = jnp.where(alive[:, None], rows, 0)
            members = np.array(group.members)
            products = jnp.einsum("kim,kjm->kij", jacobian, jacobian)
            products = jnp.where(alive[:, None, None], products, 0)
            diagonal = diagonal.at[members].add(products)
            slope = jnp.einsum("kim,km->ki", jacobian, rows)
            gradient = gradient.at[members].add(jnp.where(alive[:, None], slope, 0))
            cost = cost + 0.5 * jnp.sum(rows**2)
        for link in self.links:
            rows = jnp.where(self._linked(link)[:, None], link.rows(own), 0)
            slope = lambda seams, rows=rows: jnp.einsum("pnm,pm->pn", seams, rows)
            gradient = gradient.at[np.array(link.lefts)].add(slope(link.left))
            gradient = gradient.at[np.array(link.rights)].add(-slope(link.right))
            cost = cost + 0.5 * jnp.sum(rows**2)
        return NormalEquations(
            cost, self.chain.blocks(gradient), self._matrix(diagonal)
        )

    def hessian(self, weights: Float[Array, "length block"]) -> BlockTridiagonal:
        """That of each group; links are linear."""
        own, diagonal = self.chain.experts(weights), self.ridge
        for group in self.groups:
            alive = group.own(self.alive)[:, None, None]
            found = jnp.where(alive, group.hessian(own), 0)
            diagonal = diagonal.at[np.array(group.members)].add(found)
        return self._matrix(diagonal)

    def _linked(self, link: Links) -> Bool[Array, " pairs"]:
        return self.alive[np.array(link.lefts)] & self.alive[np.array(link.rights)]

    def _matrix(self, own: Float[Array, "experts n n"]) -> BlockTridiagonal:
        """With the links, as blocks of the chain."""
        length, experts, n = self.chain.length, own.shape[0], own.shape[-1]
        width = experts // length
        diagonal = jnp.zeros((length, width, n, width, n), own.dtype)
        below = jnp.zeros((length - 1, width, n, width, n), own.dtype)
        block, within = self.chain.place(tuple(range(experts)))
        diagonal = diagonal.at[block, within, :, within, :].add(own)
        for link in self.links:
            on = self._linked(link)[:, None, None]
            product = lambda a, b, on=on: jnp.where(
                on, jnp.einsum("pim,pjm->pij", a, b), 0
            )
            (b1, w1), (b2, w2) = map(self.chain.place, (link.lefts, link.rights))
            diagonal = diagonal.at[b1, w1, :, w1, :].add(product(link.left, link.left))
            diagonal = diagonal.at[b2, w2, :, w2, :].add(
                product(link.right, link.right)
            )
            mixed = -product(link.right, link.left)
            turned = jnp.swapaxes(mixed, 1, 2)
            same, down, up = (np.flatnonzero(b2 - b1 == k) for k in (0, 1, -1))
            if same.size:
                b, one, other = b1[same], w1[same], w2[same]
                diagonal = diagonal.at[b, other, :, one, :].add(mixed[same])
                diagonal = diagonal.at[b, one, :, other, :].add(turned[same])
            if down.size:
                below = below.at[b1[down], w2[down], :, w1[down], :].add(mixed[down])
            if up.size:
                below = below.at[b2[up], w1[up], :, w2[up], :].add(turned[up])
        size = width * n
        return BlockTridiagonal(
            diagonal.reshape(length, size, size),
            below.reshape(length - 1, size, size),
        )
