"""The Jacobi preconditioner."""

import equinox as eqx
import jax.flatten_util as jfu
import jax.numpy as jnp
import jax.tree_util as jtu
import lineax as lx
from jaxtyping import Array, Inexact, PyTree

from ..linear import AbstractPreconditioner, SymmetricOperator


class _Scaling(eqx.Module):
    weights: PyTree[Inexact[Array, "..."]]

    def __call__(self, vector):
        return jtu.tree_map(jnp.multiply, self.weights, vector)


class Jacobi(AbstractPreconditioner):
    """M = D⁻¹, D the diagonal of A.

    Costs nothing to set up where the operator knows its diagonal (`StencilOperator`,
    `lineax.DiagonalLinearOperator`, a matrix); other operators are materialised once.
    Positive definite exactly if every diagonal entry of A is positive, as it is for a
    positive definite A; where one is not, CG reports `indefinite_preconditioner`.

    !!! example

        ```python
        import jax.numpy as jnp
        import lineax as lx
        import sciml

        A = lx.MatrixLinearOperator(
            jnp.array([[4.0, 1.0], [1.0, 3.0]]), lx.positive_semidefinite_tag
        )
        M = sciml.preconditioners.Jacobi().build(A)
        M.mv(jnp.array([4.0, 3.0]))  # [1., 1.]
        ```

    Source: Saad, *Iterative Methods for Sparse Linear Systems*, §10.2.
    """

    def build(self, operator: lx.AbstractLinearOperator) -> SymmetricOperator:
        """D⁻¹ as a diagonal operator of A's structure, tagged positive semidefinite."""
        structure = operator.in_structure()
        _, unravel = jfu.ravel_pytree(
            jtu.tree_map(lambda s: jnp.zeros(s.shape, s.dtype), structure)
        )
        diagonal = unravel(lx.diagonal(operator))
        weights = jtu.tree_map(lambda d: 1.0 / d, diagonal)
        tags = frozenset({lx.positive_semidefinite_tag})
        return SymmetricOperator(_Scaling(weights), structure, tags)
