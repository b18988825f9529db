"""Fields that meet equations exactly, or as well as their basis can."""

from ._couplings import (
    C0 as C0,
    C1 as C1,
    AbstractCoupling as AbstractCoupling,
    Uncoupled as Uncoupled,
)
from ._execution import (
    AbstractExecution as AbstractExecution,
    MapExperts as MapExperts,
    ShardExperts as ShardExperts,
    VmapExperts as VmapExperts,
)
from ._hard_constraint import HardConstraint as HardConstraint
from ._mixture import MixtureOfExperts as MixtureOfExperts
from ._partition import GridPartition as GridPartition
from ._side import Side as Side
from ._solvers import (
    AbstractWeightSolver as AbstractWeightSolver,
    GramLevenbergMarquardt as GramLevenbergMarquardt,
    LinearLeastSquares as LinearLeastSquares,
)
from ._time_marching import TimeMarching as TimeMarching
