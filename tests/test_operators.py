"""Our operators keep every promise of a lineax operator, under every transform."""

# Wrong arguments are the point here, and NumPy takes JAX scalars.
# pyright: reportArgumentType=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false

import functools
from typing import Any

import equinox as eqx
import jax
import jax.flatten_util as jfu
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from linear_cases import PSD, boundaries, spd_matrix

import sciml
from sciml.grids import Grid, SymmetricStencil, diffusion_stencil, half_offsets
from sciml.linear import (
    ColumnsOperator,
    StencilOperator,
    SymmetricOperator,
    diffusion_operator,
)
from sciml.preconditioners import Fallback, Jacobi, Multigrid

DTYPES = [jnp.float32, jnp.float64]


class _Dense(eqx.Module):
    matrix: Any

    def __call__(self, v):
        flat, unravel = jfu.ravel_pytree(v)
        return unravel(self.matrix @ flat)


def stencil(dtype):
    grid = Grid((3, 4), boundary=boundaries(2)["mixed"])
    a = jnp.asarray(np.random.default_rng(0).uniform(1, 9, grid.shape), dtype)
    return diffusion_operator(a, grid)


def nine_point(dtype):
    """With diagonal couplings, as coarse levels have them."""
    rng = np.random.default_rng(0)
    shape, offsets = (3, 4), half_offsets(2, diagonals=True)
    edges = []
    for offset in offsets:
        edge = rng.normal(size=[n + abs(k) for n, k in zip(shape, offset, strict=True)])
        for axis, k in enumerate(offset):
            if k:
                ends: list[Any] = [slice(None)] * 2
                ends[axis] = [0, -1]
                edge[tuple(ends)] = 0
        edges.append(jnp.asarray(edge, dtype))
    diagonal = jnp.full(shape, 20.0, dtype)
    wraps = (False, False)
    return StencilOperator(
        SymmetricStencil(diagonal, tuple(edges), offsets, wraps), Grid(shape)
    )


def tree(dtype):
    one = {"a": jnp.zeros((2, 3), dtype), "b": [jnp.zeros(4, dtype)]}
    matrix = jnp.asarray(spd_matrix(10), dtype)
    return SymmetricOperator(_Dense(matrix), jax.eval_shape(lambda: one), PSD)


def cycle(dtype):
    return Multigrid(max_coarse_size=4, cycle_dtype=None).build(stencil(dtype))


def rounded_cycle(dtype):
    return Multigrid(max_coarse_size=4, cycle_dtype=jnp.float32).build(stencil(dtype))


def jacobi(dtype):
    return Jacobi().build(stencil(dtype))


def fallback(dtype):
    return Fallback(Jacobi()).build(stencil(dtype))


def columns(dtype):
    return ColumnsOperator(stencil(dtype), 2)


OPERATORS = {
    f.__name__: f
    for f in (
        stencil,
        nine_point,
        tree,
        cycle,
        rounded_cycle,
        jacobi,
        fallback,
        columns,
    )
}
CASES = pytest.mark.parametrize(
    "name, dtype", [(name, dtype) for name in OPERATORS for dtype in DTYPES]
)


@functools.cache
def operator_of(name, dtype):
    return OPERATORS[name](dtype)


def vectors(operator, seed, lead=()):
    """A random vector (or a stack) of the operator's structure, and flattened."""
    rng = np.random.default_rng(seed)
    vector = jax.tree.map(
        lambda s: jnp.asarray(rng.normal(size=(*lead, *s.shape)), s.dtype),
        operator.in_structure(),
    )
    leaves = jax.tree.leaves(vector)
    flat = np.concatenate([np.reshape(v, (*lead, -1)) for v in leaves], -1)
    return vector, flat.astype(float)


def flat(vector):
    return np.concatenate([np.ravel(v) for v in jax.tree.leaves(vector)])


def precision(name, dtype):
    return jnp.float32 if name == "rounded_cycle" else dtype


def close(actual, expected, dtype):
    actual, expected = np.asarray(actual, float), np.asarray(expected, float)
    bound = 200 * jnp.finfo(dtype).eps * np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)


@pytest.mark.sampled(4)
@CASES
def test_protocol(name, dtype):
    operator = operator_of(name, dtype)
    matrix = np.asarray(operator.as_matrix(), float)
    size = operator.in_size()
    assert operator.as_matrix().dtype == dtype and matrix.shape == (size, size)
    dtype = precision(name, dtype)
    assert operator.in_structure() == operator.out_structure()
    v, x = vectors(operator, 0)
    out = operator.mv(v)
    assert jax.eval_shape(lambda: out) == operator.out_structure()
    close(flat(out), matrix @ x, dtype)
    close(matrix, matrix.T, dtype)
    close(flat(operator.transpose().mv(v)), matrix.T @ x, dtype)
    assert operator.T.in_structure() == operator.in_structure()
    close(flat(lx.conj(operator).mv(v)), matrix @ x, dtype)
    close(flat(lx.linearise(operator).mv(v)), matrix @ x, dtype)
    close(lx.materialise(operator).as_matrix(), matrix, dtype)
    close(lx.diagonal(operator), np.diag(matrix), dtype)
    for k, band in zip((0, -1, 1), lx.tridiagonal(operator), strict=True):
        close(band, np.diag(matrix, k), dtype)
    assert lx.is_symmetric(operator) and lx.is_positive_semidefinite(operator)
    for question in (
        lx.is_diagonal,
        lx.is_tridiagonal,
        lx.is_lower_triangular,
        lx.is_upper_triangular,
        lx.has_unit_diagonal,
        lx.is_negative_semidefinite,
    ):
        assert question(operator) is False
    # Arithmetic is lineax's.
    close(flat((2.0 * operator + operator).mv(v)), 3 * matrix @ x, dtype)
    close(flat((-operator @ operator).mv(v)), -matrix @ matrix @ x, dtype)


