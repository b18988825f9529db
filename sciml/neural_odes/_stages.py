"""What the tableau of an explicit Runge-Kutta method tells: evaluations, stability."""

from typing import Any, NamedTuple

import diffrax as dfx
import numpy as np


class StagePair(NamedTuple):
    """Two stages at the end of the step, and how their arguments differ.

    g_b − g_a = Σ_j difference_j k_j, where c_a = c_b = 1.
    """

    a: int
    b: int
    difference: np.ndarray


def explicit_tableau(solver: Any) -> dfx.ButcherTableau | None:
    """The Butcher tableau of an explicit method, None for all others."""
    tableau = getattr(solver, "tableau", None)
    if type(tableau) is not dfx.ButcherTableau or tableau.implicit:
        return None
    return tableau


def stage_pair(solver: Any) -> StagePair | None:
    """The last two stages at the end of the step; None where there is one or none."""
    tableau = explicit_tableau(solver)
    if tableau is None:
        return None
    times = np.concatenate([[0.0], tableau.c])
    at_end = np.flatnonzero(times == 1.0)
    if len(at_end) < 2:
        return None
    a, b = (int(i) for i in at_end[-2:])
    rows = _rows(tableau)
    return StagePair(a, b, rows[b] - rows[a])


def stability_limit(solver: Any) -> float | None:
    """The largest h λ for which y' = −λ y does not grow; None for implicit methods.

    The first z < 0 at which the stability function R(z) = 1 + z bᵀ(I − zA)⁻¹1 leaves
    [−1, 1].
    """
    tableau = explicit_tableau(solver)
    if tableau is None:
        return None
    A, stages = _rows(tableau), np.ones(len(tableau.b_sol))
    coefficients = [1.0]
    for _ in range(len(stages)):
        coefficients.append(float(tableau.b_sol @ stages))
        stages = A @ stages
    R = np.polynomial.Polynomial(coefficients)
    crossings = np.concatenate([(R - 1).roots(), (R + 1).roots()])
    real = crossings[np.abs(crossings.imag) < 1e-8 * np.abs(crossings)].real
    for z in sorted(real, reverse=True):
        if z < -1e-8 and abs(R(1.001 * z)) > 1:
            return -float(z)
    return None


def _rows(tableau: dfx.ButcherTableau) -> np.ndarray:
    """The matrix A of the tableau."""
    size = len(tableau.b_sol)
    A = np.zeros((size, size))
    for i, row in enumerate(tableau.a_lower, 1):
        A[i, : len(row)] = row
    return A
