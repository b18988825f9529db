"""Builders that make M ≈ A⁻¹ from A: set up once, apply many times."""

from ..linear import AbstractPreconditioner as AbstractPreconditioner
from ._algebraic import (
    AbstractAggregation as AbstractAggregation,
    AlgebraicMultigrid as AlgebraicMultigrid,
    RugeStuben as RugeStuben,
    SmoothedAggregation as SmoothedAggregation,
)
from ._coarse_operators import (
    AbstractCoarseOperator as AbstractCoarseOperator,
    Galerkin as Galerkin,
    Rediscretised as Rediscretised,
)
from ._fast_diagonalisation import FastDiagonalisation as FastDiagonalisation
from ._jacobi import Jacobi as Jacobi
from ._multigrid import Multigrid as Multigrid
from ._probed import Probed as Probed
from ._smoothers import (
    AbstractSmoother as AbstractSmoother,
    AbstractSmoothing as AbstractSmoothing,
    Chebyshev as Chebyshev,
    DampedJacobi as DampedJacobi,
    SmoothableMatrix as SmoothableMatrix,
)
from ._transfer import (
    AbstractTransfer as AbstractTransfer,
    Linear as Linear,
    OperatorDependent as OperatorDependent,
)
