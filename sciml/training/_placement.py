"""Where arrays live: on one device, or on all devices of a mesh."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_AXIS = "samples"


class Placement:
    """Puts arrays on every device of a mesh, and spreads batches over them.

    With `mesh=None` everything is on the default device, and nothing is spread. A mesh
    of several axes counts as one long axis. Its devices may belong to several
    processes, each of which then holds the same host arrays.
    """

    def __init__(self, mesh: Mesh | None):
        self.whole = self.parts = None
        self.num_devices = 1
        if mesh is not None:
            # Laid out anew with axes that XLA partitions by itself: those of
            # `jax.make_mesh` want every function of a model to name its shardings.
            line = Mesh(mesh.devices.reshape(-1), (_AXIS,))
            self.whole = NamedSharding(line, PartitionSpec())
            self.parts = NamedSharding(line, PartitionSpec(_AXIS))
            self.num_devices = mesh.devices.size

    def everywhere(self, tree: Any) -> Any:
        """Host or local arrays as arrays that each device holds in full."""
        whole = self.whole
        if whole is None:
            return jax.tree.map(jnp.asarray, tree)

        def put(leaf):
            if is_key(leaf):
                data = put(jr.key_data(leaf))
                return jr.wrap_key_data(data, impl=jr.key_impl(leaf))
            # A copy: what is handed over may be donated, and the caller's is not ours.
            host = np.array(leaf, jax.dtypes.canonicalize_dtype(leaf.dtype))
            return jax.make_array_from_callback(host.shape, whole, host.__getitem__)

        return jax.tree.map(put, tree)

    def spread(self, tree: Any) -> Any:
        """Inside of `jit`: arrays split along their first axis, a part per device.

        Those that cannot be split evenly stay whole.
        """
        parts = self.parts
        if parts is None:
            return tree

        def split(leaf):
            if leaf.shape[0] % self.num_devices:
                return leaf
            return jax.lax.with_sharding_constraint(leaf, parts)

        return jax.tree.map(split, tree)

    def jit(self, function: Callable, **options: Any) -> Any:
        """`jax.jit` whose results are on every device."""
        if self.whole is not None:
            options["out_shardings"] = self.whole
        return jax.jit(function, **options)

    def locally(self, tree: Any) -> Any:
        """Arrays that are on every device, on the default one of this process."""
        if self.whole is None:
            return tree

        def take(leaf):
            if is_key(leaf):
                data = take(jr.key_data(leaf))
                return jr.wrap_key_data(data, impl=jr.key_impl(leaf))
            return jnp.array(np.asarray(leaf.addressable_data(0)))

        return jax.tree.map(take, tree)


def is_key(leaf: Any) -> bool:
    """Whether an array holds typed keys, which are no numbers."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def as_numbers(leaf: Any) -> Any:
    """An array, typed keys as the numbers in them."""
    return jr.key_data(leaf) if is_key(leaf) else leaf
