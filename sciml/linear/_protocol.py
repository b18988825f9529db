"""What lineax asks of an operator class beyond its methods."""

from typing import TypeVar

import jax
import jax.flatten_util as jfu
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Inexact

from ._tree import zeros_like

Operator = TypeVar("Operator", bound=type[lx.AbstractLinearOperator])


def register_operator(cls: Operator) -> Operator:
    """Teach lineax's questions (`lx.diagonal`, `lx.is_symmetric`, …) about a class.

    Questions about structure are answered from the instance's `tags`. A class may
    define `diagonal_entries()`, a vector of the operator's structure, where it can
    do better than reading them off the dense matrix.
    """

    def has(tag):
        return lambda operator: tag in operator.tags

    def diagonal(operator):
        entries = getattr(operator, "diagonal_entries", None)
        if entries is not None:
            return jfu.ravel_pytree(entries())[0]
        return jnp.diag(operator.as_matrix())

    def tridiagonal(operator):
        matrix = operator.as_matrix()
        return tuple(jnp.diagonal(matrix, k) for k in (0, -1, 1))

    def materialise(operator):
        return lx.materialise(
            lx.FunctionLinearOperator(
                operator.mv, operator.in_structure(), operator.tags
            )
        )

    def conj(operator):
        return lx.FunctionLinearOperator(
            lambda v: _conj(operator.mv(_conj(v))),
            operator.in_structure(),
            operator.tags,
        )

    lx.linearise.register(cls)(lambda operator: operator)
    lx.materialise.register(cls)(materialise)
    lx.diagonal.register(cls)(diagonal)
    lx.tridiagonal.register(cls)(tridiagonal)
    lx.conj.register(cls)(conj)
    lx.is_diagonal.register(cls)(has(lx.diagonal_tag))
    lx.is_tridiagonal.register(cls)(has(lx.tridiagonal_tag))
    lx.has_unit_diagonal.register(cls)(has(lx.unit_diagonal_tag))
    lx.is_lower_triangular.register(cls)(has(lx.lower_triangular_tag))
    lx.is_upper_triangular.register(cls)(has(lx.upper_triangular_tag))
    lx.is_positive_semidefinite.register(cls)(has(lx.positive_semidefinite_tag))
    lx.is_negative_semidefinite.register(cls)(has(lx.negative_semidefinite_tag))
    lx.is_symmetric.register(cls)(
        lambda operator: bool(
            operator.tags
            & {
                lx.symmetric_tag,
                lx.positive_semidefinite_tag,
                lx.negative_semidefinite_tag,
                lx.diagonal_tag,
            }
        )
    )
    return cls


def dense_from_products(operator: lx.AbstractLinearOperator) -> Inexact[Array, "m n"]:
    """The dense matrix of an operator, one product per column.

    Vectors are flattened as `jax.flatten_util.ravel_pytree` does it.
    """
    zero, unravel = jfu.ravel_pytree(zeros_like(operator.in_structure()))
    basis = jnp.eye(zero.size, dtype=zero.dtype)
    columns = jax.vmap(lambda e: jfu.ravel_pytree(operator.mv(unravel(e)))[0])(basis)
    return columns.T


def _conj(vector):
    return jax.tree_util.tree_map(jnp.conj, vector)
