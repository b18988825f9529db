"""Block Jacobi: the inverse of A's diagonal blocks."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Inexact

from ..linear import AbstractPreconditioner, SymmetricOperator
from ._host import flat_operator, host_matrix


class BlockJacobi(AbstractPreconditioner):
    """M = blockdiag(A)⁻¹ with blocks of `block_size` consecutive unknowns.

    For vector problems whose components are numbered node by node (elasticity: 2 or 3
    per node), and for any other strong coupling within short runs of unknowns. Vectors
    are flattened as `jax.flatten_util.ravel_pytree` does it. With blocks of one unknown
    it is `Jacobi`.

    **Arguments:**

    - `block_size`: unknowns per block; has to divide their number.

    **Raises:** `TypeError` for an operator whose entries are not known, or are traced;
    `ValueError` for a size that does not divide n, or a block that is not positive
    definite.

    !!! example

        ```python
        import lineax as lx
        import numpy as np
        import scipy.sparse as sp
        import sciml

        block = np.array([[2.0, 1.0], [1.0, 2.0]])
        csr = sp.block_diag([block, block], format="csr")
        A = sciml.linear.from_scipy(csr, lx.positive_semidefinite_tag)
        M = sciml.preconditioners.BlockJacobi(2).build(A)  # the inverse of A
        ```

    Source: Saad, *Iterative Methods for Sparse Linear Systems*, §12.2.
    """

    block_size: int = eqx.field(static=True)

    on_host: ClassVar[bool] = True

    def __check_init__(self):
        if self.block_size < 1:
            raise ValueError(
                f"block_size: expected an integer ≥ 1, got {self.block_size}."
            )

    def build(self, operator: lx.AbstractLinearOperator) -> SymmetricOperator:
        """The inverse blocks for this operator, as a lineax operator."""
        matrix = host_matrix(self, operator)
        size, width = matrix.shape[0], self.block_size
        if size % width:
            raise ValueError(
                f"block_size: {width} does not divide the number of unknowns, {size}."
            )
        coo = matrix.tocoo()
        own = coo.row // width == coo.col // width
        row, column = coo.row[own], coo.col[own]
        blocks = np.zeros((size // width, width, width), matrix.dtype)
        np.add.at(blocks, (row // width, row % width, column % width), coo.data[own])
        try:
            factor = np.linalg.cholesky(blocks)
        except np.linalg.LinAlgError as error:
            raise ValueError(
                "operator: BlockJacobi needs positive definite diagonal blocks, and "
                "one of them is not. Is A positive definite?"
            ) from error
        identity = np.broadcast_to(np.eye(width, dtype=blocks.dtype), blocks.shape)
        half = np.linalg.solve(factor, identity)
        inverse = np.matmul(half.conj().swapaxes(1, 2), half)
        return flat_operator(_Blocks(jnp.asarray(inverse, matrix.dtype)), operator)


class _Blocks(eqx.Module):
    inverse: Inexact[Array, "blocks width width"]

    def __call__(self, vector):
        parts = vector.reshape(self.inverse.shape[:2])
        product = jnp.einsum(
            "bij,bj->bi", self.inverse, parts, precision=jax.lax.Precision.HIGHEST
        )
        return product.reshape(vector.shape)
