"""Boundaries, matrices and small programs that the tests of linear algebra share."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import lineax as lx
import numpy as np

import sciml
from sciml.grids import Dirichlet, Neumann, Periodic
from sciml.linear import linear_solve

PSD = lx.positive_semidefinite_tag
_OUTCOMES = (
    "successful",
    "max_steps_reached",
    "indefinite_operator",
    "indefinite_preconditioner",
    "nonfinite",
    "stagnated",
    "diverged",
    "infeasible",
    "unbounded",
    "nonconvex",
)

# One entry per kind of axis: what stands on its low and on its high side.
AXES: dict[str, Any] = {
    "dirichlet": Dirichlet(),
    "stored": Dirichlet(stored=True),
    "neumann": Neumann(),
    "periodic": Periodic(),
    "dirichlet-neumann": (Dirichlet(), Neumann()),
    "neumann-stored": (Neumann(), Dirichlet(stored=True)),
}


def boundaries(ndim: int) -> dict[str, list]:
    """Every kind on all axes, and two mixtures of axes."""
    kinds = {name: [axis] * ndim for name, axis in AXES.items()}
    if ndim > 1:
        last = AXES["neumann-stored"]
        kinds["mixed"] = [Periodic(), AXES["dirichlet-neumann"], last][:ndim]
        kinds["mixed-free"] = [Neumann(), Periodic(), Neumann()][:ndim]
    return kinds


def is_free(pairs) -> bool:
    """Whether no side is Dirichlet, so that constants are in the null space."""
    flat = [c for p in pairs for c in (p if isinstance(p, tuple) else (p,))]
    return not any(isinstance(c, Dirichlet) for c in flat)


def outcome(result) -> str:
    """The name of a `sciml.RESULTS` item."""
    found = [n for n in _OUTCOMES if bool(result == getattr(sciml.RESULTS, n))]
    assert len(found) == 1, found
    return found[0]


def spd_matrix(n: int, condition: float = 100.0, seed: int = 0) -> np.ndarray:
    """A dense symmetric positive definite matrix of given condition number."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    return (q * np.geomspace(1.0, condition, n)) @ q.T


def matrix_operator(matrix) -> lx.MatrixLinearOperator:
    """The matrix, tagged positive semidefinite, true or not."""
    return lx.MatrixLinearOperator(jnp.asarray(matrix), PSD)


@eqx.filter_jit
def solve_dense(A, b, M=None, x0=None, solver=None):
    """`linear_solve` of a matrix that claims to be positive semidefinite."""
    return linear_solve(
        matrix_operator(A),
        b,
        solver,
        preconditioner=None if M is None else matrix_operator(M),
        x0=x0,
        throw=False,
    )


def slope(sizes, errors) -> float:
    """The order q in error ≈ C h^q, h = 1/size, by least squares."""
    logs = np.log(np.asarray(sizes, float)), np.log(np.asarray(errors, float))
    return float(-np.polyfit(*logs, 1)[0])


def random_field(shape, contrast: float, seed: int = 0) -> np.ndarray:
    """White noise between 1 and `contrast`, log-uniform: the worst of coefficients."""
    rng = np.random.default_rng(seed)
    return contrast ** rng.uniform(size=shape)


def points(intervals: int, pairs) -> tuple[int, ...]:
    """Nodes per axis so that every axis has the same number of intervals."""
    out = []
    for pair in pairs:
        low, high = pair if isinstance(pair, tuple) else (pair, pair)
        wraps = isinstance(low, Periodic)
        out.append(
            intervals if wraps else intervals - 1 + low.stores_nodes + high.stores_nodes
        )
    return tuple(out)
