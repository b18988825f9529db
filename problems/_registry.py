"""Problems by name, for the command line and for benchmarks over all of them."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from sciml.grids import (
    AbstractRandomField,
    GaussianField,
    LogNormalField,
    SquaredExponentialField,
    TrigonometricField,
    TwoPhaseField,
)

from ._anisotropic import AnisotropicDiffusion
from ._continuous_darcy import ContinuousDarcy
from ._diffusion import Darcy, Diffusion
from ._diffusion_family import AbstractElliptic
from ._disc_heat import DiscHeat
from ._elasticity import LinearElasticity
from ._finite_elements import AbstractFiniteElements
from ._implicit_steps import HeatStep, PressureStep
from ._poisson import Poisson
from ._two_phase_darcy import TwoPhaseDarcy
from ._unstructured import UnstructuredDiffusion

# Name, constructor, what is fixed, one line for people.
_PROBLEMS: dict[str, tuple[Callable[..., AbstractElliptic], dict[str, Any], str]] = {
    "poisson-1d": (
        Poisson,
        {"num_points": (255,)},
        "−u'' = f, solution in closed form",
    ),
    "poisson-2d": (
        Poisson,
        {"num_points": (255, 255)},
        "−Δu = f, solution in closed form",
    ),
    "poisson-3d": (
        Poisson,
        {"num_points": (31, 31, 31)},
        "−Δu = f in 3-D, solution in closed form",
    ),
    "diffusion-two-phase": (
        Diffusion,
        {"num_points": (255, 255), "coefficient": "two_phase"},
        "−∇·(a∇u) = 1, a of two phases (--contrast)",
    ),
    "diffusion-lognormal": (
        Diffusion,
        {"num_points": (255, 255), "coefficient": "lognormal"},
        "−∇·(a∇u) = 1, a log-normal (--contrast)",
    ),
    "diffusion-checkerboard": (
        Diffusion,
        {"num_points": (255, 255), "coefficient": "checkerboard", "contrast": 1e4},
        "−∇·(a∇u) = 1, a on alternating blocks (--contrast)",
    ),
    "diffusion-channels": (
        Diffusion,
        {"num_points": (255, 255), "coefficient": "channels", "contrast": 1e4},
        "−∇·(a∇u) = 1, a large in thin channels (--contrast)",
    ),
    "diffusion-anisotropic": (
        AnisotropicDiffusion,
        {"num_points": (255, 255)},
        "−∇·(K∇u) = 1, K = diag(1, 1e-3) turned by 30°",
    ),
    "darcy": (
        Darcy,
        {"num_points": (64, 64)},
        "−∇·(a∇u) = 1, two phases: the surrogate benchmark",
    ),
    "darcy-smooth": (
        Diffusion,
        {"num_points": (209, 209), "coefficient": TwoPhaseField(3.0, 12.0)},
        "the Fourier neural operator's Darcy flow: a ∈ {3, 12}, large grains",
    ),
    "darcy-rough": (
        Diffusion,
        {
            "num_points": (255, 255),
            "coefficient": TwoPhaseField(2.0, 12.0, GaussianField(tau=5.0)),
        },
        "MgNO's rough Darcy flow: a ∈ {2, 12}, smaller grains",
    ),
    "darcy-multiscale": (
        Diffusion,
        {
            "num_points": (255, 255),
            "coefficient": TrigonometricField(),
            "extent": 2.0,
        },
        "MgNO's multiscale Darcy flow: a oscillates on six scales",
    ),
    "darcy-two-phase": (
        TwoPhaseDarcy,
        {"num_points": (29, 29)},
        "−∇·(a∇u) = 10, a ∈ {5, 10} on 29 × 29 nodes: DGNO's benchmark",
    ),
    "darcy-continuous": (
        ContinuousDarcy,
        {"num_points": (29, 29)},
        "−∇·(a∇u) = 10, a log-normal, on 29 × 29 nodes: DGNO's other benchmark",
    ),
    "heat-step": (
        HeatStep,
        {"num_points": (63, 63)},
        "one backward Euler step of ∂u/∂t = Δu (sciml predict --steps)",
    ),
    "pressure-step": (
        PressureStep,
        {"num_points": (64, 64)},
        "−Δp = −d on a periodic box, the pressure of an incompressible flow",
    ),
}

_LOG_NORMAL = LogNormalField(SquaredExponentialField(1.1, correlation_length=0.2))

# Name, constructor from a number of refinements, its default, one line for people.
_SYSTEMS: dict[str, tuple[Callable[[int], AbstractFiniteElements], int, str]] = {
    "fem-l-shape": (
        lambda r: UnstructuredDiffusion("l_shape", r, coefficient=_LOG_NORMAL),
        5,
        "−∇·(a∇u) = 1, a log-normal, on triangles (--refinements)",
    ),
    "fem-ball": (
        lambda r: UnstructuredDiffusion("ball", r),
        4,
        "−Δu = 1 in a ball of tetrahedra (--refinements)",
    ),
    "fem-disc-heat": (
        lambda r: DiscHeat(r),
        3,
        "a heat step on random meshes of a disc (--refinements)",
    ),
    "elasticity-2d": (
        lambda r: LinearElasticity((8 * 2**r, 2 * 2**r)),
        3,
        "a clamped beam, plane strain (--refinements)",
    ),
    "elasticity-3d": (
        lambda r: LinearElasticity((4 * 2**r, 2**r, 2**r), (4.0, 1.0, 1.0)),
        3,
        "a clamped beam in 3-D (--refinements)",
    ),
}


def problem_names() -> dict[str, str]:
    """Every problem's name and what it is; those on grids, see `get_problem`."""
    return {name: text for name, (_, _, text) in _PROBLEMS.items()}


