"""What chooses a relaxation parameter for each of a sequence of solves."""

import abc
import math
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import lineax as lx
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray

from .._registry import register
from ..linear._tree import Vector
from ._host import known_matrix
from ._ssor import (
    is_consistently_ordered,
    jacobi_spectrum,
    power_step,
    young_omega,
)

State = TypeVar("State")


class AbstractRelaxation(eqx.Module, Generic[State]):
    """Chooses ω for the next solve from what earlier solves took.

    Immutable, in the way of optax: what is learned is a state, a module of arrays that
    goes through `jit`, `lax.scan` and `vmap`, and into a file with `sciml.save`.

        state = method.init(A)                                   # outside of jit
        omega, state = method.choose(state, context, A, key=key)
        …                                                        # solve with omega
        state = method.update(state, num_steps)

    `choose` and `update` alternate. One that is chosen for and never solved with may be
    left out: go on from the state before it.
    """

    @abc.abstractmethod
    def init(self, operator: lx.AbstractLinearOperator | None = None) -> State:
        """The state before the first solve.

        **Arguments:**

        - `operator`: the first A of the sequence, for methods that look at it.
        """

    @abc.abstractmethod
    def choose(
        self,
        state: State,
        context: ArrayLike | None = None,
        operator: lx.AbstractLinearOperator | None = None,
        *,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, ""], State]:
        """ω for the next solve, and the state that remembers the choice.

        **Arguments:**

        - `state`: from `init` or `update`.
        - `context`: a number known of the system before it is solved, for contextual
            methods.
        - `operator`: the system's A, for methods that look at it.
        - `key`: for methods that draw.
        """

    @abc.abstractmethod
    def update(self, state: State, num_steps: ArrayLike) -> State:
        """The state after the solve that `choose` was asked about.

        **Arguments:**

        - `state`: from `choose`.
        - `num_steps`: what the solve took, ≥ 0, counted also where it failed.
        """


