"""Least-squares problems in the weights of basis fields."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jax import lax
from jaxtyping import Array, Float

from ._normal_matrix import AbstractNormalMatrix, DenseMatrix
from ._rows import Rows

# Of J's largest singular value; below it, directions count as not determined.
_FLOOR = 1e-6


class NormalEquations(eqx.Module):
    """½‖r‖², Jᵀr and JᵀJ at some weights; r has the rows of the ridge, too."""

    cost: Float[Array, ""]
    gradient: Float[Array, "..."]
    matrix: AbstractNormalMatrix


class AbstractLeastSquares(eqx.Module):
    """min over ω of ½ ‖rows(ω)‖² + ½ ωᵀRω with R positive definite."""

    @abc.abstractmethod
    def rows(self, weights: Float[Array, "..."]) -> Any:
        """All rows, those of the ridge as well; a tree of arrays."""

    @abc.abstractmethod
    def normal(self, weights: Float[Array, "..."]) -> NormalEquations:
        """Gauss and Newton's equations."""

    @abc.abstractmethod
    def hessian(self, weights: Float[Array, "..."]) -> AbstractNormalMatrix:
        """The matrix of second derivatives."""

    def cost(self, weights: Float[Array, "..."]) -> Float[Array, ""]:
        """½ of the sum of the squares of the rows."""
        leaves = jtu.tree_leaves(self.rows(weights))
        return 0.5 * sum((jnp.sum(x**2) for x in leaves[1:]), jnp.sum(leaves[0] ** 2))


class FieldLeastSquares(AbstractLeastSquares):
    """One set of weights for all rows; `ridge` is R."""

    groups: tuple[Rows, ...]
    ridge: Float[Array, "n n"]

    def rows(self, weights: Float[Array, " n"]) -> Any:
        """Those of each group, and Lᵀω with L Lᵀ = R."""
        return [group(weights) for group in self.groups], ridge_rows(
            self.ridge, weights
        )

    def normal(self, weights: Float[Array, " n"]) -> NormalEquations:
        """From one linearisation of each group."""
        matrix, gradient = self.ridge, self.ridge @ weights
        cost = 0.5 * weights @ gradient
        for group in self.groups:
            rows, jacobian = group.linearise(weights)
            matrix = matrix + jacobian @ jacobian.T
            gradient = gradient + jacobian @ rows
            cost = cost + 0.5 * jnp.sum(rows**2)
        return NormalEquations(cost, gradient, DenseMatrix(matrix))

    def hessian(self, weights: Float[Array, " n"]) -> DenseMatrix:
        """That of each group, and R."""
        matrix = self.ridge
        for group in self.groups:
            matrix = matrix + group.hessian(weights)
        return DenseMatrix(matrix)


def ridge_rows(ridge: Float[Array, "n n"], weights: Float[Array, " n"]) -> Array:
    """Lᵀω with L Lᵀ = R, so that their squares add up to ωᵀRω."""
    return jnp.linalg.cholesky(ridge).T @ weights


def gram(groups: tuple[Rows, ...], weights: Float[Array, " n"]) -> Array:
    """JᵀJ of some rows, without a ridge."""
    jacobians = [group.linearise(weights)[1] for group in groups]
    return jnp.sum(jnp.stack([J @ J.T for J in jacobians]), 0)


def floored(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """JᵀJ + (1e-6)² tr(JᵀJ) I, positive definite whatever J is."""
    size = jnp.trace(matrix)
    floor = jnp.where(size > 0, _FLOOR**2 * size, 1)
    return matrix + floor * jnp.eye(matrix.shape[0], dtype=matrix.dtype)


def whitening(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """P with Pᵀ W P = I, from the eigenvectors of W.

    Coordinates only: what is solved in them does not depend on P, and nothing is
    differentiated through it.
    """
    finite = jnp.all(jnp.isfinite(matrix))
    identity = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    squares, vectors = jnp.linalg.eigh(
        lax.stop_gradient(jnp.where(finite, matrix, identity))
    )
    eps = jnp.finfo(matrix.dtype).eps
    lengths = jnp.sqrt(jnp.maximum(squares, eps * jnp.max(squares)))
    return vectors / lengths[None]
