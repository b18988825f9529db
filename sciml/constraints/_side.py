"""Rows on one side of a grid."""

from collections.abc import Callable
from typing import Any

import equinox as eqx


class Side(eqx.Module):
    """A condition on the nodes of one side: initial or boundary values.

    Its rows join those of the residual, divided by the root of their number and
    multiplied by `weight`.

    **Arguments:**

    - `residual`: `residual(terms, parameters) -> rows`, at the nodes of the side; what
        has the grid's shape in `parameters` is cut down to it, too.
    - `axis`: which axis of the grid.
    - `end`: 0, its first nodes, or −1, its last ones.
    - `weight`: default 1.

    !!! example

        ```python
        initial = sciml.constraints.Side(
            lambda terms, start: terms["u"] - start, axis=1, end=0, weight=10.0
        )
        ```
    """

    residual: Callable[[Any, Any], Any]
    axis: int = eqx.field(static=True)
    end: int = eqx.field(static=True, default=0)
    weight: float = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        if self.end not in (0, -1):
            raise ValueError(f"end: expected 0 or -1, got {self.end!r}.")
        if not isinstance(self.axis, int) or self.axis < 0:
            raise ValueError(f"axis: expected an integer ≥ 0, got {self.axis!r}.")
        if not 0 < self.weight < float("inf"):
            raise ValueError(
                f"weight: expected a positive number, got {self.weight!r}."
            )
