"""A factorised sparse approximate inverse."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import lineax as lx
import numpy as np

from ..linear import AbstractPreconditioner, SymmetricOperator, from_scipy
from ._host import Matrix, flat_operator, host_matrix

# Entries of the small dense systems that are held at a time.
_BATCH = 4_000_000
# Pairs of entries beyond which the pattern is not sparse.
_MAX_ENTRIES = 1_000_000_000


class FSAI(AbstractPreconditioner):
    """M = Gᴴ G, G the sparse lower triangular matrix nearest to the inverse of A's
    Cholesky factor.

    G minimises ‖I − G L‖_F, A = L Lᴴ, over the matrices with the pattern of the lower
    triangle of |A|ᵖ, p = `power`, and is scaled so that (G A Gᴴ)_ii = 1. L is not
    needed: row i solves the small dense system A[J, J] g = e_i over its pattern J.

    Symmetric positive definite by construction, applied as two sparse products, all of
    whose rows run at once, set up on the host row by row, independently. Between
    Jacobi and incomplete Cholesky in CG steps; the classical rival of learned sparse
    approximate inverses at the same cost.

    **Arguments:**

    - `power`: of the pattern. Default 1, A's own; 2 takes fewer steps, costs more per
        step and much more set-up.

    **Raises:** `TypeError` for an operator whose entries are not known, or are traced;
    `ValueError` where a small system is not positive definite, as A then is not.

    !!! example

        ```python
        import jax.numpy as jnp
        import sciml

        A = sciml.linear.diffusion_operator(1.0, sciml.grids.Grid((31, 31)))
        M = sciml.preconditioners.FSAI().build(A)
        solution = sciml.linear_solve(
            A, jnp.ones((31, 31)), sciml.CG(rtol=1e-4), preconditioner=M
        )
        ```

    Source: Kolotilina & Yeremin, SIAM J. Matrix Anal. Appl. 14 (1993) 45.
    """

    power: int = eqx.field(static=True, default=1)

    on_host: ClassVar[bool] = True

    def __check_init__(self):
        if self.power < 1:
            raise ValueError(f"power: expected an integer ≥ 1, got {self.power}.")

    def build(self, operator: lx.AbstractLinearOperator) -> SymmetricOperator:
        """Gᴴ G for this operator, as a lineax operator."""
        matrix = host_matrix(self, operator)
        inverse = _approximate_inverse(matrix, _pattern(matrix, self.power))
        adjoint = inverse.conj().T.tocsr()
        dtype = jnp.dtype(matrix.dtype)
        return flat_operator(
            _Product(
                from_scipy(inverse, dtype=dtype), from_scipy(adjoint, dtype=dtype)
            ),
            operator,
        )


class _Product(eqx.Module):
    inverse: lx.AbstractLinearOperator
    adjoint: lx.AbstractLinearOperator

    def __call__(self, vector):
        return self.adjoint.mv(self.inverse.mv(vector))


def _pattern(matrix: Matrix, power: int) -> Matrix:
    """The lower triangle of the pattern of |A|ᵖ, sorted, with its diagonal."""
    import scipy.sparse as sp

    # (Ones rather than sizes: small entries must not underflow out of the pattern.)
    ones = sp.csr_matrix(
        (np.ones(matrix.nnz, np.float32), matrix.indices, matrix.indptr), matrix.shape
    )
    pattern: Matrix = ones
    for _ in range(power - 1):
        pattern = pattern @ ones
        pattern.data[:] = 1
    lower: Matrix = sp.tril(pattern, format="csr")
    lower.sort_indices()
    return lower


def _approximate_inverse(matrix: Matrix, pattern: Matrix) -> Matrix:
    """G on a pattern, by batches of rows with equally many entries."""
    import scipy.sparse as sp

    size = matrix.shape[0]
    lengths = np.diff(pattern.indptr)
    if float(np.sum(lengths.astype(float) ** 2)) > _MAX_ENTRIES:
        raise ValueError(
            "operator: FSAI would solve dense systems of more than "
            f"{_MAX_ENTRIES:.0e} entries in all: A has rows that are nearly full. "
            "Lower `power`, or use Jacobi."
        )
    lower: Matrix = sp.tril(matrix, format="csr")
    lower.sum_duplicates()
    rows = np.repeat(np.arange(size, dtype=np.int64), np.diff(lower.indptr))
    # One key past the end, so that a search never leaves the array.
    keys = np.append(rows * size + lower.indices, np.iinfo(np.int64).max)
    entries = np.append(lower.data, 0).astype(np.result_type(lower.data, np.float64))
    values = np.zeros(pattern.nnz, entries.dtype)
    for length in np.unique(lengths):
        members = np.flatnonzero(lengths == length)
        step = max(1, _BATCH // int(length) ** 2)
        for begin in range(0, len(members), step):
            batch = members[begin : begin + step]
            slots = pattern.indptr[batch][:, None] + np.arange(length)
            columns = pattern.indices[slots].astype(np.int64)
            high = np.maximum(columns[:, :, None], columns[:, None, :])
            low = np.minimum(columns[:, :, None], columns[:, None, :])
            found = np.searchsorted(keys, high * size + low)
            local = np.where(keys[found] == high * size + low, entries[found], 0)
            # Only the lower triangle was looked up; above it stands its conjugate.
            local = np.where(columns[:, :, None] >= columns[:, None, :], local, 0)
            strict = np.where(np.eye(length, dtype=bool), 0, local)
            local = local + strict.conj().swapaxes(1, 2)
            unit = np.zeros((len(batch), length, 1))
            unit[:, -1] = 1
            solved = np.linalg.solve(local, unit)[:, :, 0]
            pivot = solved[:, -1].real
            if not (pivot > 0).all():
                worst = int(batch[np.argmin(pivot)])
                raise ValueError(
                    "operator: FSAI needs a positive definite A, but a principal "
                    f"submatrix around row {worst} is not. If A is symmetric "
                    "indefinite use sciml.linear.MINRES without it."
                )
            # Row i of G is the adjoint of the solution.
            values[slots] = solved.conj() / np.sqrt(pivot)[:, None]
    return sp.csr_matrix((values, pattern.indices, pattern.indptr), matrix.shape)