@CASES
def test_transforms(name, dtype):
    operator = operator_of(name, dtype)
    matrix = np.asarray(operator.as_matrix(), float)
    v, x = vectors(operator, 1)
    w, y = vectors(operator, 2)
    stack, xs = vectors(operator, 3, (3,))

    @eqx.filter_jit
    def everything(operator, v, w, stack):
        value, tangent = jax.jvp(operator.mv, (v,), (w,))
        _, pullback = jax.vjp(operator.mv, v)
        turned = jax.linear_transpose(operator.mv, v)
        batch = jax.vmap(operator.mv)(stack)
        return value, tangent, pullback(w)[0], turned(w)[0], batch

    value, tangent, pulled, turned, batch = everything(operator, v, w, stack)
    dtype = precision(name, dtype)
    close(flat(value), matrix @ x, dtype)
    close(flat(tangent), matrix @ y, dtype)
    close(flat(pulled), matrix.T @ y, dtype)
    close(flat(turned), matrix.T @ y, dtype)
    rows = np.concatenate([np.reshape(b, (3, -1)) for b in jax.tree.leaves(batch)], -1)
    close(rows, xs @ matrix.T, dtype)


@pytest.mark.parametrize("name", ["stencil", "tree"])
def test_in_lineax_solvers(name):
    operator = operator_of(name, jnp.float64)
    matrix = np.asarray(operator.as_matrix())
    v, x = vectors(operator, 4)
    expected = np.linalg.solve(matrix, x)
    for solver in (
        lx.Cholesky(),
        lx.LU(),
        lx.AutoLinearSolver(well_posed=True),
        lx.CG(rtol=1e-12, atol=1e-12),
    ):
        solution = lx.linear_solve(operator, v, solver)
        assert jax.eval_shape(lambda s=solution: s.value) == operator.in_structure()
        np.testing.assert_allclose(flat(solution.value), expected, atol=1e-9)


def test_preconditioner_in_lineax_cg():
    grid = Grid((12, 11))
    A = diffusion_operator(1.0, grid)
    b = jnp.asarray(np.random.default_rng(0).normal(size=grid.shape))
    steps = []
    for options in ({}, {"preconditioner": Multigrid().build(A)}):
        solution = lx.linear_solve(A, b, lx.CG(1e-10, 1e-10), options=options)
        expected = np.linalg.solve(A.as_matrix(), np.ravel(b))
        np.testing.assert_allclose(np.ravel(solution.value), expected, atol=1e-8)
        steps.append(int(solution.stats["num_steps"]))
    assert steps[1] < steps[0] / 2


def test_derivatives_with_respect_to_the_operator():
    """Coefficients are leaves: a product differentiates through them."""
    grid = Grid((4, 3))
    v, w = (jnp.asarray(np.random.default_rng(k).normal(size=(4, 3))) for k in (0, 1))
    a = jnp.asarray(np.random.default_rng(2).uniform(1, 2, (4, 3)))
    product = lambda a: jnp.sum(w * diffusion_operator(a, grid).mv(v))
    matrix = lambda a: jnp.sum(
        w.ravel() * (diffusion_stencil(a, grid).dense() @ v.ravel())
    )
    np.testing.assert_allclose(jax.grad(product)(a), jax.grad(matrix)(a), rtol=1e-12)


def test_tags():
    operator = operator_of("stencil", jnp.float64)
    bare = StencilOperator(operator.stencil, operator.grid, tags=frozenset())
    assert lx.is_symmetric(bare) and not lx.is_positive_semidefinite(bare)
    negative = StencilOperator(
        operator.stencil, operator.grid, lx.negative_semidefinite_tag
    )
    assert lx.is_negative_semidefinite(negative)
    assert not lx.is_positive_semidefinite(negative)
    assert lx.is_negative_semidefinite(-operator)
    line = StencilOperator(
        diffusion_stencil(1.0, Grid(5)),
        Grid(5),
        frozenset({PSD, lx.tridiagonal_tag}),
    )
    assert lx.is_tridiagonal(line)
    b = jnp.arange(5.0)
    solution = lx.linear_solve(line, b, lx.Tridiagonal())
    np.testing.assert_allclose(
        solution.value, np.linalg.solve(line.as_matrix(), b), atol=1e-12
    )


def test_wrong_sizes():
    good = diffusion_stencil(1.0, Grid((3, 4)))
    with pytest.raises(ValueError, match=r"stencil: expected shape \(4, 4\).*\(3, 4\)"):
        StencilOperator(good, Grid((4, 4)))
    with pytest.raises(
        ValueError, match=r"edges: offset \(1, 0\) needs shape \(4, 4\)"
    ):
        SymmetricStencil(good.diagonal, good.edges[::-1], good.offsets, good.periodic)


def test_operators_are_pytrees_without_the_data_of_the_boundary():
    """Two operators that differ in data only must not compile twice."""
    grids = [Grid((3, 4), boundary=sciml.grids.Dirichlet(v)) for v in (0.0, 5.0)]
    one, two = (
        jax.tree.structure(diffusion_operator(2.0 + k, grid))
        for k, grid in enumerate(grids)
    )
    assert one == two and hash(one) == hash(two)
