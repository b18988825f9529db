"""Linear systems that come without a grid and a coefficient."""

import abc

import equinox as eqx
import lineax as lx
from jaxtyping import Array, PRNGKeyArray


class AbstractLinearSystem(eqx.Module):
    """A linear system, or a distribution of them, that comes without a grid.

    `linear_system` is called as that of `sciml.AbstractLinearProblem`, so that what
    only needs A and b takes both kinds.
    """

    @abc.abstractmethod
    def linear_system(
        self, *, key: PRNGKeyArray | None = None
    ) -> tuple[lx.AbstractLinearOperator, Array]:
        """A and b.

        **Arguments:**

        - `key`: needed where the system is random.
        """
