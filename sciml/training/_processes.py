"""Agreement between the processes that train one model together."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh


class Processes:
    """The processes that own the devices of a mesh; just this one without a mesh.

    All of them run the same steps. What one alone may do, such as writing files, the
    first does. What all have to do at the same step, such as stopping, they agree on:
    a process that left a step to the others would leave them waiting for its devices.
    """

    def __init__(self, mesh: Mesh | None):
        self.several, self.is_first = False, True
        if mesh is None:
            return
        if not isinstance(mesh, Mesh):
            raise ValueError(
                f"mesh: expected a jax.sharding.Mesh or None, got {mesh!r}. For all "
                'devices it is jax.make_mesh((jax.device_count(),), ("samples",)).'
            )
        owners = {device.process_index for device in mesh.devices.flat}
        if owners == {jax.process_index()}:
            return
        if owners != set(range(jax.process_count())):
            raise ValueError(
                f"mesh: expected devices of this process alone ({jax.process_index()})"
                f" or of all {jax.process_count()}, got those of {sorted(owners)}."
            )
        self.several, self.is_first = True, jax.process_index() == 0

    def check_same(self, facts: dict[str, Any]) -> None:
        """`ValueError` on every process unless all have the same facts, by name."""
        if not self.several:
            return
        hashes = [hashlib.sha256(json.dumps(facts[k]).encode()) for k in facts]
        rows = np.array([list(h.digest()[:8]) for h in hashes], np.uint8)
        differs = (self._gather(rows) != rows).any(axis=(0, 2))
        if differs.any():
            names = [name for name, bad in zip(facts, differs, strict=True) if bad]
            raise ValueError(
                f"The processes called `fit` with different arguments: {names[0]}. "
                "Each has to pass the same model, data and settings."
            )

    def agree(self, stop: bool, patience: int) -> tuple[bool, int]:
        """Whether any process wants to stop, and the smallest patience of all."""
        if not self.several:
            return stop, patience
        votes = self._gather(np.array([int(stop), patience], np.int32))
        return bool(votes[:, 0].any()), int(votes[:, 1].min())

    def from_first(self, action: Callable[[], bytes]) -> bytes:
        """What `action` returns on the first process, which alone performs it.

        **Raises:** what it raises there; `RuntimeError` with the same message on the
        others.
        """
        if not self.several:
            return action()
        error, content = None, b""
        if self.is_first:
            try:
                content = b"+" + action()
            except Exception as raised:
                error, content = raised, b"-" + str(raised).encode()
        # (Without x64 there are no 64-bit integers on the way.)
        high, low = self._broadcast(np.array(divmod(len(content), 2**30), np.int32))
        buffer = np.zeros(int(high) * 2**30 + int(low), np.uint8)
        if self.is_first:
            buffer[:] = np.frombuffer(content, np.uint8)
        content = self._broadcast(buffer).tobytes()
        if error is not None:
            raise error
        if content[:1] == b"-":
            raise RuntimeError(f"The first process failed: {content[1:].decode()}")
        return content[1:]

    def _gather(self, array: np.ndarray) -> np.ndarray:
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(array))

    def _broadcast(self, array: np.ndarray) -> np.ndarray:
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.broadcast_one_to_all(array))
