"""Linear operators on fields, and solves that say truthfully how they ended."""

from ._builder import AbstractPreconditioner as AbstractPreconditioner, frozen as frozen
from ._cg import CG as CG
from ._function_operator import SymmetricOperator as SymmetricOperator
from ._krylov import AbstractKrylov as AbstractKrylov
from ._solution import Solution as Solution
from ._solve import adjoint_solve as adjoint_solve, linear_solve as linear_solve
from ._stencil_operator import (
    StencilOperator as StencilOperator,
    diffusion_operator as diffusion_operator,
)
from ._v_cycle import AbstractLevel as AbstractLevel, v_cycle as v_cycle
