"""Multigrid: definite for every coefficient, and as fast as the theory says."""

# Wrong arguments are the point here, and NumPy takes JAX scalars.
# pyright: reportArgumentType=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false

import functools
import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from linear_cases import boundaries, matrix_operator, outcome, random_field
from test_mgno import OMEGA, STEPS, classical_operator

import sciml
from sciml.grids import (
    Coarsening,
    Dirichlet,
    Grid,
    Neumann,
    SymmetricStencil,
    TwoPhaseField,
    diffusion_stencil,
    half_offsets,
    linear_interpolation,
)
from sciml.linear import StencilOperator, diffusion_operator, linear_solve, v_cycle
from sciml.preconditioners import (
    AbstractCoarseOperator,
    Chebyshev,
    DampedJacobi,
    Galerkin,
    Linear,
    Multigrid,
    OperatorDependent,
    Rediscretised,
)

# --- symmetric positive definite, whatever the coefficient is -----------------------

BUILDERS = {
    "default": lambda coarse: Multigrid(max_coarse_size=coarse, cycle_dtype=None),
    "linear": lambda coarse: Multigrid(
        DampedJacobi(), Linear(), Galerkin(), coarse, None
    ),
    "rediscretised": lambda coarse: Multigrid(
        Chebyshev(3), Linear(), Rediscretised(), coarse, None
    ),
    "mixed": lambda coarse: Multigrid(
        DampedJacobi(1), OperatorDependent(), Rediscretised(), coarse, None
    ),
}
EXACT = Multigrid(max_coarse_size=12, cycle_dtype=None)
SHAPES = {1: [(13,), (12,)], 2: [(7, 8), (8, 7)], 3: [(5, 4, 4), (4, 5, 6)]}


def stratified():
    """Every condition with the default, in 2-D another builder, too; sizes in turn.

    In one dimension, and with another builder, most of them apart: each compiles.
    """
    others = itertools.cycle([k for k in BUILDERS if k != "default"])
    turn = itertools.count()
    for ndim, shapes in SHAPES.items():
        for name in boundaries(ndim):
            if ndim == 3 and name not in ("stored", "mixed", "mixed-free"):
                continue
            some = name in ("dirichlet", "neumann", "mixed")
            few = () if ndim > 1 or some else (pytest.mark.slow,)
            yield pytest.param(shapes[next(turn) % 2], name, "default", marks=few)
            if ndim == 2 or name == "mixed":
                few = () if ndim == 2 and some else (pytest.mark.slow,)
                other = next(others)
                yield pytest.param(shapes[next(turn) % 2], name, other, marks=few)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("shape, name, builder", list(stratified()))
def test_symmetric_positive_definite(shape, name, builder):
    """Contrast 10⁶ of white noise, five samples; against dense matrices."""
    grid = Grid(shape, boundary=boundaries(len(shape))[name])
    # In three dimensions two levels, otherwise three or four.
    multigrid = BUILDERS[builder](3 if grid.ndim < 3 else 30)

    @jax.jit
    @jax.vmap
    def matrices(a):
        A = diffusion_operator(a, grid)
        return A.as_matrix(), multigrid.build(A).as_matrix()

    fields = [random_field(shape, 1e6, seed) for seed in range(5)]
    for A, M in zip(*map(np.asarray, matrices(jnp.asarray(fields))), strict=True):
        eps = np.finfo(float).eps
        assert np.abs(M - M.T).max() <= 100 * eps * np.abs(M).max()
        # Scaled by A's diagonal, as the smallest entries are 10⁶ below the largest.
        root = np.sqrt(np.diag(A))
        assert np.linalg.eigvalsh(root[:, None] * (M + M.T) / 2 * root).min() > 0.1
        values, vectors = np.linalg.eigh(A)
        half = vectors * np.sqrt(np.maximum(values, 0))
        product = np.linalg.eigvalsh(half.T @ M @ half)
        free = A.sum(1).max() < 1e-12 * np.abs(A).max()
        assert product[int(free)] > 1e-5
        if builder in ("default", "linear"):
            # With Galerkin operators the cycle is an energy contraction.
            assert product[-1] < 1 + 1e-6


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "name, unit",
    [("dirichlet", 1.0), ("neumann", 1.0), ("neumann", 1e-200), ("dirichlet", 1e200)],
)
def test_float32_is_definite_too(name, unit):
    """An operator in float32, or the cycle only; then in any units."""
    grid = Grid((9, 10), boundary=boundaries(2)[name])
    dtype = jnp.float32 if unit == 1.0 else jnp.float64

    @jax.jit
    @jax.vmap
    def matrices(a):
        A = diffusion_operator(a, grid)
        return A.as_matrix(), Multigrid(max_coarse_size=6).build(A).as_matrix()

    fields = np.array([random_field(grid.shape, 1e4, seed) for seed in range(5)])
    for A, M in zip(*matrices(jnp.asarray(unit * fields, dtype)), strict=True):
        assert M.dtype == dtype
        A, M = np.asarray(A, float) / unit, np.asarray(M, float) * unit
        eps = np.finfo(np.float32).eps
        assert np.abs(M - M.T).max() <= 100 * eps * np.abs(M).max()
        root = np.sqrt(np.diag(A))
        assert np.linalg.eigvalsh(root[:, None] * (M + M.T) / 2 * root).min() > 0.1


