"""Tsallis-INF: a bandit over relaxation parameters, without and with contexts."""

import abc
import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, ArrayLike, Float, Int32, PRNGKeyArray

from .._registry import register
from ._relaxation import AbstractOmegas, AbstractRelaxation, OmegaInterval
from ._rounds import (
    checked_interval,
    chosen_loss,
    draw,
    replace,
    select,
    stacked,
    unit_context,
)

_NEWTON_STEPS = 20


class AbstractTsallisNewton(eqx.Module):
    """Finds x with Σ p_i = 1 for p_i = 4/(η (k_i − x))²."""

    @abc.abstractmethod
    def start(
        self, losses: Float[Array, " d"], eta: Float[Array, ""]
    ) -> Float[Array, ""]:
        """Where Newton's method begins."""


@register
class MonotoneNewton(AbstractTsallisNewton):
    """From x = min k − 2/η, where Σ p ≥ 1.

    Σ p is convex and grows with x below min k, so that each step of Newton's method
    comes closer from above.
    """

    def start(
        self, losses: Float[Array, " d"], eta: Float[Array, ""]
    ) -> Float[Array, ""]:
        """min k − 2/η."""
        return jnp.min(losses) - 2 / eta


@register
class PublishedNewton(AbstractTsallisNewton):
    """From x = −1, as in the authors' program.

    Below the solution a step may overshoot min k, to where Σ p = 1 means nothing. With
    losses as large as those of thousands of rounds it mostly does, and p, scaled to sum
    up to 1, is then not the minimiser: more arms are tried than Tsallis-INF would. For
    comparisons.
    """

    def start(
        self, losses: Float[Array, " d"], eta: Float[Array, ""]
    ) -> Float[Array, ""]:
        """−1."""
        del eta
        return -jnp.ones_like(losses[0])


@register
class TsallisINFState(eqx.Module):
    """What Tsallis-INF knows: estimated total losses of the arms, and the last choice.

    `losses` are k of shape `(num_arms,)`, in steps; `mean_loss` is the mean of all
    losses so far; `omegas` the state of the method's `omegas`.
    """

    losses: Float[Array, "*batch d"]
    mean_loss: Float[Array, "*batch"]
    num_rounds: Int32[Array, "*batch"]
    arm: Int32[Array, "*batch"]
    probability: Float[Array, "*batch"]
    omegas: Any


@register
class TsallisINF(AbstractRelaxation[TsallisINFState]):
    """Draws ω from p = argmin ⟨p, k⟩/c − (4/η_t) Σ √p_i over probabilities.

    k estimates the arms' total losses: after a solve in `loss` steps with arm i,
    k_i grows by (loss − 1)/p_i. η_t = 2/√t in round t, and c is the mean loss so far,
    less 1. Tends to the best *fixed* ω: its regret against it grows as T^{2/3}. In
    sequences where the best ω changes see `TsallisINFContextual` and `ChebCB`.

    **Arguments:**

    - `num_arms`: d, default 20.
    - `omegas`: what they stand for. Default `OmegaInterval()`, [1, 1.95].
    - `newton`: how p is found. Default `MonotoneNewton()`, the minimiser;
        `PublishedNewton()` does what the authors' program does.

    !!! example

        ```python
        import jax.numpy as jnp
        import jax.random as jr
        import sciml

        method = sciml.preconditioners.TsallisINF()
        state = method.init()
        for key in jr.split(jr.key(0), 10):
            omega, state = method.choose(state, key=key)
            num_steps = jnp.round(20 + 100 * (omega - 1.5) ** 2)  # of a solve with it
            state = method.update(state, num_steps)
        ```

    Source: Khodak, Chow, Balcan & Talwalkar, *Learning to Relax*, ICLR 2024, algorithm
    2, with the scaling of the authors' program; Zimmert & Seldin, J. Mach. Learn. Res.
    22 (2021) 28.
    """

    num_arms: int = eqx.field(static=True, default=20)
    omegas: AbstractOmegas = OmegaInterval()
    newton: AbstractTsallisNewton = MonotoneNewton()

    def __check_init__(self):
        if self.num_arms < 2:
            raise ValueError(f"num_arms: expected at least 2, got {self.num_arms}.")

    def init(
        self, operator: lx.AbstractLinearOperator | None = None
    ) -> TsallisINFState:
        """No losses yet."""
        dtype = jnp.result_type(float)
        zero, count = jnp.zeros((), dtype), jnp.zeros((), jnp.int32)
        return TsallisINFState(
            losses=jnp.zeros(self.num_arms, dtype),
            mean_loss=zero,
            num_rounds=count,
            arm=count,
            probability=zero + 1,
            omegas=self.omegas.init(operator),
        )

    def choose(
        self,
        state: TsallisINFState,
        context: ArrayLike | None = None,
        operator: lx.AbstractLinearOperator | None = None,
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, ""], TsallisINFState]:
        """Draw an arm; `context` plays no part."""
        del context
        probabilities = self.probabilities(state)
        arm = draw(key, probabilities)
        omegas = self.omegas.follow(state.omegas, operator)
        state = dataclasses.replace(
            state, arm=arm, probability=probabilities[arm], omegas=omegas
        )
        position = arm.astype(state.losses.dtype) / (self.num_arms - 1)
        return self.omegas.omega(omegas, position), state

    def update(self, state: TsallisINFState, num_steps: ArrayLike) -> TsallisINFState:
        """Add (num_steps − 1)/p to the arm's loss."""
        loss = chosen_loss(num_steps, state.losses.dtype)
        rounds = state.num_rounds + 1
        change = (loss - state.mean_loss) / rounds.astype(loss.dtype)
        return dataclasses.replace(
            state,
            losses=state.losses.at[state.arm].add((loss - 1) / state.probability),
            mean_loss=state.mean_loss + change,
            num_rounds=rounds,
        )

    def probabilities(self, state: TsallisINFState) -> Float[Array, " d"]:
        """p of the next round, which sums up to 1."""
        dtype = state.losses.dtype
        eta = 2 / jnp.sqrt((state.num_rounds + 1).astype(dtype))
        scale = state.mean_loss - 1
        losses = state.losses / jnp.where(scale > 0, scale, 1.0)

        def weights(x):
            return 4 / (eta * (losses - x)) ** 2

        def step(_, x):
            p = weights(x)
            return x - (jnp.sum(p) - 1) / (eta * jnp.sum(p**1.5))

        x = jax.lax.fori_loop(
            0, _NEWTON_STEPS, step, self.newton.start(losses, eta).astype(dtype)
        )
        p = weights(x)
        p = p / jnp.sum(p)
        # As the source does: what cannot be found is drawn uniformly.
        return jnp.where(jnp.all(jnp.isfinite(p)), p, 1 / self.num_arms)


