"""BDF2 on any step sizes, and the corrections that make it of third or fourth order."""

from collections.abc import Callable
from typing import Any, ClassVar

import diffrax as dfx
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import lineax as lx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Int, PyTree, Shaped

from ._bdf2dc_newton import Flag, Newton, Number, Vector, still
from ._bdf2dc_start import Start, start
from ._bdf2dc_weights import ratios
from ._tolerances import FROM_CONTROLLER, Tolerances, tolerances

# pyright: reportIncompatibleVariableOverride=false, reportPrivateImportUsage=false
# pyright: reportArgumentType=false


class _State(eqx.Module):
    """What the levels were at the times before; of each the latest first."""

    # Of the steps since the levels were last the same.
    count: Int[Array, ""]
    step_sizes: Shaped[Array, " 2"]
    values: Shaped[Array, "levels 2 n"]
    slopes: Shaped[Array, "levels levels n"]
    num_newton_steps: Int[Array, ""]


class _Levels(eqx.Module):
    """All levels at the end of a step, and k = h f there."""

    v: Shaped[Array, "levels n"]
    k: Shaped[Array, "levels n"]
    error_estimate: Vector
    converged: Flag
    num_newton_steps: Int[Array, ""]


class VariableBDF2DC(dfx.AbstractImplicitSolver, dfx.AbstractAdaptiveSolver):
    """Variable-step BDF2 with deferred correction, of order 3 or 4, for stiff problems.

    With h = t_n − t_{n-1}, the step before h₋, and c = h (h + h₋), BDF2 has

        u'(t_n) − D₂u_n = c (u'''/6 − (2h + h₋) u''''/24) + O(h⁴).

    Two or three approximations, the levels, are marched together:

        D₂u2_n                                  = f(t_n, u2_n)
        D₂u3_n + c F2''/6                       = f(t_n, u3_n)
        D₂u4_n + c (F3''/6 − (2h + h₋) F3'''/24) = f(t_n, u4_n)

    where the derivatives at t_n are those of the polynomial through the last three
    values of f on level 2, and the last four on level 3. The step sizes may be any: the
    stability is that of BDF2, on every level. The highest level is the solution.

    All levels of a step share one matrix, β − h ∂f/∂y at a predicted point, factorised
    once; Runge-Kutta methods of order 4 or 5 solve four to six stages with such a one.
    Each level is solved by simplified Newton to κ times the tolerances; a step where
    that fails is rejected by an adaptive controller, and ends the solve with
    `nonlinear_divergence` with any other.

    **Errors.** With G the corrections above, the estimate of the error of a step is

        safety (β/h − ∂f/∂y)⁻¹ (G4 − G3), or of G3 at order 3,

    the difference that one step makes between the levels. u4 − u3 itself is that of all
    steps so far: no smaller step makes it smaller, and a controller that looked at it
    would reject for ever. The estimate is that of the level below the solution, larger
    by one power of 1/h than the error of the step; but where the errors of many steps
    add up, the end is often less accurate than the tolerance that was asked for. That
    is what `safety` is for.

    **Starts.** The first step, and at order 4 the second one, are made by a one-step
    method of order 4. The same happens after a jump of the vector field, and where the
    lowest level has got further away from the highest than the solution moves in a
    step. Where the solution is steep the levels are then in different places, and their
    differences no correction; relaxation oscillations do that at loose tolerances.

    **Stiff components.** The values of f are those with which the equations above hold,
    not f(t_n, u_n), which would multiply what Newton's method has left by ∂f/∂y. Of
    components that follow a forcing with |λ| h ≫ 1 the corrections gain digits where
    the step size changes smoothly; where it changes at random the levels are about as
    accurate as BDF2.

    Works with `RecursiveCheckpointAdjoint`, `DirectAdjoint` and `ForwardMode`, under
    `jit` and `vmap`. The derivatives are those of the solutions of the equations above
    for the steps that were taken, by the implicit function theorem on each level; the
    way that Newton's method took does not matter. Dense output is by cubic Hermite
    interpolation, of order 4. `f` is not evaluated outside of a step.

    **Arguments:**

    - `order`: 4 (default) or 3, which leaves out the last level.
    - `rtol`, `atol`: what Newton's method measures in, both or neither. Default those
        of the adaptive step size controller, with its norm; with `diffrax.StepTo` and
        `diffrax.ConstantStepSize` they must be given, and diffrax raises if they are
        not. `rtol` and `atol` about those one would give a controller.
    - `norm`: with `rtol` and `atol`; default the root mean square.
    - `safety`: what the error estimate is multiplied with. Default 4: on four standard
        stiff problems the error at the end is then 0.5 to 35 times a relative tolerance
        of 1e-8 (2.5 to 140 times with 1), and the steps are 1.4 times as many.
    - `kappa`: κ. Default 1e-2, as in `diffrax.VeryChord`.
    - `root_find_max_steps`: Newton steps for a level at most. Default 10.
    - `linear_solver`: any of lineax for dense matrices. Default `lineax.LU()`.

    Its state has `num_newton_steps`, those that evaluated f, in all accepted steps:
    ask for it with `SaveAt(..., solver_state=True)`.

    **Raises:** `ValueError` for an order, a tolerance, a safety factor, κ or a number
    of steps that is none, `TypeError` for a linear solver that is none; in a solve,
    `ValueError` for a `diffrax.ControlTerm` and `TypeError` for complex states.

    !!! example

        ```python
        import diffrax as dfx
        import jax.numpy as jnp
        import sciml

        def van_der_pol(t, y, mu):
            return jnp.stack([y[1], mu * ((1 - y[0] ** 2) * y[1] - y[0])])

        solution = dfx.diffeqsolve(
            dfx.ODETerm(van_der_pol),
            sciml.neural_odes.VariableBDF2DC(),
            t0=0.0,
            t1=2.0,
            dt0=None,
            y0=jnp.array([2.0, 0.0]),
            args=30.0,
            stepsize_controller=dfx.PIDController(
                rtol=1e-4, atol=1e-6, pcoeff=0.3, icoeff=0.3
            ),
        )
        ```

    Source: Bourgault & Garon, BIT Numerical Mathematics 62 (2022) 1789-1822 (the
    corrections); Yue, Liao & Liu, arXiv 2402.06129 (stability on any grid, and that a
    start of low order does no harm). The estimate and the new starts are ours.
    """

    root_finder: Tolerances
    root_find_max_steps: int = eqx.field(static=True)
    safety: Any
    kappa: Any
    linear_solver: lx.AbstractLinearSolver
    num_levels: int = eqx.field(static=True)

    term_structure: ClassVar = dfx.AbstractTerm
    interpolation_cls: ClassVar[Callable[..., Any]] = (
        dfx.ThirdOrderHermitePolynomialInterpolation
    )

    def __init__(
        self,
        order: int = 4,
        rtol: Any = None,
        atol: Any = None,
        norm: Callable[[PyTree], Any] | None = None,
        *,
        safety: Any = 4.0,
        kappa: Any = 1e-2,
        root_find_max_steps: int = 10,
        linear_solver: lx.AbstractLinearSolver | None = None,
    ):
        if order not in (3, 4):
            raise ValueError(f"order: expected 3 or 4, got {order!r}.")
        for name, value in (("safety", safety), ("kappa", kappa)):
            if isinstance(value, int | float) and not value > 0:
                raise ValueError(f"{name}: expected a positive number, got {value!r}.")
        if root_find_max_steps < 1:
            raise ValueError(
                f"root_find_max_steps: expected at least 1, got {root_find_max_steps}."
            )
        linear_solver = lx.LU() if linear_solver is None else linear_solver
        if not isinstance(linear_solver, lx.AbstractLinearSolver):
            raise TypeError(
                "linear_solver: expected a solver of lineax such as lineax.LU(), got "
                f"{type(linear_solver).__name__}."
            )
        self.root_finder = tolerances(rtol, atol, norm)
        self.root_find_max_steps = root_find_max_steps
        self.safety = safety
        self.kappa = kappa
        self.linear_solver = linear_solver
        self.num_levels = order - 1

    def order(self, terms: PyTree) -> int:
        """3 or 4; that of the error estimate as well."""
        del terms
        return self.num_levels + 1

    def func(self, terms: PyTree, t0: Any, y0: PyTree, args: PyTree) -> Any:
        """The vector field."""
        return terms.vf(t0, y0, args)

    def init(self, terms: PyTree, t0: Any, t1: Any, y0: PyTree, args: PyTree) -> _State:
        """The state before the first step."""
        del t0, t1, args
        is_control = lambda term: isinstance(term, dfx.ControlTerm)
        if any(map(is_control, jtu.tree_leaves(terms, is_leaf=is_control))):
            raise ValueError(
                "terms: VariableBDF2DC solves ordinary differential equations, got a "
                "diffrax.ControlTerm. One with a differentiable control is made an "
                "ODETerm by its method to_ode()."
            )
        y, _ = _raveled(y0)
        if jnp.iscomplexobj(y):
            raise TypeError(
                "y0: VariableBDF2DC expects real numbers, got complex ones. Solve for "
                "the real and the imaginary part."
            )
        none = jnp.zeros((), jnp.int32)
        return _State(
            count=none,
            step_sizes=jnp.zeros(2, y.dtype),
            values=jnp.broadcast_to(y, (self.num_levels, 2, y.size)),
            slopes=jnp.zeros((self.num_levels, self.num_levels, y.size), y.dtype),
            num_newton_steps=none,
        )

    def step(
        self,
        terms: PyTree,
        t0: Any,
        t1: Any,
        y0: PyTree,
        args: PyTree,
        solver_state: _State,
        made_jump: Any,
    ) -> Any:
        """All levels, one step on; or a step by which they begin."""
        y, unravel = _raveled(y0)
        t0, t1 = jnp.asarray(t0), jnp.asarray(t1)
        h = (t1 - t0).astype(y.dtype)
        # A sample that waits for others of its batch makes steps of no length. They are
        # thrown away, but NaN times no derivative is NaN.
        h = jnp.where(h == 0, 1, h)
        newton = self._newton(terms, t0, t1, y0, args)

        count = jnp.where(made_jump, 0, solver_state.count)
        starting = count < self.num_levels - 1
        begun = _start_if(starting, newton, t0, t1, y)
        first = count == 0
        state = _State(
            count=count,
            step_sizes=solver_state.step_sizes,
            values=jnp.where(first, y, solver_state.values),
            slopes=jnp.where(first, begun.k0 / h, solver_state.slopes),
            num_newton_steps=solver_state.num_newton_steps,
        )
        levels = self._levels(newton, h, t1, state, begun)

        error = jnp.where(starting, begun.error_estimate, levels.error_estimate)
        converged = levels.converged & (begun.converged | ~starting)
        error = jnp.where(converged, error, jnp.inf)
        result = dfx.RESULTS.where(
            converged, dfx.RESULTS.successful, dfx.RESULTS.nonlinear_divergence
        )
        top = levels.v[-1]
        apart = newton.measure(top - levels.v[0], top)
        moved = newton.measure(top - state.values[-1, 0], top)
        # At this speed, but one short step is no reason.
        longest = jnp.maximum(jnp.abs(h), jnp.max(jnp.abs(state.step_sizes)))
        lost = apart > jnp.maximum(1, moved * longest / jnp.abs(h))
        pushed = lambda new, old: jnp.concatenate([new[:, None], old[:, :-1]], axis=1)
        new_state = _State(
            count=jnp.where(lost & ~starting, 0, count + 1),
            step_sizes=jnp.stack([h, state.step_sizes[0]]),
            values=pushed(levels.v, state.values),
            slopes=pushed(levels.k / h, state.slopes),
            num_newton_steps=levels.num_newton_steps,
        )
        y1 = unravel(top)
        k0, k1 = unravel(h * state.slopes[-1, 0]), unravel(levels.k[-1])
        dense_info = {"y0": y0, "y1": y1, "k0": k0, "k1": k1}
        return y1, unravel(error), dense_info, new_state, result

    def _levels(
        self, newton: Newton, h: Number, t: Number, state: _State, begun: Start
    ) -> _Levels:
        """The equations of the levels, each of which needs the one below."""
        ratio = ratios(h, state.step_sizes, state.count)
        beta, beta1, beta2 = ratio.bdf2()
        known = h * state.slopes
        before = state.values[:, 0]
        guess = ratio.predicted(before[0], known[0])
        k = newton.g(t, still(guess))
        finite = jnp.all(jnp.isfinite(k))
        guess = jnp.where(finite, guess, before[0])
        k = jnp.where(finite, k, known[0, 0])
        M = newton.factorised(beta, t, guess)

        base = beta1 * before + beta2 * state.values[:, 1]
        no_correction = jnp.zeros_like(k)
        corrections, roots = [no_correction], []
        residual = beta * guess + base[0] - k
        for level in range(self.num_levels):
            if level:
                below = jnp.concatenate([roots[-1].k[None], known[level - 1]])
                formula = ratio.second_order if level == 1 else ratio.third_order
                corrections.append(formula(below))
                # That of the root of the level below.
                guess = roots[-1].v
                residual = base[level] - base[level - 1]
                residual = residual + corrections[-1] - corrections[-2]
            # The first Newton step, for which f is known already.
            d = -M.solve(residual)
            c = base[level] + corrections[-1]
            size = newton.measure(d, guess + d)
            root = newton.root(beta, c, t, M, guess + d, before[level], size)
            roots.append(root)
        estimate = M.solve(corrections[-1] - corrections[-2])
        roots = jtu.tree_map(lambda *parts: jnp.stack(parts), *roots)

        # How many values a level needs, of itself and of the one below.
        has = state.count >= jnp.asarray([1, 1, 2][: self.num_levels], jnp.int32)
        num = jnp.sum(jnp.where(has, roots.num_steps, 0), dtype=jnp.int32)
        return _Levels(
            v=jnp.where(has[:, None], roots.v, begun.v),
            k=jnp.where(has[:, None], roots.k, begun.k),
            error_estimate=jnp.asarray(self.safety, h.dtype) * estimate,
            converged=jnp.all(roots.converged | ~has),
            num_newton_steps=state.num_newton_steps + num + begun.num_steps,
        )

    def _newton(self, terms, t0, t1, y0, args) -> Newton:
        finder = self.root_finder
        if any(x is FROM_CONTROLLER for x in (finder.rtol, finder.atol, finder.norm)):
            raise ValueError(
                "VariableBDF2DC: the tolerances of Newton's method are not known here. "
                "`diffrax.diffeqsolve` takes them from an adaptive step size "
                "controller; where `step` is called by hand, give "
                "`VariableBDF2DC(rtol=..., atol=...)`."
            )
        y, unravel = _raveled(y0)
        control = terms.contr(t0, t1)

        # The increment rather than f: the sign of time is in the control.
        def increment(t, v):
            k = terms.vf_prod(t, unravel(v), args, control)
            return _raveled(k)[0].astype(v.dtype)

        return Newton(
            g=eqx.filter_closure_convert(increment, t0, y),
            tolerances=finder,
            unravel=unravel,
            solver=self.linear_solver,
            kappa=jnp.asarray(self.kappa, y.dtype),
            max_steps=self.root_find_max_steps,
        )


def _start_if(starting, newton: Newton, t0: Number, t1: Number, y: Vector) -> Start:
    """The step that begins, where any of a batch is starting; else nothing."""
    structure = eqx.filter_eval_shape(start, newton, t0, t1, y)

    def nothing():
        return jtu.tree_map(lambda s: jnp.zeros(s.shape, s.dtype), structure)

    begun = jax.lax.cond(
        eqxi.unvmap_any(starting), lambda: start(newton, t0, t1, y), nothing
    )
    num = jnp.where(starting, begun.num_steps, 0)
    return eqx.tree_at(lambda s: s.num_steps, begun, num)


def _raveled(tree: PyTree) -> tuple[Vector, Callable]:
    """A pytree as one vector, and back."""
    with jax.numpy_dtype_promotion("standard"):
        return ravel_pytree(tree)
