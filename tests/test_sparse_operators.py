"""Sparse operators against dense matrices, under every transform."""

# Wrong arguments are the point here, and NumPy takes JAX scalars.
# pyright: reportArgumentType=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.sparse as sp
from linear_cases import PSD
from sparse_cases import (
    CASES,
    TABLE,
    case,
    dense_row,
    diagonals,
    hermitian,
    lower_diagonals,
    numbers,
    square,
    wide,
)

import sciml
from sciml.linear import DiagonalsOperator, PaddedRowsOperator, from_scipy, to_scipy
from sciml.linear._padded_rows import bucket_widths


def close(actual, expected):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    scale = np.abs(expected).max(initial=0)
    bound = 50 * np.finfo(expected.dtype).eps * scale
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)


@pytest.mark.sampled(5)
@CASES
def test_protocol_and_transforms(make, dtype):
    operator, matrix = case(make, dtype)
    num_rows, num_columns = matrix.shape
    is_square = num_rows == num_columns
    v, dv = (numbers((num_columns,), dtype, k) for k in (1, 2))
    w = numbers((num_rows,), dtype, 3)
    stack = numbers((3, num_columns), dtype, 4)

    # One program: compiling is what takes time here.
    @eqx.filter_jit
    def everything(operator, v, dv, w, stack):
        turned = operator.transpose()
        return {
            "mv": operator.mv(v),
            "jvp": jax.jvp(operator.mv, (v,), (dv,))[1],
            "vjp": jax.vjp(operator.mv, v)[1](w)[0],
            "linear_transpose": jax.linear_transpose(operator.mv, v)(w)[0],
            "transpose": turned.mv(w),
            "vmap": jax.vmap(operator.mv)(stack),
            "arithmetic": (2.0 * operator + operator).mv(v),
        }, {
            "as_matrix": operator.as_matrix(),
            "dense transpose": turned.as_matrix(),
            "transpose twice": turned.transpose().as_matrix(),
            "conj": lx.conj(operator).as_matrix(),
            "diagonal": lx.diagonal(operator),
            "diagonal_entries": operator.diagonal_entries(),
            "bands": lx.tridiagonal(operator) if is_square else None,
        }

    arguments = jax.tree.map(jnp.asarray, (v, dv, w, stack))
    products, entries = everything(operator, *arguments)
    expected = {
        "mv": matrix @ v,
        "jvp": matrix @ dv,
        "vjp": matrix.T @ w,
        "linear_transpose": matrix.T @ w,
        "transpose": matrix.T @ w,
        "vmap": stack @ matrix.T,
        "arithmetic": 3 * (matrix @ v),
    }
    for name, value in expected.items():
        close(products[name], value)
    # No arithmetic in these: every bit.
    bands = tuple(np.diag(matrix, k) for k in (0, -1, 1)) if is_square else None
    exact = {
        "as_matrix": matrix,
        "dense transpose": matrix.T,
        "transpose twice": matrix,
        "conj": matrix.conj(),
        "diagonal": np.diag(matrix),
        "diagonal_entries": np.diag(matrix),
        "bands": bands,
    }
    jax.tree.map(np.testing.assert_array_equal, entries, exact)


@CASES
def test_questions(make, dtype):
    operator, matrix = case(make, dtype)
    num_rows, num_columns = matrix.shape
    assert operator.in_structure() == jax.ShapeDtypeStruct((num_columns,), dtype)
    assert operator.out_structure() == jax.ShapeDtypeStruct((num_rows,), dtype)
    assert lx.materialise(operator) is operator and lx.linearise(operator) is operator
    assert lx.is_positive_semidefinite(operator) == (TABLE[make][1] == PSD)
    assert not lx.has_unit_diagonal(operator)
    assert not lx.is_negative_semidefinite(operator)
    if lx.is_symmetric(operator) and not np.issubdtype(dtype, np.complexfloating):
        assert operator.transpose() is operator


# --- derivatives with respect to the entries ------------------------------------------


