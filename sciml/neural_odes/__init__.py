"""Neural differential equations that are cheap to solve."""

from ._augmented import AugmentedNeuralODE as AugmentedNeuralODE
from ._bdf2dc import VariableBDF2DC as VariableBDF2DC
from ._evaluations import EvaluationCounter as EvaluationCounter
from ._heuristics import Heuristics as Heuristics, heuristics_of as heuristics_of
from ._latent_ode import LatentODE as LatentODE, negative_elbo as negative_elbo
from ._losses import (
    RegularisedLoss as RegularisedLoss,
    cross_entropy as cross_entropy,
)
from ._neural_cde import NeuralCDE as NeuralCDE
from ._neural_ode import (
    Joint as Joint,
    NeuralODE as NeuralODE,
    ODEClassifier as ODEClassifier,
    TimeMLP as TimeMLP,
)
from ._neural_sde import LinearField as LinearField, NeuralSDE as NeuralSDE
from ._nonfinite import StopAtNonfinite as StopAtNonfinite
from ._penalties import (
    AbstractPenalty as AbstractPenalty,
    AbstractRecordedPenalty as AbstractRecordedPenalty,
    AbstractReduction as AbstractReduction,
    AbstractRunningCost as AbstractRunningCost,
    ErrorEstimate as ErrorEstimate,
    ErrorEstimateSquared as ErrorEstimateSquared,
    Local as Local,
    Max as Max,
    Mean as Mean,
    NumSteps as NumSteps,
    Stiffness as Stiffness,
    Sum as Sum,
)
from ._recorder import RecordHeuristics as RecordHeuristics
from ._running_costs import (
    KineticEnergy as KineticEnergy,
    TayNODE as TayNODE,
    steer_end_time as steer_end_time,
    total_derivative as total_derivative,
)
from ._sample_step import (
    AbstractSampling as AbstractSampling,
    Biased as Biased,
    Reservoir as Reservoir,
    SampleStep as SampleStep,
    Unbiased as Unbiased,
)
from ._solve import regularised_diffeqsolve as regularised_diffeqsolve
from ._stages import stability_limit as stability_limit
from ._unrolled import UnrolledRungeKutta as UnrolledRungeKutta
