"""Sparse matrices from SciPy to operators, and operators back to SciPy."""

from collections.abc import Callable
from typing import Any

import jax
import jax.flatten_util as jfu
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import DTypeLike

from ._diagonal_operator import DiagonalsOperator
from ._ell_operator import PaddedRowsOperator
from ._padded_rows import PaddedRows, padded_rows
from ._stencil_operator import StencilOperator

# `scipy.sparse` is imported where it is used: it adds to the filters of warnings, which
# importing sciml must not. Hence its classes are `Any` in the annotations.
SparseMatrix = Any
# Rows, columns and values.
Triplets = tuple[np.ndarray, np.ndarray, np.ndarray]

# A stored zero of DIA costs less than an entry of ELL, which comes with its column.
_MAX_FILL = 1.5
# Each diagonal is a term of the compiled program.
_MAX_DIAGONALS = 64
_SYMMETRY_TOLERANCE = 1e-8


def from_scipy(
    matrix: SparseMatrix,
    tags: object | frozenset[object] = frozenset(),
    *,
    dtype: DTypeLike | None = None,
) -> DiagonalsOperator | PaddedRowsOperator:
    """A SciPy sparse matrix as an operator that runs under every JAX transform.

    A square matrix whose entries fill at most 64 diagonals well (diagonals · n at most
    1.5 times the number of entries), as those of regular grids do, becomes a
    `DiagonalsOperator` (DIA), every other one a `PaddedRowsOperator` (ELL). Host only:
    call it outside `jit`, once per matrix.

    Entries that are NaN or infinite are let through: a solve reports them.

    **Arguments:**

    - `matrix`: any format of SciPy sparse matrix or array, two-dimensional; left as it
        is. Duplicate entries are added up.
    - `tags`: lineax tags, as one tag or a frozenset; default none. Where they say
        symmetric, positive or negative semidefinite, symmetry (A = Aᴴ) is checked, to
        1e-8 max|A| or eight rounding units of the matrix's type, whichever is more.
        Definiteness is not: a solve reports that.
    - `dtype`: of the operator. Default: the matrix's type; integers and booleans become
        JAX's default float, and without `jax_enable_x64` double precision becomes
        single, as with `jax.numpy.asarray`.

    **Raises:** `TypeError` if `matrix` is not a SciPy sparse matrix; `ValueError` if it
    is not two-dimensional or empty, if the tags claim a symmetry that it does not have,
    or if `dtype` cannot hold its entries.

    !!! example

        ```python
        import jax.numpy as jnp
        import lineax as lx
        import scipy.sparse as sp
        import sciml

        csr = sp.diags([-1.0, 2.0, -1.0], [-1, 0, 1], shape=(9, 9)).tocsr()
        A = sciml.linear.from_scipy(csr, lx.positive_semidefinite_tag)
        solution = sciml.linear_solve(A, jnp.ones(9), sciml.CG(rtol=1e-5))
        solution.value[4]  # 12.5
        ```
    """
    import scipy.sparse as sp

    if not sp.issparse(matrix):
        raise TypeError(
            f"matrix: expected a SciPy sparse matrix, got {type(matrix).__name__}. "
            "Wrap a dense one in scipy.sparse.csr_matrix, or use "
            "lineax.MatrixLinearOperator."
        )
    if len(matrix.shape) != 2 or min(matrix.shape) < 1:
        raise ValueError(
            "matrix: expected two dimensions with at least one row and one column, got "
            f"shape {matrix.shape}."
        )
    size, num_columns = matrix.shape
    tags = tags if isinstance(tags, frozenset) else frozenset([tags])
    # (A copy: adding up duplicates works in place.)
    csr = sp.csr_matrix(matrix, copy=True)
    csr.sum_duplicates()
    symmetric = {
        lx.symmetric_tag,
        lx.positive_semidefinite_tag,
        lx.negative_semidefinite_tag,
    }
    if tags & symmetric:
        _check_symmetry(csr, (size, num_columns))
    target = _target_dtype(csr.dtype, dtype)
    values = csr.data.astype(target)

    diagonals = _diagonals(csr, values)
    if diagonals is not None:
        offsets, table = diagonals
        return DiagonalsOperator(offsets, table, tags)
    rows = np.repeat(np.arange(size), np.diff(csr.indptr))
    return PaddedRowsOperator(rows, csr.indices, values, (size, num_columns), tags)


