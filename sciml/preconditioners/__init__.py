"""Builders that make M ≈ A⁻¹ from A: set up once, apply many times."""

from ..linear import AbstractPreconditioner as AbstractPreconditioner
from ._algebraic import (
    AbstractAggregation as AbstractAggregation,
    AlgebraicMultigrid as AlgebraicMultigrid,
    RugeStuben as RugeStuben,
    SmoothedAggregation as SmoothedAggregation,
)
from ._block_jacobi import BlockJacobi as BlockJacobi
from ._cheb_cb import (
    ChebCB as ChebCB,
    ChebCBFits as ChebCBFits,
    ChebCBState as ChebCBState,
)
from ._coarse_operators import (
    AbstractCoarseOperator as AbstractCoarseOperator,
    Galerkin as Galerkin,
    Rediscretised as Rediscretised,
)
from ._direct import DirectFactorisation as DirectFactorisation
from ._fallback import Fallback as Fallback
from ._fast_diagonalisation import FastDiagonalisation as FastDiagonalisation
from ._fast_poisson import FastPoisson as FastPoisson
from ._fsai import FSAI as FSAI
from ._incomplete_cholesky import IncompleteCholesky as IncompleteCholesky
from ._jacobi import Jacobi as Jacobi
from ._multigrid import Multigrid as Multigrid
from ._pivoted_cholesky import (
    RandomisedPivotedCholesky as RandomisedPivotedCholesky,
)
from ._polynomial import ChebyshevPolynomial as ChebyshevPolynomial
from ._probed import Probed as Probed
from ._relaxation import (
    AbstractOmegas as AbstractOmegas,
    AbstractRelaxation as AbstractRelaxation,
    AroundYoung as AroundYoung,
    FixedOmega as FixedOmega,
    FixedOmegaState as FixedOmegaState,
    OmegaInterval as OmegaInterval,
    Young as Young,
    YoungState as YoungState,
)
from ._relaxation_plan import (
    ForwardSweep as ForwardSweep,
    RelaxationPlan as RelaxationPlan,
)
from ._response_surface import (
    ResponseSurface as ResponseSurface,
    ResponseSurfaceState as ResponseSurfaceState,
)
from ._smoothers import (
    AbstractSmoother as AbstractSmoother,
    AbstractSmoothing as AbstractSmoothing,
    Chebyshev as Chebyshev,
    DampedJacobi as DampedJacobi,
    SmoothableMatrix as SmoothableMatrix,
)
from ._ssor import SSOR as SSOR
from ._transfer import (
    AbstractTransfer as AbstractTransfer,
    Linear as Linear,
    OperatorDependent as OperatorDependent,
)
from ._triangular import (
    AbstractTriangularFactor as AbstractTriangularFactor,
    AbstractTriangularPlan as AbstractTriangularPlan,
    AbstractTriangularSolve as AbstractTriangularSolve,
    JacobiSweeps as JacobiSweeps,
    LevelSchedule as LevelSchedule,
)
from ._tsallis_inf import (
    AbstractTsallisNewton as AbstractTsallisNewton,
    MonotoneNewton as MonotoneNewton,
    PublishedNewton as PublishedNewton,
    TsallisINF as TsallisINF,
    TsallisINFContextual as TsallisINFContextual,
    TsallisINFContextualState as TsallisINFContextualState,
    TsallisINFState as TsallisINFState,
)
