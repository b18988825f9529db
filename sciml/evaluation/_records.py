"""Records of runs: one line of strict JSON each, appended whole or not at all."""

import dataclasses
import datetime
import json
import math
import os
import pathlib
import shlex
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._machine import machine

# JSON has no words for these; as strings they survive a strict parser.
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _command() -> str:
    words = [pathlib.Path(sys.argv[0]).name, *map(_anonymous, sys.argv[1:])]
    return shlex.join(words)


def _anonymous(word: str) -> str:
    """An argument; where one machine has its files is nobody else's business."""
    option, equals, value = word.rpartition("=")
    path, home = pathlib.Path(value), pathlib.Path.home()
    if not path.is_absolute():
        return word
    if path.is_relative_to(home):
        return f"{option}{equals}{pathlib.Path('~') / path.relative_to(home)}"
    return f"{option}{equals}…/{path.name}"


@dataclasses.dataclass(frozen=True)
class Record:
    """What a run measured, and what is needed to run it again.

    **Arguments:**

    - `name`: what was run, e.g. `"bench linear"`.
    - `values`: what came out: nested dictionaries (with strings as keys), lists,
        numbers, strings, None, and NumPy or JAX arrays and scalars, real ones.
    - `seeds`: the seeds that the command was given, by name. Default none.
    - `command`: what to type to repeat it. Default: this process's command line, the
        home folder written as `~`, and of other absolute paths only the last part.
    - `machine`: default `sciml.evaluation.machine()`, now.
    - `time`: when, in UTC, as ISO 8601. Default now.

    !!! example

        ```python
        from sciml.evaluation import Record

        Record("poisson", {"num_steps": 7, "run_time": 0.05}, seeds={"coefficient": 0})
        ```
    """

    name: str
    values: Mapping[str, Any]
    seeds: Mapping[str, int] = dataclasses.field(default_factory=dict)
    command: str = dataclasses.field(default_factory=_command)
    machine: Mapping[str, Any] = dataclasses.field(default_factory=machine)
    time: str = dataclasses.field(default_factory=_now)

    def as_dict(self) -> dict[str, Any]:
        """The record in plain Python types: not finite numbers still as floats."""
        names = [field.name for field in dataclasses.fields(self)]
        return {name: _plain(getattr(self, name), name) for name in names}


def append_record(path: str | os.PathLike[str], record: Record) -> None:
    """Add a record to a file of JSON lines.

    The line is written by one call and synced: a run that is killed leaves the file
    either with the whole line or, at worst, with a torn last one, which `read_records`
    reports and the next record does not touch. NaN and infinities become the strings
    `"NaN"`, `"Infinity"` and `"-Infinity"`, because strict JSON has no word for them.

    **Arguments:**

    - `path`: the file, by custom `*.jsonl`; made with its folders where missing.
    - `record`: what to add.

    **Raises:** `TypeError` naming the entry that is not one of the types of
    `Record.values`; `OSError` if the line cannot be written.
    """
    path = pathlib.Path(path)
    text = json.dumps(_strict(record.as_dict()), allow_nan=False, ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(file).st_size
        if size:
            os.lseek(file, size - 1, os.SEEK_SET)
            if os.read(file, 1) != b"\n":
                text = "\n" + text  # a torn line stays alone
        line = (text + "\n").encode()
        written = os.write(file, line)
        if written != len(line):
            raise OSError(
                f"{path}: only {written} of {len(line)} bytes of the record could be "
                "written; is the disk full?"
            )
        os.fsync(file)
    finally:
        os.close(file)


def read_records(path: str | os.PathLike[str]) -> list[Record]:
    """Read what `append_record` wrote.

    The strings `"NaN"`, `"Infinity"` and `"-Infinity"` become floats again. Arrays
    come back as lists.

    **Arguments:**

    - `path`: a file of JSON lines.

    **Returns:** the records, in the order of the file. A line that is not JSON, such
    as the torn last one of a run that was killed, is left out with a `UserWarning` that
    names it.

    **Raises:** `FileNotFoundError`; `ValueError` for a line that is JSON but not a
    record.
    """
    records = []
    fields = {field.name for field in dataclasses.fields(Record)}
    for number, line in enumerate(pathlib.Path(path).read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except ValueError:  # also what does not decode: a tear inside a character
            warnings.warn(
                f"{path}, line {number}: not a whole record, left out. The run that "
                "wrote it was probably interrupted.",
                stacklevel=2,
            )
            continue
        if not isinstance(content, dict) or set(content) != fields:
            raise ValueError(
                f"{path}, line {number}: expected a record, an object with the keys "
                f"{sorted(fields)}; got {line[:80]!r}."
            )
        records.append(Record(**_loose(content)))
    return records


def _plain(value: Any, where: str) -> Any:
    """Arrays, scalars, tuples and mappings as Python's own types."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where}: expected strings as keys, got {key!r}.")
        return {key: _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{k}]") for k, item in enumerate(value)]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        array = np.asarray(value)
        if jnp.issubdtype(array.dtype, jnp.floating):
            return array.astype(np.float64).tolist()
        if array.dtype.kind in "biuU":
            return array.tolist()
        raise TypeError(
            f"{where}: an array of dtype {array.dtype} has no form in JSON."
        )
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"{where}: expected a number, a string, None, an array, or lists and "
        f"dictionaries of them; got {type(value).__name__}."
    )


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _loose(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _loose(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_loose(item) for item in value]
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value
