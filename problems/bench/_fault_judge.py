"""What a solve claims beside what is true of it."""

import collections
import functools
from typing import Any

import numpy as np
import scipy.sparse.linalg as spla

from ._fault_cases import (
    SIZE,
    Systems,
    preconditioners,
    systems,
)
from ._fault_solves import Ends
from ._methods import RESULT_NAMES

MUST_BE_ZERO = (
    "silent_failures",
    "false_failures",
    "wrong_gradients",
    "misreported",
    "disturbed",
)
# How far the reported residual may be from the recomputed one, rounding apart.
_REPORTED = {"float32": 1e-3, "float64": 1e-10}
_SUCCESS = RESULT_NAMES.index("successful")


def judge(
    cases: Systems, ends: Ends, rtol: float, solved=None, by_cg=None
) -> dict[str, Any]:
    """The counts of `fault_cells` for a batch of solves.

    **Arguments:**

    - `cases`, `ends`: the systems and how they ended.
    - `rtol`: the relative tolerance that was asked for.
    - `solved`, `by_cg`: in how many steps the same method of SciPy, and its `cg`, solve
        A x = b and Aᵀ y = g, NaN where they do not or need not (see `solved_by_scipy`).
        Default: they solve none.
    """
    success = ends.outcome == _SUCCESS
    residual, rounding = relative_residuals(cases.A, ends.value, cases.b)
    none = np.full((2, len(success)), np.nan)
    solved = none if solved is None else solved
    by_cg = none if by_cg is None else by_cg
    due = ~np.isnan(solved)
    false = ~success & due[0]
    apart = np.abs(ends.num_steps - solved[0])[success & due[0]]
    wrong, given = np.zeros((2, len(success)), bool)
    if ends.d_vector is not None:
        wrong, given = _judge_gradients(cases, ends, rtol, success)
        false = false | (~given & due.all(0))
    return {
        "outcomes": dict(collections.Counter(RESULT_NAMES[k] for k in ends.outcome)),
        "silent_failures": int((success & ~meets(rtol, residual, rounding)).sum()),
        "false_failures": int(false.sum()),
        "wrong_gradients": int(wrong.sum()),
        "misreported": int(_misreported(cases, ends, residual, rounding).sum()),
        "disturbed": 0,
        "worst": float(residual[success].max() / rtol) if success.any() else None,
        "due": int(due[0].sum()),
        "behind_cg": int((~success & ~due[0] & ~np.isnan(by_cg[0])).sum()),
        "apart": int(apart.max()) if apart.size else None,
        "gradients": None if ends.d_vector is None else int(given.sum()),
    }


def relative_residuals(A, x, b) -> tuple[np.ndarray, np.ndarray]:
    """‖b − A x‖/‖b‖ of a batch, recomputed, and what rounding may add to it.

    In NumPy's longest floating-point type. The second is the a-priori bound for the
    residual in the precision of the data, (n + 4) (ε/2) ‖|A||x| + |b|‖/‖b‖.
    """
    unit = (A.shape[-1] + 4) * float(np.finfo(A.dtype).eps) / 2
    A, x, b = (np.asarray(v).astype(np.longdouble) for v in (A, x, b))
    scale = np.linalg.norm(b, axis=1)
    with np.errstate(all="ignore"):
        product = (A @ x[..., None])[..., 0]
        sizes = (np.abs(A) @ np.abs(x)[..., None])[..., 0] + np.abs(b)
        residual = np.linalg.norm(b - product, axis=1) / scale
        rounding = unit * np.linalg.norm(sizes, axis=1) / scale
    return residual.astype(float), rounding.astype(float)


def meets(rtol: float, residual: np.ndarray, rounding: np.ndarray) -> np.ndarray:
    """Whether a residual is rtol but for rounding, which may excuse ten times rtol."""
    return residual <= _limit(rtol, rounding)


def _limit(rtol: float, rounding: Any) -> Any:
    return np.fmin(rtol + rounding, 10 * rtol)


def _misreported(cases: Systems, ends: Ends, residual, rounding) -> np.ndarray:
    """Where the relative residual reported is not the true one."""
    reported = ends.reported.astype(float)
    with np.errstate(all="ignore"):
        allowed = _REPORTED[cases.A.dtype.name] * residual + rounding
        same = np.abs(reported - residual) <= allowed
    return ~same & (np.isfinite(reported) | np.isfinite(residual))


