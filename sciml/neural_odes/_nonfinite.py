"""Ends a solve whose vector field is not finite, instead of shrinking steps forever."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int, Shaped

from ._tolerances import all_finite

# Attributes of controllers are properties here.
# pyright: reportIncompatibleVariableOverride=false

# A failed step counts two, an accepted one takes one away: a solve that now and then
# tries too long a step never gets here, one that creeps towards a singularity does.
_STRIKES = 20


class NonfiniteState(eqx.Module):
    """The state of the controller inside, and what was seen."""

    inner: Any
    strikes: Int[Array, ""]
    overflowed: Shaped[Array, ""]
    time: Shaped[Array, ""]


class StopAtNonfinite(dfx.AbstractAdaptiveStepSizeController):
    """Another adaptive controller, which gives up on a field that is not finite.

    diffrax rejects a step that meets NaN and tries a shorter one, which is right where
    a step was too long, and goes on doing so until `max_steps` where the field itself
    is at fault. This controller ends the solve after ten such rejections in a row, or
    after more of them than every second step: with `RESULTS.nonfinite`; with
    `RESULTS.dt_min_reached` where y stayed finite and only its error did not, as when
    an implicit step cannot be solved.

    `SaveAt(controller_state=True)` returns the time up to which the solution was finite
    as `solution.controller_state.time`, NaN where nothing happened.

    **Arguments:**

    - `controller`: an adaptive step size controller.

    !!! example

        ```python
        import diffrax as dfx
        import jax.numpy as jnp
        import sciml

        controller = dfx.PIDController(rtol=1e-5, atol=1e-5)
        solution = dfx.diffeqsolve(
            dfx.ODETerm(lambda t, y, args: jnp.sqrt(0.5 - t) * y),
            dfx.Tsit5(),
            t0=0.0,
            t1=1.0,
            dt0=None,
            y0=jnp.ones(2),
            saveat=dfx.SaveAt(t1=True, controller_state=True),
            stepsize_controller=sciml.neural_odes.StopAtNonfinite(controller),
            throw=False,
        )
        solution.controller_state.time  # 0.5
        ```
    """

    controller: dfx.AbstractAdaptiveStepSizeController
    direction: Any = 1

    @property
    def rtol(self):
        """As of the controller inside."""
        return self.controller.rtol

    @property
    def atol(self):
        """As of the controller inside."""
        return self.controller.atol

    @property
    def norm(self):
        """As of the controller inside."""
        return self.controller.norm

    def wrap(self, direction):
        """With the direction of time."""
        inner = self.controller.wrap(direction)
        return StopAtNonfinite(inner, direction)  # pyright: ignore[reportCallIssue]

    def init(self, terms, t0, t1, y0, dt0, args, func, error_order):
        """The first step of the controller inside."""
        tnext, inner = self.controller.init(
            terms, t0, t1, y0, dt0, args, func, error_order
        )
        time = jnp.asarray(t0)
        state = NonfiniteState(
            inner,
            jnp.zeros((), jnp.int32),
            jnp.asarray(False),
            jnp.full((), jnp.nan, time.dtype),
        )
        # A first step that is NaN, because f is, would never be compared with anything.
        tnext = jnp.where(jnp.isnan(tnext), t1, tnext)
        return tnext, state

    def adapt_step_size(
        self, t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state
    ):
        """The verdict of the controller inside, unless there is no hope."""
        keep, next_t0, next_t1, jump, inner, result = self.controller.adapt_step_size(
            t0, t1, y0, y1_candidate, args, y_error, error_order, controller_state.inner
        )
        finite = all_finite(y1_candidate)
        bad = ~(finite & all_finite(y_error))
        strikes = controller_state.strikes
        strikes = jnp.where(bad, strikes + 2, jnp.maximum(strikes - 1, 0))
        overflowed = (controller_state.overflowed | ~finite) & (strikes > 0)
        stop = strikes >= _STRIKES
        nonfinite: Any = dfx.RESULTS.nonfinite
        reason = dfx.RESULTS.where(overflowed, nonfinite, dfx.RESULTS.dt_min_reached)
        result = dfx.RESULTS.where(stop, reason, result)
        time = jnp.where(stop, t0 * self.direction, controller_state.time)
        state = NonfiniteState(inner, strikes, overflowed, time)
        return keep, next_t0, next_t1, jump, state, result
