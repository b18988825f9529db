"""From a few noisy values of a solution back to its coefficient, with uncertainty."""

from ._field_misfit import FieldMisfit as FieldMisfit
from ._laplace import Laplace as Laplace
from ._latent_misfit import LatentMisfit as LatentMisfit
from ._method import (
    AbstractMisfit as AbstractMisfit,
    AbstractPosteriorMethod as AbstractPosteriorMethod,
    Found as Found,
)
from ._nuts import NUTS as NUTS
from ._observations import Observations as Observations
from ._point_estimate import PointEstimate as PointEstimate
from ._posterior import (
    Posterior as Posterior,
    posterior as posterior,
)
from ._prior import LatentPrior as LatentPrior
from ._total_variation import TotalVariation as TotalVariation
from ._trained import TrainedDGNO as TrainedDGNO
