"""Benchmarks, one file per family: PDEs, also in time, linear systems, ODEs, series.

And the command line.
"""

from ._advection import Advection as Advection
from ._allen_cahn import AllenCahn as AllenCahn
from ._anisotropic import AnisotropicDiffusion as AnisotropicDiffusion
from ._burgers import Burgers as Burgers
from ._continuous_darcy import ContinuousDarcy as ContinuousDarcy
from ._diffusion import Darcy as Darcy, Diffusion as Diffusion
from ._diffusion_family import (
    AbstractDiffusion as AbstractDiffusion,
    AbstractElliptic as AbstractElliptic,
)
from ._diffusion_sorption import (
    DiffusionSorption as DiffusionSorption,
    UniformState as UniformState,
)
from ._digits import load_digits as load_digits
from ._dirichlet_burgers import DirichletBurgers as DirichletBurgers
from ._disc_heat import DiscHeat as DiscHeat
from ._elasticity import (
    LinearElasticity as LinearElasticity,
    rigid_body_modes as rigid_body_modes,
)
from ._evolution import (
    AbstractEvolution as AbstractEvolution,
    AbstractSemilinear as AbstractSemilinear,
    BlowUpError as BlowUpError,
)
from ._evolution_registry import (
    evolution_names as evolution_names,
    get_evolution as get_evolution,
)
from ._finite_elements import (
    AbstractFiniteElements as AbstractFiniteElements,
    Discretisation as Discretisation,
)
from ._heat import HeatSequence as HeatSequence
from ._heat_equation import Heat as Heat
from ._helmholtz import (
    Helmholtz as Helmholtz,
    ImpedanceHelmholtz as ImpedanceHelmholtz,
)
from ._helmholtz_waves import HelmholtzWaves as HelmholtzWaves
from ._implicit_steps import (
    AbstractImplicitStep as AbstractImplicitStep,
    HeatStep as HeatStep,
    PressureStep as PressureStep,
)
from ._japanese_vowels import (
    LabelledSeries as LabelledSeries,
    drop_observations as drop_observations,
    load_japanese_vowels as load_japanese_vowels,
)
from ._kuramoto_sivashinsky import KuramotoSivashinsky as KuramotoSivashinsky
from ._lotka_volterra import (
    LotkaVolterra as LotkaVolterra,
    load_lynx_hare as load_lynx_hare,
)
from ._matrices import load_matrix as load_matrix, matrix_names as matrix_names
from ._mixtures import EllipticMixture as EllipticMixture
from ._navier_stokes import NavierStokesVorticity as NavierStokesVorticity
from ._ode_registry import get_ode as get_ode, ode_names as ode_names
from ._poisson import Poisson as Poisson
from ._registry import (
    get_problem as get_problem,
    get_system as get_system,
    problem_names as problem_names,
    system_names as system_names,
)
from ._spirals import Spiral as Spiral, SpiralSDE as SpiralSDE
from ._stiff_odes import (
    HIRES as HIRES,
    Oregonator as Oregonator,
    Robertson as Robertson,
    correct_digits as correct_digits,
)
from ._stokes_cylinder import StokesCylinder as StokesCylinder
from ._system import AbstractLinearSystem as AbstractLinearSystem
from ._two_phase_darcy import TwoPhaseDarcy as TwoPhaseDarcy
from ._unstructured import UnstructuredDiffusion as UnstructuredDiffusion
from ._van_der_pol import StiffVanDerPol as StiffVanDerPol, VanDerPol as VanDerPol
