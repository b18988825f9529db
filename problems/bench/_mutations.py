"""Files with a random change in them: is each noticed, and does the program live?"""

import collections
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

from ._mutation_files import KINDS

Row = dict[str, Any]

COUNTS = {
    "model": 10_000,
    "npz": 2_500,
    "npz, compressed": 2_500,
    "HDF5": 2_500,
    "HDF5, checksums": 2_500,
    "MATLAB 5, compressed": 2_500,
}
OUTCOMES = (
    "typed_errors",
    "right_data",
    "other_data",
    "other_errors",
    "died",
    "hung",
)


def bench_mutations(
    counts: Mapping[str, int] | None = None,
    *,
    seed: int = 0,
    timeout: float = 30.0,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Valid files with one random change each, opened in a process of their own.

    A change is a bit or a byte flipped, a byte removed or doubled, up to 16 bytes
    overwritten, or the end cut off, at a random place. The file is then read whole, by
    the reader for its kind: a model by `sciml.load`, the others by
    `sciml.data.read_npz`, `open_pdebench` (HDF5, as it comes, and with checksums) and
    `read_mat`.

    **Arguments:**

    - `counts`: how many changes of which kind of file. Default: 10,000 of a model and
        2,500 of each of the five kinds of data.
    - `seed`: change i of a kind depends on this and on i only.
    - `timeout`: seconds for one file.
    - `on_row`: called with each row when it is complete.

    **Returns:** a row per kind with `file`, `bytes` (of the valid file), `mutations`,
    `time` (all of them, with the starts of processes) and how many ended how:

    - `typed_errors`: a `SerialisationError` or `DataError` that names the file.
    - `right_data`: what was read is what had been written, bit for bit.
    - `other_data`: it is not. `silent` is the same number for the kinds of files that
        have checksums, where this must not happen, and else None: HDF5 as it comes
        cannot tell another number from the one that was written.
    - `other_errors`: anything else that is raised.
    - `died`, `hung`: the process that opened it did. The parent goes on.
    """
    counts = COUNTS if counts is None else counts
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in counts:
            KINDS[kind].write(pathlib.Path(folder) / kind)
        with _Worker(folder, timeout) as worker:
            for kind, count in counts.items():
                started = time.perf_counter()
                ends = worker.outcomes(kind, count, seed)
                row = {
                    "file": kind,
                    "bytes": (pathlib.Path(folder) / kind).stat().st_size,
                    "mutations": count,
                    **{name: ends[name] for name in OUTCOMES},
                    "silent": ends["other_data"] if KINDS[kind].checked else None,
                    "time": time.perf_counter() - started,
                }
                rows.append(row)
                if on_row is not None:
                    on_row(row)
    return rows


def mutation_counts(total: int) -> dict[str, int]:
    """So many of a model, and a quarter of that of each kind of data."""
    data = [kind for kind in COUNTS if kind != "model"]
    return {"model": total} | {kind: max(total // 4, 1) for kind in data}


def is_durable(row: Row) -> bool:
    """Whether every change was noticed or harmless, and every process lived."""
    return not any(row[k] for k in ("silent", "other_errors", "died", "hung"))


class _Worker:
    """A process that opens damaged files, and another one when it is dead."""

    def __init__(self, folder: str, timeout: float):
        module = "problems.bench._mutation_worker"
        self._command = [sys.executable, "-m", module, folder, str(timeout)]
        self._errors = tempfile.TemporaryFile("w+")
        self._process: Any = None

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *error: object) -> None:
        self._end()
        self._errors.close()

    def outcomes(self, kind: str, count: int, seed: int) -> collections.Counter:
        """How many of so many changes ended how."""
        ends, done = collections.Counter(), 0
        while done < count:
            job = {"kind": kind, "first": done, "count": count - done, "seed": seed}
            told = self._ask(job)
            ends.update(told)
            done += len(told)
            if done < count:
                # The file after the last that it spoke of was too much for it.
                ends["hung" if "Timeout" in self._end() else "died"] += 1
                done += 1
        return ends

    def _ask(self, job: dict) -> list[str]:
        """What it says of its files, one by one, until it is done or dead."""
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
            )
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError(
                f"{job['kind']}: the process cannot start: {self._end()}"
            )
        told: list[str] = []
        for line in self._process.stdout:
            told.append(line.strip())
            if len(told) == job["count"]:
                break
        return told

    def _end(self) -> str:
        """End it, if it has not ended by itself, and return what it complained of."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
        self._errors.seek(0)
        complaints = self._errors.read()
        self._errors.seek(0)
        self._errors.truncate()
        return complaints
