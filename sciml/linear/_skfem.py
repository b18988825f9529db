"""Assembled finite-element systems to operators, boundary values eliminated."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, DTypeLike, Inexact, Int32

from ._convert import SparseMatrix, from_scipy

# An array of numbers of dofs, or what `skfem.Basis.get_dofs` returns.
Dofs = Any


class _Expansion(eqx.Module):
    """u on the free dofs ↦ u on all dofs."""

    free: Int32[Array, " free"]
    values: Inexact[Array, " all"]

    def __call__(self, u: Inexact[Array, " free"]) -> Inexact[Array, " all"]:
        if u.shape != self.free.shape:
            raise ValueError(
                f"u: expected shape {self.free.shape}, a value per free dof, got "
                f"{u.shape}; map a batch with jax.vmap(expand)."
            )
        return self.values.astype(u.dtype).at[self.free].set(u)


def from_skfem(
    A: SparseMatrix,
    b: np.ndarray,
    *,
    D: Dofs | None = None,
    I: Dofs | None = None,
    x: np.ndarray | None = None,
    tags: object | frozenset[object] = lx.positive_semidefinite_tag,
    dtype: DTypeLike | None = None,
) -> tuple[
    lx.AbstractLinearOperator,
    Inexact[Array, " free"],
    Callable[[Inexact[Array, " free"]], Inexact[Array, " all"]],
]:
    """An assembled system with its Dirichlet dofs eliminated, ready to be solved.

    Where scikit-fem has `solve(*condense(A, b, x=x, D=D))`, write

        operator, vector, expand = from_skfem(A, b, x=x, D=D)
        u = expand(linear_solve(operator, vector).value)

    The system is A_II u_I = b_I − A_ID x_D, I the free and D the eliminated dofs;
    `expand` puts u_I and x_D together. The letters are those of `skfem.condense`.
    scikit-fem itself is not needed: any matrix and vector do. Host only, except for
    `expand`.

    **Arguments:**

    - `A`: the assembled SciPy sparse matrix of all n dofs.
    - `b`: the assembled load, of shape `(n,)`.
    - `D`: the dofs to eliminate: integers, what `Basis.get_dofs` returns, or a
        dictionary of such (a dof may be in several). Default: those not in `I`.
    - `I`: the dofs to keep, in the same forms. Default: those not in `D`; without both,
        all. If both are given every dof has to be in one of them, and in one only.
    - `x`: of shape `(n,)`: the boundary values at `D`; the rest plays no part. Default
        zero.
    - `tags`: lineax tags of the reduced matrix, default positive semidefinite; its
        symmetry is then checked. For other forms `lineax.symmetric_tag`, or
        `frozenset()`.
    - `dtype`: as for `from_scipy`.

    **Returns:** the operator on the free dofs (as `from_scipy` chooses it), the
    right-hand side in its dtype, and `expand`: a value per free dof ↦ a value per dof,
    a JAX function that can be transformed.

    **Raises:** `ValueError` where shapes or dofs do not fit together, no dof is left,
    or the tags claim a symmetry that is not there; `TypeError` if A is not a SciPy
    sparse matrix.

    !!! example

        ```python
        import numpy as np
        import scipy.sparse as sp
        import sciml

        # −u'' = 0 with linear elements on [0, 1], u(0) = 1 and u(1) = 3.
        A = sp.diags([-1.0, 2.0, -1.0], [-1, 0, 1], shape=(5, 5)).tocsr()
        x = np.array([1.0, 0.0, 0.0, 0.0, 3.0])
        system = sciml.linear.from_skfem(A, np.zeros(5), D=np.array([0, 4]), x=x)
        operator, vector, expand = system
        expand(sciml.linear_solve(operator, vector).value)  # [1., 1.5, 2., 2.5, 3.]
        ```
    """
    import scipy.sparse as sp

    if not sp.issparse(A):
        raise TypeError(
            f"A: expected a SciPy sparse matrix, got {type(A).__name__}; assemble the "
            "form first: form.assemble(basis)."
        )
    size = A.shape[0]
    if A.shape != (size, size):
        raise ValueError(f"A: expected a square matrix, got shape {A.shape}.")
    b = _vector("b", b, size)
    x = np.zeros(size, b.dtype) if x is None else _vector("x", x, size)
    fixed, free = _split(D, I, size)
    csr = sp.csr_matrix(A)[free]
    operator = from_scipy(csr[:, free], tags, dtype=dtype)
    known = np.where(np.isin(np.arange(size), fixed), x, 0)
    vector = b[free] - csr @ known
    held = operator.out_structure().dtype
    if np.iscomplexobj(vector) and not jnp.issubdtype(held, jnp.complexfloating):
        raise ValueError(
            f"b, x: are complex, but the operator is {held}; ask for a complex dtype."
        )
    # (Rounded by NumPy: JAX warns where it has to shorten a double.)
    expand = _Expansion(jnp.asarray(free, jnp.int32), jnp.asarray(known.astype(held)))
    return operator, jnp.asarray(vector.astype(held)), expand


def _split(D: Dofs | None, I: Dofs | None, size: int):
    """The eliminated and the free dofs, ascending."""
    every = np.arange(size)
    if D is None and I is None:
        return every[:0], every
    if D is None:
        free = _dofs("I", I, size)
        fixed = np.setdiff1d(every, free)
    elif I is None:
        fixed = _dofs("D", D, size)
        free = np.setdiff1d(every, fixed)
    else:
        fixed, free = _dofs("D", D, size), _dofs("I", I, size)
        both = np.intersect1d(fixed, free)
        if both.size:
            raise ValueError(
                f"D, I: expected no dof in both, but {both.size} are, the first is "
                f"{both[0]}. One of the two arguments is enough."
            )
        neither = size - fixed.size - free.size
        if neither:
            raise ValueError(
                f"D, I: expected every dof in one of them, but {neither} of {size} are "
                "in none. One of the two arguments is enough."
            )
    if free.size == 0:
        raise ValueError(f"D, I: leave none of the {size} dofs free.")
    return fixed, free


def _dofs(name: str, given: Dofs, size: int) -> np.ndarray:
    """Distinct numbers of dofs, ascending, from any of the forms that they come in."""
    if isinstance(given, dict):
        parts = [_dofs(f"{name}[{key!r}]", part, size) for key, part in given.items()]
        return np.unique(np.concatenate([np.zeros(0, int), *parts]))
    # A `skfem.DofsView` flattens to its numbers.
    numbers = given.flatten() if hasattr(given, "flatten") else np.asarray(given)
    numbers = np.asarray(numbers)
    if numbers.size == 0:
        return np.zeros(0, int)
    if numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer):
        hint = "; write np.flatnonzero(mask)" if numbers.dtype == bool else ""
        raise ValueError(
            f"{name}: expected numbers of dofs, integers of one axis, got "
            f"{numbers.dtype} of shape {numbers.shape}{hint}."
        )
    if numbers.min() < 0 or numbers.max() >= size:
        raise ValueError(
            f"{name}: expected dofs from 0 to {size - 1}, as A has rows, got "
            f"{numbers.min()} to {numbers.max()}."
        )
    return np.unique(numbers)


def _vector(name: str, given, size: int) -> np.ndarray:
    vector = np.asarray(given)
    if vector.shape != (size,):
        raise ValueError(
            f"{name}: expected shape ({size},), as A has rows, got {vector.shape}."
        )
    return vector
