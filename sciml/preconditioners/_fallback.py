"""A preconditioner with another one in reserve."""

import lineax as lx

from ..linear import AbstractPreconditioner, FallbackOperator
from ..linear._builder import build_preconditioner
from ._jacobi import Jacobi


class Fallback(AbstractPreconditioner):
    """M₁, and M₂ where a solve with M₁ breaks down.

    For preconditioners that promise much and guarantee little: learned ones, or built
    for another A. Where a solve with M₁ ends as `indefinite_preconditioner`,
    `nonfinite`, `stagnated`, `diverged` or `infeasible` it goes on from its last
    iterate with M₂. `stats["fallback_step"]` is the number of steps after which M₂ took
    over, −1 where it did not have to; the history covers both, and each of the two may
    take `max_steps`.

    In any solver of this library; elsewhere what it builds is M₁.

    **Arguments:**

    - `first`: a builder, or an operator that was built before.
    - `second`: the same. Default `Jacobi()`.

    !!! example

        ```python
        import jax.numpy as jnp
        import lineax as lx
        import sciml

        A = sciml.linear.diffusion_operator(1.0, sciml.grids.Grid((15,)))
        wrong = lx.TaggedLinearOperator(-A, lx.positive_semidefinite_tag)
        solution = sciml.linear_solve(
            A,
            jnp.ones(15),
            sciml.CG(rtol=1e-5),
            preconditioner=sciml.preconditioners.Fallback(wrong),
        )
        solution.stats["fallback_step"]  # 0: at once
        ```
    """

    first: AbstractPreconditioner | lx.AbstractLinearOperator
    second: AbstractPreconditioner | lx.AbstractLinearOperator = Jacobi()

    @property
    def on_host(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether one of the two is set up on the host."""
        return any(getattr(m, "on_host", False) for m in (self.first, self.second))

    def build(self, operator: lx.AbstractLinearOperator) -> FallbackOperator:
        """Both for this operator, as one lineax operator."""
        built = [build_preconditioner(m, operator) for m in (self.first, self.second)]
        first, second = (m for m in built if m is not None)
        return FallbackOperator(first, second)
