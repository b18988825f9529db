"""What a problem promises to the library."""

import abc
from typing import Any

import diffrax as dfx
import equinox as eqx
import lineax as lx
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .grids import Grid
from .grids._check import check_positive


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

    def check_coefficient(self, coefficient: Float[Array, "*space"]) -> None:
        """Refuse coefficients for which there is no problem, where they are known.

        Here those that are not finite and positive; problems whose "coefficient" is
        something else (the state before a time step) say so themselves.

        **Raises:** `ValueError`.
        """
        check_positive("coefficient", coefficient)

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


class AbstractODE(eqx.Module):
    """An initial-value problem dy/dt = f(t, y, args) on [t0, t1] with y(t0) = y0.

    What solvers are measured by and neural ODEs are trained on. It holds the data and
    no method: any diffrax solver takes it (below). The problems of the package
    `problems` are such, and so can yours be.

    **Promises**, as fields or properties:

    - `t0`, `t1`: where time starts and ends.
    - `y0`: the initial value, an array or a pytree of arrays.
    - `args`: the parameters of f, None where it has none. They are handed to diffrax,
        so that one can differentiate with respect to them and `vmap` over them.
    - `reference`: the trusted value of y(t1) for these `y0` and `args`, of y0's
        structure; None where there is none.

    !!! example

        ```python
        import diffrax as dfx
        import jax.numpy as jnp
        import sciml

        class Decay(sciml.AbstractODE):
            t0: float = 0.0
            t1: float = 1.0
            args: float = 2.0

            @property
            def y0(self):
                return jnp.ones(1)

            @property
            def reference(self):
                return self.y0 * jnp.exp(-self.args)

            def vector_field(self, t, y, args):
                return -args * y

        ode = Decay()
        solution = dfx.diffeqsolve(
            ode.term(), dfx.Tsit5(), ode.t0, ode.t1, 0.1, ode.y0, ode.args
        )
        ```
    """

    t0: eqx.AbstractVar[float]
    t1: eqx.AbstractVar[float]
    y0: eqx.AbstractVar[PyTree[Array]]
    args: eqx.AbstractVar[PyTree]
    reference: eqx.AbstractVar[PyTree[Array] | None]

    @abc.abstractmethod
    def vector_field(self, t: Any, y: PyTree[Array], args: PyTree) -> PyTree[Array]:
        """f(t, y, args) for one state y, of y's structure and type."""

    def term(self) -> dfx.ODETerm:
        """f as what `diffrax.diffeqsolve` takes."""
        return dfx.ODETerm(self.vector_field)
