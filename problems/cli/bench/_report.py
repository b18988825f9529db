"""What every benchmark does with its rows: a table or JSON, and a record."""

import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import Annotated, Any

import tyro

from .._common import Usage, print_json, say

Row = dict[str, Any]


@dataclasses.dataclass
class Report:
    """The options that all benchmarks share, and what they ask for."""

    threads: int | None = None
    """Cores this process may use, for everything in it; default all."""
    seed: int = 7
    """Of whatever is random."""
    record: bool = False
    """Append a record to docs/benchmarks/NAME.jsonl (see --record-dir)."""
    record_dir: str = "docs/benchmarks"
    """The folder of records."""
    json: bool = False
    """Print JSON instead of a table."""

    def begin(self) -> Callable[[Row], None] | None:
        """Before anything is measured; what to call with each row, if with anything."""
        if self.threads is not None:
            _limit_threads(self.threads)
        return None if self.json else _tell

    def end(self, name: str, command: Any, rows: list[Row], **details: Any) -> None:
        """Print the rows, and record them where that is asked for.

        **Arguments:**

        - `name`: of the benchmark.
        - `command`: its dataclass, whose fields are recorded.
        - `rows`: of the table.
        - `details`: what is recorded beside it.
        """
        from sciml.evaluation import Record, append_record, machine

        for row in rows:
            row.pop("history", None)
        facts = machine()
        if self.json:
            print_json({"rows": rows, **details, "machine": facts})
        else:
            print("\n\n".join(table.plain() for table in record_tables(rows)))
            print(
                f"{facts['cpu']}, {facts['threads']} threads, jax "
                f"{facts['versions']['jax']}, {facts['device']}"
            )
        if self.record:
            path = pathlib.Path(self.record_dir)
            path.mkdir(parents=True, exist_ok=True)
            file = path / f"{name}.jsonl"
            arguments = {"name": name, **_arguments(command)}
            append_record(
                file,
                Record(
                    name,
                    {"rows": rows, **details, "arguments": arguments},
                    seeds={"seed": self.seed},
                ),
            )
            say(f"recorded in {file}")


Reported = Annotated[Report, tyro.conf.arg(name="")]
"""A field of options that need no prefix."""


def record_tables(rows: list[Row], caption: str = "") -> list[Any]:
    """The `sciml.evaluation.Table`s of a benchmark's rows: one for each kind of row.

    Rows that share more than half of the shorter one's names are of one kind.
    """
    from sciml.evaluation import Column, Table

    kinds: list[tuple[dict[str, None], list[Row]]] = []
    for row in map(_shown, rows):
        alike = lambda keys, row=row: (
            2 * len(keys.keys() & row.keys()) > min(len(keys), len(row))
        )
        found = next((kind for kind in kinds if alike(kind[0])), None)
        if found is None:
            found = ({}, [])
            kinds.append(found)
        found[0].update(dict.fromkeys(row))
        found[1].append(row)
    return [
        Table(group, [Column(k, format=_FORMATS.get(k)) for k in keys], caption=caption)
        for keys, group in kinds
    ]


def record_facts(record: Any) -> str:
    """Where a `sciml.evaluation.Record` was made."""
    facts = record.machine
    return (
        f"{facts.get('cpu')}, {facts.get('threads')} threads, {facts.get('device')}, "
        f"jax {facts.get('versions', {}).get('jax')}, commit {facts.get('commit')}."
    )


def _shown(row: Row) -> Row:
    """A row for people: without lists and tables."""
    return {k: v for k, v in row.items() if not isinstance(v, list | dict)}


_FORMATS = {
    "relative_residual": ".1e",
    "energy_error": ".1e",
    "setup_time": ".3f",
    "solve_time": ".3f",
    "total_time": ".3f",
    "cold_time": ".2f",
    "ratio": ".2f",
    "time": ".2e",
    "loop_time": ".2e",
    "scipy_time": ".2e",
    "loop_ratio": ".2f",
    "bandwidth": ".1f",
    "copy_bandwidth": ".1f",
    "one_time": ".2e",
    "many_time": ".2e",
    "contraction": ".3f",
    "total": ".0f",
    "of_young": ".4f",
    "of_rival": ".2f",
    "run_time": ".2f",
    "relative_l2": ".2%",
    "relative_l2_sd": ".2%",
    "fine_l2": ".2%",
    "relative_h1": ".2%",
    "step_error": ".2%",
    "accurate_steps": ".1f",
    "spectral_h1": ".2%",
    "boundary_rmse": ".1e",
    "published_l2": ".2%",
    "published_h1": ".2%",
    "latency": ".2e",
    "training_time": ".1f",
    "prediction_time": ".2e",
    "time_ratio": ".2f",
    "nfe": ".1f",
    "nfe_each": ".1f",
    "nfe_most": ".1f",
    "worst": ".3g",
    "compile_time": ".2f",
    "torchdiffeq_time": ".2e",
    "torchdiffeq_ratio": ".2f",
    "torchode_time": ".2e",
    "torchode_ratio": ".2f",
    "torch_time": ".2e",
    "torch_ratio": ".2f",
    "difference": ".1e",
    "seconds": ".1f",
    "terminated": ".2f",
    "per_node": ".0f",
    "of_map": ".2f",
    "mean_steps": ".1f",
    "flops_of_one": ".3f",
    "accessed_of_one": ".3f",
    "arguments_of_one": ".3f",
    "temporaries_of_one": ".3f",
    "steps_of_one": ".3f",
    "memory_slope": ".3f",
    "memory": ".0f",
}


def _tell(row: Row) -> None:
    skipped = ("history", "outcomes")
    named = {k: v for k, v in _shown(row).items() if k not in skipped}
    say("  ".join(f"{k} {_short(v)}" for k, v in named.items()))


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


# What says where things are, and how they are shown, but not what was measured.
_NOT_RECORDED = (
    "record",
    "record_dir",
    "json",
    "data",
    "plot",
    "torch",
    "folder",
    "weights",
    "output",
)


def _arguments(command: Any) -> Row:
    fields = dataclasses.asdict(command)
    shared = fields.pop("report")
    return {k: v for k, v in (fields | shared).items() if k not in _NOT_RECORDED}


def _limit_threads(count: int) -> None:
    """Keep the process, and so XLA's and BLAS's threads, on `count` cores."""
    if not hasattr(os, "sched_setaffinity"):
        raise Usage("threads: this system cannot pin a process; leave it out.")
    allowed = sorted(os.sched_getaffinity(0))
    if not 1 <= count <= len(allowed):
        raise Usage(f"threads: expected 1 to {len(allowed)}, got {count}.")
    os.sched_setaffinity(0, allowed[:count])
