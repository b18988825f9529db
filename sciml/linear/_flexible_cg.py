"""Conjugate gradients for preconditioners that change, or are not linear."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import lineax as lx
from jaxtyping import Array, ArrayLike, Float, Int, Shaped

from . import _tree as tree
from ._cg import check_semidefinite
from ._descent import descent
from ._krylov import AbstractKrylov
from ._status import (
    INDEFINITE_OPERATOR,
    INDEFINITE_PRECONDITIONER,
    INFEASIBLE,
    NONFINITE,
    first_of,
)
from ._tree import Vector
from ._verified import Apply, KrylovOutput, verified


class _Memory(eqx.Module):
    """The last directions p, A p, pᵀA p and pᵀM⁻¹p, in a ring; unused ones are zero."""

    directions: Any
    products: Any
    energies: Shaped[Array, " m"]
    sizes: Shaped[Array, " m"]
    count: Int[Array, ""]
    curvature: Shaped[Array, ""]
    stretch: Shaped[Array, ""]


class FlexibleCG(AbstractKrylov):
    """Conjugate gradients whose directions are A-orthogonalised explicitly.

        p = M(r) − Σ_j p_j (p_jᵀA M(r)) / (p_jᵀA p_j),  α = pᵀr / pᵀA p

    over the last `num_directions` directions p_j. `sciml.CG` gets away with one because
    a fixed symmetric M makes the rest orthogonal by itself. Where M changes from step
    to step, or is not linear or not symmetric (a network, an inner iteration), that is
    lost: CG then takes many times the steps, this method a few more than it should.

    With a fixed symmetric positive definite M the iterates are those of `sciml.CG`,
    for `num_directions` more vectors and inner products per step (twice that many
    vectors of storage). Rounding may cost it steps that CG does not need, twice as many
    at condition 1e12. Results and statistics are those of `sciml.CG`;
    `indefinite_preconditioner` means rᵀM(r) ≤ 0, where no descent is possible.

    Derivatives are those of the exact solution. The adjoint solve applies
    `M.transpose()`, for which an M that is not linear must return something sensible:
    `sciml.linear.SymmetricOperator` returns itself.

    **Arguments:**

    - `num_directions`: static. Default 5: one or two are not enough for an M that is
        far from linear.
    - `rtol`, `atol`, `max_steps`, `history_length`: as for `sciml.CG`.

    !!! example

        ```python
        import jax.numpy as jnp
        import sciml

        A = sciml.linear.diffusion_operator(1.0, sciml.grids.Grid((31, 31)))
        shrink = lambda r: r / (1.0 + jnp.abs(r))
        M = sciml.linear.SymmetricOperator(shrink, A.in_structure())
        solver = sciml.linear.FlexibleCG(rtol=1e-4)
        solution = sciml.linear_solve(A, jnp.ones((31, 31)), solver, preconditioner=M)
        ```

    Source: Notay, *Flexible conjugate gradients*, SIAM J. Sci. Comput. 22 (2000) 1444.
    """

    num_directions: int = eqx.field(static=True)
    rtol: Float[Array, ""] | None
    atol: Float[Array, ""]
    max_steps: int | None = eqx.field(static=True)
    history_length: int | None = eqx.field(static=True)

    def __init__(
        self,
        num_directions: int = 5,
        rtol: ArrayLike | None = None,
        atol: ArrayLike = 0.0,
        max_steps: int | None = None,
        history_length: int | None = None,
    ):
        if not isinstance(num_directions, int) or num_directions < 1:
            raise ValueError(
                f"num_directions: expected an integer ≥ 1, got {num_directions!r}."
            )
        self.num_directions = num_directions
        self.rtol, self.atol = self.check_tolerances(rtol, atol)
        self.max_steps, self.history_length = self.check_lengths(
            max_steps, history_length
        )

    def check_operator(self, operator: lx.AbstractLinearOperator) -> bool:
        """Whether A is negative semidefinite (then −A is solved); error if unknown."""
        return check_semidefinite("FlexibleCG", operator)

    def check_preconditioner(self, preconditioner: lx.AbstractLinearOperator) -> None:
        """Every M may be tried; what does not descend is reported."""
        del preconditioner

    def iterate(self, A: Apply, M: Apply, b: Vector, x0: Vector | None) -> KrylovOutput:
        """The iteration itself, on plain functions; see `AbstractKrylov.iterate`."""
        dtype = tree.real_dtype(b)
        eps = jnp.finfo(dtype).eps
        m = self.num_directions

        def direction(memory: _Memory, r: Vector):
            z = M(r)
            zr = tree.inner(r, z)
            used = memory.energies > 0
            # Twice: what the first projection leaves behind is of rounding size only
            # relative to z, which may be much larger than what is left of it.
            p, total = z, jnp.zeros((m,), dtype)
            for _ in range(2):
                along = jax.vmap(tree.inner, (0, None))(memory.products, p)
                along = jnp.where(used, along / jnp.where(used, memory.energies, 1), 0)
                total = total + along
                p = jtu.tree_map(
                    lambda leaf, ring, along=along: (
                        leaf - jnp.tensordot(along.astype(leaf.dtype), ring, 1)
                    ),
                    p,
                    memory.directions,
                )
            q = A(p)
            pq, pr = tree.inner(p, q), tree.inner(p, r)
            # As in CG: pᵀAp/pᵀM⁻¹p lies within the spectrum of MA; at rounding level
            # p is a null vector of A. pᵀM⁻¹p is what it would be for a fixed M.
            pp = zr + jnp.sum(total**2 * memory.sizes)
            null = jnp.abs(pq) <= eps * memory.curvature * pp
            # For others that is too much by a factor which grows from step to step: of
            # A itself p must be a null vector, too.
            square = tree.inner(p, p)
            null = null & (jnp.abs(pq) <= eps * memory.stretch * square)
            status = first_of(
                (~(jnp.isfinite(zr) & jnp.isfinite(pq) & jnp.isfinite(pr)), NONFINITE),
                (zr <= 0, INDEFINITE_PRECONDITIONER),
                (null, INFEASIBLE),
                (pq <= 0, INDEFINITE_OPERATOR),
            )
            slot = memory.count % m
            put = lambda ring, leaf: ring.at[slot].set(leaf)
            memory = _Memory(
                jtu.tree_map(put, memory.directions, p),
                jtu.tree_map(put, memory.products, q),
                memory.energies.at[slot].set(pq),
                memory.sizes.at[slot].set(pp),
                memory.count + 1,
                jnp.maximum(memory.curvature, pq / zr),
                jnp.maximum(memory.stretch, pq / square),
            )
            return memory, p, q, pr / pq, status

        def restart(memory: _Memory) -> _Memory:
            return eqx.tree_at(
                lambda s: s.energies, memory, jnp.zeros_like(memory.energies)
            )

        ring = jtu.tree_map(lambda leaf: jnp.zeros((m, *leaf.shape), leaf.dtype), b)
        zero = jnp.zeros((), dtype)
        count = jnp.zeros((), jnp.int32)
        none = jnp.zeros((m,), dtype)
        nothing = _Memory(ring, ring, none, none, count, zero, zero)
        return verified(self, A, b, x0, descent(direction, restart), nothing)
