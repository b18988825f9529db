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
from ._coarsening import (
    AbstractCoarsening as AbstractCoarsening,
    BySpacing as BySpacing,
    ByStrength as ByStrength,
    SemiCoarsening as SemiCoarsening,
)
from ._corrected_cholesky import CorrectedCholesky as CorrectedCholesky
from ._deep_directions import DeepConjugateDirections as DeepConjugateDirections
from ._direct import DirectFactorisation as DirectFactorisation
from ._direction_loss import DirectionResidual as DirectionResidual
from ._direction_vectors import (
    ritz_vectors as ritz_vectors,
    sine_vectors as sine_vectors,
)
from ._directions import (
    AbstractDirections as AbstractDirections,
    TwoLevelDirections as TwoLevelDirections,
)
from ._factor_loss import FactorResidual as FactorResidual
from ._fallback import Fallback as Fallback
from ._fast_diagonalisation import FastDiagonalisation as FastDiagonalisation
from ._fast_poisson import FastPoisson as FastPoisson
from ._fsai import FSAI as FSAI
from ._incomplete_cholesky import IncompleteCholesky as IncompleteCholesky
from ._inverse_losses import (
    InverseResidual as InverseResidual,
    UnrolledCG as UnrolledCG,
)
from ._jacobi import Jacobi as Jacobi
from ._learned_multigrid import LearnedMultigrid as LearnedMultigrid
from ._learned_smoother import LearnedChebyshev as LearnedChebyshev
from ._learned_transfer import LearnedTransfer as LearnedTransfer
from ._local_network import LocalNetwork as LocalNetwork
from ._multigrid import Multigrid as Multigrid
from ._neural_factor import LocatedFactor as LocatedFactor, NeuralFactor as NeuralFactor
from ._packed_stencils import (
    PackedStencils as PackedStencils,
    pack_stencils as pack_stencils,
)
from ._packed_systems import (
    PackedSystem as PackedSystem,
    PackedSystems as PackedSystems,
    pack_systems as pack_systems,
)
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
from ._scope import (
    Pretrained as Pretrained,
    Provenance as Provenance,
    Scope as Scope,
)
from ._shared_directions import SharedLevelDirections as SharedLevelDirections
from ._smoothers import (
    AbstractSmoother as AbstractSmoother,
    AbstractSmoothing as AbstractSmoothing,
    Chebyshev as Chebyshev,
    DampedJacobi as DampedJacobi,
    PerLevel as PerLevel,
    SmoothableMatrix as SmoothableMatrix,
)
from ._sparse_inverse import SparseApproximateInverse as SparseApproximateInverse
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
