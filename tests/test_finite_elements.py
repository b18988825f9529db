"""Finite-element problems: observed orders, rigid motions, the patch test."""

# Wrong arguments are the point here, and NumPy takes JAX scalars.
# pyright: reportArgumentType=false, reportCallIssue=false

import json
import sys

import jax.random as jr
import lineax as lx
import numpy as np
import pytest
import scipy.sparse.linalg as spla
from linear_cases import outcome, slope

import problems
import sciml
from problems.cli import main
from sciml.grids import CheckerboardField, LogNormalField, SquaredExponentialField
from sciml.linear import PaddedRowsOperator, from_skfem, to_scipy

pytest.importorskip("skfem")


def direct(found):
    matrix = to_scipy(found.operator).tocsc()
    return np.asarray(spla.spsolve(matrix, np.asarray(found.vector)))


def exact(x, y, z=0.0):
    return np.sin(2 * x + y - z)


def coefficient(x, y, *rest):
    return 2 + x * y


def source(x, y, *rest):
    """−∇·(a∇u) of the two above."""
    phase = 2 * x + y - (rest[0] if rest else 0.0)
    flux = (2 * y + x) * np.cos(phase)
    return (2 + x * y) * (5 + len(rest)) * np.sin(phase) - flux


@pytest.mark.parametrize(
    "mesh, degree, refinements, low, high",
    [
        ("l_shape", 1, (3, 4), 1.9, 2.2),
        ("l_shape", 2, (2, 3), 2.8, 3.6),
        ("ball", 1, (3, 4), 1.9, 2.2),
        ("ball", 2, (2, 3), 2.6, 3.3),
    ],
)
def test_observed_order(mesh, degree, refinements, low, high):
    errors = []
    for number in refinements:
        found = problems.UnstructuredDiffusion(
            mesh, number, degree, coefficient, source, exact
        ).discretise()
        value = direct(found)
        error = value - exact(*found.coordinates.T)
        errors.append(np.sqrt(np.mean(error**2)))
        everywhere = np.asarray(found.expand(found.vector))
        assert np.isin(found.vector, everywhere).all()
    assert low < slope([2**r for r in refinements], errors) < high


@pytest.mark.parametrize("mesh", ["l_shape", "ball"])
def test_what_is_promised_about_them(mesh):
    problem = problems.UnstructuredDiffusion(mesh, 2)
    found = problem.discretise()
    count = {"l_shape": 233, "ball": 63}[mesh]
    assert isinstance(found.operator, PaddedRowsOperator)
    assert lx.is_positive_semidefinite(found.operator)
    assert found.operator.in_size() == count and found.block_size == 1
    assert found.coordinates.shape == (count, {"l_shape": 2, "ball": 3}[mesh])
    np.testing.assert_array_equal(found.near_null_space, np.ones((count, 1)))
    if mesh == "l_shape":
        # Graded: the nearest nodes are far nearer than the mesh is wide elsewhere.
        radii = np.sort(np.linalg.norm(found.coordinates, axis=1))
        assert radii[0] < 0.012 and not (found.coordinates > 0).all(1).any()
    matrix = to_scipy(found.operator).toarray()
    assert np.linalg.eigvalsh(matrix)[0] > 0
    A, b = problem.linear_system()
    np.testing.assert_array_equal(b, found.vector)
    np.testing.assert_array_equal(to_scipy(A).toarray(), matrix)


def test_random_coefficients():
    """Constants are recognised, the key matters, jumps are in the matrix."""
    plain = problems.UnstructuredDiffusion("l_shape", 1).linear_system()[0]
    make = lambda field: problems.UnstructuredDiffusion("l_shape", 1, 1, field)
    same = make(CheckerboardField(3.0, 3.0)).linear_system(key=jr.key(0))[0]
    np.testing.assert_allclose(
        to_scipy(same).toarray(), 3 * to_scipy(plain).toarray(), rtol=1e-12
    )
    problem = make(LogNormalField(SquaredExponentialField(1.1, 0.3)))
    entries = [
        to_scipy(problem.linear_system(key=jr.key(k))[0]).toarray() for k in (0, 0, 1)
    ]
    np.testing.assert_array_equal(entries[0], entries[1])
    assert not np.allclose(entries[0], entries[2])
    with pytest.raises(ValueError, match="key: a random coefficient needs one"):
        problem.linear_system()


