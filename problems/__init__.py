"""PDE benchmarks and linear systems, one file per family, and the command line."""

from ._anisotropic import AnisotropicDiffusion as AnisotropicDiffusion
from ._diffusion import Darcy as Darcy, Diffusion as Diffusion
from ._diffusion_family import (
    AbstractDiffusion as AbstractDiffusion,
    AbstractElliptic as AbstractElliptic,
)
from ._elasticity import (
    LinearElasticity as LinearElasticity,
    rigid_body_modes as rigid_body_modes,
)
from ._finite_elements import (
    AbstractFiniteElements as AbstractFiniteElements,
    Discretisation as Discretisation,
)
from ._heat import HeatSequence as HeatSequence
from ._helmholtz import (
    Helmholtz as Helmholtz,
    ImpedanceHelmholtz as ImpedanceHelmholtz,
)
from ._matrices import load_matrix as load_matrix, matrix_names as matrix_names
from ._poisson import Poisson as Poisson
from ._registry import (
    get_problem as get_problem,
    get_system as get_system,
    problem_names as problem_names,
    system_names as system_names,
)
from ._system import AbstractLinearSystem as AbstractLinearSystem
from ._unstructured import UnstructuredDiffusion as UnstructuredDiffusion
