"""Maps and classifiers that are solutions of differential equations."""

from collections.abc import Callable
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._serialisation import register
from ._penalties import AbstractPenalty
from ._solve import regularised_diffeqsolve
from ._unrolled import UnrolledRungeKutta

# What a saved model may name.
for _solver in (dfx.Bosh3, dfx.Dopri5, dfx.Dopri8, dfx.Euler, dfx.Heun, dfx.Tsit5):
    register(_solver)


@register
class TimeMLP(eqx.Module):
    """A vector field: a network each of whose layers sees the time.

        f(t, y) = σ_out(W_L [… σ(W_1 [y, t] + b_1) …, t] + b_L)

    Maps one state of shape `(size,)`; call it as `field(t, y, args)`, `args` is not
    used.

    **Arguments:**

    - `size`: components of y.
    - `width`: of hidden layers.
    - `depth`: how many hidden layers. Default 1, as in the published MNIST model.
    - `activation`: σ, default tanh: smooth, as a solver of high order needs it.
    - `final_activation`: σ_out, default tanh, which bounds the field; `lambda x: x`
        leaves it unbounded.
    - `key`: for the initial weights, those of `equinox.nn.Linear`.

    Source: Pal, Ma, Shah & Rackauckas, *Opening the Blackbox*, ICML 2021 (MNIST).
    """

    layers: tuple[eqx.nn.Linear, ...]
    size: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    depth: int = eqx.field(static=True)
    activation: Callable = eqx.field(static=True)
    final_activation: Callable = eqx.field(static=True)

    def __init__(
        self,
        size: int,
        width: int,
        depth: int = 1,
        *,
        activation: Callable = jnp.tanh,
        final_activation: Callable = jnp.tanh,
        key: PRNGKeyArray,
    ):
        for name, value in (("size", size), ("width", width), ("depth", depth)):
            if value < 1:
                raise ValueError(f"{name}: expected a positive integer, got {value!r}.")
        sizes = [size, *[width] * depth, size]
        keys = jr.split(key, depth + 1)
        self.layers = tuple(
            eqx.nn.Linear(n + 1, m, key=k)
            for n, m, k in zip(sizes[:-1], sizes[1:], keys, strict=True)
        )
        self.size, self.width, self.depth = size, width, depth
        self.activation = activation
        self.final_activation = final_activation

    def __call__(self, t: Any, y: Float[Array, " size"], args: Any = None):
        """f(t, y)."""
        del args
        last = len(self.layers) - 1
        for k, layer in enumerate(self.layers):
            time = jnp.reshape(jnp.asarray(t, y.dtype), (1,))
            y = layer(jnp.concatenate([y, time]))
            y = (self.final_activation if k == last else self.activation)(y)
        return y


class Joint(eqx.Module):
    """A vector field on a batch of states as one state, of shape `(samples, …)`.

    The batch takes the same steps, those that the whole of it needs, instead of waiting
    under `vmap` for the sample that needs most.
    """

    field: Callable

    def __call__(self, t: Any, y: PyTree, args: Any = None):
        """f(t, y_i) for every sample i."""
        return jax.vmap(self.field, in_axes=(None, 0, None))(t, y, args)


