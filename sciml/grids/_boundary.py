"""Boundary conditions, one object per side of a grid."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import ArrayLike

BoundaryData = ArrayLike | Callable[..., ArrayLike]


class AbstractBoundary(eqx.Module):
    """What holds on one side of a grid."""

    @property
    @abc.abstractmethod
    def kind(self) -> str:
        """Its name in messages."""

    @property
    @abc.abstractmethod
    def stores_nodes(self) -> bool:
        """Whether the nodes that lie on the side are part of a field's array."""


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

    @property
    def kind(self) -> str:
        """Its name in messages."""
        return "dirichlet"

    @property
    def stores_nodes(self) -> bool:
        """What `stored` says."""
        return self.stored


class Neumann(AbstractBoundary):
    """a ∂u/∂n = flux on this side, n pointing outwards.

    The side's nodes are unknowns, hence always stored.

    **Arguments:**

    - `flux`: a number, an array with the shape of the side, or a function of the
        coordinates of the side's nodes. Positive lets the field rise outwards.
    """

    flux: BoundaryData = 0.0

    @property
    def kind(self) -> str:
        """Its name in messages."""
        return "neumann"

    @property
    def stores_nodes(self) -> bool:
        """True: they are unknowns."""
        return True


class Periodic(AbstractBoundary):
    """The side is glued to the opposite one; both sides of an axis must say so.

    The low side's nodes are stored, the high side's (the same nodes) are not.
    """

    @property
    def kind(self) -> str:
        """Its name in messages."""
        return "periodic"

    @property
    def stores_nodes(self) -> bool:
        """True; the high side's nodes are the low side's."""
        return True


BoundaryPair = tuple[AbstractBoundary, AbstractBoundary]


def boundary_data(condition: AbstractBoundary) -> Any:
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
