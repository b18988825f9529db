"""Sparse matrices that the tests of sparse operators and of conversions share."""

import functools

import lineax as lx
import numpy as np
import pytest
import scipy.sparse as sp
from linear_cases import PSD

from sciml.linear import DiagonalsOperator, PaddedRowsOperator, from_scipy

DTYPES = [np.float32, np.float64, np.complex128]


def numbers(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    real, imaginary = rng.normal(size=(2, *shape))
    both = real + 1j * imaginary
    return (both if np.issubdtype(dtype, np.complexfloating) else real).astype(dtype)


def scattered(shape, dtype, density=0.25):
    """Entries anywhere, some rows without any."""
    mask = np.random.default_rng(1).uniform(size=shape) < density
    mask[[0, shape[0] // 2]] = False
    return sp.csr_matrix(np.where(mask, numbers(shape, dtype), 0).astype(dtype))


def diagonals(dtype):
    dense = np.zeros((12, 12), dtype)
    for k in (-9, -1, 0, 2):
        dense += np.diag(numbers((12 - abs(k),), dtype, 20 + k), k)
    return sp.csr_matrix(dense)


def hermitian_diagonals(dtype):
    lower = sp.tril(diagonals(dtype), -1)
    return (lower + lower.conj().T + 9 * sp.eye(12, dtype=dtype)).tocsr()


def lower_diagonals(dtype):
    return sp.tril(diagonals(dtype)).tocsr()


def one(dtype):
    return sp.csr_matrix(numbers((1, 1), dtype))


def empty(dtype):
    return sp.csr_matrix((4, 4), dtype=dtype)


def square(dtype):
    return scattered((14, 14), dtype)


def dense_row(dtype):
    """Longer than what is unrolled."""
    matrix = scattered((140, 140), dtype, 0.02).tolil()
    matrix[7] = numbers((140,), dtype, 5)
    return matrix.tocsr()


def wide(dtype):
    return scattered((6, 15), dtype)


def tall(dtype):
    return scattered((15, 6), dtype)


def empty_rectangle(dtype):
    return sp.csr_matrix((3, 2), dtype=dtype)


def hermitian(dtype):
    matrix = scattered((14, 14), dtype)
    return (matrix + matrix.conj().T + 20 * sp.eye(14, dtype=dtype)).tocsr()


TABLE = {
    diagonals: (DiagonalsOperator, frozenset()),
    hermitian_diagonals: (DiagonalsOperator, PSD),
    lower_diagonals: (DiagonalsOperator, lx.lower_triangular_tag),
    one: (DiagonalsOperator, frozenset()),
    empty: (DiagonalsOperator, frozenset()),
    square: (PaddedRowsOperator, frozenset()),
    dense_row: (PaddedRowsOperator, frozenset()),
    wide: (PaddedRowsOperator, frozenset()),
    tall: (PaddedRowsOperator, frozenset()),
    empty_rectangle: (PaddedRowsOperator, frozenset()),
    hermitian: (PaddedRowsOperator, PSD),
}
CASES = pytest.mark.parametrize(
    "make, dtype",
    [(make, dtype) for make in TABLE for dtype in DTYPES],
    ids=lambda case: case.__name__,
)


@functools.cache
def case(make, dtype):
    """An operator and its dense matrix."""
    matrix = make(dtype)
    kind, tags = TABLE[make]
    operator = from_scipy(matrix, tags)
    assert type(operator) is kind
    return operator, matrix.toarray()