def test_solved_on_the_device():
    """CG with Jacobi and algebraic multigrid, against SciPy's direct solve."""
    found = problems.UnstructuredDiffusion("l_shape", 2).discretise()
    expected = direct(found)
    solution = sciml.linear_solve(
        found.operator,
        found.vector,
        sciml.CG(rtol=1e-10),
        preconditioner=sciml.preconditioners.Jacobi(),
    )
    assert outcome(solution.result) == "successful"
    np.testing.assert_allclose(solution.value, expected, rtol=1e-7)
    # Zero on the boundary, the solution elsewhere.
    full = np.asarray(found.expand(solution.value))
    assert np.count_nonzero(full) == solution.value.size < full.size


# --- elasticity -----------------------------------------------------------------------

BEAMS = [
    problems.LinearElasticity((6, 2), (3.0, 0.7), young=3.0, poisson_ratio=0.4),
    problems.LinearElasticity((4, 2, 3), (3.0, 0.7, 1.1), force=(0.0, 2.0, 1.0)),
]


@pytest.mark.parametrize("beam", BEAMS, ids=["plane", "space"])
def test_rigid_motions_have_no_energy(beam):
    """They are the whole null space of the matrix that nothing holds."""
    matrix, load, points = beam.unclamped()
    ndim = points.shape[1]
    modes = problems.rigid_body_modes(points)
    assert modes.shape == (points.size, {2: 3, 3: 6}[ndim])
    assert np.linalg.matrix_rank(modes) == modes.shape[1]
    size = abs(matrix).max()
    assert np.abs(matrix @ modes).max() < 1e-13 * size
    assert np.linalg.matrix_rank(matrix.toarray()) == points.size - modes.shape[1]
    # The load is the force times the volume.
    total = load.reshape(-1, ndim).sum(0)
    np.testing.assert_allclose(total, np.prod(beam.extent) * np.array(beam.force))
    found = beam.discretise()
    free = np.flatnonzero(np.repeat(points[:, 0] > 0, ndim))
    held = to_scipy(found.operator).toarray()
    np.testing.assert_allclose(held, matrix.toarray()[np.ix_(free, free)])
    assert np.linalg.eigvalsh(held)[0] > 0
    assert found.block_size == ndim and found.near_null_space.shape[0] == free.size
    np.testing.assert_array_equal(found.coordinates, np.repeat(points, ndim, 0)[free])
    # Restricted to the free nodes the same motions, about another centre.
    both = np.hstack([found.near_null_space, modes[free]])
    assert np.linalg.matrix_rank(both) == modes.shape[1]


@pytest.mark.parametrize("beam", BEAMS, ids=["plane", "space"])
def test_patch(beam):
    """A linear displacement on the boundary is reproduced inside, exactly."""
    matrix, load, points = beam.unclamped()
    ndim = points.shape[1]
    gradient = np.random.default_rng(0).normal(size=(ndim, ndim))
    linear = (points @ gradient.T).ravel()
    ends = (points <= 1e-12) | (points >= np.array(beam.extent) - 1e-12)
    boundary = np.flatnonzero(np.repeat(ends.any(1), ndim))
    operator, vector, expand = from_skfem(matrix, 0 * load, D=boundary, x=linear)
    value = np.linalg.solve(operator.as_matrix(), vector)
    assert value.size > 0
    np.testing.assert_allclose(expand(vector * 0 + value), linear, atol=1e-12)


def test_a_beam_bends_as_the_book_says():
    """Tip deflection of a slender cantilever: q L⁴/(8 E' I) with E' = E/(1 − ν²)."""
    errors = []
    for cells in (4, 8, 16):
        beam = problems.LinearElasticity((10 * cells, cells), (10.0, 1.0))
        found = beam.discretise()
        value = direct(found)
        tip = value[1::2][found.coordinates[::2, 0] == 10.0].mean()
        # With the shear's share, q L²/(2 κ G A), κ = 5/6.
        bending = 10.0**4 / (8 / (1 - 0.3**2) / 12)
        shear = 10.0**2 / (2 * 5 / 6 / (2 * 1.3))
        errors.append(abs(-tip / (bending + shear) - 1))
    assert errors[-1] < 0.02 and slope([4, 8, 16], errors) > 1.5


