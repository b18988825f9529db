"""Stiff chemical kinetics whose end values are known, and what a solve has of them."""

from collections.abc import Sequence
from typing import Any

import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from sciml import AbstractODE

from ._ode_arguments import check_state, parameters

# Values at the ends of the intervals, in the digits of the IVP Test Set.
_ROBERTSON_END = (2.083340149701255e-08, 8.333360770334713e-14, 0.999999979166505)
_HIRES_END = (
    0.7371312573325668e-3,
    0.1442485726316185e-3,
    0.5888729740967575e-4,
    0.1175651343283149e-2,
    0.2386356198831331e-2,
    0.6238968252742796e-2,
    0.2849998395185769e-2,
    0.2850001604814231e-2,
)
_OREGONATOR_END = (1.000814870318523, 1228.178521549917, 132.0554942846706)


def correct_digits(
    y: ArrayLike | Sequence[float], reference: ArrayLike | Sequence[float]
) -> Float[Array, ""]:
    """The correct digits of the worst component: −log₁₀ max_i |y_i − r_i| / |r_i|.

    The measure of the IVP Test Set. Negative where a component is wrong by more than
    its size, infinite where y is the reference, NaN where y has a NaN. Relative
    component by component, unlike a norm: the 8e-14 of `Robertson` counts as much as
    the rest.

    **Arguments:**

    - `y`: what was computed, any shape.
    - `reference`: r, what is trusted; the same shape, no zeros.

    Computed in the wider of the two types. Differentiable and vmappable, like any
    function of JAX.

    **Raises:** `ValueError` where the shapes differ, and where the reference has a
    zero (not seen if it is traced): no relative error is defined there.

    !!! example

        ```python
        import problems

        problems.correct_digits([1.001, 2.0], [1.0, 2.0])  # 3
        ```
    """
    if not isinstance(reference, jax.core.Tracer) and not np.all(np.asarray(reference)):
        raise ValueError(
            "reference: has a zero, where no relative error is defined; compare the "
            "other components."
        )
    y, reference = jnp.asarray(y), jnp.asarray(reference)
    if y.shape != reference.shape:
        raise ValueError(
            f"y: expected the reference's shape {reference.shape}, got {y.shape}."
        )
    # (By NumPy, because JAX may have been told to promote nothing by itself.)
    dtype = np.promote_types(np.promote_types(y.dtype, reference.dtype), np.float32)
    y, reference = y.astype(dtype), reference.astype(dtype)
    return -jnp.log10(jnp.max(jnp.abs(y - reference) / jnp.abs(reference)))


class Robertson(AbstractODE):
    """Three reactions whose rates differ by nine orders of magnitude:

        y₁' = −k₁ y₁ + k₂ y₂ y₃
        y₂' = k₁ y₁ − k₂ y₂ y₃ − k₃ y₂²
        y₃' = k₃ y₂²

    with k = (0.04, 1e4, 3e7), y(0) = (1, 0, 0), 0 ≤ t ≤ 1e11: the long interval, on
    which codes fail that let y₂ turn negative. Dimensionless concentrations, time in
    seconds. y₁ + y₂ + y₃ = 1 for all times. `reference` is y(1e11).

    For implicit solvers and double precision (`jax_enable_x64`). y₂ falls to 8e-14, so
    that atol has to be about 1e-16 for it to have any correct digit.

    `vector_field` takes k as `args`, shape `(3,)`; None stands for the values above.

    **Raises:** `ValueError` for a state or rates of another shape.

    !!! example

        ```python
        import problems

        ode = problems.Robertson()
        rate = ode.vector_field(ode.t0, ode.y0, ode.args)  # (−0.04, 0.04, 0)
        ```

    !!! cite "Reference"

        H. H. Robertson, The solution of a set of reaction rate equations, in Numerical
        Analysis: An Introduction (1966), 178–182. Interval and end value: F. Mazzia
        and C. Magherini, Test Set for Initial Value Problem Solvers, release 2.4,
        University of Bari (2008): problem ROBER.
    """

    t0: float
    t1: float
    y0: Float[Array, " 3"]
    args: Float[Array, " 3"]
    reference: Float[Array, " 3"]

    def __init__(self):
        self.t0, self.t1 = 0.0, 1e11
        self.y0 = jnp.array([1.0, 0.0, 0.0])
        self.args = jnp.array([0.04, 1e4, 3e7])
        self.reference = jnp.array(_ROBERTSON_END)

    def vector_field(
        self, t: Any, y: Float[Array, " n"], args: Any
    ) -> Float[Array, " n"]:
        """The three rates above; `args` is k."""
        del t
        check_state(y, 3)
        k1, k2, k3 = parameters(args, self.args, y)
        a, b, c = y
        first, second, third = k1 * a, k2 * b * c, k3 * b**2
        return jnp.stack([second - first, first - second - third, third])


