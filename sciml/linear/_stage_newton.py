"""Newton-Krylov for the stages of implicit time steps."""

from collections.abc import Callable
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import lineax as lx
import optimistix as optx
from jaxtyping import Array, Int, PyTree, Shaped

from . import _tree as tree
from ._builder import AbstractPreconditioner, build_preconditioner
from ._krylov import AbstractKrylov
from ._preconditioned import stage_solver, tagged
from ._tree import Vector

# Of what Newton may leave, the share that a linear solve may use up.
_LINEAR_SHARE = 0.1
# A looser solve would hardly be a Newton step.
_LOOSEST = 0.1


class _State(eqx.Module):
    """The preconditioner, and how the iteration goes."""

    M: lx.AbstractLinearOperator | None
    residual: Shaped[Array, ""]
    residual_before: Shaped[Array, ""]
    change: Shaped[Array, ""]
    change_before: Shaped[Array, ""]
    result: optx.RESULTS
    step: Int[Array, ""]
    linear_steps: Int[Array, ""]


class StageNewton(optx.AbstractRootFinder):
    """Inexact Newton's method for F(k) = k − f(y + γ Δt k) = 0, one stage of a step.

    Each step solves J d = F(k) by a Krylov method, with J = 1 − γ Δt ∂f/∂y at the
    current k known by its products only, and only as far as needed: to a tenth of what
    Newton's method may leave. In units of the tolerances, ‖v‖ = norm(v/(atol + rtol
    |k|)), it ends when

    - the residual meets ‖F(k)‖ ≤ κ. The eigenvalues of ∂f/∂y in the left half-plane
        only make the error of k smaller than that; or
    - the estimate of what is left, ‖d‖ θ/(1 − θ) with θ = ‖d‖/‖d before‖, is below κ.

    It fails, and diffrax rejects the step and tries a smaller one, where a Krylov
    solve fails (with that result), the residual doubles or is not finite
    (`nonlinear_divergence`), or the steps run out (`nonlinear_max_steps_reached`).
    With a fixed step size `diffeqsolve` ends with that result.

    For systems that are no such stage use `sciml.linear.newton_krylov`.

    **Arguments:**

    - `rtol`, `atol`, `norm`: what k is measured with. `implicit_root_finder` leaves
        them to diffrax, which takes those of the step size controller.
    - `kappa`: κ. Default 1e-2, as in `diffrax.VeryChord`.
    - `linear_solver`, `preconditioner`, `tags`: see `implicit_root_finder`.

    Statistics: `num_linear_steps`, the Krylov steps of all linear solves.

    Source: Hairer & Wanner, *Solving Ordinary Differential Equations II*, §IV.8 (the
    estimate and κ); Brown & Hindmarsh, J. Comput. Appl. Math. 23 (1988) (Krylov solves
    as accurate as Newton needs them).
    """

    rtol: Any
    atol: Any
    norm: Callable[[PyTree], Any] = optx.rms_norm
    kappa: float = 1e-2
    linear_solver: AbstractKrylov | None = None
    preconditioner: AbstractPreconditioner | lx.AbstractLinearOperator | None = None
    tags: object | frozenset[object] = eqx.field(static=True, default=frozenset())

    def init(
        self,
        fn: Callable,
        y: Vector,
        args: PyTree,
        options: dict[str, Any],
        f_struct: PyTree,
        aux_struct: PyTree,
        tags: frozenset[object],
    ) -> _State:
        """The state before the first step.

        Builds the preconditioner, unless `options["init_state"]` brings a state:
        diffrax makes one per time step and hands it to every stage.
        """
        del f_struct, aux_struct
        if "init_state" in options:
            return options["init_state"]
        M = None
        if isinstance(self.preconditioner, AbstractPreconditioner):
            _, operator, _ = self._linearised(fn, y, args, tags)
            M = build_preconditioner(self.preconditioner, operator)
        none = jnp.asarray(jnp.inf, tree.real_dtype(y))
        count = jnp.zeros((), jnp.int32)
        fine = optx.RESULTS.successful
        return _State(M, none, none, none, none, fine, count, count)

    def step(
        self,
        fn: Callable,
        y: Vector,
        args: PyTree,
        options: dict[str, Any],
        state: _State,
        tags: frozenset[object],
    ) -> tuple[Vector, _State, Any]:
        """One Newton step."""
        del options
        F, operator, aux = self._linearised(fn, y, args, tags)
        residual = self._measure(F, y)
        # Where the residual is small enough already, the solve is to do nothing.
        share = jnp.minimum(_LOOSEST, _LINEAR_SHARE * self.kappa / residual)
        share = jnp.where(residual <= self.kappa, 1.0, share)
        solver = stage_solver(self.linear_solver)
        atol = solver.atol.astype(residual.dtype) + share * tree.norm(F)
        solver = eqx.tree_at(lambda s: s.atol, solver, atol)
        M = self.preconditioner if state.M is None else state.M
        solution = lx.linear_solve(
            operator,
            F,
            solver,
            options={} if M is None else {"preconditioner": M},
            throw=False,
        )
        new_state = _State(
            M=state.M,
            residual=residual,
            residual_before=state.residual,
            change=self._measure(solution.value, y),
            change_before=state.change,
            result=optx.RESULTS.promote(solution.result),
            step=state.step + 1,
            linear_steps=state.linear_steps + solution.stats["num_steps"],
        )
        return tree.subtract(y, solution.value), new_state, aux

    def terminate(
        self,
        fn: Callable,
        y: Vector,
        args: PyTree,
        options: dict[str, Any],
        state: _State,
        tags: frozenset[object],
    ) -> tuple[Any, optx.RESULTS]:
        """Whether to stop, and how it ended."""
        del fn, y, args, options, tags
        again = state.step >= 2
        rate = state.change / state.change_before
        left = state.change * rate / (1 - rate)
        # Changes of this relative size are rounding.
        smallest = 10.0 ** (2 - jnp.finfo(state.change.dtype).precision)
        settled = ((left > 0) & (left < self.kappa)) | (state.change < smallest)
        done = (state.residual <= self.kappa) | (again & settled)
        worse = again & (state.residual > 2 * state.residual_before)
        lost = (state.step > 0) & ~jnp.isfinite(state.residual)
        diverged = (worse | lost) & ~done
        result = optx.RESULTS.where(
            diverged, optx.RESULTS.nonlinear_divergence, optx.RESULTS.successful
        )
        failed = state.result != optx.RESULTS.successful
        result = optx.RESULTS.where(failed, state.result, result)
        return done | diverged | failed, result

    def postprocess(
        self,
        fn: Callable,
        y: Vector,
        aux: Any,
        args: PyTree,
        options: dict[str, Any],
        state: _State,
        tags: frozenset[object],
        result: optx.RESULTS,
    ) -> tuple[Vector, Any, dict[str, Any]]:
        """The root, and the number of Krylov steps among the statistics."""
        del fn, args, options, tags, result
        return y, aux, {"num_linear_steps": state.linear_steps}

    def _linearised(self, fn, y, args, tags):
        F, product, aux = jax.linearize(lambda k: fn(k, args), y, has_aux=True)
        J = lx.FunctionLinearOperator(product, tree.structure_of(y), tags)
        return F, tagged(J, self.tags), aux

    def _measure(self, vector: Vector, y: Vector) -> Shaped[Array, ""]:
        """The norm in units of the tolerances."""

        def scaled(v, k):
            size = jnp.abs(k)
            rtol, atol = (jnp.asarray(x, size.dtype) for x in (self.rtol, self.atol))
            return v / (atol + rtol * size)

        return jnp.asarray(self.norm(jtu.tree_map(scaled, vector, y)))


