"""Generative models of irregular time series with a differential equation inside."""

import math
from collections.abc import Callable
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Shaped

from .._serialisation import register
from ._neural_ode import NeuralODE
from ._penalties import AbstractPenalty


@register
class LatentODE(eqx.Module):
    """A time series is a decoded path of an ODE, whose initial state is inferred:

        z₀ ~ N(mean, std²) from what was observed,  z' = f(t, z),
        x(t) = decoder(z(t)) + noise_std · N(0, 1)

    The encoder is a recurrent network (a GRU and a network of one hidden layer) that
    reads the observations backwards in time, each with its mask and the gap to the one
    before; times at which nothing was observed do not exist for it. What is masked has
    no influence on anything and may be NaN.

    **Arguments:**

    - `ode`: a `NeuralODE` on states of shape `(latent_dim,)`; z₀ belongs to its `t0`,
        which no observation precedes, and the last of the times replaces its `t1`.
    - `in_channels`: components of x.
    - `latent_dim`: components of z.
    - `width`: of the GRU's state and of the hidden layers. Default 40, as published for
        37 channels.
    - `noise_std`: the standard deviation of an observation. Default 0.01, as published
        for values in [0, 1]; the smaller, the less the prior counts.
    - `key`: for the initial weights.

    Maps one series: `values` of shape `(times, channels)`; `mask`, True where a value
    was observed, of that shape or `(times,)`; `ts`, increasing, of shape `(times,)`.
    `model.jointly()` takes values and mask with an axis of samples in front, observed
    at the same times `ts`, and solves them as one state, as published. Train it with
    `negative_elbo`.

    **Raises:** `ValueError` for sizes and a deviation that are not positive.

    !!! example

        ```python
        import jax.numpy as jnp
        import jax.random as jr
        from sciml.neural_odes import LatentODE, NeuralODE, TimeMLP

        ode = NeuralODE(TimeMLP(4, 16, key=jr.key(0)))
        model = LatentODE(ode, 2, 4, 8, noise_std=0.1, key=jr.key(1))
        ts = jnp.array([0.0, 0.3, 0.4, 1.0])
        values, mask = jnp.ones((4, 2)), jnp.array([True, False, True, True])
        mean, std = model.encode(values, mask, ts)
        reconstruction, solution, price = model.decode(mean, ts)
        model(values, mask, ts).shape  # (4, 2)
        ```

    Source: Chen, Rubanova, Bettencourt & Duvenaud, *Neural Ordinary Differential
    Equations*, NeurIPS 2018, section 5; Rubanova, Chen & Duvenaud, *Latent ODEs for
    Irregularly-Sampled Time Series*, NeurIPS 2019, for the masks and gaps.
    """

    ode: NeuralODE
    encoder: Callable
    decoder: eqx.nn.MLP
    in_channels: int = eqx.field(static=True)
    latent_dim: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    noise_std: float = eqx.field(static=True)

    def __init__(
        self,
        ode: NeuralODE,
        in_channels: int,
        latent_dim: int,
        width: int = 40,
        *,
        noise_std: float = 0.01,
        key: PRNGKeyArray,
    ):
        sizes = {"in_channels": in_channels, "latent_dim": latent_dim, "width": width}
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name}: expected a positive integer, got {value!r}.")
        if not noise_std > 0:
            raise ValueError(f"noise_std: expected a positive number, got {noise_std}.")
        encoder_key, decoder_key = jr.split(key)
        self.ode = ode
        self.encoder = _SeriesEncoder(in_channels, latent_dim, width, key=encoder_key)
        self.decoder = eqx.nn.MLP(
            latent_dim, in_channels, width, 1, activation=jnp.tanh, key=decoder_key
        )
        self.in_channels, self.latent_dim = in_channels, latent_dim
        self.width, self.noise_std = width, noise_std

    def __call__(
        self,
        values: Float[Array, "*samples times channels"],
        mask: Shaped[Array, "..."],
        ts: Float[Array, " times"],
    ) -> Float[Array, "*samples times channels"]:
        """x(t) without noise, from the mean of z₀."""
        mean, _ = self.encode(values, mask, ts)
        return self.decode(mean, ts)[0]

    def encode(
        self,
        values: Float[Array, "*samples times channels"],
        mask: Shaped[Array, "..."],
        ts: Float[Array, " times"],
    ) -> tuple[Float[Array, "*samples latent"], Float[Array, "*samples latent"]]:
        """Mean and standard deviation of z₀."""
        _check_channels(values, self.in_channels)
        mask = full_mask(mask, values)
        t0 = jnp.asarray(self.ode.t0, values.dtype)
        return self.encoder(values, mask, ts.astype(values.dtype), t0)

    def decode(
        self,
        z0: Float[Array, "*samples latent"],
        ts: Float[Array, " times"],
        *,
        penalty: PyTree[AbstractPenalty] = (),
        key: PRNGKeyArray | None = None,
        adjoint: dfx.AbstractAdjoint | None = None,
    ) -> tuple[Float[Array, "*samples times channels"], dfx.Solution, PyTree[Array]]:
        """x at `ts` without noise, the solution z that it comes from, and its price.

        The solution has the last of the times twice: once as the end of the solve.
        """
        solution, price = self.ode.solve(
            z0,
            penalty=penalty,
            t1=ts[-1],
            # With the end, where penalties that are integrals are read off.
            saveat=dfx.SaveAt(ts=ts, t1=True),
            adjoint=adjoint,
            key=key,
        )
        ys: Any = solution.ys
        z = jnp.moveaxis(ys[:-1], 0, -2)
        flat = jax.vmap(self.decoder)(z.reshape(-1, self.latent_dim))
        return flat.reshape(*z.shape[:-1], self.in_channels), solution, price

    def jointly(self) -> "LatentODE":
        """The same model for batches that are observed at the same times.

        Values and mask have an axis of samples in front; one solve serves all.
        """
        return eqx.tree_at(
            lambda m: (m.ode, m.encoder),
            self,
            (self.ode.jointly(), _EachSeries(self.encoder)),
        )


