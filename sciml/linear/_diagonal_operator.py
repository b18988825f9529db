"""DIA: a square sparse matrix as a few of its diagonals."""

from collections.abc import Iterable

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Inexact

from ._protocol import register_operator


@register_operator
class DiagonalsOperator(lx.AbstractLinearOperator):
    """A square matrix in the DIA format: its few nonzero diagonals.

        (A x)_i = Σ_k values[k, i] · x_{i + offsets[k]},   x_j = 0 outside 0 … n−1

    For matrices of regular grids. Products read x through shifted windows, without an
    index array, and run at the speed of memory. Matrices of meshes have too many
    diagonals: use `PaddedRowsOperator`. `sciml.linear.from_scipy` picks one of the two.

    **Arguments:**

    - `offsets`: the diagonals, distinct integers in −(n−1) … n−1; 0 is the main one,
        positive ones are above it. Static: a change compiles anew, and each diagonal
        adds to the program.
    - `values`: of shape `(len(offsets), n)`, real or complex, aligned by *row*:
        values[k, i] = A[i, i + offsets[k]]. (SciPy's `dia_array.data` is aligned by
        column.) Entries whose column lies outside the matrix play no part; keep
        them 0.
    - `tags`: lineax tags, as one tag or a frozenset; default none. They are believed.
        What the offsets imply (diagonal, tridiagonal, triangular) is added to them.

    **Raises:** `ValueError` if the arguments do not fit together.

    !!! example

        ```python
        import jax.numpy as jnp
        import lineax as lx
        import sciml

        ones = jnp.ones(5)
        A = sciml.linear.DiagonalsOperator(
            (-1, 0, 1),
            jnp.stack([-ones.at[0].set(0.0), 2 * ones, -ones.at[-1].set(0.0)]),
            lx.positive_semidefinite_tag,
        )
        A.mv(ones)  # [1., 0., 0., 0., 1.]
        ```

    Source: Saad, *Iterative Methods for Sparse Linear Systems*, §3.4.
    """

    values: Inexact[Array, "num_diagonals n"]
    offsets: tuple[int, ...] = eqx.field(static=True)
    tags: frozenset[object] = eqx.field(static=True)

    def __init__(
        self,
        offsets: Iterable[int],
        values: ArrayLike,
        tags: object | frozenset[object] = frozenset(),
    ):
        values = jnp.asarray(values)
        offsets = tuple(int(k) for k in offsets)
        if values.ndim != 2 or values.shape[0] != len(offsets) or values.shape[1] < 1:
            raise ValueError(
                f"values: expected shape (len(offsets), n) = ({len(offsets)}, n), n ≥ "
                f"1, got {values.shape}: one row per diagonal, aligned by row of A."
            )
        if not jnp.issubdtype(values.dtype, jnp.inexact):
            raise ValueError(
                f"values: expected a real or complex floating-point type, got "
                f"{values.dtype}; write values.astype(float)."
            )
        size = values.shape[1]
        if len(set(offsets)) < len(offsets) or any(abs(k) >= size for k in offsets):
            raise ValueError(
                f"offsets: expected distinct integers between {1 - size} and "
                f"{size - 1}, as values has n = {size} columns, got {offsets}; add "
                "up the rows of a repeated diagonal."
            )
        self.values = values
        self.offsets = offsets
        tags = tags if isinstance(tags, frozenset) else frozenset([tags])
        self.tags = tags | _implied_tags(offsets)

    def mv(self, vector: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
        """A vector."""
        size = self.values.shape[1]
        if vector.shape != (size,):
            raise ValueError(
                f"vector: expected shape ({size},), got {vector.shape}; map a batch "
                "with jax.vmap(A.mv)."
            )
        out = jnp.zeros_like(vector)
        for k, offset in enumerate(self.offsets):
            before, after = max(0, -offset), max(0, offset)
            # Each window is padded by itself: that fuses with the sum, whereas a padded
            # vector that all of them share is written out or tested at every read.
            window = jnp.pad(vector[after : size - before], (before, after))
            term = self.values[k] * window
            out = out + term if k else term
        return out

    def as_matrix(self) -> Inexact[Array, "n n"]:
        """The dense matrix. For small n only."""
        size = self.values.shape[1]
        matrix = jnp.zeros((size, size), self.values.dtype)
        for k, offset in enumerate(self.offsets):
            rows = np.arange(max(0, -offset), size - max(0, offset))
            matrix = matrix.at[rows, rows + offset].set(self.values[k, rows])
        return matrix

    def diagonal_entries(self) -> Inexact[Array, " n"]:
        """The main diagonal."""
        return self._diagonal(0)

    def absolute_row_sums(self) -> Float[Array, " n"]:
        """Σ_j |A_ij|."""
        size = self.values.shape[1]
        columns = np.arange(size) + np.reshape(self.offsets, (-1, 1)).astype(int)
        inside = jnp.asarray((columns >= 0) & (columns < size))
        return jnp.sum(jnp.abs(jnp.where(inside, self.values, 0)), axis=0)

    def transpose(self) -> "DiagonalsOperator":
        """Aᵀ, exactly; itself where it is real and tagged symmetric.

        (A complex operator with a symmetric tag is taken to be Hermitian: its
        transpose is its conjugate, another operator.)
        """
        if lx.is_symmetric(self) and not jnp.iscomplexobj(self.values):
            return self
        size = self.values.shape[1]
        rows = []
        for k, offset in enumerate(self.offsets):
            # Aᵀ[j, j − o] = A[j − o, j]: the row moves by o, zeros move in.
            kept = self.values[k, max(0, -offset) : size - max(0, offset)]
            rows.append(jnp.pad(kept, (max(0, offset), max(0, -offset))))
        return DiagonalsOperator(
            tuple(-k for k in self.offsets),
            jnp.stack(rows) if rows else self.values,
            lx.transpose_tags(self.tags),
        )

    def in_structure(self) -> jax.ShapeDtypeStruct:
        """A vector of length n."""
        return jax.ShapeDtypeStruct(self.values.shape[1:], self.values.dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        """A vector of length n."""
        return self.in_structure()

    def _diagonal(self, offset: int) -> Inexact[Array, " m"]:
        """The entries A[i, i + offset] inside the matrix."""
        size = self.values.shape[1]
        start, stop = max(0, -offset), size - max(0, offset)
        if offset not in self.offsets:
            return jnp.zeros(stop - start, self.values.dtype)
        return self.values[self.offsets.index(offset), start:stop]


def _implied_tags(offsets: tuple[int, ...]) -> frozenset[object]:
    """What is true of every matrix with entries on these diagonals only."""
    facts = {
        lx.diagonal_tag: all(k == 0 for k in offsets),
        lx.tridiagonal_tag: all(abs(k) <= 1 for k in offsets),
        lx.lower_triangular_tag: all(k <= 0 for k in offsets),
        lx.upper_triangular_tag: all(k >= 0 for k in offsets),
    }
    return frozenset(tag for tag, holds in facts.items() if holds)


# The registered answers would go through the dense matrix.
lx.materialise.register(DiagonalsOperator)(lambda operator: operator)
lx.tridiagonal.register(DiagonalsOperator)(
    lambda operator: tuple(operator._diagonal(k) for k in (0, -1, 1))
)
lx.conj.register(DiagonalsOperator)(
    lambda operator: DiagonalsOperator(
        operator.offsets, operator.values.conj(), operator.tags
    )
)
