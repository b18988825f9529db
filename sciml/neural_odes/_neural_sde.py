"""Stochastic differential equations whose drift and diffusion are networks."""

from collections.abc import Callable
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._serialisation import register
from ._neural_ode import Joint
from ._penalties import AbstractPenalty
from ._solve import regularised_diffeqsolve

# What a saved model may name.
for _solver in (
    dfx.SPaRK,
    dfx.ShARK,
    dfx.HalfSolver,
    dfx.ItoMilstein,
    dfx.EulerHeun,
    dfx.StratonovichMilstein,
):
    register(_solver)

# The controller that is recommended for SDEs: a large error is often only a large
# increment, and the next one will not be.
_PCOEFF, _ICOEFF = 0.1, 0.3
_FIRST_STEPS = 100
# Of an interval, what a Brownian path resolves: far below the steps of any solve that
# is worth its price. Halving it costs every step one draw more.
_RESOLUTION = 2.0**-14


@register
class LinearField(eqx.Module):
    """g(t, y) = W y + b: a diffusion (or drift) without hidden layers.

    **Arguments:**

    - `size`: components of y.
    - `key`: for the initial weights, those of `equinox.nn.Linear`.

    Call it as `field(t, y, args)`; t and args are not used.

    !!! example

        ```python
        import jax.numpy as jnp
        import jax.random as jr
        from sciml.neural_odes import LinearField

        LinearField(2, key=jr.key(0))(0.0, jnp.ones(2)).shape  # (2,)
        ```

    Source: Pal, Ma, Shah & Rackauckas, *Opening the Blackbox*, ICML 2021: the diffusion
    of their neural SDEs.
    """

    layer: eqx.nn.Linear
    size: int = eqx.field(static=True)

    def __init__(self, size: int, *, key: PRNGKeyArray):
        if size < 1:
            raise ValueError(f"size: expected a positive integer, got {size!r}.")
        self.layer = eqx.nn.Linear(size, size, key=key)
        self.size = size

    def __call__(self, t: Any, y: Float[Array, " size"], args: Any = None):
        """W y + b."""
        del t, args
        return self.layer(y)


