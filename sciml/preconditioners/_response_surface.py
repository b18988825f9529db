"""Relaxation by a smooth model of the number of steps that all arms share."""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from .._registry import register
from ._relaxation import AbstractOmegas, AbstractRelaxation, OmegaInterval
from ._rounds import chebyshev, checked_interval, chosen_loss

# Deviations of log(steps): of what is common to all arms and contexts, of what is
# common to the arms of a context, and of an observation; a count is also rounded.
_LEVEL, _CONTEXT, _NOISE, _ROUNDING = 2.0, 0.2, 0.03, 0.15
# Where nothing is known a solve takes ten steps.
_MEAN = 2.3
# Keeps covariances of many arms positive definite (of variances of order 1).
_JITTER = {"float32": 1e-4, "float64": 1e-8}


@register
class ResponseSurfaceState(eqx.Module):
    """A normal distribution of the surface's coefficients, and the last choice.

    `mean` has shape `(num_features, num_nodes)`, `covariance` that shape twice.
    """

    mean: Float[Array, "*batch m d"]
    covariance: Float[Array, "*batch m d m d"]
    weights: Float[Array, "*batch d"]
    features: Float[Array, "*batch m"]
    omegas: Any


@register
class ResponseSurface(AbstractRelaxation[ResponseSurfaceState]):
    """Bayesian regression of log(steps) on context and ω together.

        log(steps) ≈ Σ_j θ_j(s) T_j(2 (c − a)/(b − a) − 1),  j < num_features

    with a normal prior under which every θ_j is a smooth function of the position s of
    ω and falls with j as those of smooth functions of the context do. A solve
    with one arm tells about its neighbours, and about all contexts: ChebCB, whose arms
    know nothing of each other, needs twenty times the rounds. Steps enter by their
    logarithm: what shifts all arms alike (a better initial guess) is a constant there.

    θ_j is known by its values at num_nodes positions, and between them by the
    interpolation that its prior implies. ω is drawn as often as it is probably the best
    one (Thompson sampling): it minimises a sample of the posterior over num_arms
    positions. The posterior is exact, a Kalman update of (num_features · num_nodes)²
    numbers per solve. Our own; no regret bound is claimed.

    **Arguments:**

    - `interval`: (a, b), between which contexts lie; one outside of it is taken for the
        nearer end.
    - `num_arms`: positions to choose among. Default 200: near its minimum the number of
        steps rises by as much as 1 % for a change of ω by 0.01.
    - `num_nodes`: default 20.
    - `num_features`: default 10.
    - `omegas`: what positions stand for, and the prior mean. Default `OmegaInterval()`,
        [1, 1.95]. With `AroundYoung()` it corrects Young's closed form; a shorter
        basis will then do, `num_features=6, context_length=0.5`.
    - `length`: over which positions the surface changes. Default 0.2.
    - `context_length`: the same of the context, which is mapped to [0, 1] by
        arccos(…)/π. Default 0.2.

    !!! example

        ```python
        import jax.random as jr
        import sciml

        method = sciml.preconditioners.ResponseSurface((0.0, 10.0))
        state = method.init()
        omega, state = method.choose(state, 2.5, key=jr.key(0))
        state = method.update(state, 12)
        ```

    Source: Rasmussen & Williams, *Gaussian Processes for Machine Learning*, ch. 2 and
    4 (Matérn covariances).
    """

    interval: tuple[float, float] = eqx.field(static=True, converter=checked_interval)
    num_arms: int = eqx.field(static=True, default=200)
    num_nodes: int = eqx.field(static=True, default=20)
    num_features: int = eqx.field(static=True, default=10)
    omegas: AbstractOmegas = OmegaInterval()
    length: float = eqx.field(static=True, default=0.2)
    context_length: float = eqx.field(static=True, default=0.2)

    def __check_init__(self):
        for name, least in (("num_arms", 2), ("num_nodes", 2), ("num_features", 1)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"{name}: expected at least {least}, got {getattr(self, name)}."
                )
        for name in ("length", "context_length"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"{name}: expected a positive number, got {getattr(self, name)}."
                )

    def init(
        self, operator: lx.AbstractLinearOperator | None = None
    ) -> ResponseSurfaceState:
        """The prior."""
        dtype = jnp.result_type(float)
        m, d = self.num_features, self.num_nodes
        positions = np.linspace(0, 1, d)
        mean, deviation = self.omegas.prior(jnp.asarray(positions, dtype))
        arms = _CONTEXT**2 + deviation**2 * self._correlation(positions, positions)
        spectrum = (1 + (np.pi * np.arange(m) * self.context_length) ** 2) ** -2.0
        # Σ_j spectrum_j T_j(x)² is the variance at x; half of it for j > 0 on average.
        spectrum[0] /= 2
        spectrum = spectrum / spectrum.sum()
        covariance = np.einsum("ij,ab->iajb", np.diag(spectrum), arms)
        covariance[0, :, 0, :] += _LEVEL**2
        return ResponseSurfaceState(
            mean=jnp.zeros((m, d), dtype).at[0].set(_MEAN + mean),
            covariance=jnp.asarray(covariance, dtype),
            weights=jnp.zeros(d, dtype),
            features=jnp.zeros(m, dtype),
            omegas=self.omegas.init(operator),
        )

    def choose(
        self,
        state: ResponseSurfaceState,
        context: ArrayLike | None = None,
        operator: lx.AbstractLinearOperator | None = None,
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, ""], ResponseSurfaceState]:
        """The minimum of a sample of the posterior at this context."""
        dtype = state.mean.dtype
        features = chebyshev(context, self.interval, self.num_features, dtype)
        covariance = jnp.einsum("i,iajb,j->ab", features, state.covariance, features)
        jitter = _JITTER[dtype.name] * jnp.eye(self.num_nodes, dtype=dtype)
        root = jnp.linalg.cholesky(covariance + jitter)
        noise = jr.normal(key, (self.num_nodes,), dtype)
        interpolation = jnp.asarray(self._interpolation(), dtype)
        sample = interpolation @ (features @ state.mean + root @ noise)
        arm = jnp.argmin(sample)
        omegas = self.omegas.follow(state.omegas, operator)
        position = arm.astype(dtype) / (self.num_arms - 1)
        state = dataclasses.replace(
            state, weights=interpolation[arm], features=features, omegas=omegas
        )
        return self.omegas.omega(omegas, position), state

    def update(
        self, state: ResponseSurfaceState, num_steps: ArrayLike
    ) -> ResponseSurfaceState:
        """The posterior after log(num_steps); 0 steps count as half a one."""
        loss = jnp.maximum(chosen_loss(num_steps, state.mean.dtype), 0.5)
        features, weights = state.features, state.weights
        gain = jnp.einsum("iajb,j,b->ia", state.covariance, features, weights)
        noise = _NOISE**2 + (_ROUNDING / loss) ** 2
        variance = features @ gain @ weights + noise
        error = jnp.log(loss) - features @ state.mean @ weights
        change = gain[:, :, None, None] * (gain / variance)[None, None]
        return dataclasses.replace(
            state,
            mean=state.mean + gain * (error / variance),
            covariance=state.covariance - change,
        )

    def _correlation(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Matérn's of order 5/2, of twice differentiable functions."""
        r = np.sqrt(5) * np.abs(one[:, None] - other) / self.length
        return (1 + r + r**2 / 3) * np.exp(-r)

    def _interpolation(self) -> np.ndarray:
        """From values at the nodes to those at the arms; constants stay constant."""
        nodes = np.linspace(0, 1, self.num_nodes)
        arms = np.linspace(0, 1, self.num_arms)
        # A constant of large variance, as in the prior.
        between = 100 + self._correlation(nodes, nodes)
        to_arms = 100 + self._correlation(arms, nodes)
        return np.linalg.solve(between, to_arms.T).T