def product_of(
    matrix: SparseMatrix, dtype: DTypeLike
) -> DiagonalsOperator | PaddedRows:
    """Something with `mv` for matrices that are only multiplied with, made fast.

    `from_scipy` without its checks and without Aᵀ; for a CSR matrix with sorted
    indices, as set-ups on the host make many.
    """
    diagonals = _diagonals(matrix, matrix.data.astype(dtype))
    if diagonals is not None:
        offsets, table = diagonals
        return DiagonalsOperator(offsets, table)
    return padded_rows(matrix, dtype)


def _diagonals(
    csr: SparseMatrix, values: np.ndarray
) -> tuple[list[int], np.ndarray] | None:
    """Offsets and table of a matrix that DIA suits, else None."""
    size, num_columns = csr.shape
    if size != num_columns:
        return None
    most = min(_MAX_DIAGONALS, _MAX_FILL * csr.nnz / size)
    # (Most that do not fit show it in their first rows.)
    for some in (min(size, 512), size):
        starts = csr.indptr[: some + 1]
        rows = np.repeat(np.arange(some), np.diff(starts))
        shifted = csr.indices[: starts[-1]] - rows + (size - 1)
        present = np.bincount(shifted, minlength=2 * size - 1) > 0
        if np.count_nonzero(present) > most:
            return None
    table = np.zeros((np.count_nonzero(present), size), values.dtype)
    number = np.cumsum(present) - 1
    table[number[shifted], rows] = values
    return (np.flatnonzero(present) - (size - 1)).tolist(), table


def to_scipy(operator: lx.AbstractLinearOperator) -> SparseMatrix:
    """An operator's entries as a SciPy CSR matrix, for other libraries and checks.

    Rows and columns are those of the flattened vectors: fields of a grid in C order.
    Zeros that `DiagonalsOperator`, stencils and dense matrices store are left out. Host
    only: call it outside `jit`.

    **Arguments:**

    - `operator`: a `DiagonalsOperator`, `PaddedRowsOperator`, `StencilOperator`,
        `lineax.DiagonalLinearOperator` or `lineax.MatrixLinearOperator`, or one of them
        in a `lineax.TaggedLinearOperator`.

    **Returns:** a `scipy.sparse.csr_matrix` of the operator's dtype, indices sorted.

    **Raises:** `TypeError` for other operators, whose entries are not at hand.

    !!! example

        ```python
        import sciml

        A = sciml.linear.diffusion_operator(1.0, sciml.grids.Grid((3, 3)))
        sciml.linear.to_scipy(A).nnz  # 33
        ```
    """
    if isinstance(operator, lx.TaggedLinearOperator):
        return to_scipy(operator.operator)
    for kind, convert in _CONVERSIONS.items():
        if isinstance(operator, kind):
            import scipy.sparse as sp

            rows, columns, values = convert(operator)
            shape = (operator.out_size(), operator.in_size())
            csr = sp.csr_matrix((values, (rows, columns)), shape)
            csr.sort_indices()
            return csr
    names = ", ".join(kind.__name__ for kind in _CONVERSIONS)
    raise TypeError(
        f"operator: expected one whose entries are stored ({names}, or one of them "
        f"tagged), got {type(operator).__name__}. If it is small, pass "
        "lineax.MatrixLinearOperator(operator.as_matrix())."
    )


