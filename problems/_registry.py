"""Problems by name, for the command line and for benchmarks over all of them."""

import difflib
from collections.abc import Callable
from typing import Any

from ._anisotropic import AnisotropicDiffusion
from ._diffusion import Darcy, Diffusion
from ._diffusion_family import AbstractElliptic
from ._poisson import Poisson

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
}


def problem_names() -> dict[str, str]:
    """Every problem's name and what it is."""
    return {name: text for name, (_, _, text) in _PROBLEMS.items()}


def get_problem(
    name: str, *, points: int | None = None, contrast: float | None = None
) -> AbstractElliptic:
    """A problem by name.

    **Arguments:**

    - `name`: one of `problem_names()`.
    - `points`: nodes per axis, the same on all; default the problem's own.
    - `contrast`: of the coefficient, where the problem has one.

    **Raises:** `ValueError` for an unknown name (with the nearest one), and for a
    contrast where there is none.
    """
    if name not in _PROBLEMS:
        near = difflib.get_close_matches(name, _PROBLEMS, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"Unknown problem {name!r}; known are {', '.join(_PROBLEMS)}.{hint}"
        )
    make, fixed, _ = _PROBLEMS[name]
    arguments = dict(fixed)
    if points is not None:
        arguments["num_points"] = (points,) * len(arguments["num_points"])
    if contrast is not None:
        if make in (Poisson, AnisotropicDiffusion):
            raise ValueError(f"contrast: {name!r} has a constant coefficient.")
        arguments["contrast"] = contrast
    return make(**arguments)