@pytest.mark.parametrize("make", [diagonals, square, dense_row, wide])
def test_gradients_of_the_entries(make):
    """A product and a product with Aᵀ, against the dense matrix."""
    matrix = make(np.float64)
    coo = matrix.tocoo()
    v, w = numbers(matrix.shape[1:], float, 1), numbers(matrix.shape[:1], float, 2)
    v, w = jnp.asarray(v), jnp.asarray(w)

    def build(values):
        if make is diagonals:
            offsets, k = np.unique(coo.col - coo.row, return_inverse=True)
            table = jnp.zeros((len(offsets), len(v))).at[k, coo.row].set(values)
            return DiagonalsOperator(offsets.tolist(), table)
        return PaddedRowsOperator(coo.row, coo.col, values, coo.shape)

    def dense(values):
        return jnp.zeros(coo.shape).at[coo.row, coo.col].add(values)

    def sparse_loss(values):
        A = build(values)
        return jnp.sum(jnp.sin(w * A.mv(v))) + jnp.sum(jnp.cos(v * A.T.mv(w)))

    def dense_loss(values):
        A = dense(values)
        return jnp.sum(jnp.sin(w * (A @ v))) + jnp.sum(jnp.cos(v * (A.T @ w)))

    values = jnp.asarray(coo.data)
    expected = jax.jit(jax.grad(dense_loss))(values)
    np.testing.assert_allclose(
        jax.jit(jax.grad(sparse_loss))(values), expected, atol=1e-12
    )


def test_padding_has_no_derivative():
    """A step of training must change A and its transpose alike."""
    operator, _ = case(square, np.float64)
    v = jnp.asarray(numbers((14,), float))

    @eqx.filter_jit
    def step(operator):
        grads = eqx.filter_grad(lambda A: jnp.sum(A.mv(v) ** 2))(operator)
        return eqx.apply_updates(operator, jax.tree.map(lambda g: -0.1 * g, grads))

    stepped = step(operator)
    before, after = to_scipy(operator), to_scipy(stepped)
    np.testing.assert_array_equal(stepped.as_matrix(), after.toarray())
    np.testing.assert_array_equal(stepped.T.as_matrix(), after.toarray().T)
    assert abs(after - before).max() > 0.1
    np.testing.assert_array_equal(before.indices, after.indices)


def test_gradient_of_a_solve():
    """The implicit derivative for the entries, against the dense formula."""
    matrix = hermitian(np.float64)
    coo = matrix.tocoo()
    n = matrix.shape[0]
    b, g = jnp.asarray(numbers((n,), float, 1)), numbers((n,), float, 2)

    @eqx.filter_jit
    @jax.grad
    def gradient(values):
        A = PaddedRowsOperator(coo.row, coo.col, values, coo.shape, PSD)
        solution = sciml.linear_solve(A, b, sciml.CG(rtol=1e-12))
        return jnp.vdot(jnp.asarray(g), solution.value)

    dense = matrix.toarray()
    adjoint, x = np.linalg.solve(dense, g), np.linalg.solve(dense, b)
    found = gradient(jnp.asarray(coo.data))
    np.testing.assert_allclose(found, -adjoint[coo.row] * x[coo.col], atol=1e-9)


# --- layout ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lengths, widths",
    [
        ([5] * 9, [5]),
        ([0, 0, 0], [0]),
        ([4, 5, 5, 5, 5], [5]),
        ([2] * 50 + [100], [2, 100]),
        ([0] * 9 + [3], [0, 3]),
        ([1] * 40 + [10] * 10 + [50], [1, 10, 50]),
    ],
)
def test_buckets(lengths, widths):
    assert bucket_widths(np.array(lengths)) == widths


def padded_entries(lengths, widths):
    return np.array(widths)[np.searchsorted(widths, lengths)].sum()


def test_padding_is_bounded():
    rng = np.random.default_rng(0)
    for lengths in (rng.poisson(7, 2000), rng.integers(0, 60, 2000)):
        widths = bucket_widths(lengths)
        assert len(widths) <= 6 and widths[-1] == lengths.max()
        assert padded_entries(lengths, widths) <= 1.2 * lengths.sum()
        # One fewer would not do.
        best = best_widths(lengths, len(widths) - 1) if len(widths) < 5 else None
        if best is not None:
            assert padded_entries(lengths, best) > 1.2 * lengths.sum()


def best_widths(lengths, count):
    """By trying all."""
    *inner, longest = np.unique(lengths)
    choices = ([*c, longest] for c in itertools.combinations(inner, count - 1))
    return min(choices, key=lambda widths: padded_entries(lengths, widths))


