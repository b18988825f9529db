"""Two preconditioners, the second for when the first breaks down."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Inexact, PyTree, Shaped

from ._product import product
from ._protocol import register_operator
from ._status import CONVERGED, INDEFINITE_OPERATOR, MAX_STEPS
from ._tree import Vector
from ._verified import Apply, KrylovOutput

# Ends that are not the preconditioner's doing.
_NOT_ITS_FAULT = (CONVERGED, MAX_STEPS, INDEFINITE_OPERATOR)


@register_operator
class FallbackOperator(lx.AbstractLinearOperator):
    """M₁ with M₂ in reserve, as `sciml.preconditioners.Fallback` builds them.

    As an operator it is M₁. Our solvers know it: where a solve breaks down with M₁ they
    go on from the last iterate with M₂, and `stats["fallback_step"]` records when.

    **Arguments:**

    - `first`, `second`: M₁ and M₂, operators of the same structure.
    """

    first: lx.AbstractLinearOperator
    second: lx.AbstractLinearOperator
    tags: frozenset[object] = eqx.field(static=True)

    def __init__(
        self, first: lx.AbstractLinearOperator, second: lx.AbstractLinearOperator
    ):
        if eqx.tree_equal(first.in_structure(), second.in_structure()) is not True:
            raise ValueError(
                f"second: expected the structure of first, {first.in_structure()}, "
                f"got {second.in_structure()}."
            )
        self.first, self.second = first, second
        shared = set()
        for tag, holds in (
            (lx.symmetric_tag, lx.is_symmetric),
            (lx.positive_semidefinite_tag, lx.is_positive_semidefinite),
        ):
            if holds(first) and holds(second):
                shared.add(tag)
        self.tags = frozenset(shared)

    @property
    def facts(self) -> dict[str, Shaped[Array, "..."]]:
        """What M₁'s builder found out."""
        return getattr(self.first, "facts", {})

    def mv(self, vector: PyTree[Inexact[Array, "..."]]) -> Vector:
        """M₁ r."""
        return self.first.mv(vector)

    def as_matrix(self) -> Inexact[Array, "n n"]:
        """M₁'s."""
        return self.first.as_matrix()

    def transpose(self) -> "FallbackOperator":
        """Both transposed."""
        return FallbackOperator(self.first.transpose(), self.second.transpose())

    def in_structure(self) -> PyTree[jax.ShapeDtypeStruct]:
        """M₁'s."""
        return self.first.in_structure()

    def out_structure(self) -> PyTree[jax.ShapeDtypeStruct]:
        """M₁'s."""
        return self.first.out_structure()


def iterate(
    solver: Any,
    A: Apply,
    M: lx.AbstractLinearOperator | None,
    b: Vector,
    x0: Vector | None,
) -> KrylovOutput:
    """`solver.iterate`, and once more with the second preconditioner where need be."""
    if not isinstance(M, FallbackOperator):
        return solver.iterate(A, product(M), b, x0)
    first = solver.iterate(A, product(M.first), b, x0)
    value, status, stats = first
    broken = jnp.all(jnp.stack([status != end for end in _NOT_ITS_FAULT]))

    def go_on(_):
        new_value, new_status, new = solver.iterate(A, product(M.second), b, value)
        steps = stats["num_steps"]
        index = jnp.arange(stats["residual_history"].size, dtype=steps.dtype)
        history = jnp.where(
            index < steps,
            stats["residual_history"],
            jnp.roll(new["residual_history"], steps),
        )
        merged = {
            **new,
            "num_steps": steps + new["num_steps"],
            "residual_history": history,
        }
        for key in ("num_restarts", "num_refinements"):
            if key in new:
                merged[key] = stats[key] + new[key]
        return new_value, new_status, merged

    value, status, merged = jax.lax.cond(broken, go_on, lambda _: first, None)
    none = jnp.full_like(merged["num_steps"], -1)
    merged["fallback_step"] = jnp.where(broken, stats["num_steps"], none)
    return value, status, merged


lx.conj.register(FallbackOperator)(
    lambda operator: FallbackOperator(lx.conj(operator.first), lx.conj(operator.second))
)
