"""From a preconditioner builder, or a finished operator, to an operator that fits A."""

import abc
from typing import ClassVar, TypeVar

import equinox as eqx
import jax
import jax.tree_util as jtu
import lineax as lx

Frozen = TypeVar("Frozen", bound=eqx.Module)


class AbstractPreconditioner(eqx.Module):
    """A builder: describes a method, and makes M ≈ A⁻¹ from A.

    Set up once, apply many times: `M = builder.build(A)` does the work that depends on
    A only; `M.mv(r)` can be jitted, vmapped and runs on the device.
    """

    on_host: ClassVar[bool] = False
    """Whether `build` reads A's entries, so that they must not be traced."""

    @abc.abstractmethod
    def build(self, operator: lx.AbstractLinearOperator) -> lx.AbstractLinearOperator:
        """A lineax operator M ≈ A⁻¹, tagged positive semidefinite."""


def frozen(operator: Frozen) -> Frozen:
    """The same operator (or any module) with no derivative flowing into its leaves.

    `lineax.linear_solve` raises "Unexpected tangent" where its preconditioner depends
    on what is differentiated, although the solution does not depend on it.
    `sciml.linear_solve` freezes its preconditioner by itself.
    """
    return jtu.tree_map(
        lambda x: jax.lax.stop_gradient(x) if eqx.is_inexact_array(x) else x, operator
    )


def build_preconditioner(
    preconditioner: AbstractPreconditioner | lx.AbstractLinearOperator | None,
    operator: lx.AbstractLinearOperator,
    negate: bool = False,
) -> lx.AbstractLinearOperator | None:
    """M for A from what the user passed, frozen and checked against A's structure."""
    if preconditioner is None:
        return None
    if isinstance(preconditioner, AbstractPreconditioner):
        M = preconditioner.build(frozen(-operator if negate else operator))
    elif isinstance(preconditioner, lx.AbstractLinearOperator):
        M = preconditioner
    else:
        raise TypeError(
            "preconditioner: expected a builder of sciml.preconditioners or a lineax "
            f"operator, got {type(preconditioner).__name__}. A plain function becomes "
            "one with lineax.FunctionLinearOperator(function, structure, "
            "lineax.positive_semidefinite_tag)."
        )
    for name, got in (("in", M.in_structure()), ("out", M.out_structure())):
        if eqx.tree_equal(got, operator.in_structure()) is not True:
            raise ValueError(
                f"preconditioner: its {name}put structure {got} is not the operator's, "
                f"{operator.in_structure()}."
            )
    return frozen(M)
