"""Exit codes, output and progress that all commands share."""

import contextlib
import enum
import json
import math
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


class ExitCode(enum.IntEnum):
    """What the process tells the shell."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_CONVERGED = 3
    BAD_DATA = 4


class BadData(Exception):
    """A file that cannot be used; the message names it."""


class Usage(Exception):
    """Arguments that do not make sense together."""


def print_json(value: Any) -> None:
    """One JSON document on standard output, see `plain_json`."""
    print(plain_json(value))


def plain_json(value: Any) -> str:
    """Strict JSON of nested dictionaries and arrays; NaN and infinities are null."""
    return json.dumps(_plain(value), allow_nan=False, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "shape"):
        return _plain(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_npz(path: str, **arrays: Any) -> str:
    """Write arrays to a .npz file, its folder made where missing; the file's name."""
    # NumPy appends the suffix by itself, and then the name reported would be wrong.
    file = pathlib.Path(path if path.endswith(".npz") else f"{path}.npz")
    file.parent.mkdir(parents=True, exist_ok=True)
    fields: dict[str, Any] = {name: np.asarray(a) for name, a in arrays.items()}
    np.savez_compressed(file, **fields)
    return str(file)


def say(text: str) -> None:
    """A line for people, on standard error, so that output can be piped."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress_bar(
    label: str, total: int, show: bool = True
) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, lines elsewhere; yields a function that takes the count."""
    if not show:
        yield lambda count: None
        return
    if not sys.stderr.isatty():
        state = {"tenth": 0}

        def line(count: int) -> None:
            if 10 * count // total > state["tenth"]:
                state["tenth"] = 10 * count // total
                say(f"{label}: {count}/{total}")

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.update(task, completed=count)
