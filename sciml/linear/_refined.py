"""Iterative refinement: a solver in low precision, residuals in high precision."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, ArrayLike, DTypeLike, Float

from . import _tree as tree
from ._cg import CG
from ._krylov import AbstractKrylov
from ._product import rounded, to_precision
from ._status import CONVERGED, MAX_STEPS, NONFINITE, RUNNING, STAGNATED, first_of
from ._tree import Vector
from ._verified import Apply, KrylovOutput

_MAX_REFINEMENTS = 30
# A refinement that does not even halve the residual is the last one.
_LEAST_GAIN = 0.5
_FLOOR_LIMIT = 1e-2


class Refined(AbstractKrylov):
    """Iterative refinement: `inner` solves in float32, the residual is kept in float64.

        r = b − A x,   A d ≈ r in `dtype`,   x ← x + d

    Half the memory traffic of a solve in float64, to the same tolerance: each round
    gains what float32 can give, some two to five digits, as long as the condition
    number lies below about 10⁷. Beyond that the rounds gain nothing, and the result is
    `stagnated`. On CPUs with `Multigrid`, whose cycles run in float32 by default, there
    is little left to gain; on accelerators that are slow in float64 there is.

    A and M are rounded to `dtype` (array by array); their entries have to lie within
    its range. Results as of `inner`; a round that fails but still halves the residual
    is not held against it.

    **Arguments:**

    - `inner`: the solver of each round. Default `CG()`, which goes to 1e-5 or to the
        rounding floor.
    - `rtol`, `atol`: as for `CG`, of the refined solution.
    - `max_steps`: most rounds, static. Default 30.
    - `history_length`: how many residuals to keep, static; default `max_steps + 1`.
    - `dtype`: of the rounds, static. Default float32.

    Statistics: `num_steps` counts the steps of `inner` in all rounds;
    `num_refinements` the rounds; `residual_history` holds the recomputed ‖b − A x‖/‖b‖
    before the first and after each round; the others as for `CG`.

    !!! example

        ```python
        import jax
        import jax.numpy as jnp
        import sciml

        jax.config.update("jax_enable_x64", True)
        A = sciml.linear.diffusion_operator(1.0, sciml.grids.Grid((63, 63)))
        solver = sciml.linear.Refined(rtol=1e-12)
        solution = sciml.linear_solve(
            A,
            jnp.ones((63, 63)),
            solver,
            preconditioner=sciml.preconditioners.Multigrid(),
        )
        solution.stats["num_refinements"]
        ```

    Source: Higham, *Accuracy and Stability of Numerical Algorithms*, ch. 12.
    """

    inner: AbstractKrylov
    rtol: Float[Array, ""] | None
    atol: Float[Array, ""]
    max_steps: int | None = eqx.field(static=True)
    history_length: int | None = eqx.field(static=True)
    dtype: Any = eqx.field(static=True)

    def __init__(
        self,
        inner: AbstractKrylov | None = None,
        rtol: ArrayLike | None = None,
        atol: ArrayLike = 0.0,
        max_steps: int | None = None,
        history_length: int | None = None,
        dtype: DTypeLike = jnp.float32,
    ):
        self.inner = CG() if inner is None else inner
        if isinstance(self.inner, Refined):
            raise TypeError("inner: expected a Krylov solver, got another Refined.")
        self.rtol, self.atol = self.check_tolerances(rtol, atol)
        self.max_steps, self.history_length = self.check_lengths(
            max_steps, history_length
        )
        if not jnp.issubdtype(jnp.dtype(dtype), jnp.floating):
            raise ValueError(f"dtype: expected a real floating type, got {dtype}.")
        self.dtype = jnp.dtype(dtype)

    def check_operator(self, operator: lx.AbstractLinearOperator) -> bool:
        """As `inner` does."""
        return self.inner.check_operator(operator)

    def check_preconditioner(self, preconditioner: lx.AbstractLinearOperator) -> None:
        """As `inner` does."""
        self.inner.check_preconditioner(preconditioner)

    def iterate(self, A: Apply, M: Apply, b: Vector, x0: Vector | None) -> KrylovOutput:
        """The rounds, on products that know their operators."""
        low_A = rounded(A, "operator", b, self.dtype)
        low_M = rounded(M, "preconditioner", b, self.dtype)
        dtype = tree.real_dtype(b)
        max_rounds = self.max_steps or _MAX_REFINEMENTS
        length = self.history_length or max_rounds + 1
        unit = tree.max_abs(b)
        unit = jnp.where((unit > 0) & jnp.isfinite(unit), unit, 1.0)
        b = tree.scale(1.0 / unit, b)
        bnorm = tree.norm(b)
        x = tree.zeros_like(b) if x0 is None else tree.scale(1.0 / unit, x0)
        x = tree.where(bnorm == 0, tree.zeros_like(b), x)
        tolerance = self.relative(dtype) * bnorm + self.atol.astype(dtype) / unit
        reference = jnp.where(bnorm > 0, bnorm, 1.0)

        def accepted(x):
            floor = self.rounding_floor(A, x, dtype)
            return jnp.maximum(tolerance, jnp.minimum(floor, _FLOOR_LIMIT * bnorm))

        def residual(x):
            r = tree.subtract(b, A(x))
            return r, tree.norm(r)

        def ended(rnorm, x, rounds):
            return first_of(
                (~jnp.isfinite(rnorm), NONFINITE),
                (rnorm <= accepted(x), CONVERGED),
                (rounds >= max_rounds, MAX_STEPS),
            )

        def refine(carry):
            x, r, rnorm, steps, rounds, status, history = carry
            size = tree.max_abs(r)
            size = jnp.where((size > 0) & jnp.isfinite(size), size, 1.0)
            low_r = to_precision(tree.scale(1.0 / size, r), self.dtype)
            d, inner_status, stats = self.inner.iterate(low_A, low_M, low_r, None)
            new_x = tree.axpy(size, to_precision(d, dtype), x)
            new_r, new_norm = residual(new_x)
            rounds = rounds + 1
            gained = new_norm <= _LEAST_GAIN * rnorm
            # (What a failed round adds may hold NaN.)
            better = new_norm < rnorm
            x, r = tree.where(better, (new_x, new_r), (x, r))
            rnorm = jnp.where(better, new_norm, rnorm)
            stuck = jnp.where(inner_status == CONVERGED, STAGNATED, inner_status)
            status = ended(rnorm, x, rounds)
            status = jnp.where((status != CONVERGED) & ~gained, stuck, status)
            history = history.at[rounds].set(rnorm / reference, mode="drop")
            steps = steps + stats["num_steps"]
            return x, r, rnorm, steps, rounds, status, history

        r, rnorm = residual(x)
        count = jnp.zeros((), jnp.int32)
        history = jnp.full((length,), jnp.nan, dtype).at[0].set(rnorm / reference)
        status = ended(rnorm, x, count)
        x, _, rnorm, steps, rounds, status, history = jax.lax.while_loop(
            lambda carry: carry[5] == RUNNING,
            refine,
            (x, r, rnorm, count, count, status, history),
        )
        stats: dict[str, Any] = {
            "num_steps": steps,
            "max_steps": max_rounds,
            "num_refinements": rounds,
            "relative_residual": rnorm / reference,
            "tolerance": accepted(x) / reference,
            "residual_history": history,
        }
        return tree.scale(unit, x), status, stats
