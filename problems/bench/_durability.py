"""Runs of training that are killed at random times: what is lost, and what is not."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Row = dict[str, Any]

# What a kill aims at, in turn: the training, the writing of a checkpoint, or any time
# from the start of the process on.
_AIMS = ("training", "save", "training", "save", "any time")
_KILLS_PER_RUN = 5
_HANGS = 600.0


def bench_durability(
    *,
    num_kills: int = 50,
    num_steps: int = 400,
    seed: int = 7,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Kill a process that trains (SIGKILL), go on, and compare with one left alone.

    A run is killed five times, at random times, two of them while a checkpoint is being
    written, and then left to end. There are as many runs as it takes for `num_kills`;
    one that ends before it was killed counts with fewer. A run is lost if it cannot be
    resumed, if it starts before its newest complete checkpoint, if it ends with another
    bit in its losses, its weights (last and best) or its curve of validation than the
    run that was left alone, or if its file of metrics has not each step once with just
    these losses. One more run gets SIGTERM instead, which writes a checkpoint before
    it ends.

    **Arguments:**

    - `num_kills`: SIGKILLs in all.
    - `num_steps`: of each run; there is a checkpoint every 1/40 of them.
    - `seed`: of the times, and of the runs.
    - `on_row`: called with each row when it is complete.

    **Returns:** rows by `run`, the last one `all`: `kills`, how many of them were
    `inside_save`, `sessions` (processes), `lost` (runs), `seconds`; `terminated` is the
    time from SIGTERM to the end of the process.
    """
    draw, rows = random.Random(seed), []

    def report(row: Row) -> None:
        rows.append(row)
        if on_row is not None:
            on_row(row)

    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        # (This one compiles, all others find its programs.)
        alone = _Run(root / "alone", num_steps, seed)
        started = time.monotonic()
        expected = _finish(alone)
        if "problem" in expected:
            raise RuntimeError(f"The run broke down: {expected['problem']}")
        span = time.monotonic() - started
        run = _Run(root / "terminated", num_steps, seed)
        report({"run": "SIGTERM"} | _terminate(run, draw, span, expected))
        killed = 0
        while killed < num_kills:
            number = len(rows)
            run = _Run(root / f"run{number}", num_steps, seed)
            wanted = min(_KILLS_PER_RUN, num_kills - killed)
            row = _kill(run, wanted, draw, span, expected)
            killed += row["kills"]
            report({"run": str(number)} | row)
    counted = ("kills", "inside_save", "sessions", "lost", "seconds")
    report({"run": "all"} | {k: sum(row.get(k, 0) for row in rows) for k in counted})
    return rows