@register
class TsallisINFContextualState(eqx.Module):
    """A state of Tsallis-INF per bin, on the first axis, and the last choice's bin."""

    bins: TsallisINFState
    bin: Int32[Array, "*batch"]
    omegas: Any


@register
class TsallisINFContextual(AbstractRelaxation[TsallisINFContextualState]):
    """One Tsallis-INF for each of num_bins parts of the context's interval.

    Regret against the best ω *of each context* grows as T^{3/4}; it takes 20 arms times
    the number of bins to try everything once.

    **Arguments:**

    - `interval`: (a, b), between which contexts lie; one outside of it goes to the
        nearer end.
    - `num_bins`: default 5, as in the source (6 for its heat equation).
    - `num_arms`, `omegas`, `newton`: as for `TsallisINF`.

    !!! example

        ```python
        import jax.random as jr
        import sciml

        method = sciml.preconditioners.TsallisINFContextual((0.0, 10.0), 6)
        state = method.init()
        omega, state = method.choose(state, 2.5, key=jr.key(0))
        state = method.update(state, 12)
        ```

    Source: Khodak et al., ICLR 2024, §3.3.
    """

    interval: tuple[float, float] = eqx.field(static=True, converter=checked_interval)
    num_bins: int = eqx.field(static=True, default=5)
    num_arms: int = eqx.field(static=True, default=20)
    omegas: AbstractOmegas = OmegaInterval()
    newton: AbstractTsallisNewton = MonotoneNewton()

    def __check_init__(self):
        if self.num_bins < 1:
            raise ValueError(f"num_bins: expected at least 1, got {self.num_bins}.")
        self._bandit()

    def init(
        self, operator: lx.AbstractLinearOperator | None = None
    ) -> TsallisINFContextualState:
        """No losses yet in any bin."""
        return TsallisINFContextualState(
            stacked(self._bandit().init(), self.num_bins),
            jnp.zeros((), jnp.int32),
            self.omegas.init(operator),
        )

    def choose(
        self,
        state: TsallisINFContextualState,
        context: ArrayLike | None = None,
        operator: lx.AbstractLinearOperator | None = None,
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, ""], TsallisINFContextualState]:
        """Draw an arm of the context's bin."""
        dtype = state.bins.losses.dtype
        place = unit_context(context, self.interval, dtype)
        index = jnp.floor(place * self.num_bins).astype(jnp.int32)
        index = jnp.minimum(index, self.num_bins - 1)
        _, chosen = self._bandit().choose(select(state.bins, index), key=key)
        omegas = self.omegas.follow(state.omegas, operator)
        position = chosen.arm.astype(dtype) / (self.num_arms - 1)
        bins = replace(state.bins, index, chosen)
        state = TsallisINFContextualState(bins, index, omegas)
        return self.omegas.omega(omegas, position), state

    def update(
        self, state: TsallisINFContextualState, num_steps: ArrayLike
    ) -> TsallisINFContextualState:
        """Tell the bin that chose."""
        told = self._bandit().update(select(state.bins, state.bin), num_steps)
        bins = replace(state.bins, state.bin, told)
        return TsallisINFContextualState(bins, state.bin, state.omegas)

    def _bandit(self) -> TsallisINF:
        # (What the curve of ω depends on is the same in all bins, and kept once.)
        return TsallisINF(self.num_arms, OmegaInterval(), self.newton)
