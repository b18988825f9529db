"""Preconditioned conjugate gradients that report what they reached."""

import equinox as eqx
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, ArrayLike, Float

from . import _tree as tree
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
from ._verified import Apply, KrylovOutput, Scalar, verified


class _Memory(eqx.Module):
    """The last direction, and what it tells about A."""

    p: Vector
    rz: Scalar
    pp: Scalar
    curvature: Scalar
    fresh: Array


def check_semidefinite(solver: str, operator: lx.AbstractLinearOperator) -> bool:
    """Whether A is negative semidefinite (then −A is solved); error if unknown."""
    if lx.is_positive_semidefinite(operator):
        return False
    if lx.is_negative_semidefinite(operator):
        return True
    raise ValueError(
        f"operator: {solver} needs a positive (or negative) semidefinite operator, and "
        f"this {type(operator).__name__} is not tagged so. If it is, say "
        "`lineax.TaggedLinearOperator(operator, lineax.positive_semidefinite_tag)`; if "
        "it is symmetric but not definite use `sciml.linear.MINRES`, otherwise "
        "`sciml.linear.GMRES`."
    )


class CG(AbstractKrylov):
    """Preconditioned conjugate gradients for symmetric (Hermitian) A ≥ 0.

    Works on any lineax operator that is tagged positive (or negative) semidefinite,
    on any pytree of real or complex arrays; as `solver` of `sciml.linear_solve` or of
    `lineax.linear_solve`.

    The solve is successful only if the residual recomputed from the operator meets

        ‖b − A x‖₂ ≤ rtol ‖b‖₂ + atol.

    The default `rtol` stops at the rounding floor where that is higher, and only the
    default does: 4 ε ‖A (σ∘x)‖₂ with random signs σ, four times what changing the
    entries of x by ε does to the residual, and at most 1e-2 ‖b‖₂. It grows with
    ‖A‖ ‖x‖/‖b‖, in single precision to 1e-4 on 31² and 6e-3 on 255² nodes for
    −Δu = 1, where the error of u is then about 1e-6.

    Where the recurrence says so but the recomputed residual does not, CG restarts from
    the latter, twice at most. All other ends have a name, see `sciml.RESULTS`:
    `max_steps_reached`; `indefinite_operator` (pᵀAp ≤ 0); `indefinite_preconditioner`
    (rᵀMr ≤ 0); `nonfinite`; `stagnated` (the recomputed residual misses the tolerance
    after two restarts, or no new smallest residual in max(1000, 2 n) steps);
    `diverged`; `infeasible` (A p ≈ 0 with a residual left: A is singular and b is not
    in its range). The value returned then is the last finite iterate.

    **Arguments:**

    - `rtol`: relative tolerance. Default 1e-8 for float64, 1e-5 for float32, or the
        rounding floor. Changing it does not recompile.
    - `atol`: absolute tolerance, in the units of b. Default 0.
    - `max_steps`: static. Default min(10 n, 10,000).
    - `history_length`: how many residuals to keep, static; default `max_steps + 1`.

    Statistics: `num_steps`; `relative_residual`, ‖b − A x‖/‖b‖ recomputed at the end;
    `residual_history`, the recurrence's ‖r_k‖/‖b‖ for k = 0, 1, …, NaN beyond
    `num_steps`; `tolerance`, what `relative_residual` has to meet; `num_restarts`;
    `max_steps`.

    !!! example

        ```python
        import jax.numpy as jnp
        import sciml

        A = sciml.linear.diffusion_operator(1.0, sciml.grids.Grid((31, 31)))
        b = jnp.ones((31, 31))
        solution = sciml.linear_solve(A, b, sciml.CG(rtol=1e-5))
        solution.result == sciml.RESULTS.successful
        ```

    Source: Hestenes & Stiefel (1952); Saad, *Iterative Methods for Sparse Linear
    Systems*, algorithm 9.1.
    """

    rtol: Float[Array, ""] | None
    atol: Float[Array, ""]
    max_steps: int | None = eqx.field(static=True)
    history_length: int | None = eqx.field(static=True)

    def __init__(
        self,
        rtol: ArrayLike | None = None,
        atol: ArrayLike = 0.0,
        max_steps: int | None = None,
        history_length: int | None = None,
    ):
        self.rtol, self.atol = self.check_tolerances(rtol, atol)
        self.max_steps, self.history_length = self.check_lengths(
            max_steps, history_length
        )

    def check_operator(self, operator: lx.AbstractLinearOperator) -> bool:
        """Whether A is negative semidefinite (then −A is solved); error if unknown."""
        return check_semidefinite("CG", operator)

    def check_preconditioner(self, preconditioner: lx.AbstractLinearOperator) -> None:
        """Raise a `ValueError` unless M is tagged positive semidefinite."""
        if not lx.is_positive_semidefinite(preconditioner):
            raise ValueError(
                "preconditioner: CG needs a positive definite one, and this "
                f"{type(preconditioner).__name__} is not tagged so. Remember that M "
                "approximates the inverse of A; tag it with "
                "`lineax.positive_semidefinite_tag` if it is."
            )

    def iterate(self, A: Apply, M: Apply, b: Vector, x0: Vector | None) -> KrylovOutput:
        """The iteration itself, on plain functions; see `AbstractKrylov.iterate`."""
        dtype = tree.real_dtype(b)
        eps = jnp.finfo(dtype).eps

        def direction(memory: _Memory, r: Vector):
            z = M(r)
            rz = tree.inner(r, z)
            beta = jnp.where(memory.fresh, 0.0, rz / memory.rz)
            p = tree.axpy(beta, memory.p, z)
            q = A(p)
            pq = tree.inner(p, q)
            # pᵀAp/pᵀM⁻¹p lies within the spectrum of MA, and so does pᵀAp/rᵀMr; where
            # the first drops to rounding level p is a null vector of A although the
            # residual along it is not zero. M⁻¹p is not known, but the residuals are
            # orthogonal to earlier directions, which gives its product with p.
            pp = rz + beta**2 * memory.pp
            null = jnp.abs(pq) <= eps * memory.curvature * pp
            status = first_of(
                (~(jnp.isfinite(rz) & jnp.isfinite(pq)), NONFINITE),
                (rz <= 0, INDEFINITE_PRECONDITIONER),
                (null, INFEASIBLE),
                (pq <= 0, INDEFINITE_OPERATOR),
            )
            curvature = jnp.maximum(memory.curvature, pq / rz)
            fresh = jnp.zeros_like(memory.fresh)
            return _Memory(p, rz, pp, curvature, fresh), p, q, rz / pq, status

        def restart(memory: _Memory) -> _Memory:
            return eqx.tree_at(lambda m: m.fresh, memory, jnp.ones_like(memory.fresh))

        zero = tree.full(b, 0, dtype)
        nothing = _Memory(tree.zeros_like(b), zero + 1, zero, zero, zero == 0)
        return verified(self, A, b, x0, descent(direction, restart), nothing)