class _Run:
    """One run of training and the process that is at it."""

    def __init__(self, folder: pathlib.Path, num_steps: int, seed: int):
        folder.mkdir()
        self.folder, self.saves = folder, folder / "checkpoints"
        self.metrics = folder / "metrics.jsonl"
        self.command = [sys.executable, "-m", "problems.bench._durable_run"]
        self.command += [str(folder), str(num_steps), str(seed)]
        self.sessions = 0

    def start(self, **settings: str) -> subprocess.Popen:
        """A process that goes on with the run; `settings` are for its environment."""
        self.sessions += 1
        settings |= {
            # What it imports is what is imported here.
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "JAX_COMPILATION_CACHE_DIR": str(self.folder.parent / "programs"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PLATFORMS": "cpu",
        }
        with open(self.folder / "output.txt", "ab") as output:
            return subprocess.Popen(
                self.command, env=os.environ | settings, stdout=output, stderr=output
            )

    def lines(self) -> list[bytes]:
        """Complete lines of the file of metrics."""
        if not self.metrics.exists():
            return []
        return self.metrics.read_bytes().split(b"\n")[:-1]

    def saved(self) -> list[int]:
        """Steps with a complete checkpoint."""
        return sorted(int(n) for n in self._names() if n.isdigit())

    def is_saving(self) -> bool:
        """Whether a checkpoint is being written, or was when the process ended."""
        return any("orbax-checkpoint-tmp" in name for name in self._names())

    def _names(self) -> list[str]:
        return os.listdir(self.saves) if self.saves.is_dir() else []


def _finish(run: _Run) -> Row:
    """Run to the end; its outcome, and what is wrong with it."""
    child = run.start()
    try:
        child.wait(_HANGS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        return {"problem": "it hangs"}
    return _outcome(run, child.returncode)


def _outcome(run: _Run, status: int) -> Row:
    if status != 0:
        output = (run.folder / "output.txt").read_text("utf-8", "replace")
        return {"problem": f"it ended with {status}: {output[-2000:]}"}
    with np.load(run.folder / "outcome.npz") as arrays:
        found: Row = {name: arrays[name] for name in arrays.files}
    lines = [json.loads(line) for line in run.lines()]
    steps = [line["step"] for line in lines]
    if steps != list(range(1, len(found["loss"]) + 1)):
        return found | {"problem": "its metrics have not each step once"}
    losses = np.array([line["loss"] for line in lines], found["loss"].dtype)
    if losses.tobytes() != found["loss"].tobytes():
        return found | {"problem": "its metrics have other losses than its history"}
    return found


def _problem(found: Row, expected: Row) -> str | None:
    """Why an outcome is not the expected one, if it is not."""
    if "problem" in found:
        return found["problem"]
    for name, array in expected.items():
        if found.get(name, np.empty(0)).tobytes() != array.tobytes():
            return f"{name} differs"
    return None


def _kill(
    run: _Run, wanted: int, draw: random.Random, span: float, expected: Row
) -> Row:
    """Kill a run a number of times, let it end, and judge it."""
    started = time.monotonic()
    kills = inside = 0
    problem = None
    while kills < wanted and problem is None:
        before, newest = run.lines(), max(run.saved(), default=0)
        child = run.start()
        _wait(run, child, _AIMS[(kills + draw.randrange(2)) % len(_AIMS)], draw, span)
        child.kill()
        status = child.wait()
        if status == -signal.SIGKILL:
            kills += 1
            inside += run.is_saving()
            # (Before it got as far as the file, its lines are what they were.)
            problem = _setback(before, run.lines(), newest)
        else:
            problem = _problem(_outcome(run, status), expected)
            break
    if problem is None:
        before, newest = run.lines(), max(run.saved(), default=0)
        problem = _problem(_finish(run), expected)
        problem = problem or _setback(before, run.lines(), newest)
    row = {
        "kills": kills,
        "inside_save": inside,
        "sessions": run.sessions,
        "lost": int(problem is not None),
        "seconds": time.monotonic() - started,
    }
    return row | ({} if problem is None else {"problem": problem})


def _setback(before: list[bytes], after: list[bytes], newest: int) -> str | None:
    """Whether steps up to the newest checkpoint were made again: then their lines have
    other times."""
    if before[:newest] != after[:newest]:
        return f"steps before its checkpoint of step {newest} were made again"
    return None


def _wait(
    run: _Run, child: subprocess.Popen, aim: str, draw: random.Random, span: float
) -> None:
    """Until a moment of the kind that is aimed at, or until the process ends."""
    if aim == "any time":
        _until(child, lambda: False, draw.uniform(0.0, span))
        return
    known = run.lines()[-1:]
    _until(child, lambda: run.lines()[-1:] != known, _HANGS)
    if aim == "save":
        for _ in range(draw.randrange(1, 4)):
            _until(child, lambda: not run.is_saving(), _HANGS)
            _until(child, run.is_saving, _HANGS)
        _until(child, lambda: False, draw.uniform(0.0, 0.1))
    else:
        _until(child, lambda: False, draw.uniform(0.0, span / 4))


def _until(
    child: subprocess.Popen, condition: Callable[[], bool], seconds: float
) -> None:
    deadline = time.monotonic() + seconds
    while child.poll() is None and time.monotonic() < deadline and not condition():
        time.sleep(0.001)


def _terminate(run: _Run, draw: random.Random, span: float, expected: Row) -> Row:
    """SIGTERM once, and go on."""
    started = time.monotonic()
    child = run.start()
    _wait(run, child, "training", draw, span)
    sent = time.monotonic()
    child.terminate()
    status = child.wait(_HANGS)
    row: Row = {"terminated": time.monotonic() - sent}
    lines, saved = run.lines(), max(run.saved(), default=0)
    problem = None
    # Whatever was done is saved, unless it had ended before.
    if status == -signal.SIGTERM and saved != len(lines):
        problem = f"step {saved} was saved, but {len(lines)} were done"
    problem = problem or _problem(_finish(run), expected)
    problem = problem or _setback(lines, run.lines(), saved)
    row |= {"kills": 0, "inside_save": 0, "sessions": run.sessions}
    row |= {"lost": int(problem is not None), "seconds": time.monotonic() - started}
    return row | ({} if problem is None else {"problem": problem})


def bench_soak(
    *,
    num_steps: int = 5000,
    seed: int = 7,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """What a long run uses: memory, open files, compiled programs.

    **Arguments:**

    - `num_steps`: of the run; there is a checkpoint every 1/40 of them.
    - `seed`: of the run.
    - `on_row`: called with the row.

    **Returns:** one row: `memory_slope`, MB of resident memory per 1000 steps, by
    least squares over the last three quarters of the run; `memory`, MB at its end;
    `files_before` and `files_after`, how many were open at least, in the first and in
    the second half of that time (saving a checkpoint opens more for a moment);
    `step_programs`, how often the step was compiled, and `later_programs`, what was
    compiled once steps were made. What the system does not tell is left out.

    The process has one arena of glibc's malloc instead of eight for each core. The
    threads that write checkpoints use one after the other, and until all are in use,
    which takes hundreds of checkpoints, memory grows although nothing is kept.
    """
    with tempfile.TemporaryDirectory() as name:
        run = _Run(pathlib.Path(name) / "run", num_steps, seed)
        child, samples = run.start(MALLOC_ARENA_MAX="1"), []
        while child.poll() is None:
            lines = run.lines()
            # (What has ended and was not waited for yet has no memory.)
            if lines and (used := _usage(child.pid)) and used[0]:
                samples.append((json.loads(lines[-1])["step"], *used))
            time.sleep(0.05)
        found = _outcome(run, child.returncode)
        if "problem" in found:
            raise RuntimeError(f"The run broke down: {found['problem']}")
        compiled = json.loads((run.folder / "facts.json").read_text())["compiled"]
    row: Row = {
        "run": "soak",
        "steps": num_steps,
        "step_programs": compiled.count("jit(step)"),
        # (The copy of the best weights is the last program before the first step.)
        "later_programs": compiled[::-1].index("jit(copied)"),
    }
    late = [s for s in samples if num_steps / 4 < s[0] < num_steps]
    if len(late) > 3:
        steps, memory, files = np.array(late, float).T
        half = len(files) // 2
        row |= {
            "memory_slope": float(np.polyfit(steps, memory, 1)[0]) * 1000 / 1e6,
            "memory": float(memory[-1]) / 1e6,
            "files_before": int(np.min(files[:half])),
            "files_after": int(np.min(files[half:])),
        }
    if on_row is not None:
        on_row(row)
    return [row]


def durability_problems(rows: list[Row]) -> list[str]:
    """What is wrong in rows of `bench_durability` and `bench_soak`, in words."""
    found = []
    for row in rows:
        name = f"run {row['run']}"
        if "problem" in row:
            found.append(f"{name} was lost: {row['problem']}")
        if row.get("terminated", 0.0) > 10.0:
            found.append(f"{name} took {row['terminated']:.0f} s to save and end")
        if row.get("memory_slope", 0.0) > 1.0:
            found.append(f"{name} took {row['memory_slope']:.2f} MB per 1000 steps")
        if row.get("files_before") != row.get("files_after"):
            files = f"{row['files_before']} files open, then {row['files_after']}"
            found.append(f"{name} had {files}")
        if row.get("step_programs", 1) != 1 or row.get("later_programs", 0):
            found.append(f"{name} compiled while it made steps")
    return found


def _usage(pid: int) -> tuple[int, int] | None:
    """Bytes of resident memory and open files of a process, where the system tells."""
    try:
        pages = pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE"), len(
            os.listdir(f"/proc/{pid}/fd")
        )
    except (OSError, IndexError):
        return None
