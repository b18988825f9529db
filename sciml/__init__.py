"""Scientific machine-learning solvers that can be trained and trusted."""

from . import grids as grids, linear as linear, preconditioners as preconditioners
from ._result import RESULTS as RESULTS
from .linear import CG as CG, Solution as Solution, linear_solve as linear_solve
