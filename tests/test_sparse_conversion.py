"""From SciPy and back, and what is refused."""

# Wrong arguments are the point here, and NumPy takes JAX scalars.
# pyright: reportArgumentType=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.sparse as sp
from linear_cases import PSD, boundaries
from sparse_cases import CASES, case, diagonals, hermitian, square, wide

from sciml.grids import Grid
from sciml.linear import (
    DiagonalsOperator,
    PaddedRowsOperator,
    diffusion_operator,
    from_scipy,
    to_scipy,
)


@CASES
def test_round_trip(make, dtype):
    operator, matrix = case(make, dtype)
    back, original = to_scipy(operator), make(dtype)
    original.sort_indices()
    assert back.format == "csr" and back.dtype == dtype
    assert back.shape == matrix.shape
    np.testing.assert_array_equal(back.indptr, original.indptr)
    np.testing.assert_array_equal(back.indices, original.indices)
    np.testing.assert_array_equal(back.data, original.data)


@pytest.mark.parametrize("format", ["csr", "csc", "coo", "dia", "lil", "dok", "bsr"])
def test_formats(format):
    for array in (sp.csr_matrix, sp.csr_array):
        matrix = array(square(np.float64)).asformat(format)
        dense = matrix.toarray()
        np.testing.assert_array_equal(from_scipy(matrix).as_matrix(), dense)
        np.testing.assert_array_equal(matrix.toarray(), dense)


def test_duplicates_add_up():
    triplets = (np.array([1.0, 2.0, 4.0]), ([0, 0, 1], [1, 1, 0]))
    matrix = sp.coo_matrix(triplets, (2, 2))
    operator = from_scipy(matrix)
    np.testing.assert_array_equal(operator.as_matrix(), [[0, 3], [4, 0]])
    assert matrix.nnz == 3
    by_hand = PaddedRowsOperator(*map(np.array, triplets[1]), triplets[0], (2, 2))
    np.testing.assert_array_equal(by_hand.as_matrix(), [[0, 3], [4, 0]])
    np.testing.assert_array_equal(to_scipy(by_hand).toarray(), [[0, 3], [4, 0]])


def test_types():
    matrix = square(np.float64)
    assert from_scipy(matrix.astype(np.float32)).in_structure().dtype == jnp.float32
    assert from_scipy(matrix.astype(np.int8)).in_structure().dtype == jnp.float64
    assert from_scipy(matrix != 0).in_structure().dtype == jnp.float64
    assert from_scipy(matrix.astype(np.longdouble)).in_structure().dtype == jnp.float64
    assert from_scipy(matrix, dtype=jnp.float32).in_structure().dtype == jnp.float32
    assert from_scipy(matrix, dtype=complex).in_structure().dtype == jnp.complex128
    with jax.enable_x64(False):
        assert from_scipy(matrix).in_structure().dtype == jnp.float32
        assert from_scipy(matrix.astype(int)).in_structure().dtype == jnp.float32


@pytest.mark.parametrize("kind", boundaries(2))
def test_stencils_to_scipy(kind):
    A = diffusion_operator(2.0, Grid((3, 4), boundary=boundaries(2)[kind]))
    np.testing.assert_allclose(to_scipy(A).toarray(), A.as_matrix(), rtol=1e-15)


def test_lineax_to_scipy():
    d = {"a": jnp.arange(1.0, 3.0), "b": jnp.array([5.0])}
    diagonal = lx.DiagonalLinearOperator(d)
    np.testing.assert_array_equal(to_scipy(diagonal).toarray(), np.diag([1.0, 2, 5]))
    dense = lx.MatrixLinearOperator(jnp.array([[0.0, 2.0], [3.0, 0.0], [0.0, 0.0]]))
    assert to_scipy(dense).nnz == 2 and to_scipy(dense).shape == (3, 2)
    tagged = lx.TaggedLinearOperator(from_scipy(hermitian(np.float64)), PSD)
    assert (to_scipy(tagged) != hermitian(np.float64)).nnz == 0
    with pytest.raises(TypeError, match="operator: expected.*NegLinearOperator"):
        to_scipy(-dense)


def test_symmetry_is_checked():
    matrix = hermitian(np.float64).tolil()
    matrix[3, 5] = 7.5
    matrix[5, 3] = 0.5
    matrix[2, 2] = np.nan
    for tag in (PSD, lx.symmetric_tag, lx.negative_semidefinite_tag):
        with pytest.raises(ValueError, match=r"A\[3, 5\] = 7.5 and A\[5, 3\] = 0.5"):
            from_scipy(matrix, tag)
    from_scipy(matrix)
    matrix[5, 3] = 7.5 * (1 + 1e-12)
    from_scipy(matrix, PSD)
    single = matrix.tocsr().astype(np.float32)
    single[5, 3] *= np.float32(1 + 3e-7)
    from_scipy(single, PSD)
    skew = sp.csr_matrix(np.array([[1, 1j], [1j, 1]]))
    with pytest.raises(ValueError, match="Hermitian"):
        from_scipy(skew, PSD)
    with pytest.raises(ValueError, match=r"tags: claim a symmetric.*\(6, 15\)"):
        from_scipy(wide(np.float64), PSD)
    with pytest.raises(ValueError, match=r"tags: claim a symmetric.*\(2, 3\)"):
        PaddedRowsOperator(np.array([0]), np.array([0]), np.ones(1), (2, 3), PSD)


INDEX = np.array([0, 1])
WRONG = {
    r"matrix: .*got ndarray": lambda: from_scipy(np.eye(3)),
    r"matrix: expected two.*\(0, 3\)": lambda: from_scipy(sp.csr_matrix((0, 3))),
    r"matrix: expected two.*\(4,\)": lambda: from_scipy(sp.coo_array(np.ones(4))),
    "dtype: .*int": lambda: from_scipy(square(float), dtype=int),
    "dtype: .*imaginary": lambda: from_scipy(square(complex), dtype=float),
    r"values: expected shape .*\(2, n\)": lambda: DiagonalsOperator(
        (0, 1), jnp.ones((3, 4))
    ),
    "values: .*int": lambda: DiagonalsOperator([0], jnp.ones((1, 4), int)),
    "offsets: expected distinct.*-3 and 3": lambda: DiagonalsOperator(
        [4], jnp.ones((1, 4))
    ),
    "offsets: expected distinct": lambda: DiagonalsOperator([1, 1], jnp.ones((2, 4))),
    "shape: expected two sizes": lambda: PaddedRowsOperator(
        INDEX, INDEX, np.ones(2), (0, 2)
    ),
    "rows: expected indices from 0 to 0.*0 to 1": lambda: PaddedRowsOperator(
        INDEX, INDEX, np.ones(2), (1, 2)
    ),
    "columns: expected integers": lambda: PaddedRowsOperator(
        INDEX, INDEX / 2, np.ones(2), (2, 2)
    ),
    "rows, columns, values: expected one length": lambda: PaddedRowsOperator(
        INDEX, INDEX, np.ones(3), (2, 2)
    ),
    "values: expected a real": lambda: PaddedRowsOperator(
        INDEX, INDEX, np.ones(2, int), (2, 2)
    ),
    r"vector: expected shape \(12,\)": lambda: case(diagonals, np.float64)[0].mv(
        jnp.ones(11)
    ),
    r"vector: expected shape \(15,\)": lambda: case(wide, np.float64)[0].mv(
        jnp.ones(2)
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments(message):
    with pytest.raises((ValueError, TypeError), match=message):
        WRONG[message]()
