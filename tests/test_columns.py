"""Many right-hand sides: what vmap gives, and no harm done to neighbours."""

# Wrong arguments are the point here.
# pyright: reportArgumentType=false

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
import numpy as np
import pytest
from linear_cases import PSD, matrix_operator, spd_matrix

import sciml
from sciml.grids import Grid
from sciml.linear import (
    CG,
    GMRES,
    ColumnsOperator,
    PaddedRowsOperator,
    diffusion_operator,
    linear_solve,
    linear_solve_many,
    to_scipy,
)
from sciml.preconditioners import Jacobi, Multigrid

GRID = Grid((9, 8))
A = diffusion_operator(1.0, GRID)


def vectors(count=5):
    return jr.normal(jr.key(0), (count, 9, 8))


@eqx.filter_jit
def one_by_one(operator, b, M, solver):
    solve = lambda b: linear_solve(operator, b, solver, preconditioner=M, throw=False)
    return jax.vmap(solve)(b)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("block_size", [1, 2, 5])
@pytest.mark.parametrize("M", [None, Multigrid()], ids=["none", "multigrid"])
def test_as_vmap(block_size, M):
    """Zero, tiny, and broken right-hand sides among the others."""
    b = vectors().at[1].set(0.0).at[2].multiply(1e-100).at[3, 4, 4].set(jnp.nan)
    expected = one_by_one(A, b, M, CG(rtol=1e-9))
    found = linear_solve_many(
        A, b, CG(rtol=1e-9), preconditioner=M, block_size=block_size, throw=False
    )
    # The preconditioner is one for all.
    assert ("preconditioner" in expected.stats) == (M is not None)
    expected.stats.pop("preconditioner", None)
    assert jax.tree_util.tree_structure(found) == jax.tree_util.tree_structure(expected)
    assert (found.result == expected.result).tolist() == [True] * 5
    assert (found.result == sciml.RESULTS.nonfinite).tolist() == [0, 0, 0, 1, 0]
    scale = jnp.where(jnp.arange(5) == 2, 1e-100, 1.0)[:, None, None]
    np.testing.assert_allclose(
        found.value / scale, expected.value / scale, rtol=1e-10, atol=1e-14
    )
    for key, values in expected.stats.items():
        assert found.stats[key].shape == values.shape, key
    for key in ("num_steps", "num_restarts", "max_steps"):
        np.testing.assert_array_equal(found.stats[key], expected.stats[key])
    good = np.array([0, 2, 4])
    np.testing.assert_allclose(
        found.stats["residual_history"][good],
        expected.stats["residual_history"][good],
        rtol=1e-3,
    )


def test_blocks_are_chosen_for_sparse_rows():
    coo = to_scipy(A).tocoo()
    rows = PaddedRowsOperator(coo.row, coo.col, coo.data, (72, 72), PSD)
    b = vectors(3).reshape(3, 72)
    M = Jacobi()
    found = linear_solve_many(rows, b, CG(rtol=1e-9), preconditioner=M)
    expected = one_by_one(rows, b, M, CG(rtol=1e-9))
    np.testing.assert_allclose(found.value, expected.value, rtol=1e-8)
    general = linear_solve_many(rows, b, GMRES(rtol=1e-9))
    np.testing.assert_allclose(general.value, expected.value, rtol=1e-6)


def test_structures_and_negative_operators():
    """A pytree of two arrays, and −A."""
    matrix = jnp.asarray(spd_matrix(7))

    def apply(x):
        flat = matrix @ jnp.concatenate([x["u"].ravel(), x["v"]])
        return {"u": flat[:4].reshape(2, 2), "v": flat[4:]}

    structure = jax.eval_shape(lambda: {"u": jnp.zeros((2, 2)), "v": jnp.zeros(3)})
    operator = lx.FunctionLinearOperator(apply, structure, PSD)
    b = {"u": jr.normal(jr.key(1), (3, 2, 2)), "v": jr.normal(jr.key(2), (3, 3))}
    for A, sign in ((operator, 1), (-operator, -1)):
        found = linear_solve_many(A, b, CG(rtol=1e-11), block_size=3)
        flat = jnp.concatenate([b["u"].reshape(3, 4), b["v"]], axis=1)
        expected = sign * np.linalg.solve(matrix, flat.T).T
        got = np.concatenate([found.value["u"].reshape(3, 4), found.value["v"]], 1)
        np.testing.assert_allclose(got, expected, rtol=1e-8)


def test_derivatives():
    b = vectors(3)

    def energy(a, b, block_size):
        A = diffusion_operator(a, GRID)
        solver = CG(rtol=1e-12)
        return jnp.sum(
            linear_solve_many(A, b, solver, block_size=block_size).value ** 2
        )

    a = jnp.ones((9, 8))
    grad = eqx.filter_jit(jax.grad(energy, argnums=(0, 1)))
    for got, expected in zip(grad(a, b, 3), grad(a, b, 1), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-12)
    step = jr.normal(jr.key(3), a.shape)
    value = eqx.filter_jit(energy)
    slope = (value(a + 1e-6 * step, b, 3) - value(a - 1e-6 * step, b, 3)) / 2e-6
    assert jnp.isclose(jnp.sum(grad(a, b, 3)[0] * step), slope, rtol=1e-5)


def test_columns_operator():
    wide = ColumnsOperator(matrix_operator(spd_matrix(3)), 2)
    np.testing.assert_allclose(wide.as_matrix(), np.kron(spd_matrix(3), np.eye(2)))
    assert lx.is_positive_semidefinite(wide) and lx.is_symmetric(wide.transpose())


def test_mistakes():
    with pytest.raises(ValueError, match="common first axis"):
        linear_solve_many(A, jnp.ones(()))
    with pytest.raises(ValueError, match="expected shape"):
        linear_solve_many(A, jnp.ones((3, 8, 9)))
    with pytest.raises(ValueError, match="block_size"):
        linear_solve_many(A, vectors(), block_size=0)
    with pytest.raises(ValueError, match="GMRES"):
        linear_solve_many(A, vectors(), GMRES(), block_size=2)
    with pytest.raises(Exception, match="max_steps|maximum"):
        linear_solve_many(A, vectors(), CG(rtol=1e-12, max_steps=2))
