"""Classifiers of irregular time series, driven by the series itself."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Shaped

from .._serialisation import register
from ._latent_ode import full_mask
from ._penalties import AbstractPenalty
from ._solve import regularised_diffeqsolve
from ._unrolled import UnrolledRungeKutta

_FIRST_STEPS = 100


@register
class NeuralCDE(eqx.Module):
    """Logits of an irregular time series, whose interpolation X drives the state:

        dz = f(z) dX,  z(t₀) = ζ(X(t₀)),  X = (t, values),  logits = W z(t₁) + b

    f(z) is a matrix of shape `(latent_dim, 1 + in_channels)`, a network with tanh at
    the end, ζ a network of one hidden layer. X is a cubic Hermite spline with backward
    differences through what was observed, each channel by itself: once continuously
    differentiable, which is as little as an adaptive solver needs, and with no look
    ahead beyond the next observation.

    Missing values are interpolated over, so that a time at which nothing was observed
    changes nothing. Before a channel's first observation and after its last one X rests
    (it settles between the last observation and the time after it); a channel that was
    never observed is zero. What is masked may be NaN.

    **Arguments:**

    - `in_channels`: of the series; the time is one more.
    - `latent_dim`: components of z.
    - `num_classes`: how many logits.
    - `width`: of hidden layers.
    - `depth`: how many hidden layers f has. Default 1.
    - `solver`: default `UnrolledRungeKutta(diffrax.Tsit5())`.
    - `rtol`, `atol`: tolerances of the step size controller. Default 1e-3 and 1e-6.
    - `max_steps`: default 4096.
    - `key`: for the initial weights.

    Maps one series: `values` of shape `(times, channels)`; `mask`, True where a value
    was observed, of that shape or `(times,)`; `ts`, increasing, of shape `(times,)`.

    **Raises:** `ValueError` for sizes and tolerances that are not positive, another
    number of channels, and a mask of another shape. `RuntimeError` for times that do
    not increase.

    !!! example

        ```python
        import jax.numpy as jnp
        import jax.random as jr
        from sciml.neural_odes import NeuralCDE, NumSteps

        model = NeuralCDE(2, 4, 3, 8, key=jr.key(0))
        ts = jnp.array([0.0, 0.3, 0.4, 1.0])
        values, mask = jnp.ones((4, 2)), jnp.array([True, False, True, True])
        model(values, mask, ts).shape  # (3,)
        many, masks = jnp.stack([values] * 5), jnp.stack([mask] * 5)
        logits, solution, price = model.classify(many, masks, ts, penalty=NumSteps())
        ```

    Source: Kidger, Morrill, Foster & Lyons, *Neural Controlled Differential Equations
    for Irregular Time Series*, NeurIPS 2020; the spline: Morrill, Kidger, Yang & Lyons,
    *Neural Controlled Differential Equations for Online Prediction Tasks*, 2021.
    """

    initial: eqx.nn.MLP
    field: eqx.nn.MLP
    head: eqx.nn.Linear
    solver: dfx.AbstractSolver
    in_channels: int = eqx.field(static=True)
    latent_dim: int = eqx.field(static=True)
    num_classes: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    depth: int = eqx.field(static=True)
    rtol: float = eqx.field(static=True)
    atol: float = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        latent_dim: int,
        num_classes: int,
        width: int,
        depth: int = 1,
        *,
        solver: dfx.AbstractSolver | None = None,
        rtol: float = 1e-3,
        atol: float = 1e-6,
        max_steps: int = 4096,
        key: PRNGKeyArray,
    ):
        for name, value in (
            ("in_channels", in_channels),
            ("latent_dim", latent_dim),
            ("num_classes", num_classes),
            ("width", width),
            ("depth", depth),
        ):
            if value < 1:
                raise ValueError(f"{name}: expected a positive integer, got {value!r}.")
        if not (rtol > 0 and atol > 0):
            raise ValueError(
                f"rtol, atol: expected positive numbers, got {rtol!r} and {atol!r}."
            )
        driven = 1 + in_channels
        initial_key, field_key, head_key = jr.split(key, 3)
        self.initial = eqx.nn.MLP(
            driven, latent_dim, width, 1, activation=jnp.tanh, key=initial_key
        )
        self.field = eqx.nn.MLP(
            latent_dim,
            latent_dim * driven,
            width,
            depth,
            activation=jnp.tanh,
            # Bounds the field: a product with dX/dt is easily too large otherwise.
            final_activation=jnp.tanh,
            key=field_key,
        )
        self.head = eqx.nn.Linear(latent_dim, num_classes, key=head_key)
        self.solver = UnrolledRungeKutta(dfx.Tsit5()) if solver is None else solver
        self.in_channels, self.latent_dim = in_channels, latent_dim
        self.num_classes, self.width, self.depth = num_classes, width, depth
        self.rtol, self.atol, self.max_steps = rtol, atol, max_steps

    def __call__(
        self,
        values: Float[Array, "times channels"],
        mask: Shaped[Array, "..."],
        ts: Float[Array, " times"],
    ) -> Float[Array, " classes"]:
        """Logits."""
        solution, _ = self.solve(values, mask, ts)
        ys: Any = solution.ys
        return self.head(ys[-1])

    def path(
        self,
        values: Float[Array, "times channels"],
        mask: Shaped[Array, "..."],
        ts: Float[Array, " times"],
    ) -> dfx.CubicInterpolation:
        """X, of shape `(1 + in_channels,)`."""
        self._check(values)
        return _interpolated(values, full_mask(mask, values), ts)

    def solve(
        self,
        values: Float[Array, "times channels"],
        mask: Shaped[Array, "..."],
        ts: Float[Array, " times"],
        *,
        penalty: PyTree[AbstractPenalty] = (),
        saveat: dfx.SaveAt | None = None,
        adjoint: dfx.AbstractAdjoint | None = None,
        key: PRNGKeyArray | None = None,
        throw: bool = True,
    ) -> tuple[dfx.Solution, PyTree[Array]]:
        """z from the first to the last of the times, and the price of the solve.

        For the arguments see `regularised_diffeqsolve`.
        """
        path = self.path(values, mask, ts)
        return self._solve(
            _Driven(self.field),
            self.initial(path.evaluate(ts[0])),
            path,
            ts,
            penalty=penalty,
            saveat=saveat,
            adjoint=adjoint,
            key=key,
            throw=throw,
        )

    def classify(
        self,
        values: Float[Array, "samples times channels"],
        mask: Shaped[Array, "..."],
        ts: Float[Array, " times"],
        *,
        penalty: PyTree[AbstractPenalty] = (),
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "samples classes"], dfx.Solution, PyTree[Array]]:
        """Logits of a batch with common times that is solved as one state.

        With its solution, and its price.
        """
        self._check(values)
        mask = full_mask(mask, values)
        # Interpolations have the times in front.
        first = lambda array: jnp.moveaxis(array, 1, 0)
        path = _interpolated(first(values), first(mask), ts)
        solution, price = self._solve(
            _DrivenJointly(_Driven(self.field)),
            jax.vmap(self.initial)(path.evaluate(ts[0])),
            path,
            ts,
            penalty=penalty,
            key=key,
        )
        ys: Any = solution.ys
        return jax.vmap(self.head)(ys[-1]), solution, price

    def _solve(self, field, z0, path, ts, **settings):
        return regularised_diffeqsolve(
            dfx.ODETerm(field),
            self.solver,
            ts[0],
            ts[-1],
            (ts[-1] - ts[0]) / _FIRST_STEPS,
            z0,
            path,
            stepsize_controller=dfx.PIDController(self.rtol, self.atol),
            max_steps=self.max_steps,
            **settings,
        )

    def _check(self, values: Array) -> None:
        if values.shape[-1] != self.in_channels:
            raise ValueError(
                f"values: expected {self.in_channels} channels in the last axis, got "
                f"the shape {values.shape}."
            )


class _Driven(eqx.Module):
    """f(z) dX/dt."""

    field: eqx.nn.MLP

    def __call__(self, t, z, path):
        return self.along(z, path.derivative(t))

    def along(self, z, slope):
        return self.field(z).reshape(z.shape[0], slope.shape[0]) @ slope


class _DrivenJointly(eqx.Module):
    """The same for every sample, z and X with the samples in front."""

    one: _Driven

    def __call__(self, t, z, path):
        return jax.vmap(self.one.along)(z, path.derivative(t))


def _interpolated(values: Array, mask: Array, ts: Array) -> dfx.CubicInterpolation:
    """X of values with the times in front, one mask for each.

    Where all is observed this is `diffrax.backward_hermite_coefficients`. With gaps
    that one's derivative jumps at their ends (and where nothing is observed it is NaN);
    here one and the same cubic spans a gap.
    """
    count, one = len(ts), (len(ts), *[1] * (values.ndim - 1))
    ts = ts.astype(values.dtype)
    ts = eqx.error_if(ts, ts[1:] <= ts[:-1], "ts: expected increasing times.")
    index = jnp.broadcast_to(jnp.arange(count).reshape(one), values.shape)
    first = jnp.argmax(mask, axis=0, keepdims=True)
    last = count - 1 - jnp.argmax(mask[::-1], axis=0, keepdims=True)
    # At rest before the first observation and after the last one, as if observed.
    source = jnp.clip(index, first, last)
    take = lambda array, where: jnp.take_along_axis(array, where, axis=0)
    x = take(jnp.where(mask, values, 0), source)
    known = mask | (index <= first) | (index >= last)
    times = jnp.broadcast_to(ts.reshape(one), (*values.shape[:-1], 1))
    x = jnp.concatenate([times, x], axis=-1)
    known = jnp.concatenate([jnp.ones(times.shape, bool), known], axis=-1)

    # Of each interval between two times, the knots around it and the one before them.
    index = jnp.broadcast_to(jnp.arange(count).reshape(one), x.shape)
    before = jax.lax.cummax(jnp.where(known, index, 0), axis=0)
    after = jnp.where(known, index, count - 1)
    after = jax.lax.cummin(after, axis=0, reverse=True)[1:]
    left = before[:-1]
    earlier = take(before, jnp.maximum(left - 1, 0))
    t = jnp.broadcast_to(ts.reshape(one), x.shape)
    length = take(t, after) - take(t, left)
    x_left = take(x, left)
    slope_right = (take(x, after) - x_left) / length
    gap = take(t, left) - take(t, earlier)
    started = gap > 0
    backward = (x_left - take(x, earlier)) / jnp.where(started, gap, 1)
    slope_left = jnp.where(started, backward, slope_right)
    # The cubic with these slopes at the knots around, about the left one, and moved to
    # the start of the interval.
    c = 2 * (slope_right - slope_left) / length
    d = -(slope_right - slope_left) / length**2
    by = t[:-1] - take(t, left)
    coefficients = (
        d,
        c + 3 * d * by,
        slope_left + (2 * c + 3 * d * by) * by,
        x_left + (slope_left + (c + d * by) * by) * by,
    )
    return dfx.CubicInterpolation(ts, coefficients)
