"""Along which axes a multigrid level is coarsened."""

import abc
import math
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from .._serialisation import register
from ..grids import Coarsening, Grid, Periodic, SymmetricStencil
from ..grids._alignment import coarse_alignment
from ..linear import StencilOperator

# Axes are coarsened together whose spacings differ by no more.
_ALIKE = 1.5
# Nodes per axis that means are taken over.
_ENOUGH = 48


class AbstractCoarsening(eqx.Module):
    """Describes which axes are coarsened on which level, by a spacing for each axis.

    On every level, every second node is kept along the axes whose spacing is at most
    1.5 times the smallest one; theirs is doubled.
    """

    on_host: ClassVar[bool] = False
    """Whether the decision needs A's entries, so that they must not be traced."""

    def decide(self, operator: StencilOperator) -> "AbstractCoarsening":
        """What does not need A's entries any more, static: itself where it never did.

        One compiled set-up serves all operators that agree on it.
        """
        del operator
        return self

    @abc.abstractmethod
    def spacing(self, operator: StencilOperator) -> tuple[float, ...]:
        """A number for each axis; only their ratios matter."""


@register
class BySpacing(AbstractCoarsening):
    """The grid's own spacing: right where the coefficient is the same along all axes.

    Point smoothers only smooth along strong couplings, and those go with 1/h².
    """

    def spacing(self, operator: StencilOperator) -> tuple[float, ...]:
        """h of each axis."""
        return operator.grid.spacing


@register
class SemiCoarsening(AbstractCoarsening):
    """Axes that join late: axis i is left alone on the first `delays[i]` levels.

    What `ByStrength` decides; to be given by hand where A is traced.

    **Arguments:**

    - `delays`: for each axis a number of levels ≥ 0; one of them is 0.

    !!! example

        ```python
        import sciml

        # The second axis couples 16 times less: it joins after two coarsenings.
        coarsening = sciml.preconditioners.SemiCoarsening((0, 2))
        builder = sciml.preconditioners.Multigrid(coarsening=coarsening)
        ```
    """

    delays: tuple[int, ...] = eqx.field(static=True)

    def __check_init__(self):
        integers = all(isinstance(k, int) and k >= 0 for k in self.delays)
        if not integers or 0 not in self.delays:
            raise ValueError(
                f"delays: expected integers ≥ 0, one of them 0, got {self.delays!r}."
            )

    def spacing(self, operator: StencilOperator) -> tuple[float, ...]:
        """2 to the power of the delay."""
        if len(self.delays) != operator.grid.ndim:
            raise ValueError(
                f"delays: expected one for each of the grid's {operator.grid.ndim} "
                f"axes, got {self.delays}."
            )
        return tuple(2.0**delay for delay in self.delays)


@register
class ByStrength(AbstractCoarsening):
    """Axes along which A couples strongly first: for anisotropic coefficients.

    The spacing of axis i is s_i^(−1/2), where s_i is the mean over the nodes of

        −½ Σ_o A_o o_i² / A_0

    over the offsets o of the stencil: the share of a node's couplings that goes along
    the axis. For −∇·(K∇u) with constant K that is h_i/√K_ii but for a factor. Where s
    is the same for all axes, nothing changes; where one axis is stronger by 4ᵏ, the
    others join after k levels, and as many levels have half the nodes of the one
    before, not a quarter: a V-cycle costs up to 1.75 times as much.

    It helps where the strong direction is along an axis and the same (nearly)
    everywhere: ratios of 10 to 1000 then take as many steps as 1. It is of no use where
    it lies between the axes or changes from place to place: the means are alike, and
    full coarsening stays.

    It reads A's entries, so that they must not be traced: build M outside `jit`, give
    `SemiCoarsening` inside, or say what to do then.

    **Arguments:**

    - `if_traced`: the rule where A's entries are traced. Default None: an error.

    Source: Dendy, McCormick, Ruge, Russell & Schaffer, *Multigrid methods for
    three-dimensional petroleum reservoir simulation* (SPE 18409, 1989), for coarsening
    along strong couplings only.
    """

    if_traced: AbstractCoarsening | None = None
    on_host: ClassVar[bool] = True

    def decide(self, operator: StencilOperator) -> AbstractCoarsening:
        """The delays for this operator, as `SemiCoarsening`."""
        stencil = operator.stencil
        if any(isinstance(leaf, Tracer) for leaf in jtu.tree_leaves(stencil)):
            if self.if_traced is not None:
                return self.if_traced.decide(operator)
            raise TypeError(
                "operator: ByStrength reads A's entries, which are traced here. Build "
                "M outside of jit (vmap, grad) and pass M as the preconditioner, or "
                "say which axes join late with SemiCoarsening."
            )
        shares = np.asarray(_shares(stencil), float)
        if not (np.isfinite(shares).all() and (shares > 0).any()):
            # (Not a positive definite matrix: the solver says so.)
            return SemiCoarsening((0,) * shares.size)
        spacing = np.maximum(shares, np.finfo(np.float32).tiny) ** -0.5
        # (A little less: 1.5 times a power of two may be so but for rounding.)
        ratios = spacing / spacing.min() * (1 - 1e-6)
        return SemiCoarsening(
            tuple(max(0, math.ceil(math.log2(r / _ALIKE))) for r in ratios)
        )

    def spacing(self, operator: StencilOperator) -> tuple[float, ...]:
        """2 to the power of the delay."""
        return self.decide(operator).spacing(operator)


@eqx.filter_jit
def _shares(stencil: SymmetricStencil) -> Float[Array, " ndim"]:
    """The means of `ByStrength`, one for each axis."""
    spread = evenly_spread(stencil.shape)
    diagonal = stencil.diagonal[spread]
    sums = [jnp.zeros_like(diagonal)] * diagonal.ndim
    for offset in stencil.offsets:
        both = stencil.coupling(offset)[spread]
        both = both + stencil.coupling(tuple(-k for k in offset))[spread]
        sums = [
            total - 0.5 * k * k * both if k else total
            for total, k in zip(sums, offset, strict=True)
        ]
    return jnp.stack([jnp.mean(total / diagonal) for total in sums])


def evenly_spread(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Some thousand nodes, over which means tell as much as over all of them."""
    return tuple(slice(None, None, max(1, n // _ENOUGH)) for n in shape)


def coarsened(
    stencil: SymmetricStencil, grid: Grid, spacing: tuple[float, ...]
) -> Coarsening:
    """Every second node along the axes whose spacing is (nearly) the smallest."""
    starts: list[int | None] = [None] * grid.ndim
    # Below these sizes an axis has nothing left to coarsen (or, periodic, its two
    # neighbours would become one).
    candidates = [
        axis
        for axis, n in enumerate(stencil.shape)
        if n > (5 if isinstance(grid.boundary[axis][0], Periodic) else 2)
    ]
    if candidates:
        finest = min(spacing[axis] for axis in candidates)
        for axis in candidates:
            if spacing[axis] <= _ALIKE * finest:
                start, _ = coarse_alignment(stencil.shape[axis], grid.boundary[axis])
                starts[axis] = start
    return Coarsening(stencil.shape, tuple(starts), stencil.periodic)
