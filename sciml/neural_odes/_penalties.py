"""What a solve is charged with: sums of its own estimates, or of one local step."""

import abc
from typing import Any, ClassVar, NamedTuple

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from ._heuristics import Recorded, Series
from ._sample_step import AbstractSampling, Reservoir
from ._stages import stage_pair
from ._transparent import method_of


class AbstractReduction(eqx.Module):
    """From one number per step to one number."""

    @abc.abstractmethod
    def __call__(self, series: Series, num_steps: Int[Array, ""]) -> Float[Array, ""]:
        """The number."""


class Sum(AbstractReduction):
    """Over steps: the form of the papers, and the default."""

    def __call__(self, series, num_steps):
        """Σ."""
        return series.total


class Mean(AbstractReduction):
    """Over steps: the form of the code published with the papers.

    In a solve of N steps a coefficient of N for the mean is one of 1 for the sum.
    """

    def __call__(self, series, num_steps):
        """Σ / N."""
        return series.total / jnp.maximum(num_steps, 1).astype(series.total.dtype)


class Max(AbstractReduction):
    """Over steps."""

    def __call__(self, series, num_steps):
        """The largest, zero if there is no step."""
        return series.largest


class AbstractPenalty(eqx.Module):
    """What `regularised_diffeqsolve` can charge a solve with."""

    @abc.abstractmethod
    def check(self, solver: dfx.AbstractSolver, adjoint: dfx.AbstractAdjoint) -> None:
        """Raise a `ValueError` where it has no value, or would lose its gradient."""


# Derivatives of a solver's final state pass through these.
_DIRECT_ADJOINTS = (
    dfx.RecursiveCheckpointAdjoint,
    dfx.DirectAdjoint,
    dfx.ForwardMode,
)


class AbstractRecordedPenalty(AbstractPenalty):
    """A penalty on all accepted steps, from what `RecordHeuristics` recorded."""

    # Whether the solver has to have two stages at the end of a step.
    needs_stage_pair: ClassVar[bool] = False

    @abc.abstractmethod
    def value(self, recorded: Recorded) -> Float[Array, ""]:
        """The penalty of a solve."""

    def check(self, solver, adjoint):
        """Raise a `ValueError` where it has no value, or would lose its gradient."""
        if not isinstance(adjoint, _DIRECT_ADJOINTS):
            raise ValueError(
                f"adjoint: the gradient of {type(self).__name__}() through "
                f"{type(adjoint).__name__} would be zero. Use "
                "diffrax.RecursiveCheckpointAdjoint(), or the penalty Local()."
            )
        method = method_of(solver)
        if self.needs_stage_pair and stage_pair(method) is None:
            raise ValueError(
                f"penalty: {type(self).__name__} needs a solver with two stages at the "
                f"end of a step, and {type(method).__name__} has none. Use "
                "diffrax.Tsit5, Dopri5 or Dopri8, or the penalty ErrorEstimate."
            )


class ErrorEstimate(AbstractRecordedPenalty):
    """Σ_j E_j h_j, E_j < 1 being the error estimate of a step of size h_j.

    **Arguments:**

    - `reduction`: `Sum()` (default), `Mean()` or `Max()` over steps.

    Good values: 0.1 in front of a loss of order one, at tolerances of 1e-7.

    Source: Pal, Ma, Shah & Rackauckas, *Opening the Blackbox*, ICML 2021, R_E. Their
    code takes the mean over steps, with coefficients from 100 to 10.
    """

    reduction: AbstractReduction = Sum()

    def value(self, recorded):
        """The penalty of a solve."""
        return self.reduction(recorded.error_estimate, recorded.num_steps)


class ErrorEstimateSquared(AbstractRecordedPenalty):
    """Σ_j E_j².

    **Arguments:** as of `ErrorEstimate`.

    Source: as of `ErrorEstimate`, R_E2.
    """

    reduction: AbstractReduction = Sum()

    def value(self, recorded):
        """The penalty of a solve."""
        return self.reduction(recorded.error_estimate_squared, recorded.num_steps)


