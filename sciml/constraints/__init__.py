"""Fields that meet equations: exactly, or as well as their basis can."""

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
from ._couplings import (
    C0 as C0,
    C1 as C1,
    AbstractCoupling as AbstractCoupling,
    Uncoupled as Uncoupled,
)
from ._divergence_free import (
    CurlOfPotential as CurlOfPotential,
    LerayProjection as LerayProjection,
    central_symbol as central_symbol,
    spectral_symbol as spectral_symbol,
)
from ._execution import (
    AbstractExecution as AbstractExecution,
    MapExperts as MapExperts,
    ShardExperts as ShardExperts,
    VmapExperts as VmapExperts,
)
from ._hard_constraint import HardConstraint as HardConstraint
from ._linear_equality import LinearEquality as LinearEquality
from ._mixture import MixtureOfExperts as MixtureOfExperts
from ._partition import GridPartition as GridPartition
from ._polyhedron import Polyhedron as Polyhedron
from ._quadratic_program import quadratic_program as quadratic_program
from ._routed import RoutedExperts as RoutedExperts
from ._schwarz import Schwarz as Schwarz
from ._side import Side as Side
from ._solvers import (
    AbstractWeightSolver as AbstractWeightSolver,
    GramLevenbergMarquardt as GramLevenbergMarquardt,
    LinearLeastSquares as LinearLeastSquares,
)
from ._time_marching import TimeMarching as TimeMarching
