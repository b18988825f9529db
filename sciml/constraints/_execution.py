"""In which order, and where, experts that are independent are solved for."""

import abc
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from .._serialisation import register


class AbstractExecution(eqx.Module):
    """Applies a function to each expert's arguments."""

    can_raise: ClassVar[bool] = True
    """Whether errors can be raised from within."""

    @abc.abstractmethod
    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The results, stacked; arrays in the arguments have the experts first."""


@register
class MapExperts(AbstractExecution):
    """One after the other (`jax.lax.map`): each takes its own number of steps.

    The choice for one CPU device: with `VmapExperts` all lanes wait for the slowest and
    pay both branches of every condition.
    """

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The results, stacked."""
        arrays, rest = eqx.partition(arguments, eqx.is_array)
        return lax.map(lambda own: function(*eqx.combine(own, rest)), arrays)


@register
class VmapExperts(AbstractExecution):
    """All at once (`jax.vmap`), in lock-step: for a GPU."""

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The results, stacked."""
        return eqx.filter_vmap(function)(*arguments)


class ShardExperts(AbstractExecution):
    """Distributed over devices (`jax.shard_map`).

    No device waits for another before it has finished all of its experts. Under
    `jax.jit` each works on the nodes of its own boxes only. It also holds no others of
    the basis, the parameters and the result, if boxes are of equal size, do not overlap
    and are, along the first axis, a multiple of the devices; otherwise they are picked
    from arrays that every device holds. Parameters that are no fields are copied. Call
    the mixture with `throw=False`: to raise, the field is gathered on one device.

    **Arguments:**

    - `devices`: default all of them. Their number has to divide that of the experts.
    - `within`: the execution on each device. Default `MapExperts()` on a CPU, where
        each expert takes its own number of steps, and `VmapExperts()` elsewhere.
    """

    devices: tuple[Any, ...] = eqx.field(static=True)
    within: AbstractExecution
    can_raise: ClassVar[bool] = False

    def __init__(
        self,
        devices: Sequence[Any] | None = None,
        within: AbstractExecution | None = None,
    ):
        self.devices = tuple(jax.devices() if devices is None else devices)
        if not self.devices:
            raise ValueError("devices: expected at least one, got none.")
        on_cpu = self.devices[0].platform == "cpu"
        default = MapExperts() if on_cpu else VmapExperts()
        self.within = default if within is None else within
        if not isinstance(self.within, MapExperts | VmapExperts):
            raise TypeError(
                "within: expected MapExperts or VmapExperts, got "
                f"{type(self.within).__name__}."
            )

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
        some = lambda arrays: self.within.run(function, *eqx.combine(arrays, rest))
        spread = jax.shard_map(
            some, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
        )
        return spread(arrays)


def default_execution() -> AbstractExecution:
    """What suits the default device."""
    return MapExperts() if jax.default_backend() == "cpu" else VmapExperts()
