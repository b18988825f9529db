"""In which order, and where, experts that are independent are solved for."""

import abc
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec


class AbstractExecution(eqx.Module):
    """Applies a function to each expert's arguments."""

    can_raise: ClassVar[bool] = True
    """Whether errors can be raised from within."""

    @abc.abstractmethod
    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The results, stacked; arrays in the arguments have the experts first."""


class MapExperts(AbstractExecution):
    """One after the other (`jax.lax.map`): each takes its own number of steps.

    The choice for one CPU device: with `VmapExperts` all lanes wait for the slowest and
    pay both branches of every condition.
    """

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The results, stacked."""
        arrays, rest = eqx.partition(arguments, eqx.is_array)
        return lax.map(lambda own: function(*eqx.combine(own, rest)), arrays)


class VmapExperts(AbstractExecution):
    """All at once (`jax.vmap`), in lock-step: for a GPU."""

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The results, stacked."""
        return eqx.filter_vmap(function)(*arguments)


class ShardExperts(AbstractExecution):
    """Distributed over devices (`jax.shard_map`), one after the other on each.

    No device waits for another before it has finished all of its experts.

    **Arguments:**

    - `devices`: default all of them. Their number has to divide that of the experts.
    """

    devices: tuple[Any, ...] = eqx.field(static=True)
    can_raise: ClassVar[bool] = False

    def __init__(self, devices: Sequence[Any] | None = None):
        self.devices = tuple(jax.devices() if devices is None else devices)

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The results, stacked."""
        arrays, rest = eqx.partition(arguments, eqx.is_array)
        count = jax.tree.leaves(arrays)[0].shape[0]
        if count % len(self.devices):
            raise ValueError(
                f"devices: {count} experts cannot be divided among "
                f"{len(self.devices)} devices."
            )
        mesh = Mesh(np.array(self.devices), ("experts",))
        spec = PartitionSpec("experts")
        some = lambda arrays: lax.map(
            lambda own: function(*eqx.combine(own, rest)), arrays
        )
        spread = jax.shard_map(
            some, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
        )
        return spread(arrays)


def default_execution() -> AbstractExecution:
    """What suits the default device."""
    return MapExperts() if jax.default_backend() == "cpu" else VmapExperts()