class AbstractOmegas(eqx.Module, Generic[State]):
    """The relaxation parameters that a method chooses among: a curve [0, 1] → (0, 2).

    A method's num_arms arms stand at equal distances on it.
    """

    @abc.abstractmethod
    def init(self, operator: lx.AbstractLinearOperator | None) -> State:
        """What the curve depends on, for the first A. Outside of jit."""

    @abc.abstractmethod
    def follow(self, state: State, operator: lx.AbstractLinearOperator | None) -> State:
        """The same for the next A."""

    @abc.abstractmethod
    def omega(
        self, state: State, position: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        """ω at positions in [0, 1]."""

    @abc.abstractmethod
    def prior(
        self, position: Float[Array, "*shape"]
    ) -> tuple[Float[Array, "*shape"], float]:
        """What may be expected of the logarithm of the number of steps: how far it lies
        above the best one at these positions, and how wrong this may be."""


@register
class OmegaInterval(AbstractOmegas[tuple[()]]):
    """ω = lower + (upper − lower) s, whatever A is.

    **Arguments:**

    - `lower`, `upper`: default 1 and 1.95, as in the source.

    Source: Khodak, Chow, Balcan & Talwalkar, *Learning to Relax*, ICLR 2024, §4.
    """

    lower: float = eqx.field(static=True, default=1.0)
    upper: float = eqx.field(static=True, default=1.95)

    def __check_init__(self):
        if not 0 < self.lower < self.upper < 2:
            raise ValueError(
                "lower, upper: expected 0 < lower < upper < 2, got "
                f"{self.lower} and {self.upper}."
            )

    def init(self, operator: lx.AbstractLinearOperator | None = None) -> tuple[()]:
        """Nothing."""
        del operator
        return ()

    def follow(
        self, state: tuple[()], operator: lx.AbstractLinearOperator | None
    ) -> tuple[()]:
        """Nothing."""
        del operator
        return state

    def omega(
        self, state: tuple[()], position: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        """lower + (upper − lower) s."""
        del state
        return self.lower + (self.upper - self.lower) * position

    def prior(
        self, position: Float[Array, "*shape"]
    ) -> tuple[Float[Array, "*shape"], float]:
        """Nothing is known: 0, give or take 0.3."""
        return jnp.zeros_like(position), 0.3


@register
class YoungState(eqx.Module):
    """μ = ρ(I − D⁻¹A) and its eigenvector, scaled by √D.

    `ordered` says whether the unknowns are consistently ordered.
    """

    mu: Float[Array, "*batch"]
    mode: Vector
    ordered: Bool[Array, "*batch"]


@register
class Young(AbstractRelaxation[YoungState]):
    """ω = 2/(1 + √(1 − μ²)), μ = ρ(I − D⁻¹A): the closed form, which learns nothing.

    The best ω of SOR where the unknowns are consistently ordered, close to the best of
    SSOR-CG. The first A gives μ by the Lanczos method, each further one by *one* power
    step from the last eigenvector: one product with A per system. Where the order is
    not Young's (checked once, exactly, for the first A) ω is 1, see `SSOR`.

    `init` reads A's entries on the host; `choose` needs the operator and may be traced.

    !!! example

        ```python
        import jax.random as jr
        import problems
        import sciml

        problem = problems.HeatSequence(25)
        A, b = problem.system(0, problem.initial())
        method = sciml.preconditioners.Young()
        state = method.init(A)
        omega, state = method.choose(state, operator=A, key=jr.key(0))
        ```

    Source: Young, *Iterative Solution of Large Linear Systems* (1971), ch. 6.
    """

    def init(self, operator: lx.AbstractLinearOperator | None = None) -> YoungState:
        """μ and its eigenvector for the first A. Outside of jit."""
        operator = _asked_for("Young.init", operator)
        advice = "Call init outside of jit (scan, vmap); choose may be inside."
        matrix = known_matrix("Young", operator, advice)
        mu, mode = jacobi_spectrum(operator)
        # (Lanczos leaves a rounding error that may be negative.)
        mu = jnp.maximum(mu, 0.0)
        return YoungState(mu, mode, jnp.asarray(is_consistently_ordered(matrix)))

    def choose(
        self,
        state: YoungState,
        context: ArrayLike | None = None,
        operator: lx.AbstractLinearOperator | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, ""], YoungState]:
        """Young's ω for μ after one more power step."""
        del context, key
        state = _next(state, _asked_for("Young.choose", operator))
        return young_of(state), state

    def update(self, state: YoungState, num_steps: ArrayLike) -> YoungState:
        """The state as it is: nothing is learned from counts."""
        del num_steps
        return state


@register
class AroundYoung(AbstractOmegas[YoungState]):
    """Parameters to both sides of Young's, which stands in the middle.

        ζ = ζ_Young · ratio^(1 − 2s),  ζ = 2/ω − 1,  s in [0, 1]

    ζ = √(1 − μ²) for Young's ω. Steps of SSOR-CG grow about as √(ζ/ζ_Young) to one side
    and as its inverse to the other: the ends cost √ratio times the middle. ω below 1 is
    taken to be 1.

    This is the prior: a method that starts in its middle starts from Young's choice.

    **Arguments:**

    - `ratio`: above 1. Default 1.25.
    """

    ratio: float = eqx.field(static=True, default=1.25)

    def __check_init__(self):
        if not self.ratio > 1:
            raise ValueError(f"ratio: expected a number above 1, got {self.ratio}.")

    def init(self, operator: lx.AbstractLinearOperator | None) -> YoungState:
        """As `Young.init`."""
        return Young().init(operator)

    def follow(
        self, state: YoungState, operator: lx.AbstractLinearOperator | None
    ) -> YoungState:
        """One power step."""
        return _next(state, _asked_for("choose with AroundYoung", operator))

    def omega(
        self, state: YoungState, position: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        """The parameter at distance s − ½ from Young's."""
        young = 2 / young_of(state) - 1
        zeta = young.astype(position.dtype) * self.ratio ** (1 - 2 * position)
        return 2 / (1 + jnp.minimum(zeta, 1.0))

    def prior(
        self, position: Float[Array, "*shape"]
    ) -> tuple[Float[Array, "*shape"], float]:
        """½ |log ζ/ζ_Young|, give or take half of what that is at the ends."""
        end = 0.5 * math.log(self.ratio)
        return end * jnp.abs(2 * position - 1), 0.5 * end


def _next(state: YoungState, operator: lx.AbstractLinearOperator) -> YoungState:
    mu, mode = power_step(state.mode, operator)
    return YoungState(mu.astype(state.mu.dtype), mode, state.ordered)


def young_of(state: YoungState) -> Float[Array, ""]:
    """Young's ω, or 1 where the order is not his."""
    return jnp.where(state.ordered, young_omega(state.mu), 1.0)


def chosen_loss(num_steps: ArrayLike, dtype: Any) -> Float[Array, ""]:
    """A count as a number of the state's type; an error where it is none."""
    loss = jnp.asarray(num_steps)
    if loss.ndim:
        raise ValueError(
            f"num_steps: expected one number, got shape {loss.shape}; "
            "map a batch of states with jax.vmap."
        )
    loss = loss.astype(dtype)
    return eqx.error_if(
        loss,
        ~(jnp.isfinite(loss) & (loss >= 0)),
        "num_steps: expected a finite number ≥ 0, got NaN, infinity or less. Pass the "
        "solve's stats['num_steps'].",
    )


def checked_interval(interval: Any) -> tuple[float, float]:
    """The two ends of a context's interval."""
    lower, upper = map(float, interval)
    if not -jnp.inf < lower < upper < jnp.inf:
        raise ValueError(
            f"interval: expected two finite numbers a < b, got {(lower, upper)}."
        )
    return lower, upper


def unit_context(
    context: ArrayLike | None, interval: tuple[float, float], dtype: Any
) -> Float[Array, ""]:
    """Where in its interval a context lies, from 0 to 1; the nearer end if outside."""
    if context is None:
        raise ValueError(
            "context: this method needs a number known of each system before it is "
            f"solved, between {interval[0]} and {interval[1]}."
        )
    context = jnp.asarray(context)
    if context.ndim:
        raise ValueError(
            f"context: expected one number, got shape {context.shape}; "
            "map a batch of states with jax.vmap."
        )
    lower, upper = interval
    place = (context.astype(dtype) - lower) / (upper - lower)
    place = eqx.error_if(
        place,
        jnp.isnan(place),
        f"context: got NaN, expected a number between {lower} and {upper}.",
    )
    return jnp.clip(place, 0.0, 1.0)


def chebyshev(
    context: ArrayLike | None, interval: tuple[float, float], count: int, dtype: Any
) -> Float[Array, " count"]:
    """T_j(2 (c − a)/(b − a) − 1) for j < count."""
    place = unit_context(context, interval, dtype)
    degrees = jnp.arange(count, dtype=dtype)
    return jnp.cos(degrees * jnp.arccos(2 * place - 1))


def _asked_for(
    where: str, operator: lx.AbstractLinearOperator | None
) -> lx.AbstractLinearOperator:
    if operator is None:
        raise ValueError(f"operator: {where} looks at A; pass it.")
    return operator


def select(tree_of_arrays: Any, index: Array) -> Any:
    """Entry `index` of each leaf's first axis."""
    return jtu.tree_map(lambda leaf: leaf[index], tree_of_arrays)


def replace(tree_of_arrays: Any, index: Array, entry: Any) -> Any:
    """The same with entry `index` replaced."""
    return jtu.tree_map(
        lambda leaf, new: leaf.at[index].set(new), tree_of_arrays, entry
    )


def stacked(state: Any, count: int) -> Any:
    """`count` copies of a state, on a new first axis."""
    return jtu.tree_map(
        lambda leaf: jnp.broadcast_to(leaf, (count, *jnp.shape(leaf))), state
    )


def draw(key: PRNGKeyArray, probabilities: Float[Array, " d"]) -> Array:
    """An index with these probabilities."""
    return jax.random.categorical(key, jnp.log(probabilities)).astype(jnp.int32)
