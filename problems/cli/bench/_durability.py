"""`sciml bench durability`."""

import dataclasses

from .._common import ExitCode, Usage, say
from ._report import Reported


@dataclasses.dataclass
class Durability:
    """Kill training and resume it; watch a long run; change files at random."""

    report: Reported
    kills: int = 50
    """Processes that are killed."""
    kill_steps: int = 400
    """Steps of each run that is killed."""
    steps: int = 5000
    """Steps of the long run; 0 leaves it out."""
    mutations: int = 10_000
    """Random changes of a model file, and a quarter of each kind of data file."""

    def __call__(self) -> ExitCode:
        """Kill, resume, compare, print, record."""
        tell = self.report.begin()
        for name, least in (
            ("kills", 0),
            ("kill_steps", 40),
            ("steps", 0),
            ("mutations", 0),
        ):
            if getattr(self, name) < least:
                raise Usage(f"{name}: expected at least {least}.")
        from ...bench import (
            bench_durability,
            bench_mutations,
            bench_soak,
            durability_problems,
            is_durable,
            mutation_counts,
        )

        rows, seed = [], self.report.seed
        if self.kills:
            rows += bench_durability(
                num_kills=self.kills, num_steps=self.kill_steps, seed=seed, on_row=tell
            )
        if self.steps:
            rows += bench_soak(num_steps=self.steps, seed=seed, on_row=tell)
        changed = []
        if self.mutations:
            counts = mutation_counts(self.mutations)
            changed = bench_mutations(counts, seed=seed, on_row=tell)
        wrong = durability_problems(rows)
        self.report.end("durability", self, rows + changed)
        wrong += [
            f"{row['file']}: a changed file was not refused, or took the process down"
            for row in changed
            if not is_durable(row)
        ]
        for problem in wrong:
            say(problem)
        return ExitCode.FAILED if wrong else ExitCode.DONE
