"""Systems that go wrong, each in its own way, and how CG ends on them."""

from typing import Any

import numpy as np
from linear_cases import spd_matrix

N = 24
DTYPES = [np.float32, np.float64]
RTOL = {np.float32: 1e-4, np.float64: 1e-9}


def relative_residual(A, x, b):
    A, x, b = (np.asarray(v, np.float64) for v in (A, x, b))
    return np.linalg.norm(b - A @ x) / np.linalg.norm(b)


def symmetric_indefinite(size, seed):
    g = np.random.default_rng(seed).normal(size=(N, N))
    return np.eye(N) + size * (g + g.T) / 2


def singular(seed=1):
    """A singular matrix and its null vector."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(N, N)))
    return (q * np.concatenate([[0.0], np.geomspace(1, 50, N - 1)])) @ q.T, q[:, 0]


def faults() -> dict[str, tuple[Any, Any, Any, Any, set[str]]]:
    """Per name A, b, M, x0 (None: zero), and how conjugate gradients end."""
    A, eye = spd_matrix(N), np.eye(N)
    b = np.random.default_rng(3).normal(size=N)
    nan, inf = b.copy(), b.copy()
    nan[5], inf[5] = np.nan, np.inf
    spoilt = A.copy()
    spoilt[4, 4] = np.nan
    S, null = singular()
    in_range = b - null * (null @ b)
    decoupled = A.copy()
    decoupled[7], decoupled[:, 7] = 0, 0
    turned = A - 20 * eye
    bad_m = {"indefinite_preconditioner"}
    return {
        "good": (A, b, eye, None, {"successful"}),
        "M = inverse": (A, b, np.linalg.inv(A), None, {"successful"}),
        "M = -I": (A, b, -eye, None, bad_m),
        "M = 0": (A, b, 0 * eye, None, bad_m),
        "M = NaN": (A, b, np.full((N, N), np.nan), None, {"nonfinite"}),
        "M = Inf": (A, b, np.full((N, N), np.inf), None, {"nonfinite"}),
        "M indefinite": (A, b, symmetric_indefinite(2.0, 0), None, bad_m),
        "A indefinite": (turned, b, eye, None, {"indefinite_operator"}),
        "A = -A": (-A, b, eye, None, {"indefinite_operator"}),
        "A = 0": (0 * A, b, eye, None, {"infeasible"}),
        "A zero row": (decoupled, b, eye, None, {"infeasible"}),
        "A NaN": (spoilt, b, eye, None, {"nonfinite"}),
        "A singular, b in its range": (S, in_range, eye, None, {"successful"}),
        "A singular, b outside": (S, in_range + null, eye, None, {"infeasible"}),
        "b NaN": (A, nan, eye, None, {"nonfinite"}),
        "b Inf": (A, inf, eye, None, {"nonfinite"}),
        "x0 NaN": (A, b, eye, nan, {"nonfinite"}),
        "x0 far away": (A, b, eye, 1e4 * b, {"successful"}),
    }