def test_six_buckets_are_the_best_six():
    lengths = np.repeat(2 ** np.arange(11), 2 ** np.arange(10, -1, -1))
    widths = bucket_widths(lengths)
    assert padded_entries(lengths, widths) == padded_entries(
        lengths, best_widths(lengths, 6)
    )
    assert len(widths) == 6 and padded_entries(lengths, widths) > 1.2 * lengths.sum()


def test_blocks_hold_what_the_buckets_say():
    operator, matrix = case(dense_row, np.float64)
    lengths = np.count_nonzero(matrix, axis=1)
    slots = sum(values.size for values in operator.values)
    assert slots == padded_entries(lengths, bucket_widths(lengths))
    assert slots <= 1.2 * lengths.sum()
    ring = sp.csr_matrix(np.roll(np.eye(5), 2, 1) + np.eye(5)[::-1])
    even = PaddedRowsOperator(*sp.find(ring)[:2], np.ones(9), (5, 5))
    assert [values.shape for values in even.values] == [(2, 5)]


def test_nan_stays_where_it_is():
    """An entry or a component that is NaN must not spread through the padding."""
    matrix = square(np.float64)
    row = int(np.argmax(np.diff(matrix.indptr)))
    matrix.data[matrix.indptr[row]] = np.nan
    operator = from_scipy(matrix)
    out = np.asarray(operator.mv(jnp.ones(14)))
    np.testing.assert_array_equal(np.isnan(out), np.arange(14) == row)
    clean, dense = case(square, np.float64)
    out = np.asarray(clean.mv(jnp.ones(14).at[3].set(jnp.nan)))
    np.testing.assert_array_equal(np.isnan(out), dense[:, 3] != 0)


def test_the_transpose_of_a_symmetric_operator_costs_nothing():
    assert case(hermitian, np.float64)[0]._other is None
    # Hermitian is not symmetric: the transpose is the conjugate.
    operator, matrix = case(hermitian, np.complex128)
    assert lx.is_positive_semidefinite(operator.T)
    np.testing.assert_array_equal(operator.T.as_matrix(), matrix.conj())


def test_tags():
    lower, _ = case(lower_diagonals, np.float64)
    assert lx.is_lower_triangular(lower) and not lx.is_upper_triangular(lower)
    assert lx.is_upper_triangular(lower.T) and not lx.is_lower_triangular(lower.T)
    matrix = sp.diags([-1.0, 3.0, -1.0], [-1, 0, 1], shape=(6, 6))
    line = from_scipy(matrix)
    assert lx.is_tridiagonal(line) and not lx.is_diagonal(line)
    b = np.arange(6.0)
    solution = lx.linear_solve(line, jnp.asarray(b), lx.AutoLinearSolver(True))
    np.testing.assert_allclose(matrix @ np.asarray(solution.value), b, atol=1e-12)
    assert lx.is_diagonal(DiagonalsOperator([0], jnp.ones((1, 3))))
    triangle = sp.csr_matrix(np.tril(np.ones((4, 4))))
    triangle.resize(9, 9)
    rows = from_scipy(triangle, lx.lower_triangular_tag)
    assert isinstance(rows, PaddedRowsOperator) and lx.is_upper_triangular(rows.T)


# --- matrices of others ---------------------------------------------------------------


@pytest.mark.parametrize(
    "name, plain, jacobi",
    [("494_bus", 1134, 393), ("662_bus", 560, 197), ("nos5", 406, 216)],
)
def test_suitesparse(data_folder, name, plain, jacobi):
    """CG needs the steps that an independent code needs, for b = A·1 to 1e-8."""
    matrix = sp.load_npz(data_folder / "matrices" / f"{name}.npz")
    A = from_scipy(matrix, PSD)
    b = jnp.asarray(matrix @ np.ones(len(matrix.indptr) - 1))
    solver = sciml.CG(rtol=1e-8, atol=0.0, max_steps=2000)
    for builder, steps in ((None, plain), (sciml.preconditioners.Jacobi(), jacobi)):
        solution = sciml.linear_solve(A, b, solver, preconditioner=builder)
        residual = b - matrix @ np.asarray(solution.value)
        assert np.linalg.norm(residual) <= 1e-8 * np.linalg.norm(b)
        # Rounding moves these counts: renumbering the unknowns alone makes 1131 to 1157
        # of the 1134, and 551 to 566 of the 560.
        assert abs(int(solution.stats["num_steps"]) - steps) <= max(2, 0.03 * steps)
