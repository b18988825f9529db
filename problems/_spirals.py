"""Spirals of cubes, without noise and with it."""

from collections.abc import Sequence
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from sciml import AbstractODE

from ._ode_arguments import check_state, parameters

_NUM_POINTS = 30


class Spiral(AbstractODE):
    """A slow spiral into the origin, the example on which neural ODEs were introduced:

        y' = Aᵀ y³,  A = [[−0.1, 2], [−2, −0.1]],  y(0) = (2, 0)

    the cube taken in each component. Along solutions Σ y⁴ falls, at the rate −0.4 Σ y⁶,
    so that none leaves. Without units, not stiff, no reference value.

    **Arguments:**

    - `t1`: where time ends; it starts at 0. Default 1.5, a little more than
        one turn; the paper's program goes on to 25.

    `ts` are the 30 times at which data are taken, evenly from 0 to `t1`. `vector_field`
    takes A as `args`, shape `(2, 2)`; None stands for the one above.

    **Raises:** `ValueError` for a state that is no pair, and for A of another shape.

    !!! example

        ```python
        import diffrax as dfx
        import problems

        ode = problems.Spiral()
        solution = dfx.diffeqsolve(
            ode.term(), dfx.Tsit5(), ode.t0, ode.t1, 0.01, ode.y0, ode.args,
            saveat=dfx.SaveAt(ts=ode.ts),
        )
        solution.ys  # (30, 2)
        ```

    !!! cite "Reference"

        R. T. Q. Chen, Y. Rubanova, J. Bettencourt and D. Duvenaud, Neural ordinary
        differential equations, NeurIPS 2018. Interval and times: C. Rackauckas et al.,
        DiffEqFlux.jl, a Julia library for neural differential equations (2019).
    """

    t0: float
    t1: float
    y0: Float[Array, " 2"]
    args: Float[Array, "2 2"]
    reference: None

    def __init__(self, t1: float = 1.5):
        self.t0, self.t1 = 0.0, t1
        self.y0 = jnp.array([2.0, 0.0])
        self.args = jnp.array([[-0.1, 2.0], [-2.0, -0.1]])
        self.reference = None

    @property
    def ts(self) -> Float[Array, " 30"]:
        """The times of the data."""
        return jnp.linspace(self.t0, self.t1, _NUM_POINTS)

    def vector_field(
        self, t: Any, y: Float[Array, " n"], args: Any
    ) -> Float[Array, " n"]:
        """Aᵀ y³; `args` is A."""
        del t
        check_state(y, 2)
        return parameters(args, self.args, y).T @ y**3


