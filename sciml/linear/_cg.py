"""Preconditioned conjugate gradients that report what they reached."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, ArrayLike, Float, Int, Shaped

from . import _tree as tree
from ._krylov import AbstractKrylov, Apply, KrylovOutput
from ._status import (
    CONVERGED,
    DIVERGED,
    INDEFINITE_OPERATOR,
    INDEFINITE_PRECONDITIONER,
    INFEASIBLE,
    MAX_STEPS,
    NONFINITE,
    RUNNING,
    STAGNATED,
    first_of,
)
from ._tree import Vector

# A residual this many times the initial one cannot be the usual non-monotonicity of CG.
_DIVERGENCE = 1e8
_MAX_RESTARTS = 2
# Where rounding alone leaves more than this of b, nobody would call it solved.
_FLOOR_LIMIT = 1e-2


class _State(eqx.Module):
    """One pass of the inner loop."""

    x: Vector
    r: Vector
    p: Vector
    rz: Shaped[Array, ""]
    pp: Shaped[Array, ""]
    rnorm: Shaped[Array, ""]
    best: Shaped[Array, ""]
    best_step: Int[Array, ""]
    curvature: Shaped[Array, ""]
    step: Int[Array, ""]
    fresh: Array
    status: Int[Array, ""]
    history: Shaped[Array, " history"]


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
        if lx.is_positive_semidefinite(operator):
            return False
        if lx.is_negative_semidefinite(operator):
            return True
        raise ValueError(
            "operator: CG needs a positive (or negative) semidefinite operator, and "
            f"this {type(operator).__name__} is not tagged so. If it is, say "
            "`lineax.TaggedLinearOperator(operator, lineax.positive_semidefinite_tag)`"
            "; if it is not, use `lineax.GMRES`."
        )

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
        size = tree.size(b)
        max_steps, length = self.lengths(size)
        window = max(1000, 2 * size)
        eps = jnp.finfo(dtype).eps
        # Scaling b to 1 keeps the squares in inner products from over- or underflowing.
        unit = tree.max_abs(b)
        unit = jnp.where((unit > 0) & jnp.isfinite(unit), unit, 1.0)
        b = tree.scale(1.0 / unit, b)
        x = tree.zeros_like(b) if x0 is None else tree.scale(1.0 / unit, x0)
        bnorm = tree.norm(b)
        # A zero right-hand side has the solution zero, whatever the initial guess.
        x = tree.where(bnorm == 0, tree.zeros_like(b), x)
        tolerance = self.relative(dtype) * bnorm + self.atol.astype(dtype) / unit

        def accepted(x):
            floor = self.rounding_floor(A, x, dtype)
            return jnp.maximum(tolerance, jnp.minimum(floor, _FLOOR_LIMIT * bnorm))

        reference = jnp.where(bnorm > 0, bnorm, 1.0)

        def running(state: _State):
            return state.status == RUNNING

        def step(state: _State, believed: Array) -> _State:
            z = M(state.r)
            rz = tree.inner(state.r, z)
            beta = jnp.where(state.fresh, 0.0, rz / state.rz)
            p = tree.axpy(beta, state.p, z)
            q = A(p)
            pq = tree.inner(p, q)
            # pᵀAp/pᵀM⁻¹p lies within the spectrum of MA, and so does pᵀAp/rᵀMr; where
            # the first drops to rounding level p is a null vector of A although the
            # residual along it is not zero. M⁻¹p is not known, but the residuals are
            # orthogonal to earlier directions, which gives its product with p.
            pp = rz + beta**2 * state.pp
            curvature = pq / rz
            null = jnp.abs(pq) <= eps * state.curvature * pp
            status = first_of(
                (~(jnp.isfinite(rz) & jnp.isfinite(pq)), NONFINITE),
                (rz <= 0, INDEFINITE_PRECONDITIONER),
                (null, INFEASIBLE),
                (pq <= 0, INDEFINITE_OPERATOR),
            )
            good = status == RUNNING
            alpha = jnp.where(good, rz / pq, 0.0)
            # A broken direction may hold NaN, and 0 · NaN is NaN.
            p, q = tree.where(good, (p, q), (state.p, tree.zeros_like(q)))
            x = tree.axpy(alpha, p, state.x)
            r = tree.axpy(-alpha, q, state.r)
            rnorm = tree.norm(r)
            count = state.step + good.astype(jnp.int32)
            improved = rnorm < state.best
            best_step = jnp.where(improved, count, state.best_step)
            status = jnp.where(
                good,
                first_of(
                    (~jnp.isfinite(rnorm), NONFINITE),
                    (rnorm <= believed, CONVERGED),
                    (count >= max_steps, MAX_STEPS),
                    (rnorm > _DIVERGENCE * state.history[0] * reference, DIVERGED),
                    (count - best_step >= window, STAGNATED),
                ),
                status,
            )
            history = state.history.at[count].set(rnorm / reference, mode="drop")
            return _State(
                x=x,
                r=r,
                p=p,
                rz=rz,
                pp=pp,
                rnorm=rnorm,
                best=jnp.minimum(rnorm, state.best),
                best_step=best_step,
                curvature=jnp.maximum(state.curvature, curvature),
                step=count,
                fresh=jnp.zeros_like(state.fresh),
                status=status,
                history=history,
            )

        # The outer loop recomputes the residual: at the start, and whenever the inner
        # one believes that it has converged.
        def unverified(carry):
            state, _, verified = carry
            return ~verified

        def verify(carry):
            state, restarts, _ = carry
            r = tree.subtract(b, A(state.x))
            rnorm = tree.norm(r)
            first = state.step == 0
            history = state.history.at[0].set(
                jnp.where(first, rnorm / reference, state.history[0]), mode="drop"
            )
            # Reached for the first time, or after the inner loop claimed convergence.
            status = first_of(
                (~jnp.isfinite(rnorm), NONFINITE),
                (rnorm <= accepted(state.x), CONVERGED),
                (restarts >= _MAX_RESTARTS, STAGNATED),
                (state.step >= max_steps, MAX_STEPS),
            )
            restarted = eqx.tree_at(
                lambda s: (s.r, s.rnorm, s.best, s.fresh, s.status, s.history),
                state,
                (
                    r,
                    rnorm,
                    jnp.where(first, rnorm, state.best),
                    jnp.ones_like(state.fresh),
                    status,
                    history,
                ),
            )
            # Below ε times where it started the recurrence knows nothing any more, and
            # would break down for reasons that are not the operator's.
            believed = jnp.maximum(tolerance, eps * rnorm)
            state = jax.lax.while_loop(running, lambda s: step(s, believed), restarted)
            again = (status == RUNNING) & ~first
            claims = (status == RUNNING) & (state.status == CONVERGED)
            return state, restarts + again.astype(jnp.int32), ~claims

        zero = jnp.zeros((), dtype)
        count = jnp.zeros((), jnp.int32)
        initial = _State(
            x=x,
            r=tree.zeros_like(b),
            p=tree.zeros_like(b),
            rz=zero + 1.0,
            pp=zero,
            rnorm=zero,
            best=zero,
            best_step=count,
            curvature=zero,
            step=count,
            fresh=jnp.array(True),
            status=count + RUNNING,
            history=jnp.full((length,), jnp.nan, dtype),
        )
        final, restarts, _ = jax.lax.while_loop(
            unverified, verify, (initial, count, jnp.array(False))
        )
        residual = tree.norm(tree.subtract(b, A(final.x))) / reference
        stats: dict[str, Any] = {
            "num_steps": final.step,
            "max_steps": max_steps,
            "num_restarts": restarts,
            "relative_residual": residual,
            "tolerance": accepted(final.x) / reference,
            "residual_history": final.history,
        }
        return tree.scale(unit, final.x), final.status, stats
