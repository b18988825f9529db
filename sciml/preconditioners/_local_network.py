"""A small network that reads numbers of a node, the same one at every node."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from .._serialisation import register


@register
class LocalNetwork(eqx.Module):
    """y = c · tanh(W x + b) at every node, one number from `num_features`.

    One hidden layer, float32 whatever the type of the features is, and zero at first,
    as c starts at zero: what it corrects starts as it was. So narrow that it costs as
    much as a few products with a stencil.

    **Arguments:**

    - `num_features`: length of x.
    - `width`: of the hidden layer.
    - `key`: draws W, with deviation 1/√`num_features`; b is zero.
    """

    num_features: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    weight: Float[Array, "width num_features"]
    bias: Float[Array, " width"]
    output: Float[Array, " width"]

    def __init__(self, num_features: int, width: int, *, key: PRNGKeyArray):
        if num_features < 1 or width < 1:
            raise ValueError(
                "num_features, width: expected at least 1, got "
                f"{num_features} and {width}."
            )
        self.num_features, self.width = num_features, width
        shape = (width, num_features)
        self.weight = jr.normal(key, shape, jnp.float32) * num_features**-0.5
        self.bias = jnp.zeros(width, jnp.float32)
        self.output = jnp.zeros(width, jnp.float32)

    def __call__(
        self, features: Sequence[Shaped[Array, "*nodes"]]
    ) -> Float[Array, "*nodes"]:
        """The number at every node, in float32."""
        if len(features) != self.num_features:
            raise ValueError(
                f"features: expected {self.num_features}, got {len(features)}."
            )
        x = jnp.stack([f.astype(jnp.float32) for f in features])
        flat = x.reshape(self.num_features, -1)
        exactly = jax.lax.Precision.HIGHEST
        hidden = jnp.matmul(self.weight, flat, precision=exactly)
        hidden = jnp.tanh(hidden + self.bias[:, None])
        y = jnp.matmul(self.output, hidden, precision=exactly)
        return y.reshape(x.shape[1:])
