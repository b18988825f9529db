"""Stationary iterations x ← x + M (b − A x) that say how they ended."""

import equinox as eqx
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, ArrayLike, Float

from . import _tree as tree
from ._descent import descent
from ._krylov import AbstractKrylov
from ._status import NONFINITE, first_of
from ._tree import Vector
from ._verified import Apply, KrylovOutput, verified


class Stationary(AbstractKrylov):
    """x ← x + M (b − A x): relaxation, splitting methods, refinement, with our ends.

    Converges from everywhere if and only if the spectral radius of I − MA is below 1.
    With `RelaxationPlan(A).sor(A, omega)` as M it is SOR in its third normal form, with
    a multigrid operator multigrid by itself. `sciml.CG` with the same (symmetric) M is
    faster nearly always.

    A is any square operator, M any operator; no M is Richardson's iteration, M = I.

    Successful only if the residual recomputed from A meets ‖b − A x‖₂ ≤ rtol ‖b‖₂ +
    atol. Other ends, see `sciml.RESULTS`: `max_steps_reached`, `nonfinite`, `diverged`
    (the residual is 1e8 times the initial one), `stagnated`.

    **Arguments:** and statistics as for `sciml.CG`.

    !!! example

        ```python
        import jax.numpy as jnp
        import sciml

        A = sciml.linear.diffusion_operator(1.0, sciml.grids.Grid((31, 31)))
        M = sciml.preconditioners.RelaxationPlan(A).sor(A, 1.8)
        solver = sciml.linear.Stationary(rtol=1e-4)
        solution = sciml.linear_solve(A, jnp.ones((31, 31)), solver, preconditioner=M)
        ```

    Source: Saad, *Iterative Methods for Sparse Linear Systems*, §4.1; Hackbusch,
    *Iterative Solution of Large Sparse Systems of Equations*, §2.2, for normal forms.
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
        """False: A is taken as it is; error unless it is square."""
        if operator.in_size() != operator.out_size():
            raise ValueError(
                "operator: Stationary needs a square operator, got one from "
                f"{operator.in_size()} to {operator.out_size()} unknowns."
            )
        return False

    def check_preconditioner(self, preconditioner: lx.AbstractLinearOperator) -> None:
        """Every M may be tried."""
        del preconditioner

    def iterate(self, A: Apply, M: Apply, b: Vector, x0: Vector | None) -> KrylovOutput:
        """The iteration itself, on plain functions; see `AbstractKrylov.iterate`."""
        one = tree.full(b, 1, tree.real_dtype(b))

        def direction(memory: None, r: Vector):
            p = M(r)
            q = A(p)
            status = first_of((~jnp.isfinite(tree.norm(q)), NONFINITE))
            return memory, p, q, one, status

        return verified(self, A, b, x0, descent(direction, lambda memory: memory), None)
