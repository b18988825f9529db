"""A sample of `sciml bench faults`: no solver claims what it has not, or gives up.

The whole matrix, 20 seeds of everything, is the benchmark; its record is in
docs/benchmarks.
"""

# pyright: reportArgumentType=false

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import problems.bench
from problems.bench import _faults, fault_cells, fault_totals, rival_cells
from problems.bench._fault_cases import (
    PRECONDITIONERS,
    SYSTEMS,
    Systems,
    structure_of,
    systems,
)
from problems.bench._fault_judge import MUST_BE_ZERO, judge
from problems.bench._fault_solves import Ends
from problems.bench._methods import RESULT_NAMES
from problems.cli import main
from sciml.evaluation import read_records
from sciml.linear import AbstractKrylov
from sciml.linear._status import CONVERGED, MAX_STEPS

# Which solver sees which structures of M in which mode: every kind of A with every kind
# of M in either precision, in few compiled programs.
SAMPLE = [
    ("CG", "float64", "jit", "none matrix", (0, 1)),
    ("CG", "float64", "vmap", "matrix", (2, 3)),
    ("FlexibleCG", "float64", "eager", "Jacobi bent", (4,)),
    ("MINRES", "float64", "grad", "matrix", (5,)),
    ("GMRES", "float64", "vmap", "bent", (6,)),
    ("CG", "float32", "grad", "none bent", (1,)),
    ("FlexibleCG", "float32", "vmap", "matrix", (7,)),
    ("MINRES", "float32", "jit", "Jacobi matrix", (8,)),
    ("GMRES", "float32", "eager", "matrix", (9,)),
]
STEPS = 600


def kinds(structures: str) -> list[tuple[str, str]]:
    chosen = [m for m in PRECONDITIONERS if structure_of(m) in structures.split()]
    return list(itertools.product(SYSTEMS, chosen))


@pytest.mark.parametrize("name, dtype, mode, structures, seeds", SAMPLE)
def test_no_solver_lies(name, dtype, mode, structures, seeds):
    cells = fault_cells(
        name,
        _faults.SOLVERS[name],
        dtype,
        mode,
        seeds=seeds,
        kinds=kinds(structures),
        max_steps=STEPS,
    )
    faults = [cell for cell in cells if any(cell[count] for count in MUST_BE_ZERO)]
    assert not faults
    total = fault_totals(cells)
    # The sample is not all failures, and where SciPy's CG succeeds so do we.
    assert total["successes"] > 0 and total["solves"] > len(seeds) * 7
    if structures != "bent":
        assert total["due"] > 0
    if name == "CG" and dtype == "float64":
        for cell in cells:
            if cell["A"] == "SPD" and cell["M"] in ("none", "SPD") and mode == "jit":
                assert cell["due"] == 2 and cell["apart"] <= 2


def test_the_sample_is_stratified():
    for dtype in ("float32", "float64"):
        covered = [kinds(row[3]) for row in SAMPLE if row[1] == dtype]
        everything = set(itertools.product(SYSTEMS, PRECONDITIONERS))
        assert set(itertools.chain(*covered)) == everything
        assert {row[2] for row in SAMPLE if row[1] == dtype} == set(_faults.MODES)


# --- the checker itself ---------------------------------------------------------------


class _Stub(AbstractKrylov):
    """Returns zero at once, and says what it is told to say."""

    rtol: Any = None
    atol: Any = None
    max_steps: int | None = None
    history_length: int | None = None
    status: int = CONVERGED
    reported: float = 0.0

    def check_operator(self, operator):
        return False

    def check_preconditioner(self, preconditioner):
        pass

    def iterate(self, A, M, b, x0):
        stats = {"relative_residual": jnp.asarray(self.reported), "num_steps": 0}
        return 0 * b, jnp.asarray(self.status, jnp.int32), stats


def liar(**arguments):
    """Always successful, with a residual of zero."""
    return _Stub(**arguments)


def quitter(**arguments):
    """Never successful, and honest about it."""
    return _Stub(**arguments, status=MAX_STEPS, reported=1.0)


def test_a_liar_is_caught():
    arguments = dict(seeds=(0, 1), kinds=[("SPD", "none"), ("NaN entry", "none")])
    for cell in fault_cells("liar", liar, "float64", "grad", **arguments):
        assert cell["outcomes"] == {"successful": 2}
        assert cell["silent_failures"] == cell["misreported"] == 2
        # The adjoint solve claims success as well, and λ = 0 is given as a gradient.
        assert cell["wrong_gradients"] == cell["gradients"] == 2
        assert cell["false_failures"] == 0


def test_a_quitter_is_caught():
    arguments = dict(seeds=(0, 1), kinds=[("SPD", "none"), ("indefinite", "none")])
    definite, indefinite = fault_cells(
        "quitter", quitter, "float64", "jit", **arguments
    )
    assert definite["outcomes"] == {"max_steps_reached": 2}
    assert definite["false_failures"] == definite["due"] == 2
    assert indefinite["false_failures"] == indefinite["due"] == 0
    for cell in (definite, indefinite):
        assert cell["silent_failures"] == cell["misreported"] == 0


def ends(cases: Systems, x, outcome="successful", **changes) -> Ends:
    """What an honest solver with the solutions x would return."""
    residual = cases.b - (cases.A @ x[..., None])[..., 0]
    reported = np.linalg.norm(residual, axis=1) / np.linalg.norm(cases.b, axis=1)
    codes = np.full(len(x), RESULT_NAMES.index(outcome))
    return Ends(codes, x, reported, np.ones(len(x)))._replace(**changes)