def implicit_root_finder(
    linear_solver: lx.AbstractLinearSolver | None = None,
    *,
    preconditioner: AbstractPreconditioner | lx.AbstractLinearOperator | None = None,
    tags: object | frozenset[object] = frozenset(),
    rtol: Any = None,
    atol: Any = None,
) -> StageNewton:
    """A matrix-free root finder for the implicit solvers of diffrax.

    `diffrax.Kvaerno5(root_finder=implicit_root_finder())` solves its stages by Newton's
    method and GMRES: the memory is that of a few dozen fields, where diffrax's own root
    finder stores the dense Jacobian of n² numbers. A stage that is not solved rejects
    the step; see `StageNewton`.

    Derivatives of `diffeqsolve` do not pass through a root finder: diffrax takes them
    from the dense Jacobian. `sciml.linear.MatrixFree` does both without it.

    **Arguments:**

    - `linear_solver`: any solver of `sciml.linear`. Its `rtol` and `atol` say how
        accurate a solve is at most; its `max_steps`, when a step is given up. Default
        `GMRES(10, max_steps=300)`. Where ∂f/∂y is symmetric `sciml.CG` is faster, and
        needs the tag.
    - `preconditioner`: M ≈ J⁻¹, J = 1 − γ Δt ∂f/∂y. A builder is run once per time
        step, of products with J: `sciml.preconditioners.FastDiagonalisation(grid)` or
        `Probed(grid)`. A lineax operator is used as it is. Default none.
    - `tags`: lineax tags of J. `lineax.positive_semidefinite_tag` where ∂f/∂y is
        symmetric; J is then positive definite for every Δt that resolves what grows.
        (`diffrax.ImplicitEuler` solves with −J: there the negative tag.)
    - `rtol`, `atol`: tolerances of the stages, both or neither. Default those of the
        step size controller, norm included; with fixed step sizes there are none.

    **Raises:** `TypeError` for a linear solver that is not one of ours, `ValueError`
    for one tolerance without the other.

    !!! example

        ```python
        import diffrax as dfx
        import jax.numpy as jnp
        import lineax as lx
        import sciml

        A = sciml.linear.diffusion_operator(1.0, sciml.grids.Grid((31, 31)))
        finder = sciml.linear.implicit_root_finder(
            sciml.CG(max_steps=300), tags=lx.positive_semidefinite_tag
        )
        solution = dfx.diffeqsolve(
            dfx.ODETerm(lambda t, u, args: -A.mv(u)),
            dfx.Kvaerno5(root_finder=finder),
            t0=0.0,
            t1=0.1,
            dt0=None,
            y0=jnp.ones((31, 31)),
            stepsize_controller=dfx.PIDController(rtol=1e-3, atol=1e-5),
        )
        ```
    """
    if (rtol is None) != (atol is None):
        raise ValueError(
            f"rtol, atol: expected both or neither, got rtol={rtol!r}, atol={atol!r}."
        )
    parts = {
        "linear_solver": stage_solver(linear_solver),
        "preconditioner": preconditioner,
        "tags": tags,
    }
    if rtol is None:
        return dfx.with_stepsize_controller_tols(StageNewton)(**parts)
    return StageNewton(rtol, atol, **parts)
