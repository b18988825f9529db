"""What our Krylov solvers share: tolerances, options, and lineax's solver interface."""

import abc
import difflib
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Shaped

from . import _tree as tree
from ._builder import build_preconditioner
from ._fallback import iterate
from ._function_operator import facts_of
from ._product import product
from ._status import lineax_result, our_result
from ._tree import Vector
from ._verified import Apply, KrylovOutput

_KrylovState = tuple[
    lx.AbstractLinearOperator, lx.AbstractLinearOperator | None, "_Static"
]
_OPTIONS = ("preconditioner", "y0")


class _Static(eqx.Module):
    value: bool = eqx.field(static=True)


class AbstractKrylov(lx.AbstractLinearSolver[_KrylovState]):
    """A preconditioned Krylov method, usable as a lineax solver.

    In `lineax.linear_solve` the options are `preconditioner` (a builder of
    `sciml.preconditioners` or a lineax operator) and `y0`, the initial guess; lineax
    accepts only its own results, so there the exact one is `stats["status"]`.
    """

    rtol: eqx.AbstractVar[Float[Array, ""] | None]
    atol: eqx.AbstractVar[Float[Array, ""]]
    max_steps: eqx.AbstractVar[int | None]
    history_length: eqx.AbstractVar[int | None]

    @abc.abstractmethod
    def check_operator(self, operator: lx.AbstractLinearOperator) -> bool:
        """Whether to solve with −A; raises where the method does not apply to A."""

    @abc.abstractmethod
    def check_preconditioner(self, preconditioner: lx.AbstractLinearOperator) -> None:
        """Raise where the method cannot use M."""

    @abc.abstractmethod
    def iterate(self, A: Apply, M: Apply, b: Vector, x0: Vector | None) -> KrylovOutput:
        """Solve A x = b.

        **Arguments:**

        - `A`, `M`: the operator and the preconditioner as functions of a vector.
        - `b`: the right-hand side.
        - `x0`: the initial guess; None for zero (saves one product).

        **Returns:** x, an integer status, the statistics.
        """

    @staticmethod
    def check_tolerances(rtol: ArrayLike | None, atol: ArrayLike):
        """Tolerances as arrays, so that changing them does not recompile."""
        checked = []
        for name, given in (("rtol", rtol), ("atol", atol)):
            if given is None:
                checked.append(None)
                continue
            if isinstance(given, int | float | np.generic | np.ndarray):
                if not (np.ndim(given) == 0 and 0 <= given < np.inf):
                    raise ValueError(
                        f"{name}: expected a finite number ≥ 0, got {given!r}."
                    )
            checked.append(jnp.asarray(given, jnp.result_type(float)))
        return checked

    @staticmethod
    def check_lengths(max_steps: int | None, history_length: int | None):
        """The two static lengths, checked."""
        for name, given in (
            ("max_steps", max_steps),
            ("history_length", history_length),
        ):
            if given is not None and (not isinstance(given, int) or given < 1):
                raise ValueError(f"{name}: expected an integer ≥ 1, got {given!r}.")
        return max_steps, history_length

    def lengths(self, size: int) -> tuple[int, int]:
        """Maximum number of steps and length of the history for n = `size`."""
        max_steps = self.max_steps
        if max_steps is None:
            max_steps = min(10 * size, 10_000)
        return max_steps, self.history_length or max_steps + 1

    def relative(self, dtype) -> Float[Array, ""]:
        """rtol in `dtype`, or the default for it."""
        if self.rtol is None:
            return jnp.asarray(1e-8 if jnp.finfo(dtype).bits >= 64 else 1e-5, dtype)
        return self.rtol.astype(dtype)

    def rounding_floor(self, A: Apply, x: Vector, dtype) -> Shaped[Array, ""]:
        """The absolute residual below which rounding leaves nothing to be gained at x.

        4 ε ‖A (σ∘x)‖ with random signs σ if rtol is left to us, else 0: what a caller
        asks for is not relaxed. (By itself x is rounded to about ε/2, which gives an
        eighth of this; the rest is what several hundred steps of CG add.)
        """
        if self.rtol is not None:
            return jnp.zeros((), dtype)
        return 4 * jnp.finfo(dtype).eps * tree.norm(A(tree.random_signs(x)))

    def init(
        self, operator: lx.AbstractLinearOperator, options: dict[str, Any]
    ) -> _KrylovState:
        """lineax's set-up: linearise A, build the preconditioner."""
        for option in options:
            if option not in _OPTIONS:
                near = difflib.get_close_matches(option, _OPTIONS, 1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(
                    f"options: unknown key {option!r}; known are "
                    f"{', '.join(map(repr, _OPTIONS))}.{hint}"
                )
        negate = self.check_operator(operator)
        M = build_preconditioner(options.get("preconditioner"), operator, negate)
        if M is not None:
            self.check_preconditioner(M)
        operator = lx.linearise(operator)
        return (-operator if negate else operator), M, _Static(negate)

    def compute(
        self, state: _KrylovState, vector: Vector, options: dict[str, Any]
    ) -> tuple[Vector, lx.RESULTS, dict[str, Any]]:
        """lineax's solve."""
        operator, M, negate = state
        b = tree.scale(jnp.asarray(-1.0), vector) if negate.value else vector
        value, status, stats = iterate(self, product(operator), M, b, options.get("y0"))
        stats = stats | facts_of(M) | {"status": our_result(status)}
        return value, lineax_result(status), stats

    def transpose(self, state: _KrylovState, options: dict[str, Any]):
        """The state of the adjoint solve: Aᵀ and Mᵀ; no initial guess."""
        del options
        operator, M, negate = state
        return (operator.transpose(), None if M is None else M.transpose(), negate), {}

    def conj(self, state: _KrylovState, options: dict[str, Any]):
        """The state of the conjugated solve."""
        del options
        operator, M, negate = state
        return (lx.conj(operator), None if M is None else lx.conj(M), negate), {}

    def assume_full_rank(self) -> bool:
        """True: derivatives are those of A⁻¹."""
        return True
