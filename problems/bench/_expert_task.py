"""An equation whose experts need unequal numbers of steps, for what they cost."""

from typing import Any

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array

from sciml.constraints import (
    AbstractCoupling,
    GridPartition,
    HardConstraint,
    MixtureOfExperts,
    Side,
)

_WEIGHTS = 16


def expert_task(nodes: int, seed: int, kind: str) -> tuple[dict, dict, Array]:
    """−λ² u″ + sinh u = f on (0, 1): Poisson's and Boltzmann's equation.

    **Arguments:**

    - `kind`: `"unequal"` is u = 10 x³ + ½ sin 20x with λ = 0.01: screened, so that
        experts need not know of each other, and linear at one end where Newton's
        method takes dozens of steps at the other. `"alike"` is the same with u = 4 + ½
        sin 20x, about as hard everywhere. `"elliptic"` is u = sin 3πx with λ = 1.

    **Returns:** 16 random features tanh(ax + b) with their second derivatives, the
    parameters of the residual, and u.
    """
    x = jnp.linspace(0.0, 1.0, nodes)
    keys = jr.split(jr.key(seed))
    slopes = 6.0 * jr.normal(keys[0], (_WEIGHTS, 1))
    shifts = jr.uniform(keys[1], (_WEIGHTS, 1), minval=-6.0, maxval=6.0)
    tanh = jnp.tanh(slopes * x[None] + shifts)
    basis = {"u": tanh, "u_xx": -2 * slopes**2 * tanh * (1 - tanh**2)}
    wave = jnp.sin(20 * x) / 2
    length, exact, second = {
        "unequal": (0.01, 10 * x**3 + wave, 60 * x - 400 * wave),
        "alike": (0.01, 4 + wave, -400 * wave),
        "elliptic": (
            1.0,
            jnp.sin(3 * jnp.pi * x),
            -((3 * jnp.pi) ** 2) * jnp.sin(3 * jnp.pi * x),
        ),
    }[kind]
    source = jnp.sinh(exact) - length**2 * second
    return basis, {"length": jnp.asarray(length), "source": source}, exact


def expert_mixture(
    experts: int, coupling: AbstractCoupling, *, sides: bool = False
) -> MixtureOfExperts:
    """The mixture that solves it, with zero `sides` or without conditions there."""
    ends = (0, -1) if sides else ()
    layer = HardConstraint(
        _residual,
        sides=tuple(Side(lambda t, p: t["u"], 0, end, weight=100.0) for end in ends),
    )
    partition = GridPartition(experts)
    return MixtureOfExperts(layer, partition, coupling, matched=lambda b: b["u"])


def _residual(terms: Any, parameters: Any) -> Array:
    diffusion = parameters["length"] ** 2 * terms["u_xx"]
    return jnp.sinh(terms["u"]) - diffusion - parameters["source"]