class HIRES(AbstractODE):
    """Eight substances of a plant's response to light, 0 ≤ t ≤ 321.8122:

        y₁' = −1.71 y₁ + 0.43 y₂ + 8.32 y₃ + 0.0007
        y₂' = 1.71 y₁ − 8.75 y₂
        y₃' = −10.03 y₃ + 0.43 y₄ + 0.035 y₅
        y₄' = 8.32 y₂ + 1.71 y₃ − 1.12 y₄
        y₅' = −1.745 y₅ + 0.43 y₆ + 0.43 y₇
        y₆' = −280 y₆ y₈ + 0.69 y₄ + 1.71 y₅ − 0.43 y₆ + 0.69 y₇
        y₇' = 280 y₆ y₈ − 1.81 y₇
        y₈' = −280 y₆ y₈ + 1.81 y₇

    from y(0) = (1, 0, 0, 0, 0, 0, 0, 0.0057). Moderately stiff: a first test for
    implicit solvers. y₇ + y₈ = 0.0057 for all times. Without units. `reference` is
    y(321.8122); the constants are fixed, `args` is None.

    In double precision (`jax_enable_x64`). In single, implicit solvers get through
    with rtol = 1e-4, and stand still with 1e-5.

    **Raises:** `ValueError` for a state that is not of shape `(8,)`.

    !!! example

        ```python
        import diffrax as dfx
        import jax
        import problems

        jax.config.update("jax_enable_x64", True)
        ode = problems.HIRES()
        solution = dfx.diffeqsolve(
            ode.term(), dfx.Kvaerno5(), ode.t0, ode.t1, None, ode.y0,
            stepsize_controller=dfx.PIDController(rtol=1e-4, atol=1e-7),
        )
        problems.correct_digits(solution.ys[-1], ode.reference)  # more than 5
        ```

    !!! cite "Reference"

        E. Schäfer, A new approach to explain the "high irradiance responses" of
        photomorphogenesis on the basis of phytochrome, Journal of Mathematical Biology
        2 (1975), 41–56. Constants, interval and end value: F. Mazzia and C. Magherini,
        Test Set for Initial Value Problem Solvers, release 2.4, University of Bari
        (2008): problem HIRES.
    """

    t0: float
    t1: float
    y0: Float[Array, " 8"]
    args: None
    reference: Float[Array, " 8"]

    def __init__(self):
        self.t0, self.t1 = 0.0, 321.8122
        self.y0 = jnp.zeros(8).at[0].set(1.0).at[7].set(0.0057)
        self.args = None
        self.reference = jnp.array(_HIRES_END)

    def vector_field(
        self, t: Any, y: Float[Array, " n"], args: Any = None
    ) -> Float[Array, " n"]:
        """The eight rates above; `args` is not used."""
        del t, args
        check_state(y, 8)
        a, b, c, d, e, f, g, h = y
        bound = 280.0 * f * h - 1.81 * g
        return jnp.stack(
            [
                -1.71 * a + 0.43 * b + 8.32 * c + 0.0007,
                1.71 * a - 8.75 * b,
                -10.03 * c + 0.43 * d + 0.035 * e,
                8.32 * b + 1.71 * c - 1.12 * d,
                -1.745 * e + 0.43 * (f + g),
                -280.0 * f * h + 0.69 * d + 1.71 * e - 0.43 * f + 0.69 * g,
                bound,
                -bound,
            ]
        )


class Oregonator(AbstractODE):
    """A chemical oscillation, the Belousov–Zhabotinskii reaction, 0 ≤ t ≤ 360:

        y₁' = s (y₂ + y₁ (1 − q y₁ − y₂))
        y₂' = (y₃ − (1 + y₁) y₂) / s
        y₃' = w (y₁ − y₃)

    with (s, q, w) = (77.27, 8.375e-6, 0.161) and y(0) = (1, 2, 3). OREGO of the
    collections. y₁ has a spike of five orders of magnitude every 303 units of time; the
    interval has two, near t = 20.5 and 323.4. In scaled concentrations and time.
    `reference` is y(360).

    For implicit solvers and double precision (`jax_enable_x64`): in single they stand
    still at the first spike.

    `vector_field` takes (s, q, w) as `args`, shape `(3,)`; None stands for the values
    above.

    **Raises:** `ValueError` for a state or parameters of another shape.

    !!! example

        ```python
        import diffrax as dfx
        import jax
        import problems

        jax.config.update("jax_enable_x64", True)
        ode = problems.Oregonator()
        controller = dfx.PIDController(pcoeff=0.3, icoeff=0.4, rtol=1e-4, atol=1e-6)
        solution = dfx.diffeqsolve(
            ode.term(), dfx.Kvaerno5(), ode.t0, ode.t1, None, ode.y0, ode.args,
            stepsize_controller=controller,
        )
        problems.correct_digits(solution.ys[-1], ode.reference)  # about 3
        ```

    !!! cite "Reference"

        R. J. Field and R. M. Noyes, Oscillations in chemical systems IV, Journal of
        Chemical Physics 60 (1974), 1877–1884. Constants, interval and end value:
        F. Mazzia and C. Magherini, Test Set for Initial Value Problem Solvers, release
        2.4, University of Bari (2008): problem OREGO.
    """

    t0: float
    t1: float
    y0: Float[Array, " 3"]
    args: Float[Array, " 3"]
    reference: Float[Array, " 3"]

    def __init__(self):
        self.t0, self.t1 = 0.0, 360.0
        self.y0 = jnp.array([1.0, 2.0, 3.0])
        self.args = jnp.array([77.27, 8.375e-6, 0.161])
        self.reference = jnp.array(_OREGONATOR_END)

    def vector_field(
        self, t: Any, y: Float[Array, " n"], args: Any
    ) -> Float[Array, " n"]:
        """The three rates above; `args` is (s, q, w)."""
        del t
        check_state(y, 3)
        s, q, w = parameters(args, self.args, y)
        a, b, c = y
        return jnp.stack(
            [s * (b + a * (1 - q * a - b)), (c - (1 + a) * b) / s, w * (a - c)]
        )
