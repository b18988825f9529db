"""Flexible GMRES: any square operator, any preconditioner."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import lineax as lx
from jaxtyping import Array, ArrayLike, Float, Inexact, Int

from . import _tree as tree
from ._krylov import AbstractKrylov
from ._status import (
    CONVERGED,
    INDEFINITE_PRECONDITIONER,
    INFEASIBLE,
    NONFINITE,
    RUNNING,
    STAGNATED,
    first_of,
)
from ._tree import Vector
from ._verified import Apply, KrylovOutput, Limits, Progress, verified

# A cycle that reduces the residual by less than this has not reduced it.
_PROGRESS = 1e-6
_IDLE_CYCLES = 3


class _Cycle(eqx.Module):
    """An Arnoldi basis V, Z = M V, and the QR factors of the Hessenberg matrix."""

    basis: Any
    preconditioned: Any
    triangle: Inexact[Array, "m m"]
    cosines: Inexact[Array, " m"]
    sines: Inexact[Array, " m"]
    rest: Inexact[Array, " m+1"]
    column: Int[Array, ""]
    largest: Array
    weak: Array


class GMRES(AbstractKrylov):
    """Restarted flexible GMRES for general square A.

    Minimises ‖b − A x‖₂ over x₀ + span{M v_1, …, M v_m} with an orthonormal basis
    v_1 = r₀/‖r₀‖, … that is kept whole, and starts again from the recomputed residual
    after m = `restart` steps. Preconditioned from the right, so the residual is that of
    A x = b; M may change from step to step and need not be linear.

    Where A is symmetric `sciml.linear.MINRES` needs no restarts, where it is definite
    `sciml.CG` is cheaper still. Its stopping test and what it reports are those of
    `sciml.CG`; `stagnated` also says that three cycles in a row reduced the residual by
    less than a millionth, `infeasible` that the space was exhausted twice with a
    residual left: A is singular and b not in its range. (Where rounding hides the null
    vector such a system ends as `stagnated`.)

    **Arguments:**

    - `restart`: steps per cycle, static; 2 m vectors are stored. Default 30.
    - `rtol`, `atol`, `max_steps`, `history_length`: as for `sciml.CG`.

    !!! example

        ```python
        import jax.numpy as jnp
        import lineax as lx
        import sciml

        A = lx.MatrixLinearOperator(jnp.array([[1.0, 2.0], [-2.0, 1.0]]))
        solution = sciml.linear_solve(A, jnp.ones(2), sciml.linear.GMRES())
        ```

    Source: Saad, SIAM J. Sci. Comput. 14 (1993) 461.
    """

    restart: int = eqx.field(static=True)
    rtol: Float[Array, ""] | None
    atol: Float[Array, ""]
    max_steps: int | None = eqx.field(static=True)
    history_length: int | None = eqx.field(static=True)

    def __init__(
        self,
        restart: int = 30,
        rtol: ArrayLike | None = None,
        atol: ArrayLike = 0.0,
        max_steps: int | None = None,
        history_length: int | None = None,
    ):
        if not isinstance(restart, int) or restart < 1:
            raise ValueError(f"restart: expected an integer ≥ 1, got {restart!r}.")
        self.restart = restart
        self.rtol, self.atol = self.check_tolerances(rtol, atol)
        self.max_steps, self.history_length = self.check_lengths(
            max_steps, history_length
        )

    def check_operator(self, operator: lx.AbstractLinearOperator) -> bool:
        """False: A is never negated. Raises unless A is square."""
        if operator.in_size() != operator.out_size():
            raise ValueError(
                "operator: GMRES needs a square operator, got one from "
                f"{operator.in_size()} to {operator.out_size()} unknowns."
            )
        return False

    def check_preconditioner(self, preconditioner: lx.AbstractLinearOperator) -> None:
        """Every M may be tried."""
        del preconditioner

    def iterate(self, A: Apply, M: Apply, b: Vector, x0: Vector | None) -> KrylovOutput:
        """The iteration itself, on plain functions; see `AbstractKrylov.iterate`."""
        m = min(self.restart, tree.size(b))
        leaves = jtu.tree_leaves(b)
        dtype = jnp.result_type(*(leaf.dtype for leaf in leaves))
        real = tree.real_dtype(b)
        eps = jnp.finfo(real).eps

        def run(progress: Progress, memory, r: Vector, rnorm, limits: Limits):
            last, idle, suspicions = memory
            # The first cycle has nothing to be compared with.
            stuck = rnorm > (1 - _PROGRESS) * last
            idle = jnp.where(stuck, idle + 1, 0)
            status = jnp.where(
                (progress.status == RUNNING) & (idle >= _IDLE_CYCLES),
                STAGNATED,
                progress.status,
            )
            progress = eqx.tree_at(lambda p: p.status, progress, status)

            def going(carry):
                progress, cycle = carry
                return (progress.status == RUNNING) & (cycle.column < m)

            def step(carry):
                progress, cycle = carry
                return _arnoldi_step(A, M, progress, cycle, limits, eps)

            empty = lambda rows: jtu.tree_map(
                lambda leaf: jnp.zeros((rows, *leaf.shape), leaf.dtype), b
            )
            first = tree.scale(1.0 / jnp.where(rnorm > 0, rnorm, 1.0), r)
            cycle = _Cycle(
                basis=jtu.tree_map(lambda V, v: V.at[0].set(v), empty(m + 1), first),
                preconditioned=empty(m),
                triangle=jnp.eye(m, dtype=dtype),
                cosines=jnp.ones((m,), dtype),
                sines=jnp.zeros((m,), dtype),
                rest=jnp.zeros((m + 1,), dtype).at[0].set(rnorm.astype(dtype)),
                column=jnp.zeros((), jnp.int32),
                largest=jnp.zeros((), real),
                weak=jnp.array(False),
            )
            progress, cycle = jax.lax.while_loop(going, step, (progress, cycle))

            def solve(carry):
                columns = carry[0] - 1
                used = jnp.arange(m, dtype=jnp.int32) < columns
                y = jax.scipy.linalg.solve_triangular(
                    cycle.triangle, jnp.where(used, cycle.rest[:m], 0.0)
                )
                change = jtu.tree_map(
                    lambda Z: _combination(y, Z), cycle.preconditioned
                )
                left = tree.norm(tree.subtract(r, A(change)))
                # A weak column stands for a null vector of A, with which nothing is
                # won, or for a small singular value, without which nothing is solved.
                vain = ~(left <= 0.5 * jnp.abs(cycle.rest[columns - 1]))
                vain = vain & cycle.weak & (columns == cycle.column)
                return columns, change, left, vain

            start = cycle.column + 1, tree.zeros_like(r), rnorm, jnp.array(True)
            columns, change, left, _ = jax.lax.while_loop(lambda c: c[-1], solve, start)
            # Twice in a row neither with it nor without: b is not in A's range.
            lost = (columns < cycle.column) & ~(left <= 0.5 * rnorm)
            suspicions = jnp.where(lost, suspicions + 1, 0)
            ended = jnp.where(suspicions >= 2, INFEASIBLE, RUNNING)
            ended = jnp.where(cycle.weak, ended, progress.status)
            # A triangle that is all but singular may give a change that makes things
            # worse: then the cycle was in vain.
            change = tree.where(left <= rnorm, change, tree.zeros_like(change))
            x = jtu.tree_map(jnp.add, progress.x, change)
            progress = eqx.tree_at(lambda p: (p.x, p.status), progress, (x, ended))
            return progress, (rnorm, idle, suspicions)

        count = jnp.zeros((), jnp.int32)
        start = jnp.asarray(jnp.inf, real), count, count
        return verified(self, A, b, x0, run, start)


def _arnoldi_step(A, M, progress: Progress, cycle: _Cycle, limits: Limits, eps):
    """One column more, its rotation, and the residual that it leaves."""
    j = cycle.column
    m = cycle.cosines.size
    z = M(jtu.tree_map(lambda V: V[j], cycle.basis))
    w = A(z)
    before = tree.norm(w)
    # Classical Gram-Schmidt twice is as orthogonal as rounding allows; rows of the
    # basis that are not there yet are zero.
    h = jnp.zeros((m + 1,), cycle.rest.dtype)
    for _ in range(2):
        part = _products(cycle.basis, w, h.dtype)
        w = jtu.tree_map(
            lambda leaf, V, c=part: leaf - _combination(c, V), w, cycle.basis
        )
        h = h + part
    below = tree.norm(w)
    exhausted = below <= 100 * eps * before
    inverse = jnp.where(exhausted, 0.0, 1.0 / jnp.where(exhausted, 1.0, below))

    def rotate(i, h):
        c, s = cycle.cosines[i], cycle.sines[i]
        upper, lower = h[i], h[i + 1]
        turned = h.at[i].set(c * upper + s * lower)
        return turned.at[i + 1].set(jnp.conj(c) * lower - s * upper)

    h = jax.lax.fori_loop(jnp.zeros_like(j), j, rotate, h)
    corner = h[j]
    below = jnp.where(exhausted, 0.0, below)
    size = jnp.hypot(jnp.abs(corner), below)
    largest = jnp.maximum(cycle.largest, size)
    # The last column of an exhausted space on which A is singular is made of the
    # rounding of all columns; that of a small singular value looks the same.
    weak = exhausted & (size <= eps ** (2 / 3) * largest)
    safe = jnp.where((size == 0) | ~jnp.isfinite(size), 1.0, size)
    safe = safe.astype(h.dtype)
    c, s = jnp.conj(corner) / safe, below.astype(h.dtype) / safe
    g = cycle.rest[j]
    left = -s * g
    # Whether a weak column removes the rest remains to be seen.
    rnorm = jnp.abs(jnp.where(weak, g, left))
    status = first_of(
        (~jnp.isfinite(before) | ~jnp.isfinite(size), NONFINITE),
        (tree.max_abs(z) == 0, INDEFINITE_PRECONDITIONER),
    )
    good = status == RUNNING
    count = progress.step + good.astype(jnp.int32)
    best, best_step, after = limits.judge(progress, rnorm, count)
    after = jnp.where(exhausted & (after == RUNNING), CONVERGED, after)
    keep = lambda new, old: jtu.tree_map(lambda a, b: jnp.where(good, a, b), new, old)
    progress = Progress(
        x=progress.x,
        best=jnp.where(good, best, progress.best),
        best_step=jnp.where(good, best_step, progress.best_step),
        step=count,
        status=jnp.where(good, after, status),
        history=keep(
            limits.record(progress.history, count, rnorm.astype(progress.best.dtype)),
            progress.history,
        ),
    )
    column = jnp.where(jnp.arange(m, dtype=jnp.int32) <= j, h[:m], 0.0).at[j].set(safe)
    after_step = _Cycle(
        basis=jtu.tree_map(
            lambda V, leaf: V.at[j + 1].set(inverse.astype(leaf.dtype) * leaf),
            cycle.basis,
            w,
        ),
        preconditioned=jtu.tree_map(
            lambda Z, leaf: Z.at[j].set(leaf), cycle.preconditioned, z
        ),
        triangle=cycle.triangle.at[:, j].set(column),
        cosines=cycle.cosines.at[j].set(c),
        sines=cycle.sines.at[j].set(s),
        rest=cycle.rest.at[j].set(c * g).at[j + 1].set(left),
        column=j + 1,
        largest=largest,
        weak=weak,
    )
    return progress, keep(after_step, cycle)


def _products(basis, w: Vector, dtype) -> Array:
    """⟨v_i, w⟩ for every basis vector, summed over leaves."""
    total = None
    for V, leaf in zip(jtu.tree_leaves(basis), jtu.tree_leaves(w), strict=True):
        flat = jnp.conj(V).reshape(V.shape[0], -1)
        part = jnp.matmul(flat, leaf.ravel(), precision=jax.lax.Precision.HIGHEST)
        part = part.astype(dtype)
        total = part if total is None else total + part
    assert total is not None
    return total


def _combination(c: Array, ring: Array) -> Array:
    """Σ_i c_i ring_i, in the ring's type."""
    flat = ring.reshape(ring.shape[0], -1)
    c = c.real if not jnp.iscomplexobj(ring) else c
    total = jnp.matmul(c.astype(ring.dtype), flat, precision=jax.lax.Precision.HIGHEST)
    return total.reshape(ring.shape[1:])
