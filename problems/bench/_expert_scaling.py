"""Experts: in which order, on how many devices, at how many nodes, and how many."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sciml import RESULTS
from sciml.constraints import (
    C1,
    AbstractCoupling,
    MapExperts,
    ShardExperts,
    Uncoupled,
    VmapExperts,
)

from ._expert_task import expert_mixture, expert_task

Row = dict[str, Any]


def bench_expert_scaling(
    *,
    experts: int = 16,
    nodes: int = 1000,
    totals: tuple[int, ...] = (2000, 8000, 32000, 128000),
    counts: tuple[int, ...] = (1, 4, 16, 64),
    repeats: int = 5,
    seed: int = 7,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Time and work of experts that solve −λ² u″ + sinh u = f with 16 basis fields.

    Three kinds of rows:

    - `execution`: uncoupled experts on one device, with λ = 0.01 and `nodes_each` of
        64 and of `nodes`. Those of the `task` `unequal` need from a few to dozens of
        steps (`fewest_steps`, `mean_steps`, `most_steps`), those of `alike` numbers
        that differ less. `compile_time`, `solve_time`, and `of_map`, that over the time
        of `MapExperts`.
    - `within`: `ShardExperts` on 1, 2, 4 and 8 virtual devices of one CPU, with either
        execution on each: of the `program` that XLA compiled for one device, its own
        estimate of `flops` and bytes `accessed`, and the bytes of its `arguments` and
        `temporaries`, each beside its ratio to that on one device, `…_of_one`. XLA
        counts the body of a loop once, however often it runs: a step of each expert
        with `VmapExperts`, but with `MapExperts` that of one expert, on any number of
        devices. Factors of matrices, calls of LAPACK, do not count. `steps_of_one` are
        the steps taken on the busiest device over all steps. (No times: virtual devices
        share the cores.)
    - `coupling`: `C1` with λ = 1, for `total_nodes` of `totals` with 4 experts, and
        for `counts` of experts at 32,000 in all and at 500 each: `solve_time`, `steps`,
        and `per_node`, nanoseconds per step and node.

    **Arguments:**

    - `experts`: of the first two kinds, a multiple of 8.
    - `nodes`: of each of their boxes.
    - `repeats`: of timings, in turns; medians, compilation apart.
    - `seed`: of the basis.
    - `on_row`: called with each row when it is complete.

    **Raises:** `ValueError` for a number of experts that 8 does not divide,
    `RuntimeError` with the output of the process with virtual devices if that fails.
    """
    if experts < 8 or experts % 8:
        raise ValueError(f"experts: expected a multiple of 8, got {experts}.")
    rows: list[Row] = []

    def tell(row: Row) -> None:
        rows.append(row)
        if on_row is not None:
            on_row(row)

    for task in ("unequal", "alike"):
        for each in sorted({64, nodes}):
            for row in _executions(task, experts, each, repeats, seed):
                tell(row)
    for row in _devices(experts, nodes, seed):
        tell(row)
    sizes = [(4, total) for total in totals]
    sizes += [(count, 32000) for count in counts]
    sizes += [(count, 500 * count) for count in counts]
    for row in _coupled(list(dict.fromkeys(sizes)), repeats, seed):
        tell(row)
    return rows


def _executions(
    task: str, experts: int, nodes: int, repeats: int, seed: int
) -> list[Row]:
    arguments = expert_task(experts * nodes, seed, task)
    executions = {
        "MapExperts": MapExperts(),
        "VmapExperts": VmapExperts(),
        "ShardExperts": ShardExperts(jax.devices()[:1]),
    }
    solves = {
        name: _Solve(experts, Uncoupled(execution), arguments)
        for name, execution in executions.items()
    }
    for _ in range(repeats):
        for solve in solves.values():
            solve.time()
    rows = []
    for name, solve in solves.items():
        row: Row = {"execution": name, "task": task}
        of_map = solve.seconds / solves["MapExperts"].seconds
        rows.append(row | solve.facts() | {"of_map": of_map})
    return rows


def _coupled(sizes: list[tuple[int, int]], repeats: int, seed: int) -> list[Row]:
    solves = [
        _Solve(experts, C1(), expert_task(nodes, seed, "elliptic"), sides=True)
        for experts, nodes in sizes
    ]
    for _ in range(repeats):
        for solve in solves:
            solve.time()
    rows = []
    for solve, (experts, nodes) in zip(solves, sizes, strict=True):
        facts = solve.facts()
        steps = facts["num_steps"][0]
        row = {
            "coupling": "C1",
            "total_nodes": nodes,
            "experts": experts,
            "converged": facts["converged"],
            "steps": steps,
            "solve_time": solve.seconds,
            "per_node": 1e9 * solve.seconds / steps / nodes,
        }
        rows.append(row)
    return rows


class _Solve:
    """A compiled solve, and how long it took."""

    def __init__(
        self,
        experts: int,
        coupling: AbstractCoupling,
        task: tuple[Any, Any, Any],
        *,
        sides: bool = False,
    ):
        mixture = expert_mixture(experts, coupling, sides=sides)

        def solve(basis, parameters):
            out = mixture(basis, parameters, throw=False)
            converged = jnp.sum(out.result == RESULTS.successful)
            return out.value["u"], out.stats["num_steps"], converged

        self.experts, (basis, parameters, self.exact) = experts, task
        self.arguments = basis, parameters
        start = time.perf_counter()
        self.compiled = jax.jit(solve).lower(*self.arguments).compile()
        self.compile_time = time.perf_counter() - start
        self.found = jax.block_until_ready(self.compiled(*self.arguments))
        self.times: list[float] = []

    def time(self) -> None:
        """Once more."""
        start = time.perf_counter()
        jax.block_until_ready(self.compiled(*self.arguments))
        self.times.append(time.perf_counter() - start)

    @property
    def seconds(self) -> float:
        """The median."""
        return float(np.median(self.times))

    def facts(self) -> Row:
        """What is in the rows of all kinds."""
        value, steps, converged = self.found
        error = jnp.linalg.norm(value - self.exact) / jnp.linalg.norm(self.exact)
        return {
            "experts": self.experts,
            "nodes_each": self.exact.size // self.experts,
            "converged": int(converged),
            "error": float(error),
            "fewest_steps": int(steps.min()),
            "mean_steps": float(np.mean(np.asarray(steps))),
            "most_steps": int(steps.max()),
            "num_steps": steps.tolist(),
            "compile_time": self.compile_time,
            "solve_time": self.seconds,
        }


def _devices(experts: int, nodes: int, seed: int) -> list[Row]:
    """The rows of a process with eight virtual devices."""
    flags = os.environ.get("XLA_FLAGS", "")
    settings = {
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count=8".strip(),
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": "1",
        # What it imports is what is imported here.
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    command = [sys.executable, "-m", "problems.bench._expert_devices"]
    command += [str(experts), str(nodes), str(seed)]
    done = subprocess.run(
        command, env=os.environ | settings, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"The process with virtual devices failed:\n{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]
