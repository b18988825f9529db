"""Time-dependent problems by name, for benchmarks over all of them."""

import difflib
from collections.abc import Callable

from ._advection import Advection
from ._allen_cahn import AllenCahn
from ._burgers import Burgers
from ._diffusion_sorption import DiffusionSorption
from ._dirichlet_burgers import DirichletBurgers
from ._evolution import AbstractEvolution
from ._heat_equation import Heat
from ._kuramoto_sivashinsky import KuramotoSivashinsky
from ._navier_stokes import NavierStokesVorticity

# Name, constructor, one line for people.
_EVOLUTIONS: dict[str, tuple[Callable[[], AbstractEvolution], str]] = {
    "advection": (Advection, "u_t + u_x = 0, once around, solution known"),
    "allen-cahn": (AllenCahn, "u_t = ε u_xx + 5 (u − u³), thin walls"),
    "burgers": (Burgers, "u_t + u u_x = ν u_xx, steep layers"),
    "burgers-dirichlet": (
        DirichletBurgers,
        "u_t + u u_x = ν u_xx between ends where u = 0: DGNO's benchmark",
    ),
    "diffusion-sorption": (
        DiffusionSorption,
        "u_t = D/R(u) u_xx, a solute enters a soil that holds it back",
    ),
    "heat": (Heat, "u_t = κ Δu between sides where u = 0, solution known"),
    "kuramoto-sivashinsky": (
        KuramotoSivashinsky,
        "u_t + u u_x + u_xx + u_xxxx = 0, chaos",
    ),
    "navier-stokes": (
        NavierStokesVorticity,
        "ω_t + u·∇ω = ν Δω + f on a torus, the benchmark of FNO",
    ),
}


def evolution_names() -> dict[str, str]:
    """Every time-dependent problem's name and what it is, see `get_evolution`."""
    return {name: text for name, (_, text) in _EVOLUTIONS.items()}


def get_evolution(name: str) -> AbstractEvolution:
    """A time-dependent problem by name, with its default parameters.

    **Arguments:**

    - `name`: one of `evolution_names()`.

    **Raises:** `ValueError` for an unknown name (with the nearest one).

    !!! example

        ```python
        import problems

        problem = problems.get_evolution("burgers")
        ```
    """
    if name not in _EVOLUTIONS:
        near = difflib.get_close_matches(name, _EVOLUTIONS, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"Unknown time-dependent problem {name!r}; known are "
            f"{', '.join(_EVOLUTIONS)}.{hint}"
        )
    return _EVOLUTIONS[name][0]()
