"""Interpolation that a network corrects, node by node."""

import itertools

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

from .._serialisation import register
from ..grids import (
    Coarsening,
    Interpolation,
    SymmetricStencil,
    interpolation_from_rows,
)
from ..grids._boundary import BoundaryPair
from ._local_network import LocalNetwork
from ._transfer import AbstractTransfer, Between, Row, operator_dependent_rows

Corner = tuple[int, ...]


@register
class LearnedTransfer(AbstractTransfer):
    """`OperatorDependent` with corrected weights:

        w_c ← w_c + t_c − mean over c of t_c,  t_c = tanh(network(what c sees))

    for every direction c from a node to a coarse one. What c sees is the node's row of
    A and the diagonals of its neighbours, sorted by how far they lie towards c or away
    from it: turned and mirrored stencils have turned and mirrored weights. There is a
    network for each number of axes along which a node lies between coarse ones; all
    levels share them.

    The weights of a node keep their sum, so that constants are interpolated as before;
    every coarse node keeps its value, so that P has full rank and PᵀAP is positive
    definite, whatever the networks say. At first these say nothing.

    **Arguments:**

    - `ndim`: 1, 2 or 3.
    - `width`: of the networks' hidden layer. Default 8.
    - `key`: draws their weights.

    Source: Greenfeld et al., *Learning to Optimize Multigrid PDE Solvers* (ICML 2019),
    for a network that maps stencils to interpolation weights; the rest is ours.
    """

    ndim: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    networks: tuple[LocalNetwork, ...]

    def __init__(self, ndim: int, width: int = 8, *, key: PRNGKeyArray):
        if ndim not in (1, 2, 3):
            raise ValueError(f"ndim: expected 1, 2 or 3, got {ndim}.")
        self.ndim, self.width = ndim, width
        keys = jr.split(key, ndim)
        self.networks = tuple(
            LocalNetwork(2 * len(_groups(ndim, between)) + 1, width, key=k)
            for between, k in zip(range(1, ndim + 1), keys, strict=True)
        )

    def build(
        self,
        stencil: SymmetricStencil,
        coarsening: Coarsening,
        boundary: tuple[BoundaryPair, ...],
    ) -> Interpolation:
        """Weights from the stencil, one pass over it per class of nodes."""
        del boundary
        if coarsening.ndim != self.ndim:
            raise ValueError(
                f"operator: this transfer was made for {self.ndim} axes, the grid has "
                f"{coarsening.ndim}."
            )
        surroundings = _Surroundings(stencil, coarsening)

        def corrected(between: Between, row: Row) -> Row:
            network = self.networks[sum(between) - 1]
            shifts = {
                corner: jnp.tanh(network([*surroundings.seen(between, corner), weight]))
                for corner, weight in row.items()
            }
            mean = sum(shifts.values()) / len(shifts)
            return {
                corner: weight + (shifts[corner] - mean).astype(weight.dtype)
                for corner, weight in row.items()
            }

        rows = operator_dependent_rows(stencil, coarsening, corrected)
        return interpolation_from_rows(coarsening, rows)


class _Surroundings:
    """What the nodes of a class see: their rows, and their neighbours' diagonals."""

    def __init__(self, stencil: SymmetricStencil, coarsening: Coarsening):
        self.coarsening = coarsening
        diagonal = stencil.diagonal
        logs = stencil.pad(jnp.log(diagonal))
        inside = stencil.pad(jnp.ones_like(diagonal))
        self.fields: dict[Corner, tuple[Array, Array]] = {}
        for offset in itertools.product((-1, 0, 1), repeat=coarsening.ndim):
            if any(offset):
                coupling = -stencil.coupling(offset) / diagonal
                # Beyond a boundary there is no neighbour, hence no ratio.
                ratio = stencil.shifted(logs, offset) - jnp.log(diagonal)
                ratio = stencil.shifted(inside, offset) * ratio
                # (A factor of a thousand is as good as a million.)
                self.fields[offset] = coupling, jnp.tanh(0.25 * ratio)

    def seen(self, between: Between, corner: Corner) -> list[Array]:
        """The features of `LearnedTransfer` at the nodes of a class."""
        sums: list[Array] = []
        for group in _groups(len(corner), sum(between)):
            members = [o for o in self.fields if _group(o, corner) == group]
            for kind in range(2):
                parts = [
                    self.coarsening.select(self.fields[o][kind], between)
                    for o in members
                ]
                sums.append(sum(parts[1:], parts[0]))
        return sums


def _group(offset: Corner, corner: Corner) -> tuple[int, int, int]:
    """Along how many axes a neighbour lies towards a corner, away, and across."""
    pairs = list(zip(offset, corner, strict=True))
    return (
        sum(1 for o, c in pairs if c and o == c),
        sum(1 for o, c in pairs if c and o == -c),
        sum(1 for o, c in pairs if not c and o),
    )


def _groups(ndim: int, between: int) -> list[tuple[int, int, int]]:
    """All groups that neighbours fall into."""
    corner = (1,) * between + (0,) * (ndim - between)
    offsets = itertools.product((-1, 0, 1), repeat=ndim)
    return sorted({_group(o, corner) for o in offsets if any(o)})
