"""Matrices from files: those of the SuiteSparse collection, and one's own."""

import inspect
import os
import pathlib
import zipfile
from typing import Any

import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Inexact

from sciml.linear import from_scipy

_SUFFIXES = (".npz", ".mtx", ".mtx.gz")


def load_matrix(
    name: str,
    folder: str | os.PathLike | None = None,
    *,
    tags: object | frozenset[object] = lx.positive_semidefinite_tag,
) -> tuple[lx.AbstractLinearOperator, Inexact[Array, " n"]]:
    """A and b = A·1 for a matrix that is stored in a file, so that the solution is 1.

    Reads SciPy's `.npz` (`scipy.sparse.save_npz`) and Matrix Market's `.mtx` and
    `.mtx.gz`, the format in which the SuiteSparse collection is handed out. In double
    precision; without `jax_enable_x64` the system is rounded to single, where
    badly conditioned matrices lose their definiteness.

    **Arguments:**

    - `name`: the file's name without its ending, for instance "bcsstk16".
    - `folder`: where it is. Default: the folder "matrices" of the one that the
        environment variable `SCIML_DATA` names.
    - `tags`: lineax tags, default positive semidefinite; symmetry is then checked.

    **Raises:** `FileNotFoundError` where there is no folder, or no such matrix in it
    (the message lists those that are); `ValueError` for a file that cannot be read, and
    for a matrix that is not square.

    !!! example

        ```python
        import tempfile
        import scipy.sparse as sp
        import problems

        with tempfile.TemporaryDirectory() as folder:
            sp.save_npz(f"{folder}/line.npz", sp.eye(5, format="csr"))
            A, b = problems.load_matrix("line", folder)
        ```
    """
    import scipy.io
    import scipy.sparse as sp

    place = _folder(folder)
    for suffix in _SUFFIXES:
        path = place / f"{name}{suffix}"
        if path.is_file():
            break
    else:
        known = ", ".join(_names(place)) or "no matrix at all"
        raise FileNotFoundError(
            f"name: no matrix {name!r} ({', '.join(_SUFFIXES)}) in {place}; there is "
            f"{known}."
        )
    try:
        if suffix == ".npz":
            # (Given a name, NumPy leaves a file open that is not an archive.)
            with path.open("rb") as file:
                found = sp.load_npz(file)
        else:
            # (SciPy 1.14 knows matrices only; from 1.18 on their default is gone.)
            known = inspect.signature(scipy.io.mmread).parameters
            kind = {"spmatrix": False} if "spmatrix" in known else {}
            found = scipy.io.mmread(path, **kind)
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a readable sparse matrix ({error}).") from error
    matrix: Any = sp.csr_matrix(found)
    size, num_columns = matrix.shape
    if size != num_columns:
        raise ValueError(f"{path}: expected a square matrix, got {matrix.shape}.")
    A = from_scipy(matrix, tags)
    b = matrix @ np.ones(size)
    return A, jnp.asarray(b.astype(A.out_structure().dtype))


def matrix_names(folder: str | os.PathLike | None = None) -> list[str]:
    """The names that `load_matrix` knows in a folder.

    **Arguments:** `folder`, and what is raised without it, as for `load_matrix`.
    """
    return _names(_folder(folder))


def _folder(folder: str | os.PathLike | None) -> pathlib.Path:
    if folder is not None:
        place = pathlib.Path(folder)
        if not place.is_dir():
            raise FileNotFoundError(f"folder: there is no folder {place}.")
        return place
    data = os.environ.get("SCIML_DATA")
    if not data:
        raise FileNotFoundError(
            "folder: give the folder of the matrices, or set the environment variable "
            "SCIML_DATA to the folder that has them in its subfolder 'matrices'."
        )
    place = pathlib.Path(data) / "matrices"
    if not place.is_dir():
        raise FileNotFoundError(
            f"SCIML_DATA is {data}, but there is no folder {place}; give the folder of "
            "the matrices."
        )
    return place


def _names(place: pathlib.Path) -> list[str]:
    found = set()
    for path in place.iterdir():
        for suffix in _SUFFIXES:
            if path.name.endswith(suffix):
                found.add(path.name.removesuffix(suffix))
    return sorted(found)