def system_names() -> dict[str, str]:
    """Every finite-element system's name and what it is, see `get_system`."""
    return {name: text for name, (_, _, text) in _SYSTEMS.items()}


def get_problem(
    name: str, *, points: int | None = None, contrast: float | None = None
) -> AbstractElliptic:
    """A problem on a grid by name.

    **Arguments:**

    - `name`: one of `problem_names()`.
    - `points`: nodes per axis, the same on all; default the problem's own.
    - `contrast`: of the coefficient, where the problem has one.

    **Raises:** `ValueError` for an unknown name (with the nearest one), and for a
    contrast where there is none.
    """
    if name in _SYSTEMS:
        raise ValueError(f"{name!r} has no grid; it is one of get_system's.")
    _check_name("problem", name, _PROBLEMS)
    make, fixed, _ = _PROBLEMS[name]
    arguments = dict(fixed)
    if points is not None:
        arguments["num_points"] = (points,) * len(arguments["num_points"])
    if contrast is not None:
        if make in (Poisson, AnisotropicDiffusion, HeatStep, PressureStep):
            raise ValueError(f"contrast: {name!r} has a constant coefficient.")
        own = isinstance(arguments.get("coefficient"), AbstractRandomField)
        if own or make in (TwoPhaseDarcy, ContinuousDarcy):
            raise ValueError(f"contrast: the coefficient of {name!r} has its own.")
        arguments["contrast"] = contrast
    return make(**arguments)


def get_system(name: str, *, refinements: int | None = None) -> AbstractFiniteElements:
    """A finite-element system by name; to assemble it needs the extra `fem`.

    **Arguments:**

    - `name`: one of `system_names()`.
    - `refinements`: each halves the elements; default the system's own.

    **Raises:** `ValueError` for an unknown name (with the nearest one), and where there
    are too few refinements.
    """
    _check_name("system", name, _SYSTEMS)
    make, default, _ = _SYSTEMS[name]
    refinements = default if refinements is None else refinements
    if refinements < 1:
        raise ValueError(f"refinements: expected at least 1, got {refinements}.")
    return make(refinements)


def _check_name(what: str, name: str, known: Mapping[str, Any]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, [*_PROBLEMS, *_SYSTEMS], 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"Unknown {what} {name!r}; known are {', '.join(known)}.{hint}"
        )