class SpiralSDE(eqx.Module):
    """A spiral with multiplicative noise, in the sense of Itô, 0 ≤ t ≤ 1:

        du = (−α u³ + β v³) dt + γ u dW₁
        dv = (−β u³ − α v³) dt + γ v dW₂

    with (α, β, γ) = (0.1, 2, 0.2), u = 2 and v = 0 at t = 0, W₁ and W₂ independent. The
    benchmark for neural SDEs: what is learned are mean and variance over trajectories
    at the 30 times `ts`, evenly from 0 to 1. The noise is diagonal (so it commutes).

    `drift`, `diffusion` and the terms take (α, β, γ) as `args`, shape `(3,)`; None
    stands for the values above.

    **Raises:** `ValueError` for a state or parameters of another shape.

    !!! example

        ```python
        import jax.random as jr
        import problems

        sde = problems.SpiralSDE()
        mean, variance = sde.moments(100, key=jr.key(0))  # (30, 2) each
        ```

    !!! cite "Reference"

        A. Pal, Y. Ma, V. Shah and C. Rackauckas, Opening the blackbox: accelerating
        neural differential equations by regularizing internal solver heuristics, ICML
        2021: the experiment on a spiral SDE.
    """

    t0: float
    t1: float
    y0: Float[Array, " 2"]
    args: Float[Array, " 3"]

    def __init__(self):
        self.t0, self.t1 = 0.0, 1.0
        self.y0 = jnp.array([2.0, 0.0])
        self.args = jnp.array([0.1, 2.0, 0.2])

    @property
    def ts(self) -> Float[Array, " 30"]:
        """The times of the data."""
        return jnp.linspace(self.t0, self.t1, _NUM_POINTS)

    def drift(self, t: Any, y: Float[Array, " n"], args: Any) -> Float[Array, " n"]:
        """Itô's drift, (−α u³ + β v³, −β u³ − α v³)."""
        del t
        check_state(y, 2)
        alpha, beta, _ = parameters(args, self.args, y)
        u, v = y**3
        return jnp.stack([-alpha * u + beta * v, -beta * u - alpha * v])

    def diffusion(
        self, t: Any, y: Float[Array, " n"], args: Any
    ) -> lx.AbstractLinearOperator:
        """The diagonal operator γ (u, v), to be applied to (dW₁, dW₂)."""
        del t
        check_state(y, 2)
        return lx.DiagonalLinearOperator(parameters(args, self.args, y)[2] * y)

    def ito_terms(self, path: dfx.AbstractBrownianPath) -> dfx.MultiTerm:
        """For diffrax's Itô solvers, such as `Euler` and `ItoMilstein`.

        **Arguments:**

        - `path`: a Brownian path of shape `(2,)`.
        """
        return dfx.MultiTerm(
            dfx.ODETerm(self.drift), dfx.ControlTerm(self.diffusion, path)
        )

    def stratonovich_terms(self, path: dfx.AbstractBrownianPath) -> dfx.MultiTerm:
        """For diffrax's Stratonovich solvers, such as `Heun` and `SPaRK`.

        They have the drift less γ²/2 (u, v), and so the same solution.

        **Arguments:**

        - `path`: a Brownian path of shape `(2,)`.
        """

        def corrected(t, y, args):
            gamma = parameters(args, self.args, y)[2]
            return self.drift(t, y, args) - gamma**2 / 2 * y

        return dfx.MultiTerm(
            dfx.ODETerm(corrected), dfx.ControlTerm(self.diffusion, path)
        )

    def trajectories(
        self,
        num_trajectories: int = 100,
        *,
        key: PRNGKeyArray,
        args: ArrayLike | Sequence[float] | None = None,
        substeps: int = 32,
    ) -> Float[Array, "trajectories 30 2"]:
        """Solutions at `ts`, each on a Brownian path of its own.

        By diffrax's `Heun` on the Stratonovich form with constant steps. They are data,
        with no reverse-mode derivatives.

        **Arguments:**

        - `num_trajectories`: how many; trajectory i depends on the key and on i only.
        - `key`: draws the paths.
        - `args`: (α, β, γ); default the problem's own.
        - `substeps`: steps between two of the times, at least 1. The error falls in
            proportion: with the default, 32, its root mean square is at most 0.004, at
            times where the trajectories spread by 1.

        **Raises:** `ValueError` for a number that is out of its range.
        """
        if num_trajectories < 1:
            raise ValueError(
                f"num_trajectories: expected at least 1, got {num_trajectories}."
            )
        if substeps < 1:
            raise ValueError(f"substeps: expected at least 1, got {substeps}.")
        own = parameters(args, self.args, self.y0)
        return _simulate(self, num_trajectories, substeps, own, key)

    def moments(
        self,
        num_trajectories: int = 100,
        *,
        key: PRNGKeyArray,
        args: ArrayLike | Sequence[float] | None = None,
    ) -> tuple[Float[Array, "30 2"], Float[Array, "30 2"]]:
        """Mean and variance over trajectories at `ts`: the targets of training.

        **Arguments:** as for `trajectories`, of which at least 2 are needed: the
        variance is the unbiased one.

        **Raises:** `ValueError` for fewer.
        """
        if num_trajectories < 2:
            raise ValueError(
                "num_trajectories: expected at least 2 for a variance, got "
                f"{num_trajectories}."
            )
        found = self.trajectories(num_trajectories, key=key, args=args)
        return jnp.mean(found, axis=0), jnp.var(found, axis=0, ddof=1)


@eqx.filter_jit
def _simulate(
    sde: SpiralSDE, num_trajectories: int, substeps: int, args: Array, key: PRNGKeyArray
) -> Array:
    dtype = sde.y0.dtype
    # The solver stops at every time of the data: nothing is interpolated.
    count = (_NUM_POINTS - 1) * substeps + 1
    fine = jnp.linspace(sde.t0, sde.t1, count, dtype=dtype)

    def one(index):
        # Fresh increments will do, since no step is repeated or split.
        shape = jax.ShapeDtypeStruct((2,), dtype)
        path = dfx.UnsafeBrownianPath(shape, jr.fold_in(key, index))
        solution = dfx.diffeqsolve(
            sde.stratonovich_terms(path),
            dfx.Heun(),
            sde.t0,
            sde.t1,
            None,
            sde.y0,
            args,
            saveat=dfx.SaveAt(ts=fine[::substeps]),
            stepsize_controller=dfx.StepTo(ts=fine),
            adjoint=dfx.ForwardMode(),
            max_steps=count,
        )
        return jnp.asarray(solution.ys)

    return jax.vmap(one)(jnp.arange(num_trajectories))
