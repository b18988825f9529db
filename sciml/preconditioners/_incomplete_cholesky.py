"""Incomplete Cholesky factorisation on A's own pattern."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import lineax as lx
import numpy as np

from ..linear import AbstractPreconditioner, SymmetricOperator
from ._host import Matrix, flat_operator, host_matrix
from ._triangular import (
    AbstractTriangularFactor,
    AbstractTriangularSolve,
    JacobiSweeps,
)

# The fixed-point sweeps reach the factor exactly, in as many as the longest chain of
# rows; they are there but for rounding long before.
_MAX_SWEEPS = 200
_CONVERGED = 1e-10
# A pivot below this fraction of the diagonal is no pivot.
_MIN_PIVOT = 1e-6
_FIRST_SHIFT = 1e-3
# Pairs of entries that may meet: a matrix with more of them is not sparse.
_MAX_PAIRS = 200_000_000


class IncompleteCholesky(AbstractPreconditioner):
    """M = (L Lᴴ)⁻¹, L the incomplete Cholesky factor on the pattern of A: IC(0).

        (L Lᴴ)_ij = A_ij wherever A_ij ≠ 0,  L_ij = 0 elsewhere

    All entries of L are found at once, by sweeps of the fixed-point iteration that
    these equations are, on the host; `solve` says how L is applied on the device. M is
    symmetric positive definite whatever L is. Where a pivot breaks down (not for
    M-matrices, as those of diffusion are), A + α diag(A) is factorised instead, α =
    1e-3, 2e-3, 4e-3, …: `stats["preconditioner"]["shift"]` says which.

    The number of CG steps falls by about three against Jacobi, and still doubles with
    each refinement of a mesh: for diffusion multigrid is faster. For anything sparse
    that multigrid does not suit.

    **Arguments:**

    - `solve`: `JacobiSweeps(3)` (default) or `LevelSchedule()`, the exact triangular
        solves.

    **Raises:** `TypeError` for an operator whose entries are not known, or are traced;
    `ValueError` for a diagonal that is not positive, or a matrix that is not sparse.

    !!! example

        ```python
        import jax.numpy as jnp
        import sciml

        A = sciml.linear.diffusion_operator(1.0, sciml.grids.Grid((31, 31)))
        M = sciml.preconditioners.IncompleteCholesky().build(A)
        solution = sciml.linear_solve(
            A, jnp.ones((31, 31)), sciml.CG(rtol=1e-4), preconditioner=M
        )
        ```

    Source: Meijerink & van der Vorst, Math. Comp. 31 (1977) 148; Manteuffel, Math.
    Comp. 34 (1980) 473 (the shift); Chow & Patel, SIAM J. Sci. Comput. 37 (2015) C169
    (the sweeps).
    """

    solve: AbstractTriangularSolve = JacobiSweeps(3)

    on_host: ClassVar[bool] = True

    def build(self, operator: lx.AbstractLinearOperator) -> SymmetricOperator:
        """(L Lᴴ)⁻¹ for this operator, as a lineax operator."""
        matrix = host_matrix(self, operator)
        lower, shift = incomplete_cholesky(matrix)
        factor = self.solve.build(lower, matrix.dtype)
        facts = {"shift": jnp.asarray(shift, jnp.result_type(float))}
        return flat_operator(FactorInverse(factor), operator, facts)


class FactorInverse(eqx.Module):
    """r ↦ L⁻ᴴ L⁻¹ r."""

    factor: AbstractTriangularFactor

    def __call__(self, vector):
        return self.factor.adjoint_solve(self.factor.solve(vector))


def incomplete_cholesky(matrix: Matrix) -> tuple[Matrix, float]:
    """The factor L of a SciPy CSR matrix, and the shift α that it needed.

    The matrix is Hermitian with a positive diagonal; its upper part is not read.
    """
    import scipy.sparse as sp

    scale = 1.0 / np.sqrt(matrix.diagonal().real)
    lower: Matrix = sp.tril(matrix, -1, format="csr")
    lower.sum_duplicates()
    rows = np.repeat(np.arange(lower.shape[0]), np.diff(lower.indptr))
    columns = lower.indices.astype(np.int64)
    # In double precision: the sweeps multiply rounding errors, not the factor's.
    entries = lower.data * (scale[rows] * scale[columns])
    entries = entries.astype(np.result_type(entries.dtype, np.float64))
    pattern = _Pattern(rows, columns, lower.shape[0])
    shift = 0.0
    while True:
        found = _sweeps(pattern, entries / (1.0 + shift))
        if found is not None:
            break
        shift = max(_FIRST_SHIFT, 2 * shift)
    strict, pivots = found
    size = np.sqrt((1.0 + shift) * matrix.diagonal().real)
    diagonal = sp.diags_array(np.sqrt(pivots) * size)
    factor = sp.csr_matrix((strict * size[rows], (rows, columns)), lower.shape)
    factor = (factor + diagonal).tocsr()
    factor.sort_indices()
    return factor, shift


class _Pattern:
    """The strict lower triangle: positions, row starts, and which entries meet.

    Entry (i, j) is reduced by L_ik · conj(L_jk) for every k < j in both rows.
    """

    def __init__(self, rows: np.ndarray, columns: np.ndarray, size: int):
        self.rows, self.columns, self.size = rows, columns, size
        counts = np.bincount(rows, minlength=size)
        starts = np.cumsum(counts) - counts
        self.filled = np.flatnonzero(counts)
        self.row_starts = starts[self.filled]
        # All entries (j, k) of row j for each entry (i, j); is (i, k) one, too?
        partners = counts[columns]
        if partners.sum() > _MAX_PAIRS:
            raise ValueError(
                "operator: IncompleteCholesky would compare more than "
                f"{_MAX_PAIRS:.0e} pairs of entries: A has rows that are nearly full. "
                "Use DirectFactorisation, or Jacobi."
            )
        entry = np.repeat(np.arange(len(rows)), partners)
        within = np.arange(len(entry)) - np.repeat(
            np.cumsum(partners) - partners, partners
        )
        second = starts[columns[entry]] + within
        keys = rows * size + columns
        wanted = rows[entry] * size + columns[second]
        first = np.searchsorted(keys, wanted)
        first = np.minimum(first, max(len(keys) - 1, 0))
        met = keys[first] == wanted if len(keys) else np.zeros(0, bool)
        entry, self.first, self.second = entry[met], first[met], second[met]
        self.reduced, self.starts = np.unique(entry, return_index=True)


def _sweeps(pattern: _Pattern, entries: np.ndarray):
    """L with unit-diagonal A: its strict entries and squared diagonal, or None."""
    pivots = np.ones(pattern.size)
    strict = entries.copy()
    clamped = np.zeros(0, bool)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(_MAX_SWEEPS):
            sums = entries.copy()
            if len(pattern.reduced):
                products = strict[pattern.first] * strict[pattern.second].conj()
                sums[pattern.reduced] -= np.add.reduceat(products, pattern.starts)
            new = sums / np.sqrt(pivots[pattern.columns])
            squares = np.ones(len(pivots))
            if len(pattern.filled):
                squares[pattern.filled] -= np.add.reduceat(
                    abs(new) ** 2, pattern.row_starts
                )
            if not np.isfinite(squares).all():
                return None
            clamped = squares < _MIN_PIVOT
            squares = np.maximum(squares, _MIN_PIVOT)
            change = max(
                abs(new - strict).max(initial=0.0), abs(squares - pivots).max()
            )
            strict, pivots = new, squares
            if change <= _CONVERGED * max(1.0, abs(strict).max(initial=0.0)):
                break
        else:
            return None
    return None if clamped.any() else (strict, pivots)
