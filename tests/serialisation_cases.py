"""Models that the tests of files share."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from sciml._serialisation import register
from sciml.grids import Dirichlet, Neumann, Periodic


@register
class Layered(eqx.Module):
    layers: list
    table: np.ndarray
    spectrum: jax.Array
    flags: jax.Array
    width: int = eqx.field(static=True)
    depth: int = eqx.field(static=True)
    activation: Callable
    boundary: object
    scale: float

    def __init__(
        self,
        width,
        depth,
        activation=jax.nn.gelu,
        boundary: object = Dirichlet(),
        scale=0.5,
        *,
        key,
    ):
        self.width, self.depth = width, depth
        self.activation, self.boundary, self.scale = activation, boundary, scale
        self.layers = [eqx.nn.Linear(width, width, key=k) for k in jr.split(key, depth)]
        self.table = np.arange(width)
        self.spectrum = jr.normal(key, (width,), complex)
        self.flags = jnp.arange(width) % 2 == 0

    def __call__(self, field):
        for layer in self.layers:
            field = self.activation(layer(field))
        return self.scale * field


@register
class Wrapped(eqx.Module):
    model: eqx.Module
    mean: jax.Array
    label: str = eqx.field(static=True)


@register
class Careless(eqx.Module):
    weight: jax.Array

    def __init__(self, width):
        self.weight = jnp.zeros(width)


@register
class Changed(eqx.Module):
    width: int = eqx.field(static=True)
    rates: tuple
    weight: jax.Array

    def __init__(self, width):
        self.width, self.rates, self.weight = width, (1.0, 2.0), jnp.zeros(width)


BOUNDARY = (
    (Dirichlet(value=np.arange(4.0), stored=True), Neumann(float("inf"))),
    Periodic(),
)


def identical(left, right) -> bool:
    """Same structure, types, shapes and bits."""
    leaves = jax.tree.leaves(left), jax.tree.leaves(right)
    return jax.tree.structure(left) == jax.tree.structure(right) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        if eqx.is_array(a)
        else type(a) is type(b) and a == b
        for a, b in zip(*leaves, strict=True)
    )
