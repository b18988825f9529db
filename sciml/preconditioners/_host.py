"""A's entries on the host, for builders that read them."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.flatten_util as jfu
import jax.tree_util as jtu
import lineax as lx
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Inexact

from ..linear import AbstractPreconditioner, SymmetricOperator, to_scipy

# A SciPy CSR matrix. (SciPy's sparse module changes the warning filters of whoever
# imports it; it is imported where it is used.)
Matrix = Any


def host_matrix(
    builder: AbstractPreconditioner, operator: lx.AbstractLinearOperator
) -> Matrix:
    """The entries of a square A as a SciPy CSR matrix with sorted indices.

    **Raises:** `TypeError` where they are traced or not known; `ValueError` where they
    are not finite, or the diagonal is not positive, as it is for every positive
    definite A.
    """
    name = type(builder).__name__
    advice = (
        f"Build M = {name}(...).build(A) outside of jit (vmap, grad) and pass M as the "
        "preconditioner."
    )
    return known_matrix(name, operator, advice)


def known_matrix(name: str, operator: lx.AbstractLinearOperator, advice: str) -> Matrix:
    """`host_matrix` for whoever has this name and gives this advice to tracers."""
    if any(isinstance(leaf, Tracer) for leaf in jtu.tree_leaves(operator)):
        raise TypeError(
            f"operator: {name} is set up on the host and needs A's entries, which are "
            f"traced here. {advice}"
        )
    matrix = to_scipy(operator)
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(
            f"operator: {name} needs a square matrix, got shape {matrix.shape}."
        )
    check_matrix(matrix, name, "A", "Is A positive definite?")
    return matrix


def check_matrix(matrix: Matrix, name: str, where: str, hint: str) -> None:
    """Raise a `ValueError` unless entries are finite and the diagonal is positive."""
    diagonal = matrix.diagonal().real
    if np.isfinite(matrix.data).all() and (diagonal > 0).all():
        return
    worst = int(np.argmin(np.where(np.isfinite(diagonal), diagonal, -np.inf)))
    raise ValueError(
        f"operator: {name} needs finite entries and a positive diagonal, but {where} "
        f"has {diagonal[worst]:.3g} on it in row {worst}. {hint}"
    )


class _Flattened(eqx.Module):
    function: Callable[[Inexact[Array, " n"]], Inexact[Array, " n"]]

    def __call__(self, vector):
        flat, unravel = jfu.ravel_pytree(vector)
        return unravel(self.function(flat))


def flat_operator(
    function: Callable[[Inexact[Array, " n"]], Inexact[Array, " n"]],
    operator: lx.AbstractLinearOperator,
    facts: dict[str, Array] | None = None,
) -> SymmetricOperator:
    """M of A's structure from a function of flat vectors, tagged semidefinite."""
    return SymmetricOperator(
        _Flattened(function),
        operator.in_structure(),
        lx.positive_semidefinite_tag,
        facts,
    )
