"""Rows of a least-squares problem, for fields that are linear in their weights."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PyTree

Residual = Callable[[Any, Any], Any]


class Rows(eqx.Module):
    """Residuals at some points, as a function of weights ω.

        rows(ω) = weight / √m · residual(offset + Σ_n ω_n terms_n, parameters)

    with m the number of rows, so that the sum of their squares is a mean.

    - `terms`: leaves `(n, *points)`, the stencils applied to each basis field.
    - `offset`: the same without the first axis, or None for zero.
    - `parameters`: handed to the residual.
    """

    residual: Residual
    terms: PyTree[Array]
    offset: PyTree[Array] | None
    parameters: PyTree
    weight: Float[Array, "*experts"]

    def combined(self, weights: Float[Array, " n"]) -> PyTree[Array]:
        """The terms of the field that has these weights."""
        total = jtu.tree_map(lambda leaf: jnp.tensordot(weights, leaf, 1), self.terms)
        if self.offset is not None:
            total = jtu.tree_map(jnp.add, total, self.offset)
        return total

    def of_terms(self, terms: PyTree[Array]) -> Float[Array, " m"]:
        """The rows of a field of which the terms are known."""
        found = jtu.tree_leaves(self.residual(terms, self.parameters))
        flat = [jnp.ravel(leaf) for leaf in found]
        rows = flat[0] if len(flat) == 1 else jnp.concatenate(flat)
        return self.weight.astype(rows.dtype) / rows.size**0.5 * rows

    def __call__(self, weights: Float[Array, " n"]) -> Float[Array, " m"]:
        """The rows."""
        return self.of_terms(self.combined(weights))

    def linearise(
        self, weights: Float[Array, " n"]
    ) -> tuple[Float[Array, " m"], Float[Array, "n m"]]:
        """The rows and the transpose of their Jacobian.

        A derivative along the terms for each basis field: products of arrays, where
        automatic differentiation by the weights would also contract the basis.
        """
        rows, push = jax.linearize(self.of_terms, self.combined(weights))
        return rows, jax.vmap(push)(self.terms)

    def transformed(self, P: Float[Array, "n n"]) -> "Rows":
        """The rows as a function of ω̃ with ω = P ω̃."""
        terms = jtu.tree_map(lambda leaf: jnp.tensordot(P.T, leaf, 1), self.terms)
        return eqx.tree_at(lambda rows: rows.terms, self, terms)

    def hessian(self, weights: Float[Array, " n"]) -> Float[Array, "n n"]:
        """Of ½ ‖rows‖² by the weights, second derivatives of the residual included."""
        halves = lambda terms: 0.5 * jnp.sum(self.of_terms(terms) ** 2)
        _, push = jax.linearize(jax.grad(halves), self.combined(weights))
        products = jtu.tree_map(_contracted, jax.vmap(push)(self.terms), self.terms)
        total = jnp.sum(jnp.stack(jtu.tree_leaves(products)), 0)
        return 0.5 * (total + total.T)


def _contracted(one: Array, other: Array) -> Float[Array, "n n"]:
    count = one.shape[0]
    return one.reshape(count, -1) @ other.reshape(count, -1).T