def negative_elbo(
    model: LatentODE,
    values: Float[Array, "*samples times channels"],
    mask: Shaped[Array, "..."],
    ts: Float[Array, " times"],
    *,
    key: PRNGKeyArray,
    kl_weight: Any = 1.0,
    penalty: PyTree[AbstractPenalty] = (),
) -> tuple[Float[Array, ""], dfx.Solution, PyTree[Array]]:
    """What a latent ODE is trained to make small, in nats per observed value:

        −E log p(values | z₀) + kl_weight · KL(N(mean, std²) ‖ N(0, 1))

    divided by the number of values that were observed, so that it means the same for
    long and short series; z₀ is drawn once. A batch of `model.jointly()` has the mean
    over its samples.

    **Arguments:**

    - `model`: a `LatentODE`, for one series (then `jax.vmap` this function over values,
        mask and key: each series has steps of its own) or `jointly()`.
    - `values`, `mask`, `ts`: the series, as of `LatentODE`.
    - `key`: draws z₀, and the step of `Local`.
    - `kl_weight`: default 1, the evidence lower bound itself; training starts better
        from near 0 (published: 1 − 0.99^k in epoch k).
    - `penalty`: what the solve is charged with, as of `regularised_diffeqsolve`.

    **Returns:** the value, the solution in the latent space and its price.

    **Raises:** `ValueError` for another number of channels, or a mask of another shape.

    !!! example

        ```python
        import equinox as eqx
        import jax.numpy as jnp
        import jax.random as jr
        from sciml.neural_odes import ErrorEstimate, LatentODE, NeuralODE, TimeMLP
        from sciml.neural_odes import negative_elbo

        ode = NeuralODE(TimeMLP(4, 16, key=jr.key(0)))
        model = LatentODE(ode, 2, 4, 8, noise_std=0.1, key=jr.key(1))
        ts, mask = jnp.linspace(0.0, 1.0, 5), jnp.ones((3, 5), bool)
        values = jnp.ones((3, 5, 2))

        @eqx.filter_value_and_grad
        def loss(model):
            settings = {"key": jr.key(2), "penalty": ErrorEstimate()}
            value, _, price = negative_elbo(
                model.jointly(), values, mask, ts, **settings
            )
            return value + 0.1 * price

        value, gradient = loss(model)
        ```

    Source: as of `LatentODE`.
    """
    noise_key, penalty_key = jr.split(key)
    mean, std = model.encode(values, mask, ts)
    z0 = mean + std * jr.normal(noise_key, mean.shape, mean.dtype)
    decoded, solution, price = model.decode(z0, ts, penalty=penalty, key=penalty_key)
    seen = full_mask(mask, values)
    # A masked value may be NaN: it has to go before it is squared.
    misfit = jnp.where(seen, decoded - values, 0) / model.noise_std
    surprise = misfit**2 / 2 + math.log(model.noise_std * math.sqrt(2 * math.pi))
    surprise = jnp.sum(jnp.where(seen, surprise, 0), axis=(-2, -1))
    divergence = jnp.sum((mean**2 + std**2 - 1) / 2 - jnp.log(std), axis=-1)
    count = jnp.maximum(jnp.sum(seen, axis=(-2, -1)), 1).astype(surprise.dtype)
    weight = jnp.asarray(kl_weight, surprise.dtype)
    return jnp.mean((surprise + weight * divergence) / count), solution, price


