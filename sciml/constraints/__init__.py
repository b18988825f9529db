"""Constraints that hold exactly: projections, and quadratic programs."""

from ._boundary_values import (
    DirichletValues as DirichletValues,
    DistanceMollifier as DistanceMollifier,
    MatchedSides as MatchedSides,
    PeriodicFeatures as PeriodicFeatures,
)
from ._bounds import (
    Between as Between,
    Clip as Clip,
    NonNegativeWithMass as NonNegativeWithMass,
    Positive as Positive,
)
from ._conservation import (
    ScaleToEnergy as ScaleToEnergy,
    ScaleToMass as ScaleToMass,
    ShiftToMass as ShiftToMass,
    energy as energy,
    mass as mass,
)
from ._divergence_free import (
    CurlOfPotential as CurlOfPotential,
    LerayProjection as LerayProjection,
    central_symbol as central_symbol,
    spectral_symbol as spectral_symbol,
)
from ._linear_equality import LinearEquality as LinearEquality
from ._polyhedron import Polyhedron as Polyhedron
from ._quadratic_program import quadratic_program as quadratic_program
