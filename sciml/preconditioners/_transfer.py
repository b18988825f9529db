"""Which interpolation a multigrid level uses."""

import abc
import itertools
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from .._serialisation import register
from ..grids import (
    Coarsening,
    Interpolation,
    Neumann,
    SymmetricStencil,
    interpolation_from_rows,
    linear_interpolation,
)
from ..grids._boundary import BoundaryPair

# Along which axes the nodes of a class lie between coarse ones, and their weights by
# the direction to the coarse node.
Between = tuple[bool, ...]
Row = dict[tuple[int, ...], Array]


class AbstractTransfer(eqx.Module):
    """Describes an interpolation; `build` fits it to one level's stencil."""

    @abc.abstractmethod
    def build(
        self,
        stencil: SymmetricStencil,
        coarsening: Coarsening,
        boundary: tuple[BoundaryPair, ...],
    ) -> Interpolation:
        """The interpolation from the coarse to the fine nodes of this level."""


@register
class Linear(AbstractTransfer):
    """Multilinear interpolation, blind to the coefficients."""

    def build(
        self,
        stencil: SymmetricStencil,
        coarsening: Coarsening,
        boundary: tuple[BoundaryPair, ...],
    ) -> Interpolation:
        """Weights 1/2 per axis; a Neumann end takes its one neighbour's value."""
        reflecting = tuple(
            (isinstance(low, Neumann), isinstance(high, Neumann))
            for low, high in boundary
        )
        return linear_interpolation(coarsening, reflecting, stencil.diagonal.dtype)


@register
class OperatorDependent(AbstractTransfer):
    """Interpolation that solves the stencil's own equations between coarse nodes.

    A node between two coarse nodes along one axis takes the value that makes the
    residual of its row zero, the row being collapsed onto that axis (summed across
    it); a node between coarse nodes along more axes uses its own row, with what was
    just found on its neighbours. Keeps a ∂u/∂n continuous across jumps of a, where
    linear interpolation does not; equals it for constant coefficients. Rows that sum
    to zero interpolate constants exactly.

    Source: Alcouffe, Brandt, Dendy & Painter, SIAM J. Sci. Stat. Comput. 2 (1981) 430;
    Dendy, J. Comput. Phys. 48 (1982) 366.
    """

    def build(
        self,
        stencil: SymmetricStencil,
        coarsening: Coarsening,
        boundary: tuple[BoundaryPair, ...],
    ) -> Interpolation:
        """Weights from the stencil, one pass over it per class of nodes."""
        del boundary
        return interpolation_from_rows(
            coarsening, operator_dependent_rows(stencil, coarsening)
        )


def operator_dependent_rows(
    stencil: SymmetricStencil,
    coarsening: Coarsening,
    corrected: Callable[[Between, Row], Row] = lambda between, row: row,
) -> Row:
    """The weights of `OperatorDependent`, by the direction to the coarse neighbour.

    **Arguments:**

    - `stencil`, `coarsening`: as of `AbstractTransfer.build`.
    - `corrected`: called with each class of nodes and its weights as soon as they are
        found; what it returns takes their place, for the classes that follow, too.
    """
    weights: dict[Between, Row] = {}
    for between in coarsening.classes()[1:]:
        row = _collapsed_row(stencil, coarsening, between)
        centre = row.pop((0,) * coarsening.ndim)
        total = sum(row.values(), jnp.zeros_like(centre))
        # A row that sums to zero but for rounding is divided by minus its
        # off-diagonal sum, so that constants are interpolated exactly.
        tolerance = jnp.sqrt(jnp.finfo(centre.dtype).eps)
        closed = jnp.abs(centre + total) <= tolerance * jnp.abs(centre)
        scale = -1.0 / jnp.where(closed, -total, centre)
        found = {
            corner: scale * _towards(corner, row, weights, coarsening)
            for corner in coarsening.corners(between)
        }
        weights[between] = corrected(between, found)
    return {k: w for of_class in weights.values() for k, w in of_class.items()}


def _collapsed_row(
    stencil: SymmetricStencil, coarsening: Coarsening, between: tuple[bool, ...]
) -> dict[tuple[int, ...], Array]:
    """At the nodes of a class, the row summed over the axes that are not `between`."""
    row = {}
    reach = [(-1, 0, 1) if b else (0,) for b in between]
    across = [(0,) if b else (-1, 0, 1) for b in between]
    for kept in itertools.product(*reach):
        total = None
        for summed in itertools.product(*across):
            offset = tuple(k + s for k, s in zip(kept, summed, strict=True))
            if not stencil.couples(offset):
                continue
            part = coarsening.select(stencil.coupling(offset), between)
            total = part if total is None else total + part
        if total is not None:
            row[kept] = total
    return row


def _towards(corner, row, weights, coarsening: Coarsening) -> Array:
    """Σ over the neighbours in the direction of one corner: row entry × its weight."""
    total = None
    for offset, entry in row.items():
        if any(o and o != c for o, c in zip(offset, corner, strict=True)):
            continue
        rest = tuple(c - o for c, o in zip(corner, offset, strict=True))
        if any(rest):
            between = tuple(bool(k) for k in rest)
            entry = entry * coarsening.neighbour(weights[between][rest], offset)
        total = entry if total is None else total + entry
    if total is None:
        # The row reaches no node in this direction.
        return jnp.zeros_like(next(iter(row.values())))
    return total
