"""The one V-cycle: multigrids differ only in the levels they put into it."""

import abc
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx

Field = Any


class AbstractLevel(eqx.Module):
    """What one level contributes to a V-cycle for A u = f.

    u approximates the solution on this level and f is its right-hand side.
    """

    @abc.abstractmethod
    def pre_smooth(self, u: Field | None, f: Field) -> Field:
        """Improve u on the way down; `u=None` is the zero field (and saves work)."""

    @abc.abstractmethod
    def restrict(self, u: Field, f: Field) -> tuple[Field | None, Field]:
        """The next coarser level's initial u (None: zero) and right-hand side."""

    @abc.abstractmethod
    def prolong(self, u: Field, coarse_u: Field) -> Field:
        """u with the coarser level's result brought into it."""

    @abc.abstractmethod
    def post_smooth(self, u: Field, f: Field) -> Field:
        """Improve u on the way up."""


def v_cycle(
    levels: Sequence[AbstractLevel],
    coarse_solve: Callable[[Field | None, Field], Field],
    f: Field,
    u: Field | None = None,
) -> Field:
    """One V-cycle over `levels`, finest first, and a solve below the last of them.

        u   ← pre_smooth(u, f)
        u_c ← v_cycle of the coarser levels, started from restrict(u, f)
        u   ← post_smooth(prolong(u, u_c), f)

    Linear in f when its parts are and u is None. Symmetric positive definite when
    moreover post-smoothing is the adjoint of pre-smoothing and restriction that of
    prolongation, the smoothers converge in the energy norm, and the coarse solve is
    symmetric positive definite.

    **Arguments:**

    - `levels`: the levels, finest (0) first; may be empty.
    - `coarse_solve`: maps the coarsest (u, f) to an improved u.
    - `f`: right-hand side on the finest level.
    - `u`: initial field on the finest level; None for zero.

    **Returns:** the improved u on the finest level.

    Source: Briggs, Henson & McCormick, *A Multigrid Tutorial*, chapter 3.
    """
    if not levels:
        return coarse_solve(u, f)
    level, *coarser = levels
    u = level.pre_smooth(u, f)
    coarse_u, coarse_f = level.restrict(u, f)
    coarse_u = v_cycle(coarser, coarse_solve, coarse_f, coarse_u)
    u = level.prolong(u, coarse_u)
    return level.post_smooth(u, f)