def test_the_judge():
    cases = systems("nonsymmetric", (0, 1), 7, "float64")
    x = np.linalg.solve(cases.A, cases.b[..., None])[..., 0]
    honest = judge(cases, ends(cases, x), 1e-8)
    assert not any(honest[name] for name in MUST_BE_ZERO) and honest["worst"] < 1e-3
    off = x + np.linalg.solve(cases.A, 1.2e-8 * cases.b[..., None])[..., 0]
    assert judge(cases, ends(cases, off), 1e-8)["silent_failures"] == 2
    assert judge(cases, ends(cases, off), 1e-8)["misreported"] == 0
    assert judge(cases, ends(cases, off, "stagnated"), 1e-8)["silent_failures"] == 0
    wrong = np.array([0.0, 1e-3])
    assert judge(cases, ends(cases, off, reported=wrong), 1e-8)["misreported"] == 2
    nan = ends(cases, np.full_like(x, np.nan))
    assert judge(cases, nan, 1e-8)["silent_failures"] == 2
    # What rounding the residual in float32 explains is no lie, up to ten times rtol.
    single = Systems(*(part.astype(np.float32) for part in cases))
    rounded = ends(single, x.astype(np.float32))
    assert judge(single, rounded, 1e-8)["silent_failures"] == 2
    assert judge(single, rounded, 1e-6)["silent_failures"] == 0
    # SciPy solved the first system only.
    due = np.array([[5, np.nan], [5, np.nan]])
    stuck = judge(cases, ends(cases, x, "stagnated"), 1e-8, due)
    assert stuck["false_failures"] == stuck["due"] == 1


def test_the_judge_of_gradients():
    cases = systems("nonsymmetric", (0, 1), 7, "float64")
    x = np.linalg.solve(cases.A, cases.b[..., None])[..., 0]
    adjoint = np.linalg.solve(cases.A.swapaxes(1, 2), cases.g[..., None])[..., 0]
    outer = -adjoint[:, :, None] * x[:, None, :]
    nan = np.full_like(adjoint, np.nan)
    other = np.linalg.solve(cases.A, cases.g[..., None])[..., 0]
    half = np.where(np.arange(adjoint.shape[1]) % 2 == 0, adjoint, np.nan)
    for d_vector, d_matrix, wrong, given in (
        (adjoint, outer, 0, 2),
        (nan, np.full_like(outer, np.nan), 0, 0),
        (nan, outer, 2, 2),
        (half, outer, 2, 2),
        (other, -other[:, :, None] * x[:, None, :], 2, 2),
        (adjoint, outer.swapaxes(1, 2), 2, 2),
        (adjoint * (1 + 1e-6), outer * (1 + 1e-6), 2, 2),
    ):
        done = ends(cases, x, d_matrix=d_matrix, d_vector=d_vector)
        found = judge(cases, done, 1e-8)
        assert (found["wrong_gradients"], found["gradients"]) == (wrong, given)
    # NaN where SciPy solves both systems is a false failure.
    done = ends(cases, x, d_matrix=outer * np.nan, d_vector=nan)
    assert judge(cases, done, 1e-8, np.ones((2, 2)))["false_failures"] == 2


def test_a_disturbed_neighbour_is_caught(monkeypatch):
    """As if one NaN in a batch made the others stop a little early."""
    solve = _faults.solve_batch

    def disturbed(cases, M, solver, mode):
        found = solve(cases, M, solver, mode)
        bad = not np.isfinite(cases.A).all()
        return found._replace(value=found.value * (1 + 1e-10 * bad))

    arguments = dict(seeds=(2, 3), kinds=[("NaN entry", "SPD")], max_steps=STEPS)
    for patch, expected in ((solve, 0), (disturbed, 1)):
        monkeypatch.setattr(_faults, "solve_batch", patch)
        (cell,) = fault_cells(
            "CG", _faults.SOLVERS["CG"], "float64", "vmap", **arguments
        )
        assert cell["disturbed"] == expected


# --- rivals and the command -----------------------------------------------------------


def test_rivals_get_the_same_systems():
    """On good systems they are as good as anyone, and are not accused."""
    for name in _faults.RIVALS:
        cells = rival_cells(name, seeds=(0, 1), kinds=[("SPD", "SPD")])
        cells += rival_cells(name, seeds=(0,), kinds=[("SPD", "wrong shape")])
        total = fault_totals(cells)
        assert total["within_contract"] == 0
        solved = (
            {"successful": 2} if name == "lineax.CG" else {"returned a solution": 2}
        )
        assert total["outcomes"] == solved | {"rejected": 1}
        assert not _faults.has_failed(total)


def test_the_command(monkeypatch, tmp_path, capsys):
    def short(make):
        def bench_faults(*, num_seeds, seed, on_row):
            arguments = dict(seeds=range(num_seeds), kinds=[("SPD", "none")])
            cells = fault_cells("stub", make, "float64", "jit", **arguments)
            return [fault_totals(cells)], cells

        monkeypatch.setattr(problems.bench, "bench_faults", bench_faults)

    line = f"bench faults --seeds 2 --record --record-dir {tmp_path}".split()
    short(liar)
    assert main(line) == 1
    assert "silent failures" in capsys.readouterr().out
    (record,) = read_records(tmp_path / "faults.jsonl")
    assert record.values["rows"][0]["silent_failures"] == 2
    assert record.values["outcomes"] == [{"successful": 2}]
    cell = record.values["cells"]["stub"]["float64"]["jit"]["SPD"]["none"]
    assert cell["silent_failures"] == cell["successful"] == 2
    assert record.values["arguments"]["seeds"] == 2
    short(_faults.SOLVERS["CG"])
    assert main(line) == 0
    assert main(["bench", "faults", "--seeds", "1"]) == 2
