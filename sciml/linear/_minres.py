"""MINRES: symmetric operators that need not be definite."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, ArrayLike, Float, Shaped

from . import _tree as tree
from ._descent import advance
from ._krylov import AbstractKrylov
from ._status import (
    CONVERGED,
    INDEFINITE_PRECONDITIONER,
    INFEASIBLE,
    NONFINITE,
    RUNNING,
    first_of,
)
from ._tree import Vector
from ._verified import Apply, KrylovOutput, Limits, Progress, verified


class _Lanczos(eqx.Module):
    """The Lanczos vectors v, z = M v and the last two directions w with their A w."""

    v: Vector
    v_old: Vector
    z: Vector
    w: tuple[Vector, Vector]
    aw: tuple[Vector, Vector]
    gamma: Shaped[Array, ""]
    gamma_old: Shaped[Array, ""]
    eta: Shaped[Array, ""]
    cosines: tuple[Shaped[Array, ""], Shaped[Array, ""]]
    sines: tuple[Shaped[Array, ""], Shaped[Array, ""]]


class MINRES(AbstractKrylov):
    """The minimal residual method for symmetric (Hermitian) A, definite or not.

    Minimises ‖b − A x‖ in the norm of M over the Krylov space of M A, by three-term
    recurrences. For saddle points, shifted and Helmholtz operators; where A is
    definite, `sciml.CG` costs less per step. M has to be positive definite, whatever
    A is.

    Rounding costs it more than CG: on definite systems of condition 1e12, which CG
    solves to 1e-8, its residual may stay above 1e-4, as that of SciPy's `minres` does
    (`sciml bench faults`).

    Its stopping test and what it reports are those of `sciml.CG`: the 2-norm of the
    residual, recomputed. `infeasible` says that A is singular and b not in its range;
    the value is then close to a least-squares solution.

    **Arguments:** `rtol`, `atol`, `max_steps`, `history_length` as for `sciml.CG`.

    !!! example

        ```python
        import jax.numpy as jnp
        import lineax as lx
        import sciml

        A = lx.MatrixLinearOperator(jnp.diag(jnp.arange(-3.5, 4.0)), lx.symmetric_tag)
        solution = sciml.linear_solve(A, jnp.ones(8), sciml.linear.MINRES(rtol=1e-5))
        ```

    Source: Paige & Saunders, SIAM J. Numer. Anal. 12 (1975) 617; in this form Elman,
    Silvester & Wathen, *Finite Elements and Fast Iterative Solvers*, algorithm 4.1.
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
        """False: A is never negated. Raises unless A is known to be symmetric."""
        hermitian = (
            lx.is_symmetric(operator)
            or lx.is_positive_semidefinite(operator)
            or lx.is_negative_semidefinite(operator)
        )
        if not hermitian:
            raise ValueError(
                "operator: MINRES needs a symmetric operator, and this "
                f"{type(operator).__name__} is not tagged so. If it is, say "
                "`lineax.TaggedLinearOperator(operator, lineax.symmetric_tag)`; if it "
                "is not, use `sciml.linear.GMRES`."
            )
        return False

    def check_preconditioner(self, preconditioner: lx.AbstractLinearOperator) -> None:
        """Raise a `ValueError` unless M is tagged positive semidefinite."""
        if not lx.is_positive_semidefinite(preconditioner):
            raise ValueError(
                "preconditioner: MINRES needs a positive definite one even where A is "
                f"not definite, and this {type(preconditioner).__name__} is not tagged "
                "so. Tag it with `lineax.positive_semidefinite_tag` if it is."
            )

    def iterate(self, A: Apply, M: Apply, b: Vector, x0: Vector | None) -> KrylovOutput:
        """The iteration itself, on plain functions; see `AbstractKrylov.iterate`."""
        dtype = tree.real_dtype(b)
        eps = jnp.finfo(dtype).eps
        zero, one = jnp.zeros((), dtype), jnp.ones((), dtype)

        def start(r: Vector) -> tuple[_Lanczos, Array]:
            z = M(r)
            square = tree.inner(z, r)
            gamma = jnp.sqrt(jnp.maximum(square, 0.0))
            nothing = tree.zeros_like(r)
            state = _Lanczos(
                v=r,
                v_old=nothing,
                z=z,
                w=(nothing, nothing),
                aw=(nothing, nothing),
                gamma=gamma,
                gamma_old=one,
                eta=gamma,
                cosines=(one, one),
                sines=(zero, zero),
            )
            return state, square

        def next_vectors(s: _Lanczos):
            """z_j/γ_j, its product with A, and v_{j+1}, z_{j+1} with γ_{j+1}²."""
            z = tree.scale(1.0 / s.gamma, s.z)
            az = A(z)
            delta = tree.inner(az, z)
            v = tree.axpy(-delta / s.gamma, s.v, az)
            v = tree.axpy(-s.gamma / s.gamma_old, s.v_old, v)
            z_next = M(v)
            return z, az, delta, v, z_next, tree.inner(z_next, v)

        def run(progress: Progress, memory, r: Vector, rnorm, limits: Limits):
            del rnorm

            def running(carry):
                return carry[0].status == RUNNING

            def step(carry):
                progress, s, r, (largest, suspicions) = carry
                z, az, delta, v, z_next, square = next_vectors(s)
                # Rounding may leave the square of a vanishing γ below zero.
                scale = jnp.abs(delta) + s.gamma
                gamma = jnp.sqrt(jnp.maximum(square, 0.0))
                (c_old, c), (s_old, sn) = s.cosines, s.sines
                alpha0 = c * delta - c_old * sn * s.gamma
                alpha1 = jnp.sqrt(alpha0**2 + gamma**2)
                alpha2 = sn * delta + c_old * c * s.gamma
                alpha3 = s_old * s.gamma
                largest = jnp.maximum(largest, alpha1)
                cosine, sine = alpha0 / alpha1, gamma / alpha1
                ar = jnp.hypot(alpha0, c * gamma)
                combine = lambda new, old: tree.scale(
                    1.0 / alpha1,
                    tree.axpy(-alpha3, old[0], tree.axpy(-alpha2, old[1], new)),
                )
                w, aw = combine(z, s.w), combine(az, s.aw)
                status = first_of(
                    (~(jnp.isfinite(delta) & jnp.isfinite(square)), NONFINITE),
                    (square < -eps * scale**2 * 100, INDEFINITE_PRECONDITIONER),
                    (ar <= 10 * eps * largest, INFEASIBLE),
                )
                # ‖A r‖ vanishes before r does, as far as rounding lets one see: what is
                # left of b is not in A's range, and going on would only add to x from
                # the null space. A small eigenvalue looks the same for a while: it gets
                # two more chances, from the recomputed residual.
                least = (ar <= 4 * eps**0.5 * largest) & (cosine**2 <= 16 * eps)
                length = cosine * s.eta
                progress, r = advance(progress, r, w, aw, length, status, limits)
                after = progress.status
                # Nothing new: the space is exhausted, and the residual is recomputed.
                exhausted = (gamma <= 10 * eps * largest) & (after == RUNNING)
                after = jnp.where(exhausted, CONVERGED, after)
                least = least & (after == RUNNING)
                verdict = jnp.where(suspicions >= 2, INFEASIBLE, CONVERGED)
                after = jnp.where(least, verdict, after)
                suspicions = suspicions + least.astype(jnp.int32)
                progress = eqx.tree_at(lambda p: p.status, progress, after)
                state = _Lanczos(
                    v=v,
                    v_old=s.v,
                    z=z_next,
                    w=(s.w[1], w),
                    aw=(s.aw[1], aw),
                    gamma=gamma,
                    gamma_old=s.gamma,
                    eta=-sine * s.eta,
                    cosines=(c, cosine),
                    sines=(sn, sine),
                )
                return progress, state, r, (largest, suspicions)

            state, square = start(r)
            status = first_of(
                (progress.status != RUNNING, progress.status),
                (~jnp.isfinite(square), NONFINITE),
                (square <= 0, INDEFINITE_PRECONDITIONER),
            )
            progress = eqx.tree_at(lambda p: p.status, progress, status)
            progress, _, _, memory = jax.lax.while_loop(
                running, step, (progress, state, r, memory)
            )
            return progress, memory

        # What is known of A's size, and how often b looked incompatible.
        return verified(self, A, b, x0, run, (zero, jnp.zeros((), jnp.int32)))