@register
class NeuralSDE(eqx.Module):
    """dy = f(t, y) dt + g(t, y) ⊙ dW, y(t₀) = y₀, f and g networks.

    The noise is diagonal: W has the shape of y, and g multiplies it component by
    component. (It commutes where g_i depends on t and y_i only.) **The solver says in
    which sense:** Stratonovich's with the default; Itô's with
    `diffrax.HalfSolver(diffrax.ItoMilstein())`. They are the same where g does not
    depend on y; there `diffrax.ShARK()` is more accurate.

    Steps are adaptive, on a `diffrax.VirtualBrownianTree`: a key stands for one path
    at all times, whatever the steps. Between steps the noise is not known, and a
    solution that was interpolated there would vary too little: solves stop at every
    one of the times that are asked for.

    **Arguments:**

    - `drift`, `diffusion`: f and g, called as `f(t, y, args)`, each of y's shape, such
        as `TimeMLP` and `LinearField`.
    - `solver`: with an error estimate; default `diffrax.SPaRK()`.
    - `rtol`, `atol`: tolerances of the step size controller. Default 1e-2 both: the
        strong order is a half to one, and accuracy is expensive.
    - `t0`, `t1`: default 0 and 1.
    - `max_steps`: default 4096.

    Maps one sample; `jax.vmap` over keys gives each trajectory steps of its own,
    `model.jointly()` the same steps to all of a batch.

    **Raises:** `ValueError` for tolerances that are not positive, and for `t1 <= t0`.

    !!! example

        ```python
        import jax.numpy as jnp
        import jax.random as jr
        from sciml.neural_odes import ErrorEstimate, LinearField, NeuralSDE, TimeMLP

        drift, diffusion = TimeMLP(2, 8, key=jr.key(0)), LinearField(2, key=jr.key(1))
        model = NeuralSDE(drift, diffusion)
        model(jnp.ones(2), key=jr.key(2)).shape  # (2,)
        ts = jnp.linspace(0.0, 1.0, 5)
        model.trajectories(jnp.ones(2), ts, 10, key=jr.key(3)).shape  # (10, 5, 2)
        solution, price = model.solve(
            jnp.ones(2), ts=ts, penalty=ErrorEstimate(), key=jr.key(4)
        )
        ```

    Source: Liu, Xiao, Si, Cao, Kumar & Hsieh, *Neural SDE: Stabilizing Neural ODE
    Networks with Stochastic Noise*, 2019; priced as in Pal, Ma, Shah & Rackauckas,
    *Opening the Blackbox*, ICML 2021. Adaptive steps: Jelinčič, Foster & Kidger,
    *Single-seed generation of Brownian paths and integrals for adaptive and high order
    SDE solvers*, 2024.
    """

    drift: Callable
    diffusion: Callable
    solver: dfx.AbstractSolver
    rtol: float = eqx.field(static=True)
    atol: float = eqx.field(static=True)
    t0: float = eqx.field(static=True)
    t1: float = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)

    def __init__(
        self,
        drift: Callable,
        diffusion: Callable,
        solver: dfx.AbstractSolver | None = None,
        *,
        rtol: float = 1e-2,
        atol: float = 1e-2,
        t0: float = 0.0,
        t1: float = 1.0,
        max_steps: int = 4096,
    ):
        if not (rtol > 0 and atol > 0):
            raise ValueError(
                f"rtol, atol: expected positive numbers, got {rtol!r} and {atol!r}."
            )
        if not t0 < t1:
            raise ValueError(f"t1: expected a time after t0 = {t0!r}, got {t1!r}.")
        self.drift, self.diffusion = drift, diffusion
        self.solver = dfx.SPaRK() if solver is None else solver
        self.rtol, self.atol = rtol, atol
        self.t0, self.t1, self.max_steps = t0, t1, max_steps

    def __call__(
        self, y0: Float[Array, "..."], args: Any = None, *, key: PRNGKeyArray
    ) -> Float[Array, "..."]:
        """y(t₁) on the path that the key stands for."""
        solution, _ = self.solve(y0, args, key=key)
        ys: Any = solution.ys
        return ys[-1]

    def solve(
        self,
        y0: Float[Array, "..."],
        args: Any = None,
        *,
        key: PRNGKeyArray,
        ts: Float[Array, " times"] | None = None,
        penalty: PyTree[AbstractPenalty] = (),
        saveat: dfx.SaveAt | None = None,
        adjoint: dfx.AbstractAdjoint | None = None,
        throw: bool = True,
    ) -> tuple[dfx.Solution, PyTree[Array]]:
        """The solution at `ts` (default t₁ alone), and its price.

        The key draws the Brownian path, and the step of `Local`. `saveat` replaces what
        is saved, as `diffrax.SaveAt(steps=True)` does by the steps; they end at every
        one of the `ts` all the same. For the rest see `regularised_diffeqsolve`;
        penalties that are integrals are for ODEs.
        """
        path_key, penalty_key = jr.split(key)
        dtype = y0.dtype
        t0, t1 = jnp.asarray(self.t0, dtype), jnp.asarray(self.t1, dtype)
        path = dfx.VirtualBrownianTree(
            t0,
            t1,
            (self.t1 - self.t0) * _RESOLUTION,
            jax.ShapeDtypeStruct(y0.shape, dtype),
            path_key,
            _levy_area(self.solver),
        )
        controller = dfx.PIDController(
            self.rtol, self.atol, pcoeff=_PCOEFF, icoeff=_ICOEFF
        )
        if ts is not None:
            ts = ts.astype(dtype)
            saveat = dfx.SaveAt(ts=ts) if saveat is None else saveat
            controller = dfx.ClipStepSizeController(controller, step_ts=ts)
        terms = dfx.MultiTerm(
            dfx.ODETerm(self.drift),  # pyright: ignore[reportArgumentType]
            dfx.ControlTerm(_Diagonal(self.diffusion), path),  # pyright: ignore
        )
        return regularised_diffeqsolve(
            terms,
            self.solver,
            t0,
            t1,
            (t1 - t0) / _FIRST_STEPS,
            y0,
            args,
            penalty=penalty,
            stepsize_controller=controller,
            key=penalty_key,
            saveat=saveat,
            adjoint=adjoint,
            max_steps=self.max_steps,
            throw=throw,
        )

    def trajectories(
        self,
        y0: Float[Array, " size"],
        ts: Float[Array, " times"],
        num_trajectories: int,
        *,
        key: PRNGKeyArray,
        args: Any = None,
    ) -> Float[Array, "trajectories times size"]:
        """Solutions at `ts` from y0, each on a Brownian path and steps of its own.

        For moments over trajectories. To train on them at a price, `jax.vmap` `solve`.

        **Raises:** `ValueError` for a number that is not positive.
        """
        if num_trajectories < 1:
            raise ValueError(
                f"num_trajectories: expected at least 1, got {num_trajectories}."
            )

        def one(key):
            solution, _ = self.solve(y0, args, key=key, ts=ts)
            return jnp.asarray(solution.ys)

        return jax.vmap(one)(jr.split(key, num_trajectories))

    def jointly(self) -> "NeuralSDE":
        """The same model for batches, of shape `(samples, …)`, solved as one state.

        Every sample has noise of its own.
        """
        return eqx.tree_at(
            lambda m: (m.drift, m.diffusion),
            self,
            (Joint(self.drift), Joint(self.diffusion)),
        )


class _Diagonal(eqx.Module):
    """The operator that multiplies increments by g."""

    diffusion: Callable

    def __call__(self, t, y, args):
        return lx.DiagonalLinearOperator(self.diffusion(t, y, args))


def _levy_area(solver: Any) -> Any:
    """What the solver wants to know of the path besides its increments."""
    while isinstance(solver, dfx.AbstractWrappedSolver):
        solver = solver.solver
    wanted = getattr(solver, "minimal_levy_area", dfx.AbstractBrownianIncrement)
    for known in (dfx.BrownianIncrement, dfx.SpaceTimeLevyArea):
        if issubclass(known, wanted):
            return known
    return dfx.SpaceTimeTimeLevyArea
