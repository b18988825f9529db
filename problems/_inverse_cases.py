"""Inverse problems with known ends: a medium, its solution, and some noisy values."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from sciml.inverse import Observations, TrainedDGNO
from sciml.weak_forms import (
    EquilibratedDiffusion,
    MixedDiffusion,
    PlainDiffusion,
    TwoPhaseCoefficient,
)

from ._continuous_darcy import ContinuousDarcy
from ._two_phase_darcy import TwoPhaseDarcy


class InverseCase(eqx.Module):
    """What was measured, and what it was measured of.

    - `coefficient`, `solution`: the truth, at the nodes.
    - `observations`: at random nodes inside.
    """

    coefficient: np.ndarray
    solution: np.ndarray
    observations: Observations


def inverse_case(
    problem: Any, seed: int, *, num_observations: int = 100, snr: float = 25.0
) -> InverseCase:
    """A medium of the problem's distribution, and values of its solution.

    The solution is the problem's `reference`, not that of any model or of the grid
    that is inverted on.

    **Arguments:**

    - `problem`: with a `reference`; u = 0 at its nodes on the sides, where nothing is
        measured.
    - `seed`: of medium, places and noise.
    - `num_observations`: at different nodes.
    - `snr`: of signal to noise, in decibels.

    **Raises:** `ValueError` for more observations than there are nodes inside.
    """
    grid = problem.grid
    inner = tuple(slice(1, -1) for _ in grid.num_points)
    inside = np.arange(grid.size).reshape(grid.shape)[inner].ravel()
    if not 1 <= num_observations <= len(inside):
        raise ValueError(
            f"num_observations: expected from 1 to {len(inside)}, the nodes inside, "
            f"got {num_observations}."
        )
    with jax.enable_x64(True):
        a = problem.sample_coefficient(key=jax.random.key(seed))
        exact = np.asarray(_reference(problem, a.astype(jnp.float64)))
    rng = np.random.default_rng(seed)
    chosen = rng.choice(inside, num_observations, replace=False)
    values = exact.ravel()[chosen]
    std = float(np.sqrt(np.mean(values**2) / 10 ** (snr / 10)))
    values = values + std * rng.normal(size=len(values))
    nodes = np.stack([axis.ravel() for axis in grid.mesh()], -1)
    seen = Observations(
        nodes[chosen].astype(np.float32), values.astype(np.float32), std=std
    )
    return InverseCase(np.asarray(a), exact, seen)


def problem_of(model: TrainedDGNO) -> Any:
    """The problem whose equation a model has learned; None for others.

    **Arguments:**

    - `model`: of `TwoPhaseDarcy` or `ContinuousDarcy`, of any size.
    """
    form: Any = model.model.weak_form
    if not isinstance(form, EquilibratedDiffusion | MixedDiffusion | PlainDiffusion):
        return None
    kind, points = form.coefficient, form.grid.num_points
    if isinstance(kind, TwoPhaseCoefficient):
        problem: Any = TwoPhaseDarcy(points, kind.low, kind.high, form.source)
    else:
        problem = ContinuousDarcy(points, form.source)
    same = eqx.tree_equal(problem.weak_form().grid, form.grid)
    same = same and type(kind) is type(problem.weak_form().coefficient)
    return problem if same else None


@eqx.filter_jit
def _reference(problem: Any, a: Any) -> Any:
    return problem.reference(a)


def judged(case: InverseCase, found: Any, low: float, high: float) -> dict[str, Any]:
    """How far a posterior of a medium of two phases is from the truth.

    **Arguments:**

    - `case`: with the truth.
    - `found`: a `sciml.inverse.Posterior`.
    - `low`, `high`: the phases.

    **Returns:** relative L2 errors `coefficient_error` and `solution_error`,
    `phase_right` (share of the nodes whose phase is the more probable one), `coverage`
    (of the nodes inside whose u is within its interval of 95 %), `brier` (mean square
    of probability − phase), and `probability` and `phase` at the nodes.
    """
    off = lambda x, exact: float(np.linalg.norm(x - exact) / np.linalg.norm(exact))
    mean, std = np.asarray(found.mean[0], float), np.asarray(found.std[0], float)
    medium = np.asarray(found.coefficient_mean, float)
    probability = (medium - low) / (high - low)
    phase = (case.coefficient > (low + high) / 2).astype(float)
    inner = tuple(slice(1, -1) for _ in mean.shape)
    within = np.abs(mean - case.solution) <= 1.96 * std
    return {
        "coefficient_error": off(medium, case.coefficient),
        "solution_error": off(mean, case.solution),
        "phase_right": float(np.mean((probability > 0.5) == (phase > 0.5))),
        "coverage": float(np.mean(within[inner])),
        "brier": float(np.mean((probability - phase) ** 2)),
        "probability": probability.ravel(),
        "phase": phase.ravel(),
    }
