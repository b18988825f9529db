"""Matrices from files, and iteration counts that are known for one of them."""

import gzip

import lineax as lx
import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
from linear_cases import outcome

import problems
import sciml
from sciml.linear import to_scipy

SMALL = sp.csr_matrix(np.array([[4.0, 1, 0], [1, 3, 0], [0, 0, 2]]))


@pytest.fixture
def folder(tmp_path):
    sp.save_npz(tmp_path / "one.npz", SMALL)
    scipy.io.mmwrite(tmp_path / "two.mtx", SMALL)
    (tmp_path / "three.mtx.gz").write_bytes(
        gzip.compress((tmp_path / "two.mtx").read_bytes())
    )
    (tmp_path / "notes.txt").write_text("not a matrix")
    return tmp_path


def test_formats(folder):
    assert problems.matrix_names(folder) == ["one", "three", "two"]
    for name in problems.matrix_names(folder):
        A, b = problems.load_matrix(name, folder)
        np.testing.assert_array_equal(A.as_matrix(), SMALL.toarray())
        np.testing.assert_array_equal(b, [5.0, 4.0, 2.0])
        assert lx.is_positive_semidefinite(A)
    scipy.io.mmwrite(folder / "skew.mtx", sp.triu(SMALL))
    bare, _ = problems.load_matrix("skew", folder, tags=frozenset())
    assert not lx.is_symmetric(bare)
    with pytest.raises(ValueError, match="tags: claim a symmetric"):
        problems.load_matrix("skew", folder)


def test_where_they_are_looked_for(folder, monkeypatch):
    monkeypatch.delenv("SCIML_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="environment variable SCIML_DATA"):
        problems.load_matrix("one")
    monkeypatch.setenv("SCIML_DATA", str(folder))
    with pytest.raises(
        FileNotFoundError, match="SCIML_DATA is .* no folder .*matrices"
    ):
        problems.matrix_names()
    (folder / "matrices").mkdir()
    with pytest.raises(FileNotFoundError, match="there is no matrix at all"):
        problems.load_matrix("one")
    (folder / "one.npz").rename(folder / "matrices" / "one.npz")
    assert problems.matrix_names() == ["one"]
    assert problems.load_matrix("one")[0].in_size() == 3
    with pytest.raises(FileNotFoundError, match=r"no matrix 'x' .*; there is one\."):
        problems.load_matrix("x")
    with pytest.raises(FileNotFoundError, match="folder: there is no folder nowhere"):
        problems.load_matrix("one", "nowhere")


def test_files_that_are_not_matrices(folder):
    np.savez(folder / "other.npz", a=np.ones(3))
    (folder / "cut.npz").write_bytes((folder / "one.npz").read_bytes()[:100])
    (folder / "text.mtx").write_text("hello")
    scipy.io.mmwrite(folder / "wide.mtx", SMALL[:2])
    for name in ("other", "cut", "text"):
        with pytest.raises(ValueError, match=f"{name}.*: not a readable sparse matrix"):
            problems.load_matrix(name, folder)
    with pytest.raises(ValueError, match=r"wide.mtx: expected a square .*\(2, 3\)"):
        problems.load_matrix("wide", folder)


def test_known_iteration_counts(data_folder):
    """CG without and with Jacobi, as SciPy counted them for the same matrix."""
    assert {"494_bus", "662_bus", "bcsstk16", "nos5"} <= set(problems.matrix_names())
    A, b = problems.load_matrix("494_bus")
    jacobi = sciml.preconditioners.Jacobi()
    solver = sciml.CG(rtol=1e-8, max_steps=2000)
    for preconditioner, expected in ((None, 1134), (jacobi, 393)):
        solution = sciml.linear_solve(A, b, solver, preconditioner=preconditioner)
        assert outcome(solution.result) == "successful"
        # Rounding shifts the steps of an ill-conditioned matrix.
        assert abs(int(solution.stats["num_steps"]) - expected) <= 0.03 * expected
        error = np.asarray(solution.value) - 1
        energies = [v @ (to_scipy(A) @ v) for v in (error, np.ones(b.size))]
        assert energies[0] < 1e-10 * energies[1]
