"""From a few noisy values of a solution back to its coefficient, with uncertainty."""

from ._laplace import Laplace as Laplace
from ._method import (
    AbstractPosteriorMethod as AbstractPosteriorMethod,
    Found as Found,
    Misfit as Misfit,
)
from ._nuts import NUTS as NUTS
from ._observations import Observations as Observations
from ._posterior import (
    Posterior as Posterior,
    posterior as posterior,
)
from ._prior import LatentPrior as LatentPrior
