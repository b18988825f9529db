"""Where fields live: grids, boundary conditions, stencils, transfer, random fields."""

from ._alignment import coarse_alignment as coarse_alignment
from ._boundary import (
    AbstractBoundary as AbstractBoundary,
    Dirichlet as Dirichlet,
    Neumann as Neumann,
    Periodic as Periodic,
)
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
from ._stencil import SymmetricStencil as SymmetricStencil, half_offsets as half_offsets
