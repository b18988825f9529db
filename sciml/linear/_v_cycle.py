"""The one V-cycle: geometric, algebraic and learned multigrid differ in their levels."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
from jaxtyping import PyTree

Field = PyTree[Any]


class AbstractLevel(eqx.Module):
    """What one level contributes to a V-cycle for A u = f.

    u approximates the solution on this level and f is its right-hand side. The
    coarsest level's `pre_smooth` is the coarse solve; its other methods are not called.
    """

    def pre_smooth(self, u: Field | None, f: Field) -> Field:
        """Improve u on the way down; `u=None` is the zero field (and saves work)."""
        raise NotImplementedError

    def restrict(self, u: Field, f: Field) -> tuple[Field | None, Field]:
        """The next coarser level's initial u (None: zero) and right-hand side."""
        raise NotImplementedError

    def prolong(self, u: Field, coarse: Field) -> Field:
        """u with the coarser level's result brought into it."""
        raise NotImplementedError

    def post_smooth(self, u: Field, f: Field) -> Field:
        """Improve u on the way up."""
        raise NotImplementedError


def v_cycle(
    levels: Sequence[AbstractLevel], f: Field, u: Field | None = None
) -> Field:
    """One V-cycle over `levels`, finest first.

        u   ← pre_smooth(u, f)
        u_c ← v_cycle(coarser levels, restrict(u, f))
        u   ← post_smooth(prolong(u, u_c), f)

    Linear in f when the levels are and u is None; symmetric positive definite when
    moreover post-smoothing is the adjoint of pre-smoothing, restriction that of
    prolongation, the smoothers converge in the energy norm and the coarse solve is
    symmetric positive definite.

    **Arguments:**

    - `levels`: the levels, finest (0) first.
    - `f`: right-hand side on the finest level.
    - `u`: initial field on the finest level; None for zero.

    **Returns:** the improved u on the finest level.

    Source: Briggs, Henson & McCormick, *A Multigrid Tutorial*, ch. 3.
    """
    level, *coarser = levels
    u = level.pre_smooth(u, f)
    if not coarser:
        return u
    coarse_u, coarse_f = level.restrict(u, f)
    coarse_u = v_cycle(coarser, coarse_f, coarse_u)
    u = level.prolong(u, coarse_u)
    return level.post_smooth(u, f)
