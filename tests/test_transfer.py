"""Transfer between grids: transposes, exact cases, coarse grids, mistakes in grids."""

# Wrong arguments are the point here, and NumPy takes JAX scalars.
# pyright: reportArgumentType=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_cases import AXES, boundaries, random_field

from sciml.grids import (
    Coarsening,
    Dirichlet,
    Grid,
    Neumann,
    Periodic,
    close_coefficient,
    close_field,
    coarse_alignment,
    diffusion_stencil,
    interpolate,
    interpolation_from_rows,
    linear_interpolation,
    source_vector,
)
from sciml.preconditioners import Galerkin, Linear, OperatorDependent

# (nodes, first coarse node, periodic) of one axis; None keeps the axis as it is.
LINES = [
    (n, start, wraps)
    for n in (3, 6, 7, 8, 9)
    for start, wraps in ((0, False), (1, False), (None, False), (0, True))
]
BLOCKS = [
    Coarsening((5, 6), (1, 0), (False, True)),
    Coarsening((6, 7), (None, 0), (True, True)),
    Coarsening((4, 5, 6), (0, 1, None), (False, False, False)),
    Coarsening((7, 4, 5), (0, 1, 1), (True, False, False)),
]
COARSENINGS = [Coarsening((n,), (s,), (w,)) for n, s, w in LINES] + BLOCKS


def dense_of(interpolation):
    """P and the restriction as matrices, one column at a time."""
    c = interpolation.coarsening

    @jax.jit
    def both(interpolation):
        def columns(function, shape):
            basis = jnp.eye(int(np.prod(shape))).reshape(-1, *shape)
            return jax.vmap(function)(basis).reshape(len(basis), -1).T

        return (
            columns(interpolation.prolong, c.num_coarse),
            columns(interpolation.restrict, c.num_points),
        )

    return tuple(np.asarray(m) for m in both(interpolation))


@pytest.mark.parametrize("c", COARSENINGS, ids=str)
def test_restriction_is_the_transpose(c):
    """For arbitrary weights; and P takes what its rows say."""
    rng = np.random.default_rng(0)
    fine = jnp.arange(int(np.prod(c.num_points))).reshape(c.num_points)
    rows = {}
    for between in c.classes()[1:]:
        shape = c.select(fine, between).shape
        for corner in c.corners(between):
            rows[corner] = jnp.asarray(rng.normal(size=shape))
    prolong, restrict = dense_of(interpolation_from_rows(c, rows))
    np.testing.assert_array_equal(prolong, restrict.T)

    expected = np.zeros(prolong.shape)
    coarse = np.arange(np.prod(c.num_coarse)).reshape(c.num_coarse)
    for i, place in enumerate(itertools.product(*map(range, c.num_points))):
        choices, at = [], []
        for x, start in zip(place, c.starts, strict=True):
            middle = start is not None and (x - start) % 2
            choices.append((-1, 1) if middle else (0,))
        for corner in itertools.product(*choices):
            at = []
            for x, start, n, wraps, m, k in zip(
                place,
                c.starts,
                c.num_points,
                c.periodic,
                c.num_coarse,
                corner,
                strict=True,
            ):
                j = x if start is None else (x + k - start) // 2
                # Two steps from one coarse node to the next, one across an odd seam.
                if wraps and start is not None and k > 0 and x + k >= n:
                    j = m
                at.append(j % m if wraps else j)
            if all(0 <= j < m for j, m in zip(at, c.num_coarse, strict=True)):
                weight = 1.0
                if any(corner):
                    between = tuple(bool(k) for k in corner)
                    labels = np.asarray(c.select(fine, between))
                    weight = np.asarray(rows[corner])[labels == i][0]
                expected[i, coarse[tuple(at)]] += weight
    np.testing.assert_allclose(prolong, expected, atol=1e-15)


@pytest.mark.parametrize("c", COARSENINGS, ids=str)
def test_classes_cover_the_grid(c):
    rng = np.random.default_rng(0)
    field = jnp.asarray(rng.normal(size=c.num_points))
    parts = {between: c.select(field, between) for between in c.classes()}
    assert sum(part.size for part in parts.values()) == field.size
    np.testing.assert_array_equal(c.merge(parts), field)
    assert parts[c.classes()[0]].shape == c.num_coarse