@register
class NeuralODE(eqx.Module):
    """y₀ ↦ y(t₁) for y' = f(t, y), y(t₀) = y₀, f a network.

    Maps one sample; `jax.vmap` gives each sample of a batch steps of its own,
    `model.jointly()` the same steps to all. `solve` returns times in between, and the
    price of the solve.

    **Arguments:**

    - `field`: f, called as `field(t, y, args)`, such as `TimeMLP`.
    - `solver`: default `UnrolledRungeKutta(diffrax.Tsit5())`.
    - `rtol`, `atol`: tolerances of the step size controller. Default 1e-5 both; state
        them with any claim about steps.
    - `t0`, `t1`: default 0 and 1.
    - `max_steps`: default 4096.

    !!! example

        ```python
        import jax.numpy as jnp
        import jax.random as jr
        from sciml.neural_odes import ErrorEstimate, NeuralODE, TimeMLP

        model = NeuralODE(TimeMLP(2, 16, key=jr.key(0)))
        model(jnp.ones(2)).shape  # (2,)
        solution, price = model.solve(jnp.ones(2), penalty=ErrorEstimate())
        many = model.jointly()(jnp.ones((8, 2)))
        ```

    Source: Chen, Rubanova, Bettencourt & Duvenaud, *Neural Ordinary Differential
    Equations*, NeurIPS 2018.
    """

    field: Callable
    solver: dfx.AbstractSolver
    rtol: float = eqx.field(static=True)
    atol: float = eqx.field(static=True)
    t0: float = eqx.field(static=True)
    t1: float = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)

    def __init__(
        self,
        field: Callable,
        solver: dfx.AbstractSolver | None = None,
        *,
        rtol: float = 1e-5,
        atol: float = 1e-5,
        t0: float = 0.0,
        t1: float = 1.0,
        max_steps: int = 4096,
    ):
        if not (rtol > 0 and atol > 0):
            raise ValueError(
                f"rtol, atol: expected positive numbers, got {rtol!r} and {atol!r}."
            )
        self.field = field
        self.solver = UnrolledRungeKutta(dfx.Tsit5()) if solver is None else solver
        self.rtol, self.atol = rtol, atol
        self.t0, self.t1, self.max_steps = t0, t1, max_steps

    def __call__(self, y0: PyTree, args: Any = None) -> PyTree:
        """y(t₁)."""
        solution, _ = self.solve(y0, args)
        return jax.tree.map(lambda y: y[-1], solution.ys)

    def solve(
        self,
        y0: PyTree,
        args: Any = None,
        *,
        penalty: PyTree[AbstractPenalty] = (),
        t1: Any = None,
        saveat: dfx.SaveAt | None = None,
        adjoint: dfx.AbstractAdjoint | None = None,
        key: PRNGKeyArray | None = None,
        throw: bool = True,
    ) -> tuple[dfx.Solution, PyTree[Array]]:
        """The solution, and what it costs: see `regularised_diffeqsolve`.

        `t1` replaces the model's, for `steer_end_time`.
        """
        return regularised_diffeqsolve(
            dfx.ODETerm(self.field),  # pyright: ignore[reportArgumentType]
            self.solver,
            self.t0,
            self.t1 if t1 is None else t1,
            None,
            y0,
            args,
            penalty=penalty,
            stepsize_controller=dfx.PIDController(self.rtol, self.atol),
            key=key,
            saveat=saveat,
            adjoint=adjoint,
            max_steps=self.max_steps,
            throw=throw,
        )

    def jointly(self) -> "NeuralODE":
        """The same model for batches, of shape `(samples, …)`, solved as one state."""
        return eqx.tree_at(lambda m: m.field, self, Joint(self.field))

    def with_tolerances(
        self,
        rtol: float,
        atol: float | None = None,
        solver: dfx.AbstractSolver | None = None,
    ) -> "NeuralODE":
        """The same field at other tolerances (`atol` default `rtol`), or by another
        solver.
        """
        return NeuralODE(
            self.field,
            self.solver if solver is None else solver,
            rtol=rtol,
            atol=rtol if atol is None else atol,
            t0=self.t0,
            t1=self.t1,
            max_steps=self.max_steps,
        )


@register
class ODEClassifier(eqx.Module):
    """Logits of one sample: a linear layer after a neural ODE.

    **Arguments:**

    - `ode`: a `NeuralODE` on inputs of shape `(in_size,)`.
    - `in_size`: components of the input, and of the ODE's state.
    - `num_classes`: how many logits.
    - `key`: for the linear layer.

    !!! example

        ```python
        import jax.numpy as jnp
        import jax.random as jr
        from sciml.neural_odes import NeuralODE, ODEClassifier, TimeMLP

        ode = NeuralODE(TimeMLP(64, 100, key=jr.key(0)))
        model = ODEClassifier(ode, 64, 10, key=jr.key(1))
        model(jnp.zeros(64)).shape  # (10,)
        logits, solution, price = model.classify(jnp.zeros((5, 64)))
        ```
    """

    ode: NeuralODE
    head: eqx.nn.Linear
    in_size: int = eqx.field(static=True)
    num_classes: int = eqx.field(static=True)

    def __init__(
        self, ode: NeuralODE, in_size: int, num_classes: int, *, key: PRNGKeyArray
    ):
        self.ode = ode
        self.in_size, self.num_classes = in_size, num_classes
        self.head = eqx.nn.Linear(in_size, num_classes, key=key)

    def __call__(self, x: Float[Array, " in_size"]) -> Float[Array, " num_classes"]:
        """Logits."""
        return self.head(self.ode(x))

    def classify(
        self,
        inputs: Float[Array, "samples in_size"],
        *,
        penalty: PyTree[AbstractPenalty] = (),
        t1: Any = None,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "samples num_classes"], dfx.Solution, PyTree[Array]]:
        """Logits of a batch that is solved as one state, its solution and its price."""
        ode = self.ode.jointly()
        solution, price = ode.solve(inputs, penalty=penalty, t1=t1, key=key)
        ys: Any = solution.ys
        return jax.vmap(self.head)(ys[-1]), solution, price
