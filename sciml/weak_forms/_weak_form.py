"""What is asked of fields in place of the equation at every point."""

import abc
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..grids import Grid
from ._coefficients import AbstractCoefficient

# A field by name, at points (num, ndim): values (channels, num) and gradients.
Fields = Callable[[str, Array], tuple[Array, Array]]


class AbstractWeakForm(eqx.Module):
    """An equation as numbers that vanish for its solution.

    It says which fields a model has to supply, draws the points where they are needed,
    and makes residuals of them. A model's raw fields obey no boundary condition;
    `solution` makes one that does, exactly.

    - `grid`: where coefficients are given.
    - `coefficient`: of what kind they are.
    """

    grid: eqx.AbstractVar[Grid]
    coefficient: eqx.AbstractVar[AbstractCoefficient]

    @property
    def domain(self) -> Grid:
        """Where the equation holds, with the nodes at which u is asked for.

        The grid of the coefficients, unless a form says otherwise.
        """
        return self.grid

    @property
    @abc.abstractmethod
    def outputs(self) -> Mapping[str, int]:
        """The fields that are needed, and the number of their channels.

        One that is called `coefficient` lives in the box of `grid`, others in the one
        of `domain`.
        """

    @abc.abstractmethod
    def draw(self, *, key: PRNGKeyArray) -> Any:
        """Random points, or test functions, for one evaluation of `residuals`."""

    @abc.abstractmethod
    def residuals(
        self,
        fields: Fields,
        coefficient: Callable[[Array], Array],
        where: Any,
    ) -> dict[str, Float[Array, " observables"]]:
        """Numbers without unit that vanish for the exact fields, by kind.

        **Arguments:**

        - `fields`: `fields(name, points)` gives raw values `(channels, num)` and
            gradients `(channels, num, ndim)`, by the coordinates of the points.
        - `coefficient`: `coefficient(points)` gives its values `(num,)`.
        - `where`: what `draw` gave.
        """

    @abc.abstractmethod
    def solution(
        self, fields: Fields, points: Float[Array, "num ndim"]
    ) -> tuple[Float[Array, "channels num"], Float[Array, "channels num ndim"]]:
        """u and its gradient, with the boundary conditions."""

    def values(
        self, fields: Fields, points: Float[Array, "num ndim"]
    ) -> Float[Array, "channels num"]:
        """u without its gradient, which some forms need not go through."""
        return self.solution(fields, points)[0]

    def covers(self, points: Float[Array, "num ndim"]) -> Bool[Array, " num"]:
        """Whether there is a solution at points of the domain's box.

        Everywhere, unless a form says otherwise.
        """
        return jnp.ones(points.shape[:1], bool)

    def raw_coefficient(
        self, fields: Fields, points: Float[Array, "num ndim"]
    ) -> Float[Array, " num"]:
        """What `coefficient.value` makes a coefficient of, at points of the grid's box.

        The field that is called `coefficient`, unless a form says otherwise.
        """
        return fields("coefficient", points)[0][0]
