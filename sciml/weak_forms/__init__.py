"""Equations tested by functions of small support, which need fewer derivatives."""

from ._ball_quadrature import (
    AbstractBallQuadrature as AbstractBallQuadrature,
    GaussBall as GaussBall,
    MeshBall as MeshBall,
)
from ._burgers import (
    PlainBurgers as PlainBurgers,
    PotentialBurgers as PotentialBurgers,
)
from ._coefficients import (
    AbstractCoefficient as AbstractCoefficient,
    PrescribedValues as PrescribedValues,
    SmoothCoefficient as SmoothCoefficient,
    TwoPhaseCoefficient as TwoPhaseCoefficient,
)
from ._diffusion import (
    MixedDiffusion as MixedDiffusion,
    PlainDiffusion as PlainDiffusion,
)
from ._equilibrated import EquilibratedDiffusion as EquilibratedDiffusion
from ._particles import Particles as Particles, latin_hypercube as latin_hypercube
from ._stokes import StokesChannel as StokesChannel
from ._weak_form import AbstractWeakForm as AbstractWeakForm
from ._wendland import Wendland as Wendland
