"""Geometric multigrid as a preconditioner: one symmetric V-cycle."""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import lineax as lx
from jaxtyping import Array, Float

from ..grids import Interpolation, SymmetricStencil
from ..linear import (
    AbstractLevel,
    AbstractPreconditioner,
    StencilOperator,
    SymmetricOperator,
    v_cycle,
)
from ._coarse_operators import AbstractCoarseOperator, Galerkin
from ._coarsening import AbstractCoarsening, BySpacing, coarsened
from ._smoothers import AbstractSmoother, AbstractSmoothing, Chebyshev
from ._suitability import suitability
from ._transfer import AbstractTransfer, OperatorDependent

Field = Float[Array, "*space"]
CoarseField = Float[Array, "*coarse"]
Padded = Float[Array, "..."]


class Level(AbstractLevel):
    """A multigrid level: a stencil, its smoothing, and the way to the next level.

    Between its methods u travels padded (`SymmetricStencil.pad`): a field that is read
    both padded and plain would be computed twice.
    """

    stencil: SymmetricStencil
    smoothing: AbstractSmoothing
    interpolation: Interpolation

    def pre_smooth(self, u: Field | None, f: Field) -> Padded:
        """Smooth on the way down."""
        A = self.stencil
        return A.pad(self.smoothing(A, None if u is None else A.pad(u), f))

    def restrict(self, u: Padded, f: Field) -> tuple[None, CoarseField]:
        """The restricted residual, and a zero start for the correction."""
        return None, self.interpolation.restrict(f - self.stencil.apply(u))

    def prolong(self, u: Padded, coarse_u: CoarseField) -> Padded:
        """Add the interpolated correction."""
        A = self.stencil
        return A.pad(A.interior(u) + self.interpolation.prolong(coarse_u))

    def post_smooth(self, u: Padded, f: Field) -> Field:
        """Smooth on the way up: the same polynomial in A, hence the adjoint."""
        return self.smoothing(self.stencil, u, f)


class DenseSolve(eqx.Module):
    """The coarsest level's exact solve with a (pseudo-)inverse matrix.

    Where the constants are known to be A's null space they are mapped to themselves (in
    units of the diagonal), which keeps the matrix definite; other eigenvalues at
    rounding level are left out, so that it stays symmetric positive semidefinite.
    """

    inverse: Float[Array, "n n"]

    def __init__(self, stencil: SymmetricStencil, constant_null_space: bool = False):
        matrix = stencil.dense()
        # Scaled to a unit diagonal, so that the contrast of coefficients is not
        # mistaken for singularity.
        scale = jax.lax.rsqrt(jnp.diag(matrix))
        scaled = scale[:, None] * matrix * scale[None, :]
        if constant_null_space:
            # Rounding moves the eigenvalue 0 by eps times the contrast: above any
            # cutoff that real eigenvalues survive.
            null = 1.0 / scale
            null = null / jnp.linalg.norm(null)
            scaled = scaled + null[:, None] * null[None, :]
        self.inverse = scale[:, None] * _inverse(scaled) * scale[None, :]

    def __call__(self, u: Field | None, f: Field) -> Field:
        """A⁻¹ f; the initial u plays no part."""
        del u
        product = jnp.matmul(
            self.inverse, f.ravel(), precision=jax.lax.Precision.HIGHEST
        )
        return product.reshape(f.shape)


