"""What each of several devices is given to do, from the programs that XLA compiles.

`python -m problems.bench._expert_devices EXPERTS NODES SEED` prints a row of JSON for
each program. How many virtual devices a CPU has is settled when JAX starts, hence the
process of its own.
"""

import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from problems.bench._expert_task import expert_mixture, expert_task
from sciml.constraints import MapExperts, ShardExperts, Uncoupled, VmapExperts

COUNTS = (1, 2, 4, 8)


def rows(experts: int, nodes: int, seed: int):
    """A row for each way to solve on a device, program and number of devices.

    **Arguments:** `experts` is a multiple of 8, `nodes` are those of each.
    """
    basis, parameters, _ = expert_task(experts * nodes, seed, "unequal")
    for within in (VmapExperts(), MapExperts()):
        for program in ("solve", "gradient"):
            one: dict[str, float] = {}
            for count in COUNTS:
                execution = ShardExperts(jax.devices()[:count], within)
                mixture = expert_mixture(experts, Uncoupled(execution))

                def solve(basis, parameters, mixture=mixture):
                    out = mixture(basis, parameters, throw=False)
                    return out.value["u"], out.stats["num_steps"]

                def gradient(basis, parameters, solve=solve):
                    loss = lambda basis: jnp.mean(solve(basis, parameters)[0] ** 2)
                    return jax.grad(loss)(basis)

                function = solve if program == "solve" else gradient
                compiled = jax.jit(function).lower(basis, parameters).compile()
                found = _measured(compiled)
                one = one or found
                row: dict[str, Any] = {
                    "within": type(within).__name__,
                    "program": program,
                    "experts": experts,
                    "nodes_each": nodes,
                    "devices": count,
                }
                for name, value in found.items():
                    row |= {name: value, f"{name}_of_one": value / one[name]}
                if program == "solve":
                    arguments = (basis, parameters)
                    placed = jax.device_put(arguments, compiled.input_shardings[0])
                    steps = np.asarray(compiled(*placed)[1]).reshape(count, -1)
                    row["steps_of_one"] = float(steps.sum(1).max() / steps.sum())
                yield row


def _measured(compiled: Any) -> dict[str, float]:
    """Of one device: XLA's estimate of operations, and what it sets aside, in bytes."""
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    return {
        "flops": cost["flops"],
        "accessed": cost["bytes accessed"],
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
    }


if __name__ == "__main__":
    for found in rows(*map(int, sys.argv[1:])):
        print(json.dumps(found), flush=True)
