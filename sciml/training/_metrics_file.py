"""The course of a run of training in a file of JSON lines."""

import json
import math
import os
import pathlib
from typing import Any, BinaryIO

from ._progress import AbstractListener, Report
from ._series import Series, under_prefix

# A line is small; this is how much of a file is looked at to see whose it is.
_START = 4096


class MetricsFile(AbstractListener):
    """Appends one JSON object per step and line, written out with each report.

    A line that a crash cut short, and lines of steps that are going to be made again,
    are removed when the file is opened; lines that are missing are written from the
    history. So the file has each step once and in order, whenever the run was stopped.

    **Arguments:**

    - `path`: the file; its folder is made where it does not exist.
    - `run`: stands at the start of each line and tells runs apart.
    - `history`: of the steps that are done, `curve` of their judgements.

    **Raises:** `ValueError` if the file belongs to another run or cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        run: str,
        history: Series,
        curve: Series | None,
    ):
        self.path, self.run = pathlib.Path(path), run
        # The training's time at the last report.
        self.time: float | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file: BinaryIO = open(self.path, "a+b")
        except OSError as error:
            raise ValueError(
                f"metrics_path: {self.path} cannot be written ({error})."
            ) from error
        try:
            self._keep(history, curve)
        except BaseException:
            self.file.close()
            raise

    def update(self, report: Report) -> None:
        """One line per record; times between two reports are spread over the steps."""
        count, rate, now = len(report.records), report.steps_per_second, report.step
        if self.time is None:
            self.time = report.training_time - count / rate
        each = (report.training_time - self.time) / count
        self.time = report.training_time
        lines = []
        for step, record in enumerate(report.records, now - count + 1):
            validation = report.validation if step == now else None
            times = {
                "training_time": self.time - (now - step) * each,
                "steps_per_second": rate,
                "eta": (report.num_steps - step) / rate,
            }
            lines.append(self._line(step, record, validation, times))
        self.file.write(b"".join(lines))
        # To the system, so that a process that is killed loses nothing of it.
        self.file.flush()

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def _keep(self, history: Series, curve: Series | None) -> None:
        """Keep the lines of the steps that are done, remove others, add what lacks."""
        self.file.seek(0)
        start = self.file.read(_START)
        own = json.dumps({"run": self.run, "step": 1}).encode()[:-1]
        if start[: len(own)] != own[: len(start)]:
            raise ValueError(
                f"metrics_path: {self.path} holds something else than the lines of "
                f"this run ({start[:60].decode(errors='replace')}…). Give another "
                "name, or remove that file."
            )
        self.file.seek(0)
        kept = end = 0
        for line in self.file:
            if kept == len(history) or not self._is_line(line, kept + 1):
                break
            kept, end = kept + 1, end + len(line)
        self.file.truncate(end)
        if kept < len(history):
            self._write_again(kept, history, curve)

    def _is_line(self, line: bytes, step: int) -> bool:
        try:
            found = json.loads(line)
        except ValueError:
            return False
        whole = line.endswith(b"\n") and isinstance(found, dict)
        return whole and (found.get("run"), found.get("step")) == (self.run, step)

    def _write_again(self, kept: int, history: Series, curve: Series | None) -> None:
        judged: dict[int, dict[str, Any]] = {}
        for entry in [] if curve is None else _records(curve):
            judged[int(entry.pop("step"))] = entry
        times = {"training_time": None, "steps_per_second": None, "eta": None}
        for step, record in enumerate(_records(history)[kept:], kept + 1):
            self.file.write(self._line(step, record, judged.get(step), times))
        self.file.flush()

    def _line(
        self,
        step: int,
        record: dict[str, Any],
        validation: dict[str, Any] | None,
        times: dict[str, Any],
    ) -> bytes:
        entry = {"run": self.run, "step": step}
        entry |= {"loss": _plain(record["loss"]), "aux": _aux(record)}
        if validation is not None:
            value = _plain(validation["value"])
            entry["validation"] = {"value": value, "aux": _aux(validation)}
        return (json.dumps(entry | times, allow_nan=False) + "\n").encode()


def _records(series: Series) -> list[dict[str, Any]]:
    columns = series.columns()
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _aux(record: dict[str, Any]) -> dict[str, Any]:
    return {k: _plain(v) for k, v in under_prefix("aux.", record).items()}


def _plain(value: Any) -> Any:
    """A scalar for JSON, which has no NaN and no infinities: those become null.

    The digits of a float32 as a float64: read back, it is the same number.
    """
    number = value.item()
    return None if isinstance(number, float) and not math.isfinite(number) else number
