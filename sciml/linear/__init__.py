"""Linear operators on fields, and solves that say truthfully how they ended."""

from ._builder import AbstractPreconditioner as AbstractPreconditioner, frozen as frozen
from ._cg import CG as CG
from ._columns import (
    ColumnsOperator as ColumnsOperator,
    linear_solve_many as linear_solve_many,
)
from ._convert import from_scipy as from_scipy, to_scipy as to_scipy
from ._diagonal_operator import DiagonalsOperator as DiagonalsOperator
from ._ell_operator import PaddedRowsOperator as PaddedRowsOperator
from ._fallback import FallbackOperator as FallbackOperator
from ._flexible_cg import FlexibleCG as FlexibleCG
from ._function_operator import SymmetricOperator as SymmetricOperator
from ._gmres import GMRES as GMRES
from ._krylov import AbstractKrylov as AbstractKrylov
from ._matrix_free import MatrixFree as MatrixFree
from ._minres import MINRES as MINRES
from ._obstacle import with_obstacle as with_obstacle
from ._preconditioned import (
    Preconditioned as Preconditioned,
    newton_krylov as newton_krylov,
)
from ._refined import Refined as Refined
from ._skfem import from_skfem as from_skfem
from ._solution import Solution as Solution
from ._solve import adjoint_solve as adjoint_solve, linear_solve as linear_solve
from ._spectrum import (
    Spectrum as Spectrum,
    absolute_row_sums as absolute_row_sums,
    estimate_spectrum as estimate_spectrum,
)
from ._stage_newton import (
    StageNewton as StageNewton,
    implicit_root_finder as implicit_root_finder,
)
from ._stationary import Stationary as Stationary
from ._stencil_operator import (
    StencilOperator as StencilOperator,
    diffusion_operator as diffusion_operator,
)
from ._v_cycle import AbstractLevel as AbstractLevel, v_cycle as v_cycle
