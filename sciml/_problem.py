"""What a problem promises to the library."""

import abc

import equinox as eqx
import lineax as lx
from jaxtyping import Array, Float, PRNGKeyArray

from .grids import Grid


class AbstractLinearProblem(eqx.Module):
    """A family of linear systems A(a) u = b(a) on one grid, a a coefficient field.

    What `sciml.predict` and the benchmarks need to know of a problem; the problems of
    the package `problems` are such, and so can yours be.
    """

    grid: eqx.AbstractVar[Grid]

    @abc.abstractmethod
    def sample_coefficient(self, *, key: PRNGKeyArray) -> Float[Array, "*space"]:
        """A random coefficient, a field on the grid."""

    @abc.abstractmethod
    def assemble(
        self, coefficient: Float[Array, "*space"]
    ) -> tuple[lx.AbstractLinearOperator, Float[Array, "*space"]]:
        """The operator A and the right-hand side b of one coefficient."""

    def inputs(self, coefficient: Float[Array, "*space"]) -> Float[Array, "1 *space"]:
        """What a surrogate sees of the coefficient: the field as one channel."""
        return coefficient[None]

    def linear_system(
        self,
        coefficient: Float[Array, "*space"] | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> tuple[lx.AbstractLinearOperator, Float[Array, "*space"]]:
        """A and b of a given coefficient, or of a random one.

        **Arguments:**

        - `coefficient`: a field on the grid; default: one drawn with `key`.
        - `key`: needed where no coefficient is given.
        """
        if coefficient is None:
            if key is None:
                raise ValueError("linear_system: give a coefficient or a key.")
            coefficient = self.sample_coefficient(key=key)
        return self.assemble(coefficient)