def test_products_are_linear_and_differentiable():
    grid = Grid((7, 6))
    u, v = (jnp.asarray(np.random.default_rng(k).normal(size=(7, 6))) for k in (0, 1))
    a = jnp.asarray(random_field((7, 6), 100.0))
    d = a * jnp.cos(jnp.arange(42.0)).reshape(7, 6)

    # A preconditioner can be trained: its entries differentiate in the coefficient.
    def entry(a):
        M = EXACT.build(diffusion_operator(a, grid))
        return jnp.sum(u * M.mv(v)), M

    @jax.jit
    def everything(a):
        (value, M), (forward, _) = eqx.filter_jvp(entry, (a,), (d,))
        backward = jnp.sum(jax.grad(entry, has_aux=True)(a)[0] * d)
        turned = jax.linear_transpose(M.mv, u)(v)[0]
        products = M.mv(2 * u - 3 * v), 2 * M.mv(u) - 3 * M.mv(v), turned, M.mv(v)
        return value, forward, backward, products

    _, forward, backward, (together, apart, turned, straight) = everything(a)
    np.testing.assert_allclose(together, apart, atol=1e-14)
    np.testing.assert_allclose(turned, straight, atol=1e-14)
    h = 1e-5
    difference = (everything(a + h * d)[0] - everything(a - h * d)[0]) / (2 * h)
    np.testing.assert_allclose(forward, backward, rtol=1e-10)
    np.testing.assert_allclose(forward, difference, rtol=1e-6)


# --- speed ----------------------------------------------------------------------------


