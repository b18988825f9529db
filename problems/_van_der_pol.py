"""The van der Pol oscillator, in its own time and in that of its slow motion."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from sciml import AbstractODE

from ._ode_arguments import check_state, parameters

# y(2) for ε = 1e-6, in the digits of the IVP Test Set.
_STIFF_END = (1.706167732170483, -0.8928097010247975)


class VanDerPol(AbstractODE):
    """An oscillator that is damped where it is large and driven where it is small:

        y₁' = y₂,  y₂' = μ (1 − y₁²) y₂ − y₁,  y(0) = (2, 0)

    All but the state at rest tend to one cycle, of period 2π for small μ and about
    (3 − 2 ln 2) μ for large; stiff for μ above about 100. Without units, and
    without a reference: the cycle is known only as a series in μ.

    **Arguments:**

    - `mu`: μ, also the default of `args`. Default 1, a smooth cycle of period 6.66.
    - `t1`: where time ends; it starts at 0. Default 20, three cycles for μ = 1.

    `vector_field` takes μ as `args`, a scalar; None stands for `mu`.

    **Raises:** `ValueError` for a state that is no pair, and for μ that is no scalar.

    !!! example

        ```python
        import diffrax as dfx
        import problems

        ode = problems.VanDerPol(mu=3.0)
        solution = dfx.diffeqsolve(
            ode.term(), dfx.Tsit5(), ode.t0, ode.t1, None, ode.y0, ode.args,
            stepsize_controller=dfx.PIDController(rtol=1e-5, atol=1e-5),
        )
        ```

    !!! cite "Reference"

        B. van der Pol, On relaxation-oscillations, Philosophical Magazine 2 (1926),
        978–992.
    """

    t0: float
    t1: float
    y0: Float[Array, " 2"]
    args: Float[Array, ""]
    reference: None

    def __init__(self, mu: ArrayLike = 1.0, t1: float = 20.0):
        self.t0, self.t1 = 0.0, t1
        self.y0 = jnp.array([2.0, 0.0])
        self.args = jnp.asarray(mu, jnp.result_type(float))
        self.reference = None

    def vector_field(
        self, t: Any, y: Float[Array, " n"], args: Any
    ) -> Float[Array, " n"]:
        """(y₂, μ (1 − y₁²) y₂ − y₁); `args` is μ."""
        del t
        check_state(y, 2)
        mu = parameters(args, self.args, y)
        position, velocity = y
        return jnp.stack([velocity, mu * (1 - position**2) * velocity - position])


class StiffVanDerPol(AbstractODE):
    """The van der Pol equation in the time of its slow motion, as a stiff test:

        y₁' = y₂,  y₂' = ((1 − y₁²) y₂ − y₁) / ε,  y(0) = (2, 0),  0 ≤ t ≤ 2

    with ε = 1e-6. It is `VanDerPol` for μ = ε^(−1/2), time divided by μ and the
    velocity multiplied by it. The solution creeps, while an eigenvalue of the Jacobian
    is as low as −3e6, and jumps twice within the interval, near t = 0.81 and 1.61.
    `reference` is y(2).

    For implicit solvers and double precision (`jax_enable_x64`): single is not enough
    even for loose tolerances. The first step has to be short, about 1e-8: y₂ starts
    off its slow motion, and falls to it within a time of order ε. (diffrax's
    `Kvaerno5` with `dt0=None` starts with a step that it never gets accepted.)

    `vector_field` takes ε as `args`, a scalar; None stands for 1e-6.

    **Raises:** `ValueError` for a state that is no pair, and for ε that is no scalar.

    !!! example

        ```python
        import problems

        ode = problems.StiffVanDerPol()
        ode.vector_field(ode.t0, ode.y0, ode.args)  # (0, −2e6)
        ```

    !!! cite "Reference"

        F. Mazzia and C. Magherini, Test Set for Initial Value Problem Solvers, release
        2.4, University of Bari (2008): problem VDPOL. E. Hairer and G. Wanner, Solving
        Ordinary Differential Equations II, section IV.10.
    """

    t0: float
    t1: float
    y0: Float[Array, " 2"]
    args: Float[Array, ""]
    reference: Float[Array, " 2"]

    def __init__(self):
        self.t0, self.t1 = 0.0, 2.0
        self.y0 = jnp.array([2.0, 0.0])
        self.args = jnp.array(1e-6)
        self.reference = jnp.array(_STIFF_END)

    def vector_field(
        self, t: Any, y: Float[Array, " n"], args: Any
    ) -> Float[Array, " n"]:
        """(y₂, ((1 − y₁²) y₂ − y₁) / ε); `args` is ε."""
        del t
        check_state(y, 2)
        epsilon = parameters(args, self.args, y)
        position, velocity = y
        force = (1 - position**2) * velocity - position
        return jnp.stack([velocity, force / epsilon])
