"""Boundary conditions, one object per side of a grid."""

from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
from jaxtyping import Array, ArrayLike

BoundaryData = ArrayLike | Callable[..., ArrayLike]


class AbstractBoundary(eqx.Module):
    """What holds on one side of a grid.

    `kind` is the word used in files and on the command line. `stored` says whether
    the nodes that lie on the side are part of a field's array.
    """

    kind: eqx.AbstractClassVar[str]
    stored: eqx.AbstractVar[bool]


class Dirichlet(AbstractBoundary):
    """u = value on this side.

    **Arguments:**

    - `value`: a number, an array with the shape of the side, or a function of the
        coordinates of the side's nodes (in the units of `Grid.extent`).
    - `stored`: whether the side's nodes are part of a field's array. False, the
        default, leaves out what is known already: then the first node lies one
        spacing inside. Use True for data that come with their boundary nodes.
    """

    value: BoundaryData = 0.0
    stored: bool = eqx.field(static=True, default=False)
    kind: ClassVar[str] = "dirichlet"


class Neumann(AbstractBoundary):
    """a ∂u/∂n = flux on this side, n pointing outwards.

    The side's nodes are unknowns, hence always stored.

    **Arguments:**

    - `flux`: a number, an array with the shape of the side, or a function of the
        coordinates of the side's nodes. Positive lets the field rise outwards.
    """

    flux: BoundaryData = 0.0
    stored: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleVariableOverride]
    kind: ClassVar[str] = "neumann"


class Periodic(AbstractBoundary):
    """The side is glued to the opposite one; both sides of an axis must say so.

    The low side's nodes are stored, the high side's (the same nodes) are not.
    """

    stored: ClassVar[bool] = True  # pyright: ignore[reportIncompatibleVariableOverride]
    kind: ClassVar[str] = "periodic"


BoundaryPair = tuple[AbstractBoundary, AbstractBoundary]


def boundary_data(condition: AbstractBoundary) -> Array | BoundaryData:
    """The value or flux that a condition prescribes; 0 for a periodic side."""
    if isinstance(condition, Dirichlet):
        return condition.value
    if isinstance(condition, Neumann):
        return condition.flux
    return 0.0


def boundary_pairs(boundary: object, ndim: int) -> tuple[BoundaryPair, ...]:
    """Normalise what a user wrote to one (low, high) pair per axis.

    **Arguments:**

    - `boundary`: one condition for every side; or a sequence with, per axis, either
        one condition for both sides or a (low, high) pair.
    - `ndim`: the number of axes.
    """
    if isinstance(boundary, AbstractBoundary):
        boundary = (boundary,) * ndim
    if not isinstance(boundary, tuple | list) or len(boundary) != ndim:
        raise ValueError(
            "boundary: expected one boundary condition, or one entry per axis "
            f"({ndim} of them), got {boundary!r}."
        )
    pairs = []
    for axis, entry in enumerate(boundary):
        pair = (entry, entry) if isinstance(entry, AbstractBoundary) else tuple(entry)
        if len(pair) != 2 or not all(isinstance(c, AbstractBoundary) for c in pair):
            raise ValueError(
                f"boundary: axis {axis} needs one condition or a (low, high) pair of "
                f"them, e.g. (Dirichlet(), Neumann()); got {entry!r}."
            )
        if isinstance(pair[0], Periodic) != isinstance(pair[1], Periodic):
            raise ValueError(
                f"boundary: axis {axis} is periodic on one side only; write "
                "Periodic() for both sides."
            )
        pairs.append(pair)
    return tuple(pairs)
