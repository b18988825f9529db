"""Krylov solvers where a caller hands on no options: Newton's method, adjoints."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import lineax as lx
import optimistix as optx

from ._builder import AbstractPreconditioner
from ._gmres import GMRES
from ._krylov import AbstractKrylov


class Preconditioned(lx.AbstractLinearSolver):
    """A Krylov solver together with its preconditioner and tags.

    For slots that pass neither on. `optimistix.Newton` and `optimistix.ImplicitAdjoint`
    solve with a Jacobian J, without options and with no tags but those of `root_find`;
    with this as their `linear_solver` J stays a product and is never a matrix.

    A solve that fails is a lineax result, which `root_find` ends with: it raises it or
    returns it, as its `throw` says. In `ImplicitAdjoint` it always raises.

    **Arguments:**

    - `solver`: such as `sciml.linear.GMRES()` or `sciml.CG()`.
    - `preconditioner`: M ≈ J⁻¹. A builder of `sciml.preconditioners`, which is run for
        each J; J is known by its products only, see `FastDiagonalisation` and `Probed`
        there. Or a lineax operator, then the same for all. Default none.
    - `tags`: lineax tags that hold for every J, such as
        `lineax.positive_semidefinite_tag`, which `sciml.CG` asks for. Default none.

    !!! example

        ```python
        import jax
        import jax.numpy as jnp
        import optimistix as optx
        import sciml

        solver = sciml.linear.Preconditioned(sciml.linear.GMRES(rtol=1e-5))

        def cube_root(a):
            return optx.root_find(
                lambda y, a: y**3 - a,
                optx.Newton(rtol=1e-5, atol=1e-5, linear_solver=solver),
                y0=jnp.ones(3),
                args=a,
                adjoint=optx.ImplicitAdjoint(linear_solver=solver),
            ).value

        jax.jacobian(cube_root)(jnp.array([1.0, 8.0, 27.0]))
        ```
    """

    solver: AbstractKrylov
    preconditioner: AbstractPreconditioner | lx.AbstractLinearOperator | None = None
    tags: object | frozenset[object] = eqx.field(static=True, default=frozenset())

    def init(self, operator: lx.AbstractLinearOperator, options: dict[str, Any]) -> Any:
        """The Krylov solver's set-up for the tagged operator; `options` come first."""
        # A builder may ask for many products: linearise once.
        operator = tagged(lx.linearise(operator), self.tags)
        if self.preconditioner is not None:
            options = {"preconditioner": self.preconditioner, **options}
        return self.solver.init(operator, options)

    def compute(self, state: Any, vector: Any, options: dict[str, Any]) -> Any:
        """The Krylov solver's solve."""
        return self.solver.compute(state, vector, options)

    def transpose(self, state: Any, options: dict[str, Any]) -> Any:
        """The state of the adjoint solve."""
        return self.solver.transpose(state, options)

    def conj(self, state: Any, options: dict[str, Any]) -> Any:
        """The state of the conjugated solve."""
        return self.solver.conj(state, options)

    def assume_full_rank(self) -> bool:
        """True: derivatives are those of A⁻¹."""
        return self.solver.assume_full_rank()


def tagged(operator: lx.AbstractLinearOperator, tags) -> lx.AbstractLinearOperator:
    """The operator with tags added, if there are any."""
    return lx.TaggedLinearOperator(operator, tags) if tags else operator


def stage_solver(given: Any) -> AbstractKrylov:
    """The given solver, or what suits the stages of time steps."""
    if given is None:
        # Long restarts cost more in inner products than they save in steps.
        return GMRES(10, max_steps=300, history_length=1)
    if not isinstance(given, AbstractKrylov):
        raise TypeError(
            "linear_solver: expected a solver of sciml.linear such as GMRES() or CG(), "
            f"got {type(given).__name__}."
        )
    return given


def newton_krylov(
    rtol: Any,
    atol: Any,
    linear_solver: lx.AbstractLinearSolver | None = None,
    *,
    preconditioner: AbstractPreconditioner | lx.AbstractLinearOperator | None = None,
    tags: object | frozenset[object] = frozenset(),
    norm: Callable[[Any], Any] = optx.max_norm,
) -> optx.Newton:
    """Newton's method for F(y) = 0 with Krylov solves, for `optimistix.root_find`.

    An `optimistix.Newton` whose `linear_solver` is `Preconditioned`: J = ∂F/∂y is known
    by its products only. It ends when ‖d/(atol + rtol |y|)‖ < 1 for the last step d
    *and* ‖F/atol‖ < 1 for the residual before it; what fails is a result that
    `root_find` raises or returns.

    Newton's method converges from nearby only, and then quadratically until the error
    falls by the linear solver's rtol per step: the default 1e-3 costs about as many
    Krylov steps in all as smaller ones do in fewer Newton steps. `atol` must lie above
    the rounding of F, which for the five-point −Δu is up to 8 ε max|u|/h².

    `root_find` takes derivatives with a dense Jacobian unless it is given another
    `adjoint`: `optimistix.ImplicitAdjoint(linear_solver=Preconditioned(...))`, with a
    linear solver as accurate as the derivative is to be.

    **Arguments:**

    - `rtol`, `atol`, `norm`: as for `optimistix.Newton`.
    - `linear_solver`: default `GMRES(20, rtol=1e-3, max_steps=1000)`.
    - `preconditioner`, `tags`: as for `Preconditioned`.

    !!! example

        ```python
        import jax.numpy as jnp
        import optimistix as optx
        import sciml

        grid = sciml.grids.Grid((31, 31))
        A = sciml.linear.diffusion_operator(1.0, grid)
        newton = sciml.linear.newton_krylov(
            1e-4, 1e-2, preconditioner=sciml.preconditioners.FastDiagonalisation(grid)
        )
        residual = lambda u, f: A.mv(u) + u**3 - f
        optx.root_find(residual, newton, jnp.zeros((31, 31)), jnp.asarray(50.0)).value
        ```

    Source: Knoll & Keyes, J. Comput. Phys. 193 (2004) 357.
    """
    if linear_solver is None:
        linear_solver = GMRES(20, rtol=1e-3, max_steps=1000, history_length=1)
    solver = Preconditioned(stage_solver(linear_solver), preconditioner, tags)
    return optx.Newton(rtol=rtol, atol=atol, norm=norm, linear_solver=solver)