# --- by name, and on the command line -------------------------------------------------


def test_registry():
    sizes = {"fem-l-shape": 90, "fem-ball": 7, "elasticity-2d": 160}
    sizes |= {"fem-disc-heat": 24}
    assert set(problems.system_names()) == {*sizes, "elasticity-3d"}
    for name, size in sizes.items():
        system = problems.get_system(name, refinements=1)
        assert isinstance(system, problems.AbstractLinearSystem)
        A, b = system.linear_system(key=jr.key(0))
        assert A.in_size() == b.size == size
    beam = problems.get_system("elasticity-3d")
    assert isinstance(beam, problems.LinearElasticity)
    assert beam.num_cells == (32, 8, 8)
    with pytest.raises(ValueError, match="Unknown system 'fem-bal'.*mean 'fem-ball'"):
        problems.get_system("fem-bal")
    with pytest.raises(ValueError, match="'fem-ball' has no grid"):
        problems.get_problem("fem-ball")


def test_command_line(tmp_path, capsys):
    line = "solve fem-ball --refinements 1 --preconditioner jacobi --json --output "
    assert main([*line.split(), str(tmp_path / "u")]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["unknowns"] == 7 and facts["result"] == "successful"
    assert "num_points" not in facts
    with np.load(facts["output"]) as arrays:
        assert arrays["coordinates"].shape == (7, 3) and arrays["solution"].size == 7


@pytest.mark.parametrize(
    "line, message",
    [
        ("solve fem-bal", "Did you mean 'fem-ball'?"),
        ("solve fem-ball --refinements 0", "refinements: expected at least 1, got 0"),
        ("solve fem-ball --points 3", "--points: 'fem-ball' has a mesh"),
        ("solve fem-ball --contrast 3", "--contrast: 'fem-ball' has a mesh"),
        ("solve fem-ball --preconditioner multigrid", "multigrid needs a grid"),
        ("solve darcy --refinements 3", "--refinements: 'darcy' has a grid"),
        ("predict none --problem fem-ball", "'fem-ball' has no grid"),
    ],
)
def test_usage(line, message, capsys):
    assert main(line.split()) == 2
    assert message in capsys.readouterr().err


# --- mistakes -------------------------------------------------------------------------


def test_without_scikit_fem(monkeypatch):
    monkeypatch.setitem(sys.modules, "skfem", None)
    with pytest.raises(ImportError, match=r"pip install 'sciml-solvers\[fem\]'"):
        problems.UnstructuredDiffusion(num_refinements=1).discretise()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"mesh": "disc"}, "mesh: expected 'l_shape' or 'ball', got 'disc'"),
        ({"num_refinements": 0}, "num_refinements: expected at least 1, got 0"),
        ({"degree": 3}, "degree: expected 1 or 2, got 3"),
    ],
)
def test_mistakes_with_meshes(arguments, message):
    with pytest.raises(ValueError, match=message):
        problems.UnstructuredDiffusion(**arguments)


def test_a_coefficient_that_is_not_positive():
    bad = problems.UnstructuredDiffusion(num_refinements=1, coefficient=lambda x, y: x)
    with pytest.raises(ValueError, match="coefficient: expected finite values above 0"):
        bad.discretise()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_cells": (3,)}, "num_cells: expected two or three numbers"),
        ({"num_cells": (3, 0)}, "num_cells: .* at least 1 each, got"),
        ({"extent": (1.0, 2.0, 3.0)}, "extent: expected one positive length or 2"),
        ({"extent": -1.0}, "extent: expected one positive length"),
        ({"young": 0.0}, "young: expected a positive number, got 0.0"),
        ({"poisson_ratio": 0.5}, "poisson_ratio: expected −1 < ν < 1/2, got 0.5"),
        ({"force": (1.0,)}, "force: expected 2 finite numbers"),
    ],
)
def test_mistakes_with_beams(arguments, message):
    with pytest.raises(ValueError, match=message):
        problems.LinearElasticity(**arguments)
    with pytest.raises(ValueError, match="points: expected two or three axes, got 1"):
        problems.rigid_body_modes(np.ones((3, 1)))
