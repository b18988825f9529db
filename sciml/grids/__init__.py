"""Where fields live: grids, boundary conditions, stencils, transfer, random fields."""

from ._alignment import coarse_alignment as coarse_alignment
from ._boundary import (
    AbstractBoundary as AbstractBoundary,
    Dirichlet as Dirichlet,
    Neumann as Neumann,
    Periodic as Periodic,
)
from ._calculus import (
    divergence as divergence,
    gradient as gradient,
    laplacian as laplacian,
)
from ._convolution import (
    Convolution as Convolution,
    TransposedConvolution as TransposedConvolution,
)
from ._depthwise import DepthwiseConvolution as DepthwiseConvolution
from ._diffusion import (
    boundary_source as boundary_source,
    close_coefficient as close_coefficient,
    diffusion_stencil as diffusion_stencil,
    source_vector as source_vector,
)
from ._grid import Grid as Grid
from ._interpolation import (
    Coarsening as Coarsening,
    Interpolation as Interpolation,
    interpolation_from_rows as interpolation_from_rows,
    linear_interpolation as linear_interpolation,
)
from ._norms import (
    h1_norm as h1_norm,
    h1_seminorm as h1_seminorm,
    l2_norm as l2_norm,
)
from ._piecewise_fields import (
    BoxesField as BoxesField,
    ChannelsField as ChannelsField,
    CheckerboardField as CheckerboardField,
)
from ._random_fields import (
    AbstractRandomField as AbstractRandomField,
    GaussianField as GaussianField,
    LogNormalField as LogNormalField,
    SquaredExponentialField as SquaredExponentialField,
    TwoPhaseField as TwoPhaseField,
)
from ._stencil import SymmetricStencil as SymmetricStencil, half_offsets as half_offsets
from ._transfer import (
    close_field as close_field,
    interpolate as interpolate,
    resample as resample,
)
from ._trigonometric_field import TrigonometricField as TrigonometricField
