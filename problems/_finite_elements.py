"""What the finite-element problems share: what an assembled system comes with."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import lineax as lx
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ._system import AbstractLinearSystem


class Discretisation(eqx.Module):
    """A finite-element system, and what preconditioners and plots ask of it.

    **Arguments:**

    - `operator`: A on the n free dofs, tagged positive semidefinite.
    - `vector`: b, of shape `(n,)`.
    - `expand`: u on the free dofs ↦ u on all dofs, with the boundary values.
    - `coordinates`: where each unknown lives, on the host.
    - `near_null_space`: vectors that A would map to zero without its boundary
        conditions, on the host: what algebraic multigrid has to interpolate exactly.
    - `block_size`: unknowns per node; those of one node are neighbours.
    """

    operator: lx.AbstractLinearOperator
    vector: Float[Array, " n"]
    expand: Callable[[Float[Array, " n"]], Float[Array, " all"]]
    coordinates: Float[np.ndarray, "n ndim"]
    near_null_space: Float[np.ndarray, "n m"]
    block_size: int = eqx.field(static=True, default=1)


class AbstractFiniteElements(AbstractLinearSystem):
    """A system that scikit-fem assembles on the host: needs the extra `fem`."""

    @abc.abstractmethod
    def discretise(self, *, key: PRNGKeyArray | None = None) -> Discretisation:
        """Mesh, assemble, and eliminate the Dirichlet dofs.

        **Arguments:**

        - `key`: needed where the coefficient is random.

        **Raises:** `ImportError` without scikit-fem.
        """

    def linear_system(
        self, *, key: PRNGKeyArray | None = None
    ) -> tuple[lx.AbstractLinearOperator, Float[Array, " n"]]:
        """A and b of `discretise`."""
        found = self.discretise(key=key)
        return found.operator, found.vector


def scikit_fem() -> Any:
    """The module `skfem`, or an error that names the extra."""
    try:
        import skfem
        import skfem.helpers
        import skfem.models.elasticity
        import skfem.models.poisson
    except ImportError as error:
        raise ImportError(
            "Finite-element problems need scikit-fem: pip install 'sciml-solvers[fem]'."
        ) from error
    return skfem
