"""Assembled finite-element systems as operators, against scikit-fem's own solves."""

# Wrong arguments are the point here, and NumPy takes JAX scalars.
# pyright: reportArgumentType=false, reportCallIssue=false

import sys

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.sparse as sp

import sciml
from sciml.linear import PaddedRowsOperator, from_skfem, to_scipy


@pytest.fixture(scope="module")
def fem():
    return pytest.importorskip("skfem")


@pytest.fixture(scope="module")
def system(fem):
    """−Δu = 1 with u = x + y² on the boundary: the basis, A, b and x."""
    from skfem.models.poisson import laplace, unit_load

    mesh = fem.MeshTri().refined(3).with_defaults()
    basis = fem.Basis(mesh, fem.ElementTriP2())
    x = basis.project(lambda p: p[0] + p[1] ** 2)
    return basis, laplace.assemble(basis), unit_load.assemble(basis), x


SIDES = ("left", "right", "top", "bottom")


@pytest.mark.parametrize("form", ["view", "array", "dictionary", "kept", "both"])
def test_the_same_as_scikit_fem(fem, system, form):
    basis, A, b, x = system
    view = basis.get_dofs()
    kept = basis.complement_dofs(view)
    arguments = {
        "view": {"D": view},
        "array": {"D": view.flatten()[::-1]},
        "dictionary": {"D": {side: basis.get_dofs(side) for side in SIDES}},
        "kept": {"I": kept},
        "both": {"I": kept, "D": view},
    }[form]
    operator, vector, expand = from_skfem(A, b, x=x, **arguments)
    assert isinstance(operator, PaddedRowsOperator)
    assert lx.is_positive_semidefinite(operator)
    AII, bI, _, I = fem.condense(A, b, x=x, D=view)
    np.testing.assert_array_equal(I, kept)
    np.testing.assert_allclose((to_scipy(operator) - AII).toarray(), 0, atol=1e-14)
    np.testing.assert_allclose(vector, bI, rtol=1e-12, atol=1e-15)
    expected = fem.solve(AII, bI, x, I)
    np.testing.assert_array_equal(expand(jnp.asarray(expected[I])), expected)
    if form == "view":
        solution = sciml.linear_solve(operator, vector, sciml.CG(rtol=1e-12))
        np.testing.assert_allclose(expand(solution.value), expected, rtol=1e-9)


MATRIX = sp.diags([-1.0, 2.0, -1.0], [-1, 0, 1], shape=(6, 6)).tocsr()
ENDS = np.array([0, 5])


def test_plain_matrices_need_no_scikit_fem(monkeypatch):
    monkeypatch.setitem(sys.modules, "skfem", None)
    x = np.array([1.0, np.nan, np.nan, np.nan, np.nan, 3.0])
    operator, vector, expand = from_skfem(MATRIX, np.zeros(6), D=ENDS, x=x)
    np.testing.assert_array_equal(vector, [1, 0, 0, 3])
    value = np.linalg.solve(operator.as_matrix(), vector)
    np.testing.assert_allclose(expand(jnp.asarray(value)), np.linspace(1, 3, 6))
    # Nothing eliminated: the system as it is.
    operator, vector, expand = from_skfem(MATRIX, np.arange(6.0))
    np.testing.assert_array_equal(operator.as_matrix(), MATRIX.toarray())
    np.testing.assert_array_equal(expand(vector), np.arange(6.0))
    empty, _, _ = from_skfem(MATRIX, np.zeros(6), D=[])
    np.testing.assert_array_equal(empty.as_matrix(), MATRIX.toarray())


def test_dtypes():
    x = np.full(6, 0.1)
    operator, vector, expand = from_skfem(
        MATRIX, np.ones(6), D=ENDS, x=x, dtype=jnp.float32
    )
    assert vector.dtype == operator.out_structure().dtype == jnp.float32
    assert expand(vector).dtype == jnp.float32
    shifted = MATRIX + 1j * sp.eye(6)
    operator, vector, expand = from_skfem(
        shifted, np.ones(6), D=ENDS, x=x, tags=frozenset()
    )
    assert vector.dtype == jnp.complex128 and not lx.is_symmetric(operator)
    np.testing.assert_allclose(operator.as_matrix(), shifted.toarray()[1:5, 1:5])
    with pytest.raises(ValueError, match="b, x: are complex, but the operator is fl"):
        from_skfem(MATRIX, 1j * np.ones(6), D=ENDS)


def test_transforms():
    """`expand` is an affine JAX function."""
    _, vector, expand = from_skfem(MATRIX, np.ones(6), D=ENDS, x=np.ones(6))
    batch = jnp.arange(8.0).reshape(2, 4)
    out = jax.jit(jax.vmap(expand))(batch)
    np.testing.assert_array_equal(out[:, 1:5], batch)
    np.testing.assert_array_equal(out[:, [0, 5]], np.ones((2, 2)))
    _, tangent = jax.jvp(expand, (vector,), (batch[1],))
    np.testing.assert_array_equal(tangent, np.pad(batch[1], 1))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"A": MATRIX.toarray()}, "A: expected a SciPy sparse matrix, got ndarray"),
        ({"A": MATRIX[:4]}, r"A: expected a square matrix, got shape \(4, 6\)"),
        ({"b": np.ones(5)}, r"b: expected shape \(6,\), as A has rows, got \(5,\)"),
        ({"x": np.ones((6, 1))}, r"x: expected shape \(6,\).*got \(6, 1\)"),
        ({"D": np.array([0, 6])}, "D: expected dofs from 0 to 5.*got 0 to 6"),
        ({"I": np.array([-1])}, "I: expected dofs from 0 to 5.*got -1"),
        ({"D": {"left": [7]}}, r"D\['left'\]: expected dofs from 0 to 5"),
        ({"D": np.arange(6) == 0}, r"D: expected numbers of.*np.flatnonzero\(mask\)"),
        ({"D": np.array([0.0])}, "D: expected numbers of dofs, integers .*float64"),
        ({"D": np.arange(3), "I": np.arange(2, 6)}, "D, I: expected no dof in both.*2"),
        ({"D": [0], "I": [1, 2]}, "D, I: expected every dof in one .* but 3 of 6 are"),
        ({"D": np.arange(6)}, "D, I: leave none of the 6 dofs free"),
        ({"A": sp.triu(MATRIX)}, "tags: claim a symmetric"),
    ],
)
def test_mistakes(arguments, message):
    arguments = {"A": MATRIX, "b": np.ones(6)} | arguments
    with pytest.raises((ValueError, TypeError), match=message):
        from_skfem(arguments.pop("A"), arguments.pop("b"), **arguments)


def test_a_value_per_free_dof():
    _, _, expand = from_skfem(MATRIX, np.ones(6), D=ENDS)
    with pytest.raises(ValueError, match=r"u: expected shape \(4,\), .* got \(6,\)"):
        expand(jnp.ones(6))
