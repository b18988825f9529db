"""Matrices of normal equations, and their Cholesky factors."""

import abc

import equinox as eqx
import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jax import lax
from jaxtyping import Array, Bool, Float

# A factor whose pivots differ by more than 1/(so many ε) is rounding.
_SAFETY = 100


class AbstractNormalMatrix(eqx.Module):
    """A symmetric matrix that acts on weights, and can be shifted and factorised."""

    @abc.abstractmethod
    def factorise(self, shift: Float[Array, ""]) -> "AbstractFactor":
        """L with L Lᵀ = matrix + shift·I; entries are NaN where it is not definite."""

    @abc.abstractmethod
    def trace(self) -> Float[Array, ""]:
        """The sum of the diagonal."""


class AbstractFactor(eqx.Module):
    """A Cholesky factor."""

    @abc.abstractmethod
    def solve(self, vector: Float[Array, "..."]) -> Float[Array, "..."]:
        """(L Lᵀ)⁻¹ times weights; linear in the vector."""

    @abc.abstractmethod
    def pivots(self) -> Float[Array, " n"]:
        """The diagonal of L."""

    def definite(self) -> Bool[Array, ""]:
        """Whether the matrix was positive definite, and not by rounding only."""
        pivots = self.pivots()
        eps = jnp.finfo(pivots.dtype).eps
        low, high = jnp.min(pivots) ** 2, jnp.max(pivots) ** 2
        return jnp.all(jnp.isfinite(pivots)) & (low > _SAFETY * eps * high)


class DenseMatrix(AbstractNormalMatrix):
    """All entries of a small matrix."""

    entries: Float[Array, "n n"]

    def factorise(self, shift: Float[Array, ""]) -> "DenseFactor":
        """Cholesky's factor of all of it."""
        return DenseFactor(jnp.linalg.cholesky(_shifted(self.entries, shift)))

    def trace(self) -> Float[Array, ""]:
        """The sum of the diagonal."""
        return jnp.trace(self.entries)


class DenseFactor(AbstractFactor):
    """The factor of a `DenseMatrix`."""

    lower: Float[Array, "n n"]

    def solve(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        """Forward and backward substitution."""
        return jsl.cho_solve((self.lower, True), vector)

    def pivots(self) -> Float[Array, " n"]:
        """The diagonal of L."""
        return jnp.diagonal(self.lower)


class BlockTridiagonal(AbstractNormalMatrix):
    """A chain of blocks, each coupled to the one before.

    - `diagonal`: blocks on the diagonal.
    - `below`: block c is in row c + 1 and column c.
    """

    diagonal: Float[Array, "blocks n n"]
    below: Float[Array, "links n n"]

    def factorise(self, shift: Float[Array, ""]) -> "BlockBidiagonal":
        """Cholesky block by block: as many operations as blocks, times n³."""

        def step(last, block):
            diagonal, below = block
            # Row c: S = C L⁻ᵀ with the factor L before, then D − S Sᵀ.
            side = jsl.solve_triangular(last, below.T, lower=True).T
            factor = jnp.linalg.cholesky(diagonal - side @ side.T)
            return factor, (factor, side)

        shifted = _shifted(self.diagonal, shift)
        first = jnp.linalg.cholesky(shifted[0])
        _, (factors, sides) = lax.scan(step, first, (shifted[1:], self.below))
        return BlockBidiagonal(jnp.concatenate([first[None], factors]), sides)

    def trace(self) -> Float[Array, ""]:
        """The sum of the diagonal."""
        return jnp.sum(jnp.trace(self.diagonal, axis1=1, axis2=2))


class BlockBidiagonal(AbstractFactor):
    """The factor of a `BlockTridiagonal`."""

    diagonal: Float[Array, "blocks n n"]
    below: Float[Array, "links n n"]

    def solve(self, vector: Float[Array, "blocks n"]) -> Float[Array, "blocks n"]:
        """Substitution down the chain and up again."""

        def down(before, row):
            factor, side, rhs = row
            y = jsl.solve_triangular(factor, rhs - side @ before, lower=True)
            return y, y

        def up(after, row):
            factor, side, rhs = row
            rhs = rhs - side.T @ after
            x = jsl.solve_triangular(factor, rhs, lower=True, trans="T")
            return x, x

        nothing = jnp.zeros((1, *self.diagonal.shape[1:]), self.diagonal.dtype)
        zero = jnp.zeros_like(vector[0])
        above = jnp.concatenate([nothing, self.below])
        _, y = lax.scan(down, zero, (self.diagonal, above, vector))
        beneath = jnp.concatenate([self.below, nothing])
        _, x = lax.scan(up, zero, (self.diagonal, beneath, y), reverse=True)
        return x

    def pivots(self) -> Float[Array, " n"]:
        """The diagonal of L."""
        return jnp.diagonal(self.diagonal, axis1=1, axis2=2).ravel()


def _shifted(blocks: Float[Array, "*blocks n n"], shift: Float[Array, ""]):
    identity = jnp.eye(blocks.shape[-1], dtype=blocks.dtype)
    return blocks + shift.astype(blocks.dtype) * identity.reshape(
        (1,) * (blocks.ndim - 2) + identity.shape
    )
