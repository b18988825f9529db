"""Models that map fields to fields, one sample at a time, on grids of any size."""

from ._bounded_step import BoundedStep as BoundedStep
from ._depthwise_spectral import (
    DepthwiseSpectralConvolution as DepthwiseSpectralConvolution,
)
from ._fno import (
    FNO as FNO,
    AbstractCoordinates as AbstractCoordinates,
    NoCoordinates as NoCoordinates,
    NodeCoordinates as NodeCoordinates,
    SpectralConvolution as SpectralConvolution,
)
from ._layer_norms import LayerNormMultigridOperator as LayerNormMultigridOperator
from ._mgno import MgNO as MgNO
from ._mgno_level import (
    AbstractRestriction as AbstractRestriction,
    FieldRestriction as FieldRestriction,
    ResidualRestriction as ResidualRestriction,
)
from ._mgno_stepper import MgNOStepper as MgNOStepper
from ._multigrid_operator import MultigridOperator as MultigridOperator
from ._normalised import Normalised as Normalised, normalised as normalised
from ._stable_fno import StableFNO as StableFNO
from ._transferred import Transferred as Transferred
from ._widening_mgno import WideningMgNO as WideningMgNO