@pytest.mark.parametrize("name", boundaries(2))
@pytest.mark.parametrize("shape", [(8, 9), (9, 8)])
def test_linear_interpolation_of_linear_functions(name, shape):
    """Exact away from sides where the field does not continue linearly."""
    grid = Grid(shape, boundary=boundaries(2)[name])
    aligned = [coarse_alignment(n, grid.boundary[k]) for k, n in enumerate(shape)]
    c = Coarsening(shape, tuple(start for start, _ in aligned), grid.periodic)
    assert c.num_coarse == tuple(count for _, count in aligned)
    reflecting = tuple(tuple(isinstance(s, Neumann) for s in p) for p in grid.boundary)
    P = linear_interpolation(c, reflecting, float)
    fine = np.indices(shape)
    f = 3.0 + 2.0 * fine[0] - fine[1]
    coarse = jnp.asarray(f[tuple(slice(s, None, 2) for s, _ in aligned)])
    out = np.asarray(P.prolong(coarse))
    inner = tuple(slice(1, n - 1) for n in shape)
    np.testing.assert_allclose(out[inner], f[inner], atol=1e-13)
    # Constants are kept up to every side but a Dirichlet one.
    ones = np.asarray(P.prolong(jnp.ones(c.num_coarse)))
    for axis, pair in enumerate(grid.boundary):
        for side, condition in enumerate(pair):
            index = [slice(1, -1)] * 2
            index[axis] = -1 if side else 0  # pyright: ignore[reportArgumentType]
            if not isinstance(condition, Dirichlet):
                np.testing.assert_allclose(ones[tuple(index)], 1.0, atol=1e-15)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("transfer", [Linear(), OperatorDependent()], ids=["l", "o"])
@pytest.mark.parametrize(
    "shape, name",
    [((9,), n) for n in AXES]
    + [((8,), n) for n in AXES]
    + [((7, 8), n) for n in boundaries(2)]
    + [((5, 6, 5), n) for n in ("dirichlet", "mixed")],
)
def test_galerkin_is_the_triple_product(transfer, shape, name):
    grid = Grid(shape, boundary=boundaries(len(shape))[name])
    a = jnp.asarray(random_field(shape, 1e3))
    starts = tuple(
        coarse_alignment(n, grid.boundary[k])[0] if n > 5 or not wraps else None
        for k, (n, wraps) in enumerate(zip(shape, grid.periodic, strict=True))
    )
    c = Coarsening(shape, starts, grid.periodic)

    @jax.jit
    def build(a):
        stencil = diffusion_stencil(a, grid)
        interpolation = transfer.build(stencil, c, grid.boundary)
        coarse = Galerkin().build(stencil, interpolation)
        return interpolation, stencil.dense(), coarse.dense()

    interpolation, fine, coarse = build(a)
    prolong, _ = dense_of(interpolation)
    expected = prolong.T @ np.asarray(fine) @ prolong
    scale = np.abs(expected).max()
    np.testing.assert_allclose(coarse, expected, rtol=0, atol=1e-14 * scale)
    np.testing.assert_array_equal(coarse, np.asarray(coarse).T)


def test_operator_dependent_interpolation_is_linear_for_constant_coefficients():
    grid = Grid((9, 11))
    c = Coarsening(grid.shape, (1, 1), (False, False))
    stencil = diffusion_stencil(2.0, grid)
    one = OperatorDependent().build(stencil, c, grid.boundary)
    two = Linear().build(stencil, c, grid.boundary)
    # On the axes exactly; between four nodes by the mean of what is there.
    coarse = jnp.asarray(np.random.default_rng(0).normal(size=c.num_coarse))
    np.testing.assert_allclose(one.prolong(coarse), two.prolong(coarse), atol=1e-14)


def test_operator_dependent_interpolation_across_a_jump():
    """In 1-D it is exact: the residual at in-between nodes vanishes."""
    grid = Grid(9)
    stencil = diffusion_stencil(jnp.asarray(random_field((9,), 1e6)), grid)
    c = Coarsening((9,), (1,), (False,))
    P = OperatorDependent().build(stencil, c, grid.boundary)
    u = P.prolong(jnp.asarray(np.random.default_rng(0).normal(size=4)))
    residual = np.asarray(stencil(u) / stencil.diagonal)
    np.testing.assert_allclose(residual[::2], 0, atol=1e-14)


# --- between arbitrary grids ----------------------------------------------------------


