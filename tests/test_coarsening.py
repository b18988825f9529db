"""Which axes a multigrid level is coarsened along."""

# Wrong arguments are the point here.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import problems
import sciml
from sciml.grids import Grid, SymmetricStencil, half_offsets
from sciml.linear import StencilOperator, diffusion_operator, linear_solve
from sciml.preconditioners import (
    BySpacing,
    ByStrength,
    Multigrid,
    SemiCoarsening,
)


def constant_operator(conductances, shape, dtype=jnp.float64):
    """−Σ_i k_i ∂²/∂x_i² in units of h, Dirichlet, on so many nodes."""
    grid = Grid(shape)
    offsets = half_offsets(len(shape), diagonals=False)
    edges = []
    for offset in offsets:
        axis = offset.index(1)
        size = tuple(n + abs(k) for n, k in zip(shape, offset, strict=True))
        inner = [(1, 1) if a == axis else (0, 0) for a in range(len(shape))]
        core = jnp.ones(tuple(n - 2 * k for n, k in zip(size, offset, strict=True)))
        edges.append(jnp.pad(-conductances[axis] * core, inner).astype(dtype))
    diagonal = jnp.full(shape, 2.0 * sum(conductances), dtype)
    stencil = SymmetricStencil(diagonal, tuple(edges), offsets, (False,) * len(shape))
    return StencilOperator(stencil, grid)


@functools.cache
def steps(conductances, builder, shape=(31, 31)):
    A = constant_operator(conductances, shape)
    b = jr.normal(jr.key(0), shape, jnp.float64)
    solution = linear_solve(
        A, b, sciml.CG(rtol=1e-8), preconditioner=builder, throw=False
    )
    assert solution.result == sciml.RESULTS.successful
    return int(solution.stats["num_steps"]), solution.stats["preconditioner"]


@pytest.mark.parametrize("conductances", [(1.0, 1e-2), (1e-3, 1.0)])
def test_anisotropy_along_an_axis_costs_nothing(conductances):
    isotropic, _ = steps((1.0, 1.0), Multigrid())
    usual, facts = steps(conductances, Multigrid())
    assert facts["expected_poor"] and usual > 5 * isotropic
    ours, facts = steps(conductances, Multigrid(coarsening=ByStrength()))
    assert not facts["expected_poor"] and ours <= isotropic + 1


def test_what_is_decided():
    for conductances, shape, expected in (
        ((1.0, 1.0), (20, 20), (0, 0)),
        # √(s_0/s_1) = 10, 1.5 times 2³ suffices.
        ((1.0, 1e-2), (20, 20), (0, 3)),
        ((4.0, 1.0), (20, 31), (0, 1)),
        ((1.0, 2.0), (20, 20), (0, 0)),
        ((1e-4, 1.0, 1.0), (7, 8, 9), (7, 0, 0)),
        ((1.0, 16.0, 1.0), (7, 8, 9), (2, 0, 2)),
    ):
        A = constant_operator(conductances, shape)
        assert ByStrength().decide(A).delays == expected
        # In single precision too, and whatever the units are.
        single = eqx.tree_at(
            lambda A: A.stencil,
            A,
            jax.tree_util.tree_map(lambda x: (1e20 * x).astype(jnp.float32), A.stencil),
        )
        assert ByStrength().decide(single).delays == expected


def test_jumps_are_no_anisotropy():
    for kind in ("two_phase", "channels"):
        problem = problems.Diffusion((32, 32), kind, 1e4)
        A, _ = problem.linear_system(key=jr.key(1))
        assert ByStrength().decide(A).delays == (0, 0)


def test_a_fine_axis_is_a_strong_one():
    """For the same coefficient along all axes the two rules are one."""
    for extent in ((1.0, 1.0), (1.0, 6.0), (9.0, 1.0)):
        A = diffusion_operator(1.0, Grid((24, 24), extent))
        shapes = []
        for rule in (BySpacing(), ByStrength().decide(A)):
            builder = Multigrid(coarsening=rule)
            # (The shapes alone: nothing is computed.)
            levels, _ = eqx.filter_eval_shape(builder.hierarchy, A)
            shapes.append([level.stencil.shape for level in levels])
        assert shapes[0] == shapes[1]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_positive_definite(dtype):
    A = constant_operator((1.0, 0.03), (7, 6), dtype)
    builder = Multigrid(coarsening=ByStrength(), cycle_dtype=None, max_coarse_size=8)
    M = builder.build(A).as_matrix()
    tolerance = 1e-6 if dtype == jnp.float32 else 1e-12
    assert jnp.abs(M - M.T).max() <= tolerance * jnp.abs(M).max()
    assert np.linalg.eigvalsh(np.asarray(M, np.float64)).min() > 0


def test_between_the_axes_full_coarsening_stays():
    problem = problems.AnisotropicDiffusion((31, 31), 1e-2, math.pi / 4)
    A, _ = problem.linear_system(key=jr.key(0))
    assert ByStrength().decide(A).delays == (0, 0)
    M = Multigrid(coarsening=ByStrength()).build(A)
    assert M.facts["expected_poor"]


def test_traced_operators():
    A = constant_operator((1.0, 1e-2), (15, 15))
    b = jnp.ones((15, 15))
    builder = Multigrid(coarsening=ByStrength())
    apply = eqx.filter_jit(lambda builder, A: builder.build(A).mv(b))
    with pytest.raises(TypeError, match="SemiCoarsening"):
        apply(builder, A)
    given = Multigrid(coarsening=SemiCoarsening((0, 3)))
    np.testing.assert_allclose(
        apply(given, A), builder.build(A).mv(b), rtol=1e-5, atol=1e-6
    )


def test_mistakes():
    for delays in ((1, 1), (0, -1), ()):
        with pytest.raises(ValueError, match="one of them 0"):
            SemiCoarsening(delays)
    A = constant_operator((1.0, 1.0, 1.0), (4, 4, 4))
    with pytest.raises(ValueError, match="each of the grid's 3 axes"):
        Multigrid(coarsening=SemiCoarsening((0, 1))).build(A)


def test_no_matrix_to_decide_on():
    """NaN does not stop the set-up: the solver names it."""
    A = constant_operator((1.0, 1.0), (15, 15))
    A = eqx.tree_at(lambda A: A.stencil.diagonal, A, jnp.full((15, 15), jnp.nan))
    assert ByStrength().decide(A).delays == (0, 0)
    solution = linear_solve(
        A,
        jnp.ones((15, 15)),
        sciml.CG(rtol=1e-8),
        preconditioner=Multigrid(coarsening=ByStrength()),
        throw=False,
    )
    assert solution.result != sciml.RESULTS.successful
