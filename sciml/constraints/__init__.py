"""Fields that meet equations exactly, or as well as their basis can."""

from ._hard_constraint import HardConstraint as HardConstraint
from ._side import Side as Side
from ._solvers import (
    AbstractWeightSolver as AbstractWeightSolver,
    GramLevenbergMarquardt as GramLevenbergMarquardt,
    LinearLeastSquares as LinearLeastSquares,
)
