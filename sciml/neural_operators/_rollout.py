"""Models that march in time: several states at once, and step after step."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from .._result import RESULTS
from .._serialisation import register
from ..grids._boundary import BoundaryPair
from ..linear import Solution
from ._sample import check_counts, floating, grid_of
from ._trajectory import advance, state_channels


@register
class TemporalBundle(eqx.Module):
    """A model that gives K states at once, each from a slope of its own:

        u^{k+l} = u^k + l Δt d_l(u^k),   l = 1 … K

    where d_1 … d_K are the output channels of the wrapped model, time first, and u^k is
    the newest state of its input. One application for K steps means K times fewer at
    which the model's error is fed back to it. With K = 1 it is a residual step. Stored
    Dirichlet nodes are set to the value of `model.boundary`.

    **Arguments:**

    - `model`: maps states (and parameters) to K slopes; K times the channels of a
        state.
    - `num_states`: K.
    - `time_step`: Δt, between two states, so that the d_l are in units of u/time.
    - `num_parameters`: how many of the last input channels are parameters of the
        equation, not states. Default 0.

    **Raises:** `ValueError` for arguments out of range, and a model whose channels do
    not fit.

    !!! example

        ```python
        slopes = UNet(1, 1, 4, num_levels=2, boundary=Periodic(), key=jr.key(0))
        model = TemporalBundle(slopes, num_states=4, time_step=0.1)
        model(jnp.ones((1, 32))).shape  # (4, 32)
        ```

    Source: Brandstetter, Worrall & Welling, *Message Passing Neural PDE Solvers*,
    ICLR 2022, section 3.
    """

    model: Any
    num_states: int = eqx.field(static=True)
    time_step: float = eqx.field(static=True)
    num_parameters: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        check_counts(num_states=self.num_states)
        if not self.time_step > 0:
            raise ValueError(
                f"time_step: expected a positive number, got {self.time_step!r}."
            )
        if self.num_parameters < 0:
            raise ValueError(
                f"num_parameters: expected at least 0, got {self.num_parameters}."
            )
        _check_slopes(getattr(self.model, "out_channels", None), self.num_states)

    @property
    def boundary(self) -> tuple[BoundaryPair, ...] | None:
        """The wrapped model's boundary conditions, if it has any."""
        return getattr(self.model, "boundary", None)

    def __call__(
        self, x: Shaped[Array | np.ndarray, "in_channels *space"]
    ) -> Float[Array, "out_channels *space"]:
        """The K states that follow.

        **Arguments:**

        - `x`: shape `(in_channels, *space)`, states (the newest last), parameters.
        """
        x = floating(x)
        slopes = self.model(x)
        _check_slopes(slopes.shape[0], self.num_states)
        channels = slopes.shape[0] // self.num_states
        last = state_channels(x.shape[0], self.num_parameters)
        if last < channels:
            raise ValueError(
                f"model: gives slopes of states with {channels} channels, but its "
                f"input has {last} channels of states."
            )
        u = x[last - channels : last].astype(slopes.dtype)
        times = self.time_step * np.repeat(np.arange(1, self.num_states + 1), channels)
        times = jnp.asarray(times, slopes.dtype).reshape((-1,) + (1,) * (x.ndim - 1))
        out = jnp.concatenate([u] * self.num_states) + times * slopes
        if self.boundary is None:
            return out
        return grid_of(out.shape[1:], self.boundary).impose(out)


@register
class Rollout(eqx.Module):
    """A model applied to its own output, T times: (u) ↦ (û¹, …, û^T).

        û^1 = model(u),   û^{t+1} = model(û^t)

    as one `jax.lax.scan`. It is a model itself, whose output channels are those of all
    T applications, time first: the targets of `problems`' `dataset(num_saves=T)`, so
    that losses and `sciml.evaluation.evaluate` take it as it is. A model may see
    several states and give several (`TemporalBundle`): it then sees the newest ones.
    Derivatives go through all applications.

    `solve` says besides whether the rollout stayed finite, and how large it became.

    **Arguments:**

    - `model`: maps states (and parameters) to the states that follow.
    - `num_applications`: T.
    - `num_parameters`: how many of the last input channels are parameters of the
        equation, which stay as they are. Default 0.

    **Raises:** `ValueError` for arguments out of range.

    !!! example

        ```python
        rollout = Rollout(model, num_applications=20)
        rollout(u0).shape  # (20, *space) for a model of one field
        solution = rollout.solve(u0, throw=False)
        solution.stats["num_finite"]
        ```
    """

    model: Any
    num_applications: int = eqx.field(static=True)
    num_parameters: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        check_counts(num_applications=self.num_applications)
        if self.num_parameters < 0:
            raise ValueError(
                f"num_parameters: expected at least 0, got {self.num_parameters}."
            )

    @property
    def boundary(self) -> tuple[BoundaryPair, ...] | None:
        """The wrapped model's boundary conditions, if it has any."""
        return getattr(self.model, "boundary", None)

    def __call__(
        self, x: Shaped[Array | np.ndarray, "in_channels *space"]
    ) -> Float[Array, "out_channels *space"]:
        """All outputs, one after the other along the channels.

        **Arguments:**

        - `x`: shape `(in_channels, *space)`, states (the newest last), parameters.
        """
        outputs = self._outputs(x)
        return outputs.reshape(-1, *outputs.shape[2:])

    def solve(
        self, x: Shaped[Array | np.ndarray, "in_channels *space"], *, throw: bool = True
    ) -> Solution:
        """The same with a result and statistics.

        **Arguments:**

        - `x`: as for a call.
        - `throw`: raise where values become NaN or infinite (default), or say so in
            `result`.

        **Returns:** a `sciml.linear.Solution`: `value`, the outputs; `result`,
        `successful` or `unstable_rollout`; `stats`:

        - `num_finite`: applications before the first whose output is not finite;
        - `rms`: root mean square of each application's output, T numbers. What grows
            from one to the next will not stay finite for long.
        """
        return _solve(self, floating(x), throw)

    def _outputs(self, x: Array | np.ndarray) -> Array:
        def apply(x, _):
            y = self.model(x)
            return advance(x, y.astype(x.dtype), self.num_parameters), y

        return jax.lax.scan(apply, floating(x), length=self.num_applications)[1]


@eqx.filter_jit
def _solve(rollout: Rollout, x: Array, throw: bool) -> Solution:
    outputs = rollout._outputs(x)
    axes = tuple(range(1, outputs.ndim))
    finite = jnp.all(jnp.isfinite(outputs), axes)
    # Up to the first that is not, even if a later one happens to be.
    num_finite = jnp.sum(jnp.cumprod(finite.astype(jnp.int32)), dtype=jnp.int32)
    stats = {"num_finite": num_finite, "rms": jnp.sqrt(jnp.mean(outputs**2, axes))}
    stable = num_finite == rollout.num_applications
    good: Any = RESULTS.successful
    result = RESULTS.where(stable, good, RESULTS.unstable_rollout)
    value = outputs.reshape(-1, *outputs.shape[2:])
    solution = Solution(value, result, stats)  # pyright: ignore[reportArgumentType]
    if throw:
        solution = result.error_if(solution, ~stable)
    return solution


def _check_slopes(channels: int | None, num_states: int) -> None:
    if channels is not None and channels % num_states:
        raise ValueError(
            f"num_states: the model gives {channels} channels, which are not the "
            f"slopes of {num_states} states; build it with a multiple of {num_states} "
            "output channels."
        )