class NumSteps(AbstractRecordedPenalty):
    """Σ_j E_j^(1/q), q the order of the estimate: a differentiable number of steps.

    A step of size h_j E_j^(−1/q) would just have been accepted, so this is the number
    of steps of the largest possible size; its coefficient reads as loss per step.

    **Arguments:** as of `ErrorEstimate`.

    Good values: 0.03 in front of a loss of order one. It costs less accuracy than
    `ErrorEstimate` and saves less.
    """

    reduction: AbstractReduction = Sum()

    def value(self, recorded):
        """The penalty of a solve."""
        return self.reduction(recorded.step_surrogate, recorded.num_steps)


class Stiffness(AbstractRecordedPenalty):
    """Σ_j S_j h_j, S_j being the stiffness estimate of a step of size h_j.

    For solvers with two stages at the end of a step: Tsit5, Dopri5, Dopri8.

    **Arguments:**

    - `reduction`: `Sum()` (default) or `Mean()` of S_j h_j; `Max()` of S_j itself, as
        in the code published with the paper (there divided by 3.5068, the stability
        limit of Tsit5).

    Source: as of `ErrorEstimate`, R_S.
    """

    reduction: AbstractReduction = Sum()

    needs_stage_pair: ClassVar[bool] = True

    def value(self, recorded):
        """The penalty of a solve."""
        if isinstance(self.reduction, Max):
            return recorded.max_stiffness
        series: Any = recorded.stiffness
        return self.reduction(series, recorded.num_steps)


class Local(AbstractPenalty):
    """The error estimate of one step, drawn at random from those of the solve.

    The step is taken once more from where the solve took it: the start and the size
    are constants to derivatives, and the gradient is that of the vector field along
    one step. Its cost does not grow with the length of the solve; and it works with
    every adjoint, `BacksolveAdjoint` included.

    **Arguments:**

    - `sampling`: `Reservoir()` (default), whose mean is the value of `ErrorEstimate`;
        `Unbiased()` and `Biased()` as published.

    Source: Pal, Edelman & Rackauckas, *Locally Regularized Neural Differential
    Equations*, ICML 2023. Their code also holds the first stage of the step constant.
    """

    sampling: AbstractSampling = Reservoir()

    def check(self, solver, adjoint):
        """Nothing is out of its reach."""
        del solver, adjoint


class AbstractRunningCost(AbstractPenalty):
    """∫ g(t, y) dt along the solution, integrated as one more component of y."""

    @abc.abstractmethod
    def integrand(self, term: Any, t: Any, y: PyTree, args: PyTree) -> Array:
        """g(t, y) of the ODE term."""

    def check(self, solver, adjoint):
        """Raise a `ValueError` for `ImplicitAdjoint`, which knows no integrals."""
        del solver
        if isinstance(adjoint, dfx.ImplicitAdjoint):
            raise ValueError(
                f"adjoint: {type(self).__name__} is an integral over the solution, "
                "which ImplicitAdjoint does not differentiate. Use "
                "diffrax.RecursiveCheckpointAdjoint()."
            )


class Penalties(NamedTuple):
    """Penalties by kind, with their places in the pytree that was given."""

    recorded: dict[int, AbstractRecordedPenalty]
    local: dict[int, Local]
    costs: dict[int, AbstractRunningCost]


def by_kind(leaves: list[Any]) -> Penalties:
    """Sorted; `TypeError` for what is no penalty."""
    found = Penalties({}, {}, {})
    for place, leaf in enumerate(leaves):
        if isinstance(leaf, AbstractRecordedPenalty):
            found.recorded[place] = leaf
        elif isinstance(leaf, Local):
            found.local[place] = leaf
        elif isinstance(leaf, AbstractRunningCost):
            found.costs[place] = leaf
        else:
            raise TypeError(
                "penalty: expected penalties of sciml.neural_odes, such as "
                f"ErrorEstimate(), got {leaf!r}."
            )
    return found