def _judge_gradients(cases: Systems, ends: Ends, rtol: float, success):
    """Which gradients are wrong, and which are there at all."""
    assert ends.d_matrix is not None and ends.d_vector is not None
    x, adjoint = (np.asarray(v, float) for v in (ends.value, ends.d_vector))
    d_matrix = np.asarray(ends.d_matrix, float)
    given = ~(np.isnan(adjoint).all(1) & np.isnan(d_matrix).all((1, 2)))
    transposed = cases.A.swapaxes(1, 2)
    residual, rounding = relative_residuals(transposed, ends.d_vector, cases.g)
    right = meets(rtol, residual, rounding)
    eps = float(np.finfo(cases.A.dtype).eps)
    outer = -adjoint[:, :, None] * x[:, None, :]
    with np.errstate(all="ignore"):
        same = np.abs(d_matrix - outer) <= 2 * eps * np.abs(outer)
    right &= ~success | same.all((1, 2))
    for k in np.flatnonzero(np.isfinite(cases.A).all((1, 2)) & given):
        dense, g = transposed[k].astype(float), cases.g[k].astype(float)
        values = np.linalg.svd(dense, compute_uv=False)
        if values[-1] > 1e-10 * values[0]:
            error = np.linalg.norm(adjoint[k] - np.linalg.solve(dense, g))
            left = _limit(rtol, rounding[k]) * np.linalg.norm(g)
            # The last term is for the dense solve.
            size = left + 1e-14 * SIZE * values[0] * np.linalg.norm(adjoint[k])
            right[k] &= error <= size / values[-1]
    return given & ~right, given


_DEFINITE = frozenset({"SPD", "near-singular"})
_SEMIDEFINITE = _DEFINITE | {"singular consistent"}
_SOLVABLE = {
    "cg": _SEMIDEFINITE,
    "minres": _SEMIDEFINITE | {"indefinite"},
    "gmres": _SEMIDEFINITE | {"indefinite", "nonsymmetric"},
}


@functools.cache
def solved_by_scipy(
    method: str,
    kind: str,
    m_kind: str,
    seeds: tuple[int, ...],
    base: int,
    dtype: str,
    rtol: float,
    max_steps: int,
) -> np.ndarray:
    """Steps that a method of SciPy takes on A x = b and Aᵀ y = g; NaN where it fails.

    Solved is what meets ‖b − A x‖ ≤ 1.01 rtol ‖b‖, recomputed, where the tolerance is
    within reach of the data's precision: rounding each entry of x and b changes the
    residual by at most rtol/4. `cg` and `gmres` are asked for rtol. `minres` stops by a
    test of another kind, so it is run as far as it goes; its residual need not stay
    where it was once, hence it has to have been rtol/2 at most.

    NaN also where M is neither absent, Jacobi's nor "SPD", or not definite; where A is
    not of a kind for the method; and, for the kinds that should be, where A as rounded
    is not definite.

    **Arguments:**

    - `method`: "cg", "minres" or "gmres" (not restarted).
    - `kind`, `m_kind`, `seeds`, `base`, `dtype`: which systems.
    - `rtol`, `max_steps`: what it is allowed; `minres` and `gmres` 20 n steps at most,
        which is long after they have come as far as they can.
    """
    steps = np.full((2, len(seeds)), np.nan)
    jacobi = m_kind == "Jacobi"
    if kind not in _SOLVABLE[method] or m_kind not in ("none", "Jacobi", "SPD"):
        return steps
    cases = systems(kind, seeds, base, dtype)
    M = preconditioners(m_kind, cases, seeds, base, dtype)
    for k, A in enumerate(cases.A):
        diagonal = np.diag(A)
        if method != "gmres" and jacobi and diagonal.min() <= 0:
            continue
        if kind in _DEFINITE and np.linalg.eigvalsh(A.astype(float))[0] <= 0:
            continue
        inverse = M[k] if m_kind == "SPD" else None
        inverse = np.diag(1 / diagonal) if jacobi else inverse
        for side, (matrix, b) in enumerate(((A, cases.b[k]), (A.T, cases.g[k]))):
            steps[side, k] = _steps(method, matrix, inverse, b, rtol, max_steps)
    return steps


def _steps(method: str, A, M, b, rtol: float, max_steps: int) -> float:
    """Steps after which a method of SciPy meets the tolerance, NaN if it never does."""

    seen: list[Any] = []
    if method != "cg":
        max_steps = min(max_steps, 20 * len(b))
    if method == "minres":
        keep = lambda x: seen.append(np.copy(x))
        spla.minres(A, b, rtol=1e-300, maxiter=max_steps, M=M, callback=keep)
        x, steps, bound = np.array(seen), np.arange(1, len(seen) + 1), rtol / 2
    else:
        options: Any = dict(rtol=rtol, atol=0.0, M=M, callback=seen.append)
        if method == "cg":
            last, _ = spla.cg(A, b, maxiter=max_steps, **options)
        else:
            options |= dict(restart=len(b), callback_type="pr_norm")
            last, _ = spla.gmres(A, b, maxiter=max_steps // len(b), **options)
        x, steps, bound = last[None], np.array([len(seen)]), 1.01 * rtol
    many = lambda v: np.broadcast_to(v, (len(x), *v.shape))
    residual, rounding = relative_residuals(many(A), x, many(b))
    solved = (residual <= bound) & (rounding <= (SIZE + 4) * rtol / 4)
    return float(steps[np.argmax(solved)]) if solved.any() else np.nan