@functools.cache
def contraction(shape, smoother) -> float:
    """The spectral radius of I − M A, by power iteration on x ← x + M(0 − A x)."""
    grid = Grid(shape)

    @jax.jit
    def reductions(x):
        A = diffusion_operator(1.0, grid)
        M = Multigrid(smoother, cycle_dtype=None).build(A)

        def cycle(x, _):
            new = x + M.mv(-A.mv(x))
            energy = jnp.sqrt(jnp.sum(new * A.mv(new)))
            return new / energy, energy

        return jax.lax.scan(cycle, x, None, 25)[1]

    return float(jnp.mean(reductions(jr.normal(jr.key(0), shape))[-5:]))


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "shapes, smoother, low, high",
    [
        (((127,), (255,)), None, 0.0, 0.15),
        (((63, 63),), None, 0.0, 0.15),
        pytest.param(((63, 63), (127, 127)), None, 0.0, 0.15, marks=pytest.mark.slow),
        (((15, 15, 15),), None, 0.0, 0.15),
        pytest.param(
            ((15, 15, 15), (31, 31, 31)), None, 0.0, 0.15, marks=pytest.mark.slow
        ),
        # The smoothing factor of damped Jacobi is 3/5 in 2-D, and 5/7 in 3-D.
        (((63, 63),), DampedJacobi(2), 0.9 * 0.6**4, 1.02 * 0.6**4),
        pytest.param(
            ((15, 15, 15),),
            DampedJacobi(2, 6 / 7),
            0.16,
            1.02 * (5 / 7) ** 4,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_contraction(shapes, smoother, low, high):
    factors = [contraction(shape, smoother) for shape in shapes]
    assert all(low < factor <= high for factor in factors), factors
    assert max(factors) <= 1.2 * min(factors)


def test_steps_on_two_phases():
    """127², contrast 10 and 1000, with the cycle in float32 and in float64."""
    grid = Grid((127, 127))
    phases = TwoPhaseField(0.0, 1.0).sample(grid, key=jr.key(1))

    @eqx.filter_jit
    def solve(contrast, builder):
        A = diffusion_operator(1.0 + (contrast - 1.0) * phases, grid)
        solver = sciml.CG(rtol=1e-8, max_steps=100)
        b = jnp.ones(grid.shape)
        return linear_solve(A, b, solver, preconditioner=builder, throw=False)

    for builder in (Multigrid(), Multigrid(cycle_dtype=None)):
        for contrast, most in ((10.0, 12), (1000.0, 25)):
            solution = solve(jnp.asarray(contrast), builder)
            assert outcome(solution.result) == "successful"
            assert 2 < int(solution.stats["num_steps"]) <= most


@pytest.mark.parametrize(
    "shape, extent, name",
    [((33, 48), (1.0, 1.5), "dirichlet"), ((40, 40), (1.0, 8.0), "mixed-free")],
)
def test_steps_do_not_depend_on_alignment(shape, extent, name):
    """No size is special, nor is a box of eight to one."""
    grid = Grid(shape, extent, boundaries(2)[name])
    b = np.random.default_rng(0).normal(size=shape)
    solution = linear_solve(
        diffusion_operator(1.0, grid),
        b - b.mean(),
        sciml.CG(rtol=1e-8),
        preconditioner=Multigrid(),
    )
    assert int(solution.stats["num_steps"]) <= 12


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_set_up_and_solve_in_a_batch(dtype):
    grid = Grid((12, 13), boundary=[(Dirichlet(), Neumann()), Dirichlet()])
    rtol = 1e-4 if dtype == jnp.float32 else 1e-10
    fields = np.array([random_field(grid.shape, 1e3, seed) for seed in range(3)])
    fields = jnp.asarray(fields, dtype)
    b = jnp.asarray(np.random.default_rng(0).normal(size=grid.shape), dtype)

    @jax.jit
    def one(a):
        A = diffusion_operator(a, grid)
        solution = linear_solve(A, b, sciml.CG(rtol=rtol), preconditioner=Multigrid())
        return solution.value, solution.stats["num_steps"], A.as_matrix()

    values, steps, matrices = jax.jit(jax.vmap(one))(fields)
    for a, value, count, matrix in zip(fields, values, steps, matrices, strict=True):
        alone, alone_count, _ = one(a)
        assert int(count) == int(alone_count) < 20
        scale = float(jnp.abs(alone).max())
        np.testing.assert_allclose(value, alone, 0, 1e3 * jnp.finfo(dtype).eps * scale)
        exact = np.linalg.solve(np.asarray(matrix, float), np.ravel(b).astype(float))
        np.testing.assert_allclose(np.ravel(value), exact, 0, 100 * rtol * scale)


# --- MgNO's linear operator is this cycle -----------------------------------------


class _FivePoint(AbstractCoarseOperator):
    """The five-point stencil of the coarse grid, times 4: restriction here is Pᵀ."""

    def build(self, stencil, interpolation):
        shape = interpolation.coarsening.num_coarse
        scale = 4.0 ** np.log2(32 / (shape[0] + 1))
        coarse = diffusion_stencil(1.0, Grid(shape))
        return jax.tree.map(lambda leaf: scale * leaf, coarse)


def test_the_operator_of_mgno_with_classical_kernels_is_this_cycle(getkey):
    """The same numbers from convolutions and from stencils, at 31 × 31."""
    n = 31
    learned = classical_operator(n, getkey())
    builder = Multigrid(DampedJacobi(STEPS, OMEGA), Linear(), _FivePoint(), 1)

    @jax.jit
    def cycle(f):
        levels, coarsest = builder.hierarchy(diffusion_operator(1.0, Grid((n, n))))
        assert len(levels) + 1 == learned.num_levels and coarsest.shape == (1, 1)

        def coarse_solve(u, f):
            assert u is None
            u = 0 * f
            for _ in range(2 * STEPS):
                u = u + OMEGA / coarsest.diagonal * (f - coarsest(u))
            return u

        return v_cycle(levels, coarse_solve, f)

    f = jr.normal(getkey(), (n, n))
    expected = cycle(f)
    actual = eqx.filter_jit(learned)(f[None])[0]
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12 * scale)


# --- mistakes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Chebyshev(0), "degree: expected an integer ≥ 1, got 0"),
        (lambda: Chebyshev(2, 1.5), r"lower: expected a number in \(0, 1\), got 1.5"),
        (lambda: DampedJacobi(0), "num_steps: expected an integer ≥ 1, got 0"),
        (lambda: DampedJacobi(2, 1.0), r"omega: expected a number in \(0, 1\)"),
    ],
)
def test_wrong_arguments(make: Any, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_operators():
    A = matrix_operator(np.eye(4))
    with pytest.raises(TypeError, match="needs to know the grid.* MatrixLinearOp"):
        Multigrid().build(A)
    with pytest.raises(TypeError, match="needs to know the grid"):
        linear_solve(A, jnp.ones(4), preconditioner=Multigrid())
    offsets = half_offsets(2, diagonals=True)
    edges = tuple(jnp.zeros((5 + abs(i), 5 + abs(j))) for i, j in offsets)
    nine = SymmetricStencil(jnp.ones((5, 5)), edges, offsets, (False, False))
    c = Coarsening((5, 5), (1, 1), (False, False))
    P = linear_interpolation(c, ((False, False),) * 2, float)
    with pytest.raises(ValueError, match="without diagonal couplings.*Galerkin"):
        Rediscretised().build(nine, P)


def test_small_grids_are_solved_at_once():
    grid = Grid((5, 6))
    A = diffusion_operator(1.0, grid)
    levels, _ = Multigrid().hierarchy(A)
    assert levels == ()
    inverse = np.linalg.inv(A.as_matrix())
    for builder, atol in ((Multigrid(), 1e-6), (Multigrid(cycle_dtype=None), 1e-13)):
        matrix = builder.build(A).as_matrix()
        assert matrix.dtype == jnp.float64
        scale = np.abs(inverse).max()
        np.testing.assert_allclose(matrix, inverse, rtol=0, atol=atol * scale)


def test_says_when_it_is_the_wrong_choice():
    """Smooth, two-phase and rough ones suit it; jumps at each node do not."""
    grid = Grid((31, 31))
    x, _ = grid.mesh()
    noise = random_field((31, 31), 1e4)
    rough = np.where(noise > 1e2, 1e4, 1.0)
    cases = {
        "constant": (diffusion_operator(1.0, grid), False),
        "half and half": (diffusion_operator(np.where(x < 0.5, 1.0, 5.0), grid), False),
        "noise": (diffusion_operator(noise, grid), False),
        "rough": (diffusion_operator(rough, grid), True),
    }
    stencil = cases["constant"][0].stencil
    edges = (stencil.edges[0] * 1e-3, stencil.edges[1])
    thin = eqx.tree_at(lambda s: s.edges, stencil, edges)
    cases["stretched"] = (StencilOperator(thin, grid), True)
    for name, (A, poor) in cases.items():
        facts = Multigrid().build(A).facts
        assert bool(facts["expected_poor"]) == poor, name
    A, b = cases["rough"][0], jnp.ones((31, 31))
    solution = linear_solve(A, b, preconditioner=Multigrid())
    assert solution.stats["preconditioner"]["jump_share"] > 0.3
    # Unequal spacings are no anisotropy of the operator: they are coarsened one by one.
    flat = diffusion_operator(1.0, Grid((31, 7), (1.0, 1.0)))
    assert not Multigrid().build(flat).facts["expected_poor"]