def full_mask(
    mask: Shaped[Array, "..."], values: Float[Array, "*samples times channels"]
) -> Shaped[Array, "*samples times channels"]:
    """Booleans, one for each value; `ValueError` for a mask of another shape."""
    mask = jnp.asarray(mask).astype(bool)
    if mask.shape not in (values.shape, values.shape[:-1]):
        raise ValueError(
            f"mask: expected shape {values.shape} or {values.shape[:-1]}, as of the "
            f"values, got {mask.shape}."
        )
    if mask.ndim < values.ndim:
        mask = mask[..., None]
    return jnp.broadcast_to(mask, values.shape)


def _check_channels(values: Array, in_channels: int) -> None:
    if values.shape[-1] != in_channels:
        raise ValueError(
            f"values: expected {in_channels} channels in the last axis, got the shape "
            f"{values.shape}."
        )


class _SeriesEncoder(eqx.Module):
    """From the observations of a series to a normal distribution."""

    cell: eqx.nn.GRUCell
    head: eqx.nn.MLP

    def __init__(self, in_channels, latent_dim, width, *, key):
        cell_key, head_key = jr.split(key)
        self.cell = eqx.nn.GRUCell(2 * in_channels + 1, width, key=cell_key)
        self.head = eqx.nn.MLP(
            width, 2 * latent_dim, width, 1, activation=jnp.tanh, key=head_key
        )

    def __call__(self, values, mask, ts, t0):
        observed = jnp.any(mask, axis=-1)
        # The gap before each observation, the first one's from t0: they add up to the
        # time of every observation, so that none is lost by skipping the rest.
        latest = jax.lax.cummax(jnp.where(observed, ts, t0))
        gaps = ts - jnp.concatenate([t0[None], latest[:-1]])
        known = jnp.where(mask, values, 0)
        rows = jnp.concatenate([known, mask.astype(known.dtype), gaps[:, None]], -1)

        def read(state, entry):
            row, present = entry
            return jnp.where(present, self.cell(row, state), state), None

        state = jnp.zeros(self.cell.hidden_size, known.dtype)
        state, _ = jax.lax.scan(read, state, (rows, observed), reverse=True)
        mean, log_variance = jnp.split(self.head(state), 2)
        return mean, jnp.exp(log_variance / 2)


class _EachSeries(eqx.Module):
    """An encoder, for every sample of a batch with common times."""

    encoder: Callable

    def __call__(self, values, mask, ts, t0):
        return jax.vmap(self.encoder, in_axes=(0, 0, None, None))(values, mask, ts, t0)
