"""Initial-value problems by name, for benchmarks over all of them."""

import difflib
from collections.abc import Callable

from sciml import AbstractODE

from ._lotka_volterra import LotkaVolterra
from ._spirals import Spiral
from ._stiff_odes import HIRES, Oregonator, Robertson
from ._van_der_pol import StiffVanDerPol, VanDerPol

# Name, constructor, one line for people.
_ODES: dict[str, tuple[Callable[[], AbstractODE], str]] = {
    "hires": (HIRES, "eight reactions, moderately stiff, y(321.8122) known"),
    "lotka-volterra": (LotkaVolterra, "hares and lynxes, twenty years"),
    "oregonator": (Oregonator, "a chemical oscillation, stiff, y(360) known"),
    "robertson": (Robertson, "three reactions, very stiff, y(1e11) known"),
    "spiral": (Spiral, "the spiral of cubes on which neural ODEs were introduced"),
    "van-der-pol": (VanDerPol, "a nonlinear oscillator, μ = 1, not stiff"),
    "van-der-pol-stiff": (StiffVanDerPol, "the same for ε = 1e-6, stiff, y(2) known"),
}


def ode_names() -> dict[str, str]:
    """Every initial-value problem's name and what it is, see `get_ode`."""
    return {name: text for name, (_, text) in _ODES.items()}


def get_ode(name: str) -> AbstractODE:
    """An initial-value problem by name, with its default parameters.

    **Arguments:**

    - `name`: one of `ode_names()`.

    **Raises:** `ValueError` for an unknown name (with the nearest one).

    !!! example

        ```python
        import problems

        ode = problems.get_ode("hires")
        ```
    """
    if name not in _ODES:
        near = difflib.get_close_matches(name, _ODES, 1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"Unknown initial-value problem {name!r}; known are {', '.join(_ODES)}."
            f"{hint}"
        )
    return _ODES[name][0]()
