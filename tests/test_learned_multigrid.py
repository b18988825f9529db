"""Multigrid with learned parts: definite for any weights, classical before training."""

# Wrong arguments are the point here.
# pyright: reportArgumentType=false, reportCallIssue=false

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from linear_cases import boundaries, random_field

import problems
import sciml
from sciml.grids import Grid
from sciml.linear import diffusion_operator
from sciml.preconditioners import (
    Chebyshev,
    LearnedChebyshev,
    LearnedMultigrid,
    LearnedTransfer,
    Multigrid,
    PerLevel,
    UnrolledCG,
    pack_stencils,
)


def scrambled(builder, scale: float, seed: int = 0):
    """The same builder with other weights, all of about one size."""
    leaves, tree = jax.tree.flatten(builder)
    keys = jr.split(jr.key(seed), len(leaves))
    leaves = [
        scale * jr.normal(k, x.shape, x.dtype)
        for k, x in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, leaves)


def turned(n: int, epsilon: float, theta: float):
    problem = problems.AnisotropicDiffusion((n, n), epsilon, theta)
    return problem.assemble(problem.constant_coefficient())[0]


@pytest.mark.parametrize(
    "ndim, shape, scale",
    [
        (1, (13,), 1.0),
        pytest.param(2, (9, 12), 1.0, marks=pytest.mark.slow),
        (2, (9, 12), 1e4),
        pytest.param(3, (5, 4, 6), 1.0, marks=pytest.mark.slow),
        pytest.param(3, (5, 4, 6), 1e4, marks=pytest.mark.slow),
    ],
)
def test_definite_for_any_weights(ndim, shape, scale):
    """Contrast 10⁶ of white noise, mixed sides; against dense matrices."""
    grid = Grid(
        shape, boundary=boundaries(ndim)["dirichlet-neumann" if ndim == 1 else "mixed"]
    )
    size = 3 if ndim < 3 else 20
    builder = LearnedMultigrid(
        ndim,
        transfer=LearnedTransfer(ndim, key=jr.key(1)),
        max_coarse_size=size,
        cycle_dtype=None,
        key=jr.key(0),
    )
    builder = scrambled(builder, scale)

    @jax.jit
    @jax.vmap
    def matrices(a):
        A = diffusion_operator(a, grid)
        return A.as_matrix(), builder.build(A).as_matrix()

    fields = jnp.asarray([random_field(shape, 1e6, seed) for seed in range(3)])
    for A, M in zip(*map(np.asarray, matrices(fields)), strict=True):
        # Scaled by A's diagonal, as the smallest entries are 10⁶ below the largest.
        root = np.sqrt(np.diag(A))
        M = root[:, None] * M * root
        assert np.abs(M - M.T).max() <= 1e-12 * np.abs(M).max()
        assert np.linalg.eigvalsh(M).min() > 0


@pytest.mark.parametrize(
    "dtype", [pytest.param(jnp.float32, marks=pytest.mark.slow), jnp.float64]
)
def test_classical_before_training(dtype):
    grid = Grid((20, 17))
    A = diffusion_operator(jnp.asarray(random_field((20, 17), 1e3, 1), dtype), grid)
    vector = jr.normal(jr.key(1), (20, 17), dtype)
    smoothers = tuple(Chebyshev(d, 1 / (1 + d**2)) for d in (2, 3, 5))
    for degrees, transfer in (
        ((2, 3, 5), None),
        ((2,), LearnedTransfer(2, key=jr.key(1))),
    ):
        builder = LearnedMultigrid(2, degrees=degrees, transfer=transfer, key=jr.key(0))
        classical = Multigrid(PerLevel(smoothers[: len(degrees)]))
        found, expected = (M.build(A).mv(vector) for M in (builder, classical))
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, atol=2e-6 * jnp.max(expected))


def test_mirrored_and_turned_stencils_have_such_weights():
    """M of the transposed (mirrored) problem is M transposed (mirrored)."""
    field = random_field((15, 15), 1e2, 3)
    builder = LearnedMultigrid(
        2,
        transfer=LearnedTransfer(2, key=jr.key(1)),
        cycle_dtype=None,
        max_coarse_size=9,
        key=jr.key(0),
    )
    builder = scrambled(builder, 0.5)
    vector = np.asarray(jr.normal(jr.key(1), (15, 15)))

    @jax.jit
    def apply(a, r):
        return builder.build(diffusion_operator(a, Grid((15, 15)))).mv(r)

    expected = apply(field, vector)
    tolerance = 1e-6 * np.abs(expected).max()  # networks compute in float32
    for move in (np.transpose, np.flipud, lambda x: np.flipud(np.transpose(x))):
        found = apply(np.ascontiguousarray(move(field)), move(vector))
        np.testing.assert_allclose(found, move(expected), atol=tolerance)