@jax.custom_jvp
def _inverse(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The (pseudo-)inverse of a symmetric positive semidefinite matrix."""
    values, vectors = jnp.linalg.eigh(matrix)
    cutoff = 4 * values.size * jnp.finfo(values.dtype).eps * values[-1]
    keep = values > cutoff
    inverse = jnp.where(keep, 1.0 / jnp.where(keep, values, 1.0), 0.0)
    return _product(vectors * inverse[None, :], vectors.T)


@_inverse.defjvp
def _(primals, tangents):
    # Of A⁻¹ itself: eigenvectors of equal eigenvalues have no derivative.
    inverse = _inverse(primals[0])
    return inverse, -_product(_product(inverse, tangents[0]), inverse)


def _product(left: Array, right: Array) -> Array:
    return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)


class _Cycle(eqx.Module):
    levels: tuple[Level, ...]
    coarsest: DenseSolve

    def __call__(self, f: Field) -> Field:
        return v_cycle(self.levels, self.coarsest, f)


class _RoundedCycle(eqx.Module):
    """A cycle for A/unit in another precision than A's.

    A is scaled to keep its entries within float32's range, whatever units the problem
    comes in. Vectors are not, as dividing by their own size would not be linear.
    """

    cycle: _Cycle
    unit: Float[Array, ""]

    def __call__(self, f: Field) -> Field:
        u = self.cycle(f.astype(self.cycle.coarsest.inverse.dtype))
        return u.astype(f.dtype) / self.unit


class Multigrid(AbstractPreconditioner):
    """One V-cycle of geometric multigrid, symmetric positive definite.

    Coarse nodes are every second node, aligned to the Dirichlet boundary, for any grid
    size and any mixture of boundary conditions; axes with a finer spacing are
    coarsened first. The defaults make the number of CG steps nearly independent of
    the grid and of jumps in the coefficient; for anisotropic ones give
    `coarsening=ByStrength()`.

    The set-up is jittable and vmappable (it runs on the device) and costs about as
    much as three V-cycles in two dimensions.

    **Arguments:**

    - `smoother`: before and after each coarse correction. Default `Chebyshev(2)`, in
        three dimensions `Chebyshev(3)`; `PerLevel` for another on each level. Every
        smoother here converges in the energy norm for every symmetric positive definite
        A, which keeps M positive definite.
    - `transfer`: `OperatorDependent()` (default) or `Linear()`.
    - `coarse_operator`: `Galerkin()` (default) or `Rediscretised()`.
    - `max_coarse_size`: the level with at most so many unknowns is solved exactly.
        Default 50: 7×7 nodes.
    - `coarsening`: which axes are coarsened on which level. `BySpacing()` (default),
        `ByStrength()`, which reads A on the host, or `SemiCoarsening(delays)`.
    - `cycle_dtype`: the precision of the V-cycle. Default `jnp.float32`, under a
        float64 A too: that halves the memory traffic of each application, while the
        set-up, CG and its residuals stay in float64, and so does what it converges to.
        The price is an M that is symmetric to float32 rounding only; from contrast 1 to
        1e6 and to 1e-8 it left the number of CG steps unchanged or cost one. Vectors
        must lie within float32's range (`sciml.CG` scales its own). None for A's.

    A solve's `stats["preconditioner"]` says what speaks against multigrid for this A:
    `jump_share`, the share of nodes between couplings along one axis that differ by
    more than a thousand times; `anisotropic_share`, of nodes where couplings in
    different directions differ by more than ten; and `expected_poor`, whether one of
    them is so large (20 %, one half: coefficients that jump from node to node,
    anisotropy that the grid does not know) that more than twice the steps of
    `AlgebraicMultigrid()` are to be expected.

    **Raises:** `TypeError` for an operator that carries no grid.

    !!! example

        ```python
        import jax.numpy as jnp
        import sciml

        A = sciml.linear.diffusion_operator(1.0, sciml.grids.Grid((127, 127)))
        M = sciml.preconditioners.Multigrid().build(A)
        M.mv(jnp.ones((127, 127))).shape  # (127, 127)
        ```

    Source: Trottenberg, Oosterlee & Schüller, *Multigrid*, ch. 2 and 7; Dendy, J.
    Comput. Phys. 48 (1982) 366 for the operator-dependent transfer.
    """

    smoother: AbstractSmoother | None = None
    transfer: AbstractTransfer = OperatorDependent()
    coarse_operator: AbstractCoarseOperator = Galerkin()
    max_coarse_size: int = eqx.field(static=True, default=50)
    cycle_dtype: Any = eqx.field(static=True, default=jnp.float32)
    coarsening: AbstractCoarsening = BySpacing()

    @property
    def on_host(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the coarsening reads A's entries."""
        return self.coarsening.on_host

    def build(self, operator: lx.AbstractLinearOperator) -> SymmetricOperator:
        """The V-cycle for this operator, as a lineax operator."""
        if not isinstance(operator, StencilOperator):
            raise TypeError(
                "operator: Multigrid needs to know the grid and takes a "
                f"sciml.linear.StencilOperator, got {type(operator).__name__}."
            )
        decided = self.coarsening.decide(operator)
        builder = dataclasses.replace(self, coarsening=decided)
        cycle, facts = _set_up(builder, operator)
        return SymmetricOperator(
            cycle, operator.in_structure(), lx.positive_semidefinite_tag, facts
        )

    def hierarchy(
        self, operator: StencilOperator
    ) -> tuple[tuple[Level, ...], SymmetricStencil]:
        """The levels, finest first, and the coarsest level's stencil."""
        grid, stencil = operator.grid, operator.stencil
        smoother = self.smoother
        if smoother is None:
            smoother = Chebyshev(3 if grid.ndim == 3 else 2)
        levels = []
        spacing = self.coarsening.spacing(operator)
        while math.prod(stencil.shape) > self.max_coarse_size:
            coarsening = coarsened(stencil, grid, spacing)
            if coarsening.num_coarse == stencil.shape:
                break
            interpolation = self.transfer.build(stencil, coarsening, grid.boundary)
            axes = tuple(k for k, s in enumerate(coarsening.starts) if s is not None)
            smoothing = smoother.on_level(len(levels), axes).build(stencil)
            levels.append(Level(stencil, smoothing, interpolation))
            stencil = self.coarse_operator.build(stencil, interpolation)
            spacing = tuple(
                h if start is None else 2 * h
                for h, start in zip(spacing, coarsening.starts, strict=True)
            )
        return tuple(levels), stencil


# Hundreds of small operations: unjitted, dispatch would cost more than the set-up.
@eqx.filter_jit
def _set_up(
    builder: Multigrid, operator: StencilOperator
) -> tuple[_Cycle | _RoundedCycle, dict[str, Array]]:
    facts = suitability(operator.stencil, builder.coarsening.spacing(operator))
    return _rounded(builder, operator), facts


def _rounded(builder: Multigrid, operator: StencilOperator) -> _Cycle | _RoundedCycle:
    stencil = operator.stencil
    dtype = builder.cycle_dtype
    if dtype is None or stencil.diagonal.dtype == dtype:
        return _cycle(builder, operator)
    largest = jnp.max(stencil.diagonal)
    unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1.0)
    scaled = jtu.tree_map(lambda x: x / unit, stencil)
    cycle = _cycle(builder, eqx.tree_at(lambda A: A.stencil, operator, scaled))
    cast = lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x
    return _RoundedCycle(jtu.tree_map(cast, cycle), unit)


def _cycle(builder: Multigrid, operator: StencilOperator) -> _Cycle:
    levels, coarsest = builder.hierarchy(operator)
    return _Cycle(levels, DenseSolve(coarsest, operator.constant_null_space))
