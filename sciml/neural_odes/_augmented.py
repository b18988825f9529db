"""Neural ODEs on a state with room to move."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._serialisation import register
from ._neural_ode import NeuralODE


@register
class AugmentedNeuralODE(eqx.Module):
    """y₀ ↦ (y(t₁), a(t₁)) for (y, a)' = f(t, (y, a)), y(t₀) = y₀, a(t₀) = 0.

    Trajectories of an ODE do not cross, so that y₀ ↦ y(t₁) turns no ring inside out.
    With a few components more they pass around each other, and the field that does so
    is also simpler to solve. What follows the ODE, such as a linear layer, gets to see
    all of the components.

    **Arguments:**

    - `ode`: a `NeuralODE` on states of shape `(size + extra_dims,)`.
    - `extra_dims`: how many components a has. With 0 this is `ode`.

    Maps one sample of shape `(size,)` to `(size + extra_dims,)`; the last axis is that
    which grows, so that `jointly()` takes `(samples, size)`.

    **Raises:** `ValueError` for a number of components that is negative.

    !!! example

        ```python
        import jax.numpy as jnp
        import jax.random as jr
        from sciml.neural_odes import AugmentedNeuralODE, NeuralODE, NumSteps, TimeMLP

        ode = NeuralODE(TimeMLP(2 + 3, 16, key=jr.key(0)))
        model = AugmentedNeuralODE(ode, 3)
        model(jnp.ones(2)).shape  # (5,)
        solution, price = model.solve(jnp.ones(2), penalty=NumSteps())
        ```

    Source: Dupont, Doucet & Teh, *Augmented Neural ODEs*, NeurIPS 2019.
    """

    ode: NeuralODE
    extra_dims: int = eqx.field(static=True)

    def __init__(self, ode: NeuralODE, extra_dims: int):
        if extra_dims < 0:
            raise ValueError(
                f"extra_dims: expected zero or a positive integer, got {extra_dims!r}."
            )
        self.ode, self.extra_dims = ode, extra_dims

    def __call__(
        self, y0: Float[Array, "*samples size"], args: Any = None
    ) -> Float[Array, "*samples augmented"]:
        """(y(t₁), a(t₁))."""
        return self.ode(self.augmented(y0), args)

    def augmented(
        self, y0: Float[Array, "*samples size"]
    ) -> Float[Array, "*samples augmented"]:
        """(y₀, 0)."""
        zeros = jnp.zeros((*y0.shape[:-1], self.extra_dims), y0.dtype)
        return jnp.concatenate([y0, zeros], axis=-1)

    def solve(
        self, y0: Float[Array, "*samples size"], args: Any = None, **settings: Any
    ) -> tuple[dfx.Solution, PyTree[Array]]:
        """The solution (y, a), and its price.

        `settings` are those of `NeuralODE.solve`, such as `penalty`.
        """
        return self.ode.solve(self.augmented(y0), args, **settings)

    def jointly(self) -> "AugmentedNeuralODE":
        """The same model for batches, of shape `(samples, size)`, as one state."""
        return AugmentedNeuralODE(self.ode.jointly(), self.extra_dims)

    def with_tolerances(
        self,
        rtol: float,
        atol: float | None = None,
        solver: dfx.AbstractSolver | None = None,
    ) -> "AugmentedNeuralODE":
        """The same field at other tolerances, or by another solver."""
        ode = self.ode.with_tolerances(rtol, atol, solver)
        return AugmentedNeuralODE(ode, self.extra_dims)