def test_packed_stencils_are_the_operators():
    diffusion = problems.Diffusion((9, 8), "two_phase", 1e3)
    five, _ = diffusion.linear_system(key=jr.key(0))
    data, stencils = pack_stencils([five, five])
    assert data.inputs.shape == (2, 5, 9, 8) and data.inputs.dtype == np.float32
    nine = turned(9, 1e-2, 0.5)
    with pytest.raises(ValueError, match=r"operators\[1\]: expected the grid of"):
        pack_stencils([five, nine])
    single, unpack = pack_stencils([nine])
    pairs = (five, stencils, data.inputs[1]), (nine, unpack, single.inputs[0])
    for A, systems, sample in pairs:
        matrix = np.asarray(A.as_matrix())
        found = np.asarray(systems(jnp.asarray(sample)).as_matrix())
        np.testing.assert_allclose(found, matrix / np.diag(matrix).max(), atol=1e-6)
        np.testing.assert_array_equal(found, found.T)
    free = Grid((9, 8), boundary=sciml.grids.Neumann())
    with pytest.raises(ValueError, match="singular"):
        pack_stencils([diffusion_operator(1.0, free)])
    round_ = Grid((9, 8), boundary=sciml.grids.Periodic())
    with pytest.raises(ValueError, match="periodic"):
        pack_stencils([diffusion_operator(1.0, round_)])
    with pytest.raises(ValueError, match="at least one"):
        pack_stencils([])


@pytest.mark.slow
def test_training_through_cg(tmp_path):
    """Of turned anisotropy, on 15²: fewer steps where it has not been; saved, too."""
    angles = np.linspace(0.1, 1.4, 8)
    data, stencils = pack_stencils([turned(15, 0.03, angle) for angle in angles])
    untrained = LearnedMultigrid(
        2, transfer=LearnedTransfer(2, key=jr.key(3)), key=jr.key(0)
    )
    model, history = sciml.training.fit(
        untrained,
        data,
        loss=UnrolledCG(stencils, num_steps=5),
        optimiser=optax.adam(5e-2),
        num_steps=40,
        batch_size=4,
        progress=False,
        key=jr.key(1),
    )
    assert np.mean(history.loss[-5:]) < np.mean(history.loss[:5]) - 0.1
    sciml.save(tmp_path / "model.safetensors", model)
    loaded = sciml.load(tmp_path / "model.safetensors")
    assert eqx.tree_equal(loaded, model)

    A, b = turned(31, 0.02, 0.7), jr.normal(jr.key(2), (31, 31))
    residuals = []
    for preconditioner in (loaded, untrained):
        solution = sciml.linear_solve(
            A,
            b,
            sciml.CG(rtol=1e-12, max_steps=6),
            preconditioner=preconditioner,
            throw=False,
        )
        residual = np.linalg.norm(b - A.mv(solution.value)) / np.linalg.norm(b)
        np.testing.assert_allclose(solution.stats["relative_residual"], residual)
        residuals.append(residual)
    assert residuals[0] < 0.9 * residuals[1]


def test_wrong_arguments():
    key = jr.key(0)
    with pytest.raises(ValueError, match="ndim: expected 1, 2 or 3, got 4"):
        LearnedTransfer(4, key=key)
    with pytest.raises(ValueError, match="degree"):
        LearnedChebyshev(0, key=key)
    with pytest.raises(ValueError, match="width"):
        LearnedMultigrid(2, width=0, key=key)
    with pytest.raises(ValueError, match="cycle_dtype: .* got 'float16'"):
        LearnedMultigrid(2, cycle_dtype="float16", key=key)
    line = diffusion_operator(1.0, Grid((63,)))
    with pytest.raises(ValueError, match="2 axes, the grid has 1"):
        LearnedMultigrid(2, key=key).build(line)
    with pytest.raises(ValueError, match="ndim: expected 1, 2 or 3, got 4"):
        LearnedMultigrid(4, key=key)
    with pytest.raises(TypeError, match="StencilOperator"):
        LearnedMultigrid(1, key=key).build(
            sciml.linear.from_scipy(sciml.linear.to_scipy(line))
        )
