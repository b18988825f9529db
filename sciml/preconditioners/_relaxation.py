"""What chooses a relaxation parameter for each of a sequence of solves."""

import abc
import math
from typing import Generic, TypeVar

import equinox as eqx
import jax.numpy as jnp
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
class FixedOmegaState(eqx.Module):
    """ω."""

    omega: Float[Array, "*batch"]


@register
class FixedOmega(AbstractRelaxation[FixedOmegaState]):
    """The same ω for all systems: what learning is compared with.

    **Arguments:**

    - `omega`: in (0, 2). It is the state as well, so that one compiled program serves
        all values.

    !!! example

        ```python
        import jax.random as jr
        import sciml

        method = sciml.preconditioners.FixedOmega(1.5)
        omega, state = method.choose(method.init(), key=jr.key(0))
        ```
    """

    omega: float = eqx.field(static=True)

    def __check_init__(self):
        if not 0 < self.omega < 2:
            raise ValueError(
                f"omega: expected a number between 0 and 2, got {self.omega}."
            )

    def init(
        self, operator: lx.AbstractLinearOperator | None = None
    ) -> FixedOmegaState:
        """ω."""
        del operator
        return FixedOmegaState(jnp.asarray(self.omega, jnp.result_type(float)))

    def choose(
        self,
        state: FixedOmegaState,
        context: ArrayLike | None = None,
        operator: lx.AbstractLinearOperator | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, ""], FixedOmegaState]:
        """ω."""
        del context, operator, key
        return state.omega, state

    def update(self, state: FixedOmegaState, num_steps: ArrayLike) -> FixedOmegaState:
        """The state as it is."""
        del num_steps
        return state


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


def _asked_for(
    where: str, operator: lx.AbstractLinearOperator | None
) -> lx.AbstractLinearOperator:
    if operator is None:
        raise ValueError(f"operator: {where} looks at A; pass it.")
    return operator
