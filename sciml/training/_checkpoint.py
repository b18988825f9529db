"""Checkpoints of a run of training, from which it resumes bit for bit."""

import hashlib
import importlib
import json
import os
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._processes import Processes

# The newest checkpoint may turn out damaged: then the one before it serves.
_KEEP = 2


class CheckpointError(ValueError):
    """A checkpoint does not fit the call, or cannot be read or written."""


class Checkpoints:
    """The checkpoints of one run in one folder, written by orbax.

    Each holds named arrays (with a checksum), the description of the run that they
    belong to, and numbers. A checkpoint becomes visible when it is complete, so that a
    crash while one is written leaves the one before. The folder is locked while it is
    open: of two processes that write to it one would remove what the other needs.

    **Arguments:**

    - `directory`: the folder; made where it does not exist.
    - `description`: what has to be equal for a run to be continued, by name.
    """

    def __init__(self, directory: str | os.PathLike, description: dict[str, Any]):
        self.orbax = _orbax()
        # A local path has to be absolute; an address of a remote store is one.
        name = os.fspath(directory)
        self.directory = name if "://" in name else os.path.abspath(name)
        self.description = description
        self.lock = None
        try:
            if "://" not in name:
                os.makedirs(self.directory, exist_ok=True)
                self.lock = _locked(self.directory)
            self.manager = self._manager()
        except OSError as error:
            self._unlock()
            raise CheckpointError(
                f"checkpoint_dir: {self.directory} cannot be used ({error})."
            ) from error
        except BaseException:
            self._unlock()
            raise

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.manager.close()
        self._unlock()

    def _unlock(self) -> None:
        lock, self.lock = self.lock, None
        if lock is not None:
            os.close(lock)

    def _manager(self) -> Any:
        settings: dict[str, Any] = {}
        if jax.process_count() > 1:
            if jax.process_index():
                raise CheckpointError(
                    "checkpoint_dir: of several processes orbax writes on the first "
                    "one only. Train one model on all of them (see `mesh`), or leave "
                    "out jax.distributed.initialize."
                )
            # This process reads and writes, and waits for no other.
            settings["multiprocessing_options"] = (
                self.orbax.options.MultiprocessingOptions(
                    active_processes={0}, barrier_sync_key_prefix="sciml"
                )
            )
            settings["create"] = False
        options = self.orbax.CheckpointManagerOptions(
            max_to_keep=_KEEP,
            enable_async_checkpointing=False,
            # What a process that was killed inside of a save has left.
            cleanup_tmp_directories=True,
            **settings,
        )
        return self.orbax.CheckpointManager(self.directory, options=options)

    def save(
        self, step: int, arrays: dict[str, np.ndarray], numbers: dict[str, Any]
    ) -> None:
        """Write one checkpoint and remove all but the last two."""
        meta = {
            "description": self.description,
            "numbers": numbers,
            "sha256": _digest(arrays),
            "empty": {k: _kind(a) for k, a in arrays.items() if not a.size},
        }
        args = self.orbax.args
        state = {name: array for name, array in arrays.items() if array.size}
        try:
            self.manager.save(
                step,
                args=args.Composite(
                    state=args.StandardSave(state), meta=args.JsonSave(meta)
                ),
            )
        # Whatever the file system or the store does wrong ends up here; orbax and
        # tensorstore have no common class of errors.
        except Exception as error:
            raise CheckpointError(
                f"checkpoint_dir: step {step} could not be saved in {self.directory} "
                f"({error}). Earlier checkpoints are untouched: make room or fix the "
                "folder, then call `fit` again with the same arguments."
            ) from error

    def latest(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Arrays and numbers of the newest checkpoint that is intact; None if none is.

        **Raises:** `CheckpointError` if it belongs to another run, or if there are
        checkpoints and all are damaged.
        """
        steps = sorted(self.manager.all_steps(), reverse=True)
        damaged = []
        for step in steps:
            try:
                arrays, meta = self._read(step)
            except Exception as error:
                damaged.append((step, error))
                continue
            self._check(step, meta["description"])
            for broken, error in damaged:
                warnings.warn(
                    f"{self.directory}: the checkpoint of step {broken} is damaged "
                    f"({error}); training resumes from step {step}.",
                    stacklevel=4,
                )
                # Its number will be needed again.
                self.manager.delete(broken)
            return arrays, meta["numbers"]
        if damaged:
            raise CheckpointError(
                f"checkpoint_dir: all checkpoints in {self.directory} are damaged "
                f"(step {damaged[0][0]}: {damaged[0][1]}). Restore the folder from a "
                "copy, or give an empty one to start again."
            ) from damaged[0][1]
        return None

    def _read(self, step: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        args = self.orbax.args
        restored = self.manager.restore(
            step,
            args=args.Composite(state=args.StandardRestore(), meta=args.JsonRestore()),
        )
        meta = restored["meta"]
        arrays = {name: np.asarray(a) for name, a in restored["state"].items()}
        for name, (dtype, shape) in meta["empty"].items():
            arrays[name] = np.zeros(shape, dtype)
        if _digest(arrays) != meta["sha256"]:
            raise ValueError("its checksum does not match")
        for name in ("description", "numbers"):
            meta[name].items()
        return arrays, meta

    def _check(self, step: int, saved: dict[str, Any]) -> None:
        """Compare the run that was saved with the one that wants to go on."""
        for name, here in self.description.items():
            there = saved.get(name)
            if name.startswith("values of "):
                # Made again on another machine they may differ in the last bits.
                old, new = np.array(there or [], float), np.array(here, float)
                same = old.shape == new.shape and np.allclose(
                    old, new, rtol=1e-3, equal_nan=True
                )
            else:
                same = there == here
            if not same:
                raise CheckpointError(
                    f"checkpoint_dir: {self.directory} holds step {step} of another "
                    f"run, which cannot be continued: {_difference(name, there, here)} "
                    "Repeat the arguments of that run, or give an empty folder."
                )


class SharedCheckpoints:
    """`Checkpoints` that the first of several processes reads and writes for all.

    The others need not see the folder. An error is raised on every process.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        description: dict[str, Any],
        processes: Processes,
    ):
        self.processes = processes
        # Of the first process only.
        self.own: Any = None

        def begin():
            self.own = Checkpoints(directory, description)
            return b""

        processes.from_first(begin)

    def __enter__(self) -> "SharedCheckpoints":
        return self

    def __exit__(self, *reason: object) -> None:
        if self.own is not None:
            self.own.__exit__(*reason)

    def save(
        self, step: int, arrays: dict[str, np.ndarray], numbers: dict[str, Any]
    ) -> None:
        """Write one checkpoint; every process waits for it."""

        def write():
            self.own.save(step, arrays, numbers)
            return b""

        self.processes.from_first(write)

    def latest(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """As `Checkpoints.latest`, on every process."""

        def read():
            found = self.own.latest()
            return b"" if found is None else _packed(*found)

        content = self.processes.from_first(read)
        return _unpacked(content) if content else None


def open_checkpoints(
    directory: str | os.PathLike, description: dict[str, Any], processes: Processes
) -> Checkpoints | SharedCheckpoints:
    """The checkpoints of a run on one process or on several."""
    if processes.several:
        return SharedCheckpoints(directory, description, processes)
    return Checkpoints(directory, description)


def _packed(arrays: dict[str, np.ndarray], numbers: dict[str, Any]) -> bytes:
    kinds = {name: _kind(array) for name, array in arrays.items()}
    head = json.dumps([kinds, numbers]).encode()
    body = [np.array(arrays[name], order="C").tobytes() for name in kinds]
    return b"".join([len(head).to_bytes(8, "little"), head, *body])


def _unpacked(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    start = 8 + int.from_bytes(content[:8], "little")
    kinds, numbers = json.loads(content[8:start])
    arrays = {}
    for name, (dtype, shape) in kinds.items():
        kind, size = jnp.dtype(dtype), int(np.prod(shape))
        arrays[name] = np.frombuffer(content, kind, size, start).reshape(shape)
        start += size * kind.itemsize
    return arrays, numbers


def _locked(directory: str) -> int | None:
    """A handle that locks the folder; None where the system knows no locks."""
    try:
        import fcntl
    except ImportError:
        return None
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise CheckpointError(
            f"checkpoint_dir: another process trains into {directory}. Wait for it or "
            "end it, or give a folder of its own to each run."
        ) from error
    except OSError:
        os.close(handle)
        return None
    return handle


def _difference(name: str, there: Any, here: Any) -> str:
    if isinstance(there, list) and isinstance(here, list):
        pairs = [(t, h) for t, h in zip(there, here, strict=False) if t != h]
        if pairs and len(there) == len(here):
            there, here = pairs[0]
        elif len(there) != len(here):
            there, here = f"{len(there)} entries", f"{len(here)} entries"
    elif isinstance(there, str) and isinstance(here, str):
        # Long descriptions: from shortly before the place where they part.
        same = len(os.path.commonprefix([there, here]))
        start = max(same - 60, 0)
        there, here = there[start:], here[start:]
    return f"{name} was {there!s:.300}, and is {here!s:.300} in this call."


def _kind(array: np.ndarray) -> list[Any]:
    return [array.dtype.name, list(array.shape)]


def _digest(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {_kind(arrays[name])}".encode())
        digest.update(np.array(arrays[name], order="C").tobytes())
    return digest.hexdigest()


def _orbax() -> Any:
    try:
        return importlib.import_module("orbax.checkpoint")
    except ImportError as error:
        raise ImportError(
            "checkpoint_dir: checkpoints need orbax-checkpoint. Install it with "
            "pip install 'sciml-solvers[train]'"
        ) from error