@pytest.mark.parametrize("stored", [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("sizes", [((5, 4), (17, 9)), ((16, 9), (5, 7)), ((6, 6),) * 2])
def test_interpolation_of_multilinear_functions_is_exact(stored, sizes):
    f = lambda x, y: 1 + 2 * x + 3 * y + 4 * x * y

    def grid(n):
        pair = tuple(Dirichlet(f, each) for each in stored)
        return Grid(n, (2.0, 1.0), [pair, pair], (0.5, -1.0))

    source, target = grid(sizes[0]), grid(sizes[1])
    field = jnp.asarray(f(*source.mesh()))
    expected = f(*target.mesh())
    np.testing.assert_allclose(interpolate(field, source, target), expected, 1e-13)
    stack = jnp.stack([field, field]).astype(jnp.float32)
    out = interpolate(stack, source, target)
    assert out.dtype == jnp.float32 and out.shape == (2, *target.shape)
    np.testing.assert_allclose(out[1], expected, rtol=1e-5)
    closed = close_field(field, source)
    np.testing.assert_allclose(closed, f(*source.mesh(closed=True)), rtol=1e-13)


def test_interpolation_in_three_dimensions_and_around_a_period():
    f = lambda x, y, z: (1 + x) * (2 - y) * (1 + z)
    pairs = [Dirichlet(f), Dirichlet(f, stored=True), (Dirichlet(f), Neumann())]
    source, target = Grid((3, 4, 5), boundary=pairs), Grid((7, 5, 4), boundary=pairs)
    out = interpolate(jnp.asarray(f(*source.mesh())), source, target)
    np.testing.assert_allclose(out, f(*target.mesh()), rtol=1e-13)
    coarse, fine = Grid(4, boundary=Periodic()), Grid(12, boundary=Periodic())
    field = jnp.array([0.0, 3.0, 6.0, 9.0])
    out = interpolate(field, coarse, fine)
    np.testing.assert_allclose(out, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 6, 3], atol=1e-14)
    # To and fro, coinciding nodes keep their value bit for bit.
    np.testing.assert_array_equal(interpolate(out, fine, coarse), field)


def test_interpolation_refuses_another_box():
    grid = Grid((4, 4))
    for other in (
        Grid((4, 4), 2.0),
        Grid((4, 4), origin=1.0),
        Grid((4, 4), boundary=Periodic()),
    ):
        with pytest.raises(ValueError, match="interpolate: the grids cover different"):
            interpolate(jnp.ones((4, 4)), grid, other)
    with pytest.raises(ValueError, match=r"field: expected trailing shape \(4, 4\)"):
        interpolate(jnp.ones((4, 5)), grid, grid)


@pytest.mark.parametrize("name", AXES)
@pytest.mark.parametrize("n", [8, 9])
def test_coarser_grids(name, n):
    value = lambda x, y: 1 + x + 2 * y
    with_data = {
        Dirichlet: lambda c: Dirichlet(value, c.stored),
        Neumann: lambda c: Neumann(value),
        Periodic: lambda c: c,
    }
    ends = AXES[name] if isinstance(AXES[name], tuple) else (AXES[name],) * 2
    pair = tuple(with_data[type(c)](c) for c in ends)
    grid = Grid((n, n + 3), (1.0, 3.0), [pair, pair], (0.0, 1.0))
    coarse = grid.coarsen()
    assert (coarse.extent, coarse.origin) == (grid.extent, grid.origin)
    for axis in (0, 1):
        old, new = (round(g.extent[axis] / g.spacing[axis]) for g in (grid, coarse))
        assert new == (old + 1) // 2
        for side in (0, 1):
            condition = coarse.boundary[axis][side]
            assert type(condition) is type(ends[side])
            if not isinstance(condition, Periodic):
                data = getattr(condition, "value", None)
                data = getattr(condition, "flux", data)
                at = coarse.side_coordinates(axis, side)
                if name in ("stored", "neumann"):
                    np.testing.assert_allclose(data, value(*at), rtol=1e-13)
                assert np.shape(data) == coarse.side_shape(axis)


# --- grids ----------------------------------------------------------------------------


def test_nodes():
    cases = {
        "dirichlet": (4, 1 / 5, 1 / 5),
        "stored": (4, 1 / 3, 0.0),
        "neumann": (4, 1 / 3, 0.0),
        "periodic": (4, 1 / 4, 0.0),
        "dirichlet-neumann": (4, 1 / 4, 1 / 4),
        "neumann-stored": (4, 1 / 3, 0.0),
    }
    for name, (n, spacing, first) in cases.items():
        grid = Grid(n, 2.0, [AXES[name]], -1.0)
        np.testing.assert_allclose(grid.spacing[0], 2 * spacing)
        nodes = 2 * (first + spacing * np.arange(n)) - 1
        np.testing.assert_allclose(grid.coordinates(0), nodes, atol=1e-15)
        closed = grid.coordinates(0, closed=True)
        assert len(closed) == grid.closed_shape[0]
        ends = closed[0], closed[-1] + (2 * spacing if name == "periodic" else 0)
        np.testing.assert_allclose(ends, (-1, 1))
        # Cells fill the box, less half a cell at ends that store no nodes.
        volume = grid.cell_weights().sum() * grid.spacing[0]
        np.testing.assert_allclose(volume, 2 - spacing * sum(grid.margins[0]))


def test_imposed_values():
    f = lambda x, y: x + 2 * y
    pair = (Dirichlet(f, stored=True), Neumann())
    grid = Grid((4, 5), boundary=[pair, (Dirichlet(7.0), Dirichlet(-1.0, stored=True))])
    out = grid.impose(jnp.zeros((2, 4, 5)))
    x, y = grid.mesh()
    np.testing.assert_allclose(out[1, 0, :-1], f(x, y)[0, :-1])
    assert jnp.all(out[:, :, -1] == -1) and jnp.all(out[:, 1:, :-1] == 0)
    mask = grid.dirichlet_mask()
    assert mask is not None and mask.sum() == 4 + 5 - 1
    assert Grid((4, 5)).dirichlet_mask() is None
    bare = grid.homogeneous()
    assert jnp.all(bare.impose(jnp.ones((4, 5)))[0] == 0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (((2, 3, 4, 5),), "num_points: expected one to three axes, got 4"),
        (((0, 4),), "num_points: axis 0 has 0 points.* at least 1"),
        ((1, 1.0, Neumann()), r"axis 0 has 1 points.*\(neumann, neumann\).*least 3"),
        ((2, 1.0, Periodic()), "axis 0 has 2 points.*periodic.* at least 3"),
        (((4, 4), (1.0,)), r"extent: expected one number or 2 of them, got \(1.0,\)"),
        (((4, 4), -1.0), "extent: expected positive lengths"),
        (((4, 4), float("nan")), "extent: expected positive lengths"),
        (((4, 4), 1.0, [Periodic()]), r"boundary: expected .* \(2 of them\)"),
        (
            ((4, 4), 1.0, [(Periodic(), Neumann()), Neumann()]),
            "boundary: axis 0 is periodic on one side only",
        ),
        (((4, 4), 1.0, [(Neumann(),) * 3, Neumann()]), "boundary: axis 0 needs one"),
        (
            ((4, 5), 1.0, Dirichlet(np.ones(3))),
            r"boundary: dirichlet value on axis 0, low side: .*\(5,\), got .*\(3,\)",
        ),
        (
            ((4, 5), 1.0, [Neumann(), (Dirichlet(), Neumann(np.ones((2, 2))))]),
            r"neumann flux on axis 1, high side: .*shape \(4,\), got shape \(2, 2\)",
        ),
        (((4, 4), 1.0, Dirichlet(), (1.0, 2.0, 3.0)), "origin: expected one number"),
    ],
)
def test_wrong_grids(arguments, message):
    with pytest.raises(ValueError, match=message):
        Grid(*arguments)


def test_wrong_fields():
    grid = Grid((3, 4))
    with pytest.raises(ValueError, match=r"coefficient: expected .*\(3, 4\) or \(5, 6"):
        diffusion_stencil(np.ones((4, 3)), grid)
    bad = np.ones((3, 4))
    for value in (np.nan, -1.0, 0.0, np.inf):
        bad[1, 2] = value
        with pytest.raises(ValueError, match=r"got .* at index \(1, 2\) \(1 bad of 12"):
            diffusion_stencil(bad, grid)
    with pytest.raises(ValueError, match="coefficient: expected finite values above 0"):
        diffusion_stencil(-2.0, grid)
    with pytest.raises(ValueError, match="source: expected a number or an array"):
        source_vector(np.ones(3), 1.0, grid)
    with pytest.raises(ValueError, match="reaction: expected a number or an array"):
        diffusion_stencil(1.0, grid, reaction=np.ones(3))
    with pytest.raises(ValueError, match="coefficient: expected real values"):
        diffusion_stencil(np.ones((3, 4), complex), grid)
    assert close_coefficient(np.ones((3, 4), int), grid).shape == (5, 6)
    with pytest.raises(ValueError, match="coarsen: a grid of"):
        Grid(3, boundary=Periodic()).coarsen()
