"""What a learned preconditioner was trained for, and one that knows it."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import lineax as lx
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Inexact

from .._serialisation import register
from ..grids import SymmetricStencil
from ..linear import (
    AbstractPreconditioner,
    FallbackOperator,
    StencilOperator,
    SymmetricOperator,
    diffusion_operator,
)
from ._coarsening import ByStrength
from ._incomplete_cholesky import IncompleteCholesky
from ._multigrid import Multigrid


@register
class Scope(eqx.Module):
    """Which systems weights were trained for, in numbers that are quickly found.

    **Arguments:**

    - `ndim`: axes of the grid; None where no grid is needed.
    - `contrast`: of A's diagonal, largest over smallest entry: at most so much.
    - `constant`: whether A has to be a multiple of the grid's Laplacian, with Dirichlet
        sides whose nodes are not stored.
    """

    ndim: int | None = eqx.field(static=True, default=2)
    contrast: float = eqx.field(static=True, default=1e4)
    constant: bool = eqx.field(static=True, default=False)

    def misses(self, operator: lx.AbstractLinearOperator) -> str | None:
        """Why A lies outside, in words; None for one inside.

        **Raises:** `TypeError` where A's entries are traced.
        """
        if any(isinstance(leaf, Tracer) for leaf in jtu.tree_leaves(operator)):
            raise TypeError(
                "operator: whether A is of the kind that the weights were trained for "
                "is read off its entries, which are traced here. Build M outside of "
                "jit (vmap, grad) and pass M as the preconditioner, or use the "
                "`learned` field alone."
            )
        if self.ndim is not None:
            if not isinstance(operator, StencilOperator):
                return f"A carries no grid ({type(operator).__name__})"
            if operator.grid.ndim != self.ndim:
                return f"A lives on {operator.grid.ndim} axes, not on {self.ndim}"
        low, high = map(float, np.asarray(_extremes(operator)))
        if not 0 < low <= high < float("inf"):
            return "A's diagonal is not positive and finite"
        if high > self.contrast * low:
            return f"contrast {high / low:.2g} > {self.contrast:.2g}"
        if self.constant:
            return _no_laplacian(operator)
        return None


@register
class Provenance(eqx.Module):
    """Where weights come from; it stands in the header of their file.

    **Arguments:**

    - `command`: that trained them.
    - `seed`: of data and weights.
    - `distribution`: of the systems, in words.
    - `training_time`: in seconds, and on what.
    - `table`: what they achieved: lines of text, the first the columns.
    """

    command: str = eqx.field(static=True)
    seed: int = eqx.field(static=True)
    distribution: str = eqx.field(static=True)
    training_time: str = eqx.field(static=True)
    table: tuple[str, ...] = eqx.field(static=True)


@register
class Pretrained(AbstractPreconditioner):
    """Learned M where A is of the kind it was trained for, a classical one elsewhere.

    What is decided, is decided on A's entries before anything is set up, so that a
    foreign system costs what the classical method does, and a look at A's diagonal.

    `stats["preconditioner"]["in_distribution"]` says which of the two it was; `misses`
    says why.

    **Arguments:**

    - `learned`: a trained builder.
    - `scope`: what `learned` was trained for.
    - `provenance`: where it comes from.
    - `reserve`: a builder for everything else. Default None:
        `Multigrid(coarsening=ByStrength())` for operators with a grid,
        `IncompleteCholesky()` for others.

    !!! example

        ```python
        import jax.numpy as jnp
        import sciml

        A = sciml.linear.diffusion_operator(1.0, sciml.grids.Grid((63, 63)))
        builder = sciml.pretrained("two-phase-2d")
        solution = sciml.linear_solve(
            A, jnp.ones((63, 63)), sciml.CG(rtol=1e-4), preconditioner=builder
        )
        solution.stats["preconditioner"]["in_distribution"]  # True
        builder.provenance.command  # what trained it
        ```
    """

    learned: AbstractPreconditioner
    scope: Scope
    provenance: Provenance
    reserve: AbstractPreconditioner | None = None
    on_host: ClassVar[bool] = True

    def misses(self, operator: lx.AbstractLinearOperator) -> str | None:
        """Why A is none that `learned` was trained for; None where it is one."""
        return self.scope.misses(operator)

    def build(self, operator: lx.AbstractLinearOperator) -> lx.AbstractLinearOperator:
        """M for this operator."""
        inside = self.misses(operator) is None
        builder = self.learned if inside else self.reserve_for(operator)
        return _told(builder.build(operator), inside)

    def reserve_for(
        self, operator: lx.AbstractLinearOperator
    ) -> AbstractPreconditioner:
        """The classical method for a system outside of the scope."""
        if self.reserve is not None:
            return self.reserve
        if isinstance(operator, StencilOperator):
            return Multigrid(coarsening=ByStrength())
        return IncompleteCholesky()


def _told(M: lx.AbstractLinearOperator, inside: bool) -> lx.AbstractLinearOperator:
    """M, which says in its facts for what it was made."""
    if isinstance(M, FallbackOperator):
        return FallbackOperator(_told(M.first, inside), M.second)
    facts = {**getattr(M, "facts", {}), "in_distribution": jnp.asarray(inside)}
    if isinstance(M, SymmetricOperator):
        return SymmetricOperator(M.function, M.in_structure(), M.tags, facts)
    definite = lx.is_positive_semidefinite(M)
    tags = lx.positive_semidefinite_tag if definite else frozenset()
    return SymmetricOperator(M.mv, M.in_structure(), tags, facts)


def _no_laplacian(operator: lx.AbstractLinearOperator) -> str | None:
    """What keeps A from being a multiple of −Δ between Dirichlet sides."""
    if not isinstance(operator, StencilOperator):
        return f"A carries no grid ({type(operator).__name__})"
    if any(pair != (1, 1) for pair in operator.grid.margins):
        return "the grid has other sides than Dirichlet ones whose nodes are left out"
    stencil, expected = operator.stencil, _laplacian(operator)
    if stencil.offsets != expected.offsets or not bool(_parallel(stencil, expected)):
        return "A is no multiple of the grid's Laplacian"
    return None


def _laplacian(operator: StencilOperator) -> SymmetricStencil:
    one = jnp.ones((), operator.stencil.diagonal.dtype)
    return diffusion_operator(one, operator.grid).stencil


@eqx.filter_jit
def _parallel(one: SymmetricStencil, other: SymmetricStencil) -> Bool[Array, ""]:
    """Whether all numbers of two stencils differ by one factor, but for rounding."""
    scale = jnp.max(one.diagonal) / jnp.max(other.diagonal)
    least = 1e-5 * jnp.max(one.diagonal)
    pairs = zip(jtu.tree_leaves(one), jtu.tree_leaves(other), strict=True)
    near = [jnp.all(jnp.abs(x - scale * y) <= least) for x, y in pairs]
    return jnp.all(jnp.stack(near))


@eqx.filter_jit
def _extremes(operator: lx.AbstractLinearOperator) -> Inexact[Array, "2"]:
    """The smallest and the largest entry of A's diagonal."""
    diagonal = jtu.tree_leaves(lx.diagonal(operator))
    lows, highs = ([f(leaf) for leaf in diagonal] for f in (jnp.min, jnp.max))
    return jnp.stack([jnp.min(jnp.stack(lows)), jnp.max(jnp.stack(highs))])
