"""Implicit Runge-Kutta solvers whose steps and derivatives need no matrix."""

from collections.abc import Callable
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import lineax as lx
import numpy as np
from jaxtyping import Array, PyTree, Shaped

from . import _tree as tree
from ._builder import AbstractPreconditioner
from ._preconditioned import Preconditioned, stage_solver
from ._stage_newton import implicit_root_finder
from ._tree import Vector


class MatrixFree(dfx.AbstractWrappedSolver):
    """A diagonally implicit Runge-Kutta solver of diffrax, with Krylov solves.

    `MatrixFree(diffrax.Kvaerno5())` takes the steps of `Kvaerno5` with the root finder
    `implicit_root_finder(linear_solver, ...)`, and differentiates every stage

        k = Δt f(t + cΔt, y + a k)

    by the implicit function theorem with the same linear solver (transposed in reverse
    mode). diffrax itself does that with the dense Jacobian, whatever the root finder.
    Memory is that of a few dozen fields in both directions.

    Derivatives are those of the steps that were taken, as always in diffrax: the step
    sizes are constants to them. Each is a solve to the linear solver's own tolerance
    (default 1e-8, in float32 1e-5 or the rounding floor); one that fails raises.

    Works with `RecursiveCheckpointAdjoint` (the default), `DirectAdjoint` and
    `ForwardMode`, under `jit` and `vmap`.

    **Arguments:**

    - `solver`: `diffrax.Kvaerno3`, `Kvaerno4`, `Kvaerno5`, or another
        `diffrax.AbstractDIRK`. Its root finder is replaced.
    - `linear_solver`, `preconditioner`, `tags`, `rtol`, `atol`: as for
        `implicit_root_finder`. In a derivative the preconditioner is built for each
        stage.

    **Raises:** `TypeError` for a solver that is not diagonally implicit.

    !!! example

        ```python
        import diffrax as dfx
        import jax
        import jax.numpy as jnp
        import sciml

        grid = sciml.grids.Grid((15, 15))
        solver = sciml.linear.MatrixFree(
            dfx.Kvaerno5(),
            preconditioner=sciml.preconditioners.FastDiagonalisation(grid),
        )

        def heat_left(a):
            A = sciml.linear.diffusion_operator(a, grid)
            solution = dfx.diffeqsolve(
                dfx.ODETerm(lambda t, u, A: -A.mv(u)),
                solver,
                t0=0.0,
                t1=0.1,
                dt0=None,
                y0=jnp.ones(grid.num_points),
                args=A,
                stepsize_controller=dfx.PIDController(rtol=1e-3, atol=1e-5),
            )
            return jnp.sum(solution.ys)

        jax.jit(jax.grad(heat_left))(jnp.asarray(1.0))
        ```
    """

    solver: dfx.AbstractSolver  # pyright: ignore
    derivative_solver: Preconditioned

    def __init__(
        self,
        solver: dfx.AbstractSolver,
        linear_solver: lx.AbstractLinearSolver | None = None,
        *,
        preconditioner: AbstractPreconditioner
        | lx.AbstractLinearOperator
        | None = None,
        tags: object | frozenset[object] = frozenset(),
        rtol: Any = None,
        atol: Any = None,
    ):
        tableau = getattr(solver, "tableau", None)
        if not (
            isinstance(solver, dfx.AbstractDIRK)
            and isinstance(tableau, dfx.ButcherTableau)
        ):
            raise TypeError(
                "solver: expected a diagonally implicit Runge-Kutta solver such as "
                f"diffrax.Kvaerno5(), got {type(solver).__name__}. Other implicit "
                "solvers take sciml.linear.implicit_root_finder(...) as their "
                "root_finder; their derivatives need the dense Jacobian."
            )
        linear_solver = stage_solver(linear_solver)
        finder = implicit_root_finder(
            linear_solver,
            preconditioner=preconditioner,
            tags=tags,
            rtol=rtol,
            atol=atol,
        )
        self.solver = eqx.tree_at(  # pyright: ignore
            lambda s: s.root_finder, solver, finder
        )
        self.derivative_solver = Preconditioned(linear_solver, preconditioner, tags)

    @property
    def term_structure(self) -> Any:  # pyright: ignore
        """That of the wrapped solver."""
        return self.solver.term_structure

    @property
    def term_compatible_contr_kwargs(self) -> Any:  # pyright: ignore
        """Those of the wrapped solver."""
        return self.solver.term_compatible_contr_kwargs

    @property
    def interpolation_cls(self) -> Callable:  # pyright: ignore
        """That of the wrapped solver."""
        return self.solver.interpolation_cls

    @property
    def root_finder(self) -> Any:
        """That of the wrapped solver, where diffrax puts the tolerances."""
        return self.solver.root_finder  # pyright: ignore

    @property
    def root_find_max_steps(self) -> int:
        """That of the wrapped solver."""
        return self.solver.root_find_max_steps  # pyright: ignore

    @property
    def scan_kind(self) -> Any:
        """That of the wrapped solver, which some adjoints set."""
        return self.solver.scan_kind  # pyright: ignore

    def order(self, terms: PyTree) -> int | None:
        """That of the wrapped solver."""
        return self.solver.order(terms)

    def error_order(self, terms: PyTree) -> Any:
        """That of the wrapped solver."""
        return self.solver.error_order(terms)

    def init(self, terms: PyTree, t0: Any, t1: Any, y0: Vector, args: PyTree) -> Any:
        """The state of the wrapped solver."""
        return _still(self.solver.init(terms, t0, t1, y0, args))

    def func(self, terms: PyTree, t0: Any, y0: Vector, args: PyTree) -> Any:
        """The vector field."""
        return self.solver.func(terms, t0, y0, args)

    def step(
        self,
        terms: PyTree,
        t0: Any,
        t1: Any,
        y0: Vector,
        args: PyTree,
        solver_state: Any,
        made_jump: Any,
    ) -> Any:
        """The wrapped solver's step, and then its derivatives."""
        still = _still((terms, t0, t1, y0, args, solver_state, made_jump))
        y1, y_error, dense_info, state, result = self.solver.step(*still)
        # What a failed step leaves may not be finite. It is thrown away, but its
        # derivative would make NaN of the zeros that it is multiplied with.
        ok = result == dfx.RESULTS.successful
        stages = jtu.tree_map(lambda k: jnp.where(ok, k, 0.0), dense_info["k"])
        stages = self._attached(stages, terms, t0, t1, y0, args)
        weights = np.asarray(self.solver.tableau.b_sol)  # pyright: ignore
        end = jtu.tree_map(jnp.add, y0, _combination(weights, stages))
        y1 = _with_derivative(y1, end)
        stages = _with_derivative(dense_info["k"], stages)
        dense_info = {**dense_info, "y0": y0, "y1": y1, "k": stages}
        return y1, y_error, dense_info, state, result

    def _attached(self, stages, terms, t0, t1, y0, args):
        """The stages' values, with the derivatives of what they solve."""
        tableau: Any = self.solver.tableau  # pyright: ignore
        diagonal = np.asarray(tableau.a_diagonal)
        lower = np.zeros((tableau.num_stages, tableau.num_stages))
        for row, entries in enumerate(tableau.a_lower, 1):
            lower[row, :row] = entries
        times = np.concatenate([[tableau.c1], tableau.c])
        control = terms.contr(t0, t1)
        # Traced once, here: within the settings that diffrax makes for its terms.
        increment = eqx.filter_closure_convert(terms.vf_prod, t0, y0, args, control)

        def attach(known, stage):
            index, row, a, c, k = stage
            base = jtu.tree_map(jnp.add, y0, _combination(row, known))
            c = c.astype(jnp.result_type(t0))
            inputs = a, t0 + c * (t1 - t0), base, increment, args, control
            k = _stage(k, inputs, self.derivative_solver)
            return jtu.tree_map(lambda K, v: K.at[index].set(v), known, k), None

        indices = jnp.arange(tableau.num_stages, dtype=jnp.int32)
        rest = jnp.asarray(lower), jnp.asarray(diagonal), jnp.asarray(times), stages
        zeros = jtu.tree_map(jnp.zeros_like, stages)
        return jax.lax.scan(attach, zeros, (indices, *rest))[0]


