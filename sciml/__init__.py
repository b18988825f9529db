"""Scientific machine-learning solvers that can be trained and trusted."""

from . import (
    constraints as constraints,
    data as data,
    evaluation as evaluation,
    grids as grids,
    inverse as inverse,
    linear as linear,
    neural_odes as neural_odes,
    neural_operators as neural_operators,
    preconditioners as preconditioners,
    training as training,
    weak_forms as weak_forms,
)
from ._export import export as export
from ._predict import predict as predict
from ._pretrained import pretrained as pretrained
from ._problem import (
    AbstractLinearProblem as AbstractLinearProblem,
    AbstractODE as AbstractODE,
)
from ._result import RESULTS as RESULTS
from ._serialisation import (
    SerialisationError as SerialisationError,
    load as load,
    register as register,
    save as save,
)
from .linear import CG as CG, Solution as Solution, linear_solve as linear_solve
