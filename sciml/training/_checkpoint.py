"""Checkpoints of a run of training, from which it resumes bit for bit."""

import hashlib
import importlib
import os
import warnings
from typing import Any

import numpy as np

# The newest checkpoint may turn out damaged: then the one before it serves.
_KEEP = 2


class CheckpointError(ValueError):
    """A checkpoint does not fit the call, or cannot be read or written."""


class Checkpoints:
    """The checkpoints of one run in one folder, written by orbax.

    Each holds named arrays (with a checksum), the description of the run that they
    belong to, and numbers. A checkpoint becomes visible when it is complete, so that a
    crash while one is written leaves the one before.

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
        options = self.orbax.CheckpointManagerOptions(
            max_to_keep=_KEEP, create=True, enable_async_checkpointing=False
        )
        try:
            self.manager = self.orbax.CheckpointManager(self.directory, options=options)
        except OSError as error:
            raise CheckpointError(
                f"checkpoint_dir: {self.directory} cannot be used ({error})."
            ) from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.manager.close()

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


def sketch(array: Any) -> list[float]:
    """Up to eight entries spread over an array: enough to tell two data sets apart."""
    flat = array.reshape(-1)
    places = np.linspace(0, max(flat.size - 1, 0), min(flat.size, 8)).astype(int)
    numbers = np.asarray(flat[places]).astype(complex)
    return [float(v) for v in np.real(numbers) + np.imag(numbers)]


def _difference(name: str, there: Any, here: Any) -> str:
    if isinstance(there, list) and isinstance(here, list):
        pairs = [(t, h) for t, h in zip(there, here, strict=False) if t != h]
        if pairs and len(there) == len(here):
            there, here = pairs[0]
        elif len(there) != len(here):
            there, here = f"{len(there)} entries", f"{len(here)} entries"
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
