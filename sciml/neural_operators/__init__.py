"""Models that map fields to fields, one sample at a time, on grids of any size."""

from ._fno import (
    FNO as FNO,
    AbstractCoordinates as AbstractCoordinates,
    NoCoordinates as NoCoordinates,
    NodeCoordinates as NodeCoordinates,
    SpectralConvolution as SpectralConvolution,
)
from ._mgno import MgNO as MgNO, MultigridOperator as MultigridOperator
from ._mgno_level import (
    AbstractRestriction as AbstractRestriction,
    FieldRestriction as FieldRestriction,
    ResidualRestriction as ResidualRestriction,
)
from ._normalised import Normalised as Normalised, normalised as normalised