def _check_symmetry(csr: SparseMatrix, shape: tuple[int, int]) -> None:
    if shape[0] != shape[1]:
        raise ValueError(
            f"tags: claim a symmetric matrix, but its shape is {shape}; drop the tag."
        )
    if csr.nnz == 0:
        return
    import scipy.sparse as sp

    # NaN equals nothing, and does not say that a matrix is not symmetric.
    exact = csr if np.issubdtype(csr.dtype, np.inexact) else csr.astype(float)
    with np.errstate(invalid="ignore"):
        difference = sp.coo_matrix(exact - exact.conj().T)
        sizes = np.nan_to_num(abs(difference.data), nan=0.0, posinf=np.inf)
    units = 8 * float(np.finfo(exact.dtype).eps)
    largest = np.fmax.reduce(abs(exact.data))
    if sizes.size and sizes.max() > max(_SYMMETRY_TOLERANCE, units) * largest:
        worst = int(np.argmax(sizes))
        i, j = int(difference.row[worst]), int(difference.col[worst])
        raise ValueError(
            f"tags: claim a symmetric (Hermitian) matrix, but A[{i}, {j}] = "
            f"{csr[i, j]} and A[{j}, {i}] = {csr[j, i]}. Pass (A + A.conj().T) / 2 if "
            "that is only rounding; drop the tag otherwise."
        )


def _target_dtype(held: np.dtype, dtype: DTypeLike | None) -> np.dtype:
    """The operator's type for a matrix that holds another."""
    if dtype is not None:
        wanted = jnp.dtype(dtype)
        if not jnp.issubdtype(wanted, jnp.inexact):
            raise ValueError(
                f"dtype: expected a real or complex floating-point type, got {wanted}."
            )
        if np.issubdtype(held, np.complexfloating) and not jnp.issubdtype(
            wanted, jnp.complexfloating
        ):
            raise ValueError(
                f"dtype: {wanted} would drop the imaginary parts of a {held} matrix; "
                "ask for a complex type, or pass matrix.real."
            )
        return wanted
    if np.issubdtype(held, np.complexfloating):
        wanted = min(held, np.dtype(complex))
    elif np.issubdtype(held, np.floating):
        wanted = min(held, np.dtype(float))
    else:
        wanted = np.dtype(float)
    return jax.dtypes.canonicalize_dtype(wanted)


def _of_diagonals(operator: DiagonalsOperator) -> Triplets:
    values = np.asarray(operator.values)
    size = values.shape[1]
    rows = np.broadcast_to(np.arange(size), values.shape)
    columns = rows + np.reshape(operator.offsets, (-1, 1)).astype(int)
    keep = (values != 0) & (columns >= 0) & (columns < size)
    return rows[keep], columns[keep], values[keep]


def _of_stencil(operator: StencilOperator) -> Triplets:
    stencil = operator.stencil
    index = np.arange(operator.in_size()).reshape(stencil.shape)
    entries = [(index, np.asarray(stencil.diagonal))]
    for offset in stencil.offsets:
        for shift in (offset, tuple(-k for k in offset)):
            # Edges that leave the box are zero, whatever they are wrapped to.
            neighbour = np.roll(index, [-k for k in shift], range(index.ndim))
            entries.append((neighbour, np.asarray(stencil.coupling(shift))))
    rows = np.tile(index.ravel(), len(entries))
    columns = np.concatenate([column.ravel() for column, _ in entries])
    values = np.concatenate([value.ravel() for _, value in entries])
    keep = values != 0
    return rows[keep], columns[keep], values[keep]


def _of_diagonal(operator: lx.DiagonalLinearOperator) -> Triplets:
    diagonal = np.asarray(jfu.ravel_pytree(operator.diagonal)[0])
    index = np.arange(len(diagonal))
    return index, index, diagonal


def _of_matrix(operator: lx.MatrixLinearOperator) -> Triplets:
    matrix = np.asarray(operator.matrix)
    rows, columns = np.nonzero(matrix)
    return rows, columns, matrix[rows, columns]


_CONVERSIONS: dict[type[lx.AbstractLinearOperator], Callable[[Any], Triplets]] = {
    DiagonalsOperator: _of_diagonals,
    PaddedRowsOperator: PaddedRowsOperator.triplets,
    StencilOperator: _of_stencil,
    lx.DiagonalLinearOperator: _of_diagonal,
    lx.MatrixLinearOperator: _of_matrix,
}