@eqx.filter_custom_jvp
def _stage(k, inputs, solver):
    """k itself, known to be the root of `_relation`."""
    del inputs, solver
    return k


@_stage.def_jvp
def _stage_jvp(primals, tangents):
    k, inputs, solver = primals
    _, d_inputs, _ = tangents
    k = _stage(k, inputs, solver)
    _, d_relation = eqx.filter_jvp(
        lambda inputs: _relation(k, inputs), (inputs,), (d_inputs,)
    )
    J = lx.JacobianLinearOperator(_relation, k, inputs)
    d_k = lx.linear_solve(J, d_relation, solver).value
    return k, jtu.tree_map(jnp.negative, d_k)


def _relation(k, inputs):
    """k − Δt f(t, base + a k)."""
    a, t, base, increment, args, control = inputs
    here = jtu.tree_map(lambda b, v: b + a.astype(b.dtype) * v, base, k)
    return tree.subtract(k, increment(t, here, args, control))


def _combination(weights: Shaped[Array | np.ndarray, " s"], stages: Vector) -> Vector:
    """Σ_i w_i k_i."""
    return jtu.tree_map(
        lambda K: jnp.tensordot(
            jnp.asarray(weights, K.dtype), K, 1, precision=jax.lax.Precision.HIGHEST
        ),
        stages,
    )


def _still(tree):
    """The same values with no derivative."""
    return jtu.tree_map(
        lambda x: jax.lax.stop_gradient(x) if eqx.is_inexact_array(x) else x, tree
    )


def _with_derivative(value: Vector, like: Vector) -> Vector:
    """`value`, with the derivative of `like`."""
    return jtu.tree_map(
        lambda v, x: v + (x - jax.lax.stop_gradient(x)), _still(value), like
    )
