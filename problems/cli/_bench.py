"""`sciml bench`."""

import dataclasses
import os
import pathlib
from typing import Annotated, Any, Literal

import tyro

from ._common import ExitCode, Usage, print_json, say

Row = dict[str, Any]

BENCHMARKS = {
    "linear": "set-up and solve times: CG, Jacobi, our multigrid, PyAMG, SuperLU",
    "products": "A x for stencils, diagonals and padded rows, beside SciPy's CSR",
    "many": "64 right-hand sides at once, in units of one",
    "contraction": "error reduction per V-cycle against the grid size",
    "neural-odes": "penalties on the cost of a solve: accuracy, evaluations, times",
    "darcy-small": "MgNO and FNO on the small real Darcy set (--data)",
    "faults": "every way a linear solve can fail: what solvers claim, and what is true",
}


_SYSTEMS = ("two-phase-10", "two-phase-1000")


@dataclasses.dataclass
class Bench:
    """Run a benchmark, print its table, and keep a record of it."""

    name: Annotated[
        Literal[
            "linear",
            "products",
            "many",
            "contraction",
            "neural-odes",
            "darcy-small",
            "faults",
        ],
        tyro.conf.Positional,
    ] = "linear"
    """Which one."""
    points: int = 511
    """linear: nodes per axis."""
    problems: tuple[str, ...] = ()
    """linear: two-phase-CONTRAST, poisson, lognormal, hard-two-phase, checkerboard,
    channels, anisotropic, poisson-3d, two-phase-3d, l-shape, ball, matrix:NAME;
    default two-phase-10 two-phase-1000. neural-odes: digits, spiral; default both."""
    methods: tuple[str, ...] = ()
    """neural-odes: which penalties, the first to compare with; default all."""
    rtol: float = 1e-7
    """neural-odes: tolerance of the solves in training; tests also take 1/100 of it."""
    every: bool = False
    """linear: also the preconditioners that are not meant to win."""
    cap: int = 500
    """linear: most steps of the methods that need hundreds."""
    plot: str | None = None
    """linear: write convergence curves and times to this folder, as PNG."""
    repeats: int = 5
    """linear, products, many: rounds after the first."""
    num_steps: int | None = None
    """darcy-small: updates of each model, default 3000; neural-odes: default the
    problem's own."""
    data: str | None = None
    """darcy-small: the folder with train_16.npz and test_16.npz."""
    seeds: int | None = None
    """faults: systems of each kind, default 20; neural-odes: trainings, default 5."""
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

    def __call__(self) -> ExitCode:
        """Measure, print, record."""
        if self.threads is not None:
            _limit_threads(self.threads)
        from sciml.evaluation import (
            Column,
            Record,
            append_record,
            format_table,
            machine,
        )

        rows, details = self._rows()
        if self.plot is not None and self.name == "linear":
            from ..bench import plot_linear

            for file in plot_linear(rows, self.plot):
                say(f"wrote {file}")
        for row in rows:
            row.pop("history", None)
        facts = machine()
        if self.json:
            print_json({"rows": rows, **details, "machine": facts})
        else:
            shown = [_shown(row) for row in rows]
            columns = [Column(key, format=_FORMATS.get(key)) for key in shown[0]]
            print(format_table(shown, columns))
            print(
                f"{facts['cpu']}, {facts['threads']} threads, jax "
                f"{facts['versions']['jax']}, {facts['device']}"
            )
        if self.record:
            path = pathlib.Path(self.record_dir)
            path.mkdir(parents=True, exist_ok=True)
            file = path / f"{self.name}.jsonl"
            append_record(
                file,
                Record(
                    self.name,
                    {"rows": rows, **details, "arguments": _arguments(self)},
                    seeds={"seed": self.seed},
                ),
            )
            say(f"recorded in {file}")
        if self.name == "faults":
            from ..bench import has_failed

            return ExitCode.FAILED if any(map(has_failed, rows)) else ExitCode.DONE
        missed = [r for r in rows if _missed(r)]
        return ExitCode.NOT_CONVERGED if missed else ExitCode.DONE

    def _rows(self) -> tuple[list[Row], Row]:
        """The rows of the table, and what is recorded beside it."""
        from .. import bench

        tell = None if self.json else _tell
        if self.name == "faults":
            num_seeds = 20 if self.seeds is None else self.seeds
            if num_seeds < 2:
                raise Usage("faults: needs at least two seeds, see --seeds.")
            totals, cells = bench.bench_faults(
                num_seeds=num_seeds, seed=self.seed, on_row=tell
            )
            outcomes = [total.pop("outcomes") for total in totals]
            nested = bench.nested_cells(cells)
            return totals, {"outcomes": outcomes, "cells": nested}
        return self._table(tell), {}

    def _table(self, tell) -> list[Row]:
        from .. import bench

        if self.name == "linear":
            self._check()
            return bench.bench_linear(
                self.points,
                self.problems or _SYSTEMS,
                repeats=self.repeats,
                cap=self.cap,
                every=self.every,
                seed=self.seed,
                on_row=tell,
            )
        if self.name in ("products", "many"):
            run = bench.bench_products if self.name == "products" else bench.bench_many
            return run(repeats=self.repeats, seed=self.seed, on_row=tell)
        if self.name == "contraction":
            return bench.bench_contraction(seed=self.seed, on_row=tell)
        if self.name == "neural-odes":
            return self._neural_odes(tell)
        folder = self.data
        if folder is None and os.environ.get("SCIML_DATA"):
            folder = str(pathlib.Path(os.environ["SCIML_DATA"]) / "darcy_small")
        if folder is None:
            raise Usage(
                "darcy-small: name the folder with train_16.npz and test_16.npz with "
                "--data, or its parent with the environment variable SCIML_DATA."
            )
        return bench.bench_darcy_small(
            folder,
            num_steps=3000 if self.num_steps is None else self.num_steps,
            seed=self.seed,
            progress=not self.json,
            on_row=tell,
        )

    def _neural_odes(self, tell) -> list[Row]:
        from ..bench import bench_neural_odes, neural_ode_methods

        known_methods = neural_ode_methods()
        problems = self.problems or tuple(known_methods)
        for problem in problems:
            known = known_methods.get(problem)
            if known is None:
                listed = ", ".join(known_methods)
                raise Usage(f"neural-odes: no problem {problem!r}; known are {listed}.")
            for method in self.methods:
                if method not in known:
                    raise Usage(
                        f"neural-odes: no method {method!r}; known are "
                        f"{', '.join(known)}."
                    )
        seeds = 5 if self.seeds is None else self.seeds
        if seeds < 1 or not 0 < self.rtol < 1:
            raise Usage("neural-odes: needs a seed and a tolerance between 0 and 1.")
        return bench_neural_odes(
            problems,
            methods=self.methods or None,
            rtol=self.rtol,
            seeds=seeds,
            num_steps=self.num_steps,
            seed=self.seed,
            on_row=tell,
        )

    def _check(self) -> None:
        if self.repeats < 1 or self.cap < 1:
            raise Usage("linear: needs at least one repeat and step.")
        from ..bench import make_system

        try:
            for name in self.problems or _SYSTEMS:
                # (A small one tells as much, and soon.)
                make_system(name, min(self.points, 7), self.seed)
        except (ValueError, FileNotFoundError) as error:
            raise Usage(str(error)) from error


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
    "relative_l2": ".2%",
    "training_time": ".1f",
    "prediction_time": ".2e",
    "time_ratio": ".2f",
    "nfe": ".1f",
    "nfe_each": ".1f",
    "nfe_most": ".1f",
    "worst": ".3g",
}


def _missed(row: Row) -> bool:
    """Whether our multigrid, which must not fail, did."""
    ours = row.get("method") == "sciml CG + Multigrid"
    return ours and row["status"] != "successful"


def _tell(row: Row) -> None:
    skipped = ("history", "outcomes")
    named = {k: v for k, v in _shown(row).items() if k not in skipped}
    say("  ".join(f"{k} {_short(v)}" for k, v in named.items()))


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _arguments(command: Bench) -> Row:
    skipped = ("record", "record_dir", "json", "data", "plot")
    fields = dataclasses.asdict(command)
    return {k: v for k, v in fields.items() if k not in skipped}


def _limit_threads(count: int) -> None:
    """Keep the process, and so XLA's and BLAS's threads, on `count` cores."""
    if not hasattr(os, "sched_setaffinity"):
        raise Usage("threads: this system cannot pin a process; leave it out.")
    allowed = sorted(os.sched_getaffinity(0))
    if not 1 <= count <= len(allowed):
        raise Usage(f"threads: expected 1 to {len(allowed)}, got {count}.")
    os.sched_setaffinity(0, allowed[:count])
