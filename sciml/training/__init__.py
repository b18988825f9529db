"""Training: one loop, losses, checkpoints from which a run resumes bit for bit."""

from ._augmentation import D4Augmented as D4Augmented
from ._checkpoint import CheckpointError as CheckpointError
from ._curriculum import Curriculum as Curriculum
from ._fit import fit as fit
from ._history import (
    History as History,
    NonFiniteLossError as NonFiniteLossError,
    ValidationCurve as ValidationCurve,
)
from ._losses import (
    AbsoluteH1 as AbsoluteH1,
    RelativeH1 as RelativeH1,
    RelativeL2 as RelativeL2,
    SpectralH1 as SpectralH1,
)
from ._muon import muon_optimiser as muon_optimiser
from ._optimiser import default_optimiser as default_optimiser
from ._physics import PhysicsResidual as PhysicsResidual, WeightedSum as WeightedSum
from ._pushforward import Pushforward as Pushforward
from ._validation import Validation as Validation
