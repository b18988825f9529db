"""`sciml bench NAME`: which benchmark."""

import dataclasses
from typing import Annotated

import tyro

from .._common import ExitCode
from ._certified import Certified
from ._constraint_training import ConstraintTraining
from ._constraints import Constraints
from ._contraction import Contraction
from ._darcy_small import DarcySmall
from ._deep_directions import DeepDirections
from ._dgno import DGNOTraining
from ._durability import Durability
from ._expert_scaling import ExpertScaling
from ._faults import Faults
from ._inverse import Inverse
from ._learned_multigrid import LearnedMultigrid
from ._linear import Linear
from ._neural_odes import NeuralODEs
from ._products import Many, Products
from ._recorder import Recorder
from ._relaxation import Relaxation
from ._report import Report
from ._rollouts import Rollouts
from ._surrogate_speed import SurrogateSpeed
from ._surrogates import Surrogates

BENCHMARKS = {
    "linear": "set-up and solve times: CG, Jacobi, our multigrid, PyAMG, SuperLU",
    "products": "A x for stencils, diagonals and padded rows, beside SciPy's CSR",
    "many": "64 right-hand sides at once, in units of one",
    "contraction": "error reduction per V-cycle against the grid size",
    "learned-multigrid": "a learned V-cycle beside untrained ones, and PyAMG (--amg)",
    "relaxation": "SOR and SSOR-CG over sequences: bandits, Young's form, fixed omegas",
    "deep-directions": "flexible CG with directions of networks, beside CG, multigrid",
    "constraints": "hard constraints in one piece and in many: errors, seams, times",
    "constraint-training": "penalties, a hard constraint, experts: trained on a PDE",
    "expert-scaling": "experts in turn, at once, on devices; more nodes, more experts",
    "dgno": "training without solutions: errors at equal time, speed of a step",
    "inverse": "media from a few noisy values: errors, calibration, adjoint solves",
    "neural-odes": "penalties on the cost of a solve: accuracy, evaluations, times",
    "recorder": "what recording a solve costs, and a price on it; torch (--torch)",
    "darcy-small": "MgNO and FNO on the small real Darcy set (--data)",
    "surrogates": "MgNO, FNO and UNet on our problems, beside the classical solver",
    "surrogate-speed": "MgNO and FNO, forward and gradient; torch (--torch)",
    "rollouts": "models that march in time: errors, and which long rollouts diverge",
    "certified": "predictions finished by CG: is the residual met, what is saved",
    "durability": "training that is killed and resumed: what is lost; a long run",
    "faults": "every way a linear solve can fail: what solvers claim, and what is true",
}


def _called(name: str):
    return tyro.conf.subcommand(name, description=BENCHMARKS[name], prefix_name=False)


_Benchmark = (
    Annotated[Linear, _called("linear")]
    | Annotated[Products, _called("products")]
    | Annotated[Many, _called("many")]
    | Annotated[Contraction, _called("contraction")]
    | Annotated[LearnedMultigrid, _called("learned-multigrid")]
    | Annotated[Relaxation, _called("relaxation")]
    | Annotated[DeepDirections, _called("deep-directions")]
    | Annotated[Constraints, _called("constraints")]
    | Annotated[ConstraintTraining, _called("constraint-training")]
    | Annotated[ExpertScaling, _called("expert-scaling")]
    | Annotated[DGNOTraining, _called("dgno")]
    | Annotated[Inverse, _called("inverse")]
    | Annotated[NeuralODEs, _called("neural-odes")]
    | Annotated[Recorder, _called("recorder")]
    | Annotated[DarcySmall, _called("darcy-small")]
    | Annotated[Surrogates, _called("surrogates")]
    | Annotated[SurrogateSpeed, _called("surrogate-speed")]
    | Annotated[Rollouts, _called("rollouts")]
    | Annotated[Certified, _called("certified")]
    | Annotated[Durability, _called("durability")]
    | Annotated[Faults, _called("faults")]
)


@dataclasses.dataclass
class Bench:
    """Run a benchmark, print its table, and keep a record of it."""

    benchmark: Annotated[_Benchmark, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=lambda: Linear(Report())
    )

    def __call__(self) -> ExitCode:
        """Run the one that was chosen."""
        return self.benchmark()
