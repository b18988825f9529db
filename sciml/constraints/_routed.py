"""Experts whose parts are learned."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..linear import Solution
from ._hard_constraint import HardConstraint


class RoutedExperts(eqx.Module):
    """A mixture whose parts are no boxes but what a router says.

        u = offset + Σ_k g_k Σ_n ω_kn basis_n,   g = softmax over k of router(input)

    The gates g_k are fields that add up to one, so that the equation is that of one
    smooth field with K·N basis fields g_k basis_n, and there are no seams: the layer's
    `terms` see the products, derivatives of the gates included. The weights of all
    experts are found together, in one dense solve: for a few experts. For many, and
    where boxes will do, `MixtureOfExperts` is cheaper.

    The router is trained with the rest: derivatives flow through the solve into g.

    **Arguments:**

    - `layer`: a `HardConstraint` with `terms`, or one whose residual needs the field
        only.
    - `router`: a model from what it is given to one field `(experts, *space)` of any
        real numbers.

    !!! example

        ```python
        import jax.numpy as jnp
        import sciml

        x = jnp.linspace(0.0, 1.0, 64)
        layer = sciml.constraints.HardConstraint(lambda u, target: u - target)
        router = lambda sharpness: jnp.stack([sharpness * (x - 0.5), 0 * x])
        experts = sciml.constraints.RoutedExperts(layer, router)
        basis = jnp.stack([jnp.ones(64), x])
        out = experts(basis, jnp.abs(x - 0.5), routed=50.0)
        ```
    """

    layer: HardConstraint
    router: Callable[[Any], Any]

    def __call__(
        self,
        basis: PyTree[Array],
        parameters: PyTree = None,
        *,
        routed: Any,
        offset: PyTree[Array] | None = None,
        key: PRNGKeyArray | None = None,
        throw: bool = True,
    ) -> Solution:
        """The field of the best weights.

        **Arguments:** as of `HardConstraint`, and `routed`, the input of the router.

        **Returns:** the layer's `Solution`, with `stats["weights"]` of shape `(experts,
        n)` and `stats["gates"]`, `(experts, *space)`.

        **Raises:** `ValueError` for a router whose fields are not on the basis' grid.
        """
        logits = jnp.asarray(self.router(routed))
        shape = jnp.shape(jtu.tree_leaves(basis)[0])
        if logits.ndim < 2 or logits.shape[1:] != shape[1:]:
            raise ValueError(
                f"router: expected fields (experts, *{shape[1:]}), got {logits.shape}."
            )
        if not jnp.issubdtype(logits.dtype, jnp.floating):
            raise ValueError(f"router: expected real numbers, got {logits.dtype}.")
        gates = jax.nn.softmax(logits, axis=0)
        count = shape[0]

        def product(leaf):
            leaf = jnp.asarray(leaf)
            both = gates[:, None].astype(leaf.dtype) * leaf[None]
            return both.reshape(-1, *leaf.shape[1:])

        out = self.layer(
            jtu.tree_map(product, basis),
            parameters,
            offset=offset,
            key=key,
            throw=throw,
        )
        weights = out.stats["weights"].reshape(-1, count)
        return Solution(
            out.value, out.result, out.stats | {"weights": weights, "gates": gates}
        )
