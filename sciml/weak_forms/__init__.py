"""Equations tested by functions of small support, which need fewer derivatives."""

from ._ball_quadrature import (
    AbstractBallQuadrature as AbstractBallQuadrature,
    GaussBall as GaussBall,
    MeshBall as MeshBall,
)
from ._particles import Particles as Particles, latin_hypercube as latin_hypercube
from ._wendland import Wendland as Wendland
