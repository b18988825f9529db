"""Multigrid with learned smoothing beside the same cycle without."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np

import sciml
from sciml.linear import AbstractPreconditioner
from sciml.preconditioners import (
    ByStrength,
    Chebyshev,
    LearnedMultigrid,
    Multigrid,
    PerLevel,
    Pretrained,
)

from .._mixtures import KINDS, EllipticMixture
from ._methods import PyAMG
from ._systems import System

Row = dict[str, Any]

_GRID = tuple((d, low) for d in (1, 2, 3, 4) for low in (0.25, 0.12))
_LEVELS = PerLevel(tuple(Chebyshev(d, 1 / (1 + d**2)) for d in (2, 3, 5)))
_LEARNED = "learned"
_FULL = "untrained"


def bench_learned_multigrid(
    points: int = 127,
    builder: AbstractPreconditioner | None = None,
    *,
    kinds: Sequence[str] = KINDS,
    count: int = 20,
    repeats: int = 5,
    rtol: float = 1e-8,
    every: bool = True,
    amg: bool = False,
    seed: int = 7,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Steps and times of CG with a learned cycle, and with cycles that are not.

    Systems are those of `problems.EllipticMixture`, right-hand sides standard normals,
    x₀ = 0. Set-up and solve are timed without compilation, medians of `repeats` rounds
    in which all methods take turns.

    **Arguments:**

    - `points`: nodes per axis.
    - `builder`: the learned one; default `sciml.pretrained("two-phase-2d")`.
    - `kinds`: of systems.
    - `count`: systems, the kinds taking turns.
    - `repeats`: rounds.
    - `rtol`: of the true residual.
    - `every`: search the smoothers of the untrained cycle (degrees 1 to 4, intervals
        from 0.25 and 0.12), not only the default one; and the cycles that coarsen along
        strong couplings first without anything learned.
    - `amg`: PyAMG's two hierarchies with its CG, too.
    - `seed`: of systems.

    **Returns:** a row for each kind and method with `kind`, `method`, `unknowns`,
    `systems`, `converged`, `median` and `worst` number of steps, `products` (of one
    last system's cycle, in entries that smoothing reads over those of A, None where
    it is not ours),
    `setup_time`, `solve_time` (medians over systems), and `speedup`: the time of the
    best untrained cycle of this kind, set-up and solve, over this method's; medians
    over systems.
    """
    mixture = EllipticMixture((points, points), tuple(kinds))
    learned = sciml.pretrained("two-phase-2d") if builder is None else builder
    builders = _builders(learned, every)
    keys = list(enumerate(jr.split(jr.key(seed), count)))
    products: dict[tuple[str, str], float | None] = {}
    measured: dict[str, dict[str, list[dict[str, float]]]] = {}
    for number, kind in enumerate(kinds):
        of_kind = measured.setdefault(kind, {})
        for index, key in keys[number :: len(kinds)]:
            A, b = mixture.sample(index, key)[1], mixture.vector(key)
            runs: dict[str, Any] = {
                name: _Ours(builder, A, b, rtol) for name, builder in builders.items()
            }
            if amg:
                runs |= _amg(A, b, rtol)
            found: dict[str, list[dict[str, float]]] = {}
            for _ in range(repeats):
                for name, run in runs.items():
                    found.setdefault(name, []).append(run())
            for name, rounds in found.items():
                facts = {k: float(np.median([r[k] for r in rounds])) for k in rounds[0]}
                products[kind, name] = _products(builders.get(name), A)
                of_kind.setdefault(name, []).append(facts)
        # Hundreds of programs exhaust what a process may map.
        jax.clear_caches()
    rows = []
    for kind, of_kind in measured.items():
        total = {
            name: np.array([f["setup_time"] + f["solve_time"] for f in facts])
            for name, facts in of_kind.items()
        }
        plain = [name for name in of_kind if name.startswith(_FULL)]
        best = min(plain, key=lambda name: total[name].sum())
        for name, facts in of_kind.items():
            steps = [f["steps"] for f in facts if f["converged"]]
            row = {
                "kind": kind,
                "method": name,
                "unknowns": points**2,
                "systems": len(facts),
                "converged": int(sum(f["converged"] for f in facts)),
                "median": float(np.median(steps)) if steps else None,
                "worst": max(steps, default=None),
                "products": products[kind, name],
                "setup_time": float(np.median([f["setup_time"] for f in facts])),
                "solve_time": float(np.median([f["solve_time"] for f in facts])),
                "best_untrained": best,
                "speedup": float(np.median(total[best] / total[name])),
            }
            rows.append(row)
            if on_row is not None:
                on_row(row)
    return rows


def _builders(learned: AbstractPreconditioner, every: bool) -> dict[str, Any]:
    found: dict[str, Any] = {_LEARNED: learned, f"{_FULL}, Multigrid()": Multigrid()}
    if every:
        for degree, lower in _GRID:
            name = f"{_FULL}, degree {degree} from {lower}"
            found[name] = Multigrid(Chebyshev(degree, lower))
        by_strength = ByStrength()
        found["by strength"] = Multigrid(coarsening=by_strength)
        found["by strength, more per level"] = Multigrid(
            _LEVELS, coarsening=by_strength
        )
    return found


# One program for each builder and shape; values are arguments.
@eqx.filter_jit
def _solve(A, b, M, solver):
    return sciml.linear_solve(A, b, solver, preconditioner=M, throw=False)


class _Ours:
    """Set-up and solve of one system with one builder."""

    def __init__(self, builder: AbstractPreconditioner, A: Any, b: Any, rtol: float):
        self.builder, self.A, self.b = builder, A, b
        self.solver = sciml.CG(rtol=rtol, atol=0.0, max_steps=500)
        self()  # compiles

    def __call__(self) -> dict[str, float]:
        start = time.perf_counter()
        M = self.builder.build(self.A)
        jax.block_until_ready(eqx.filter(M, eqx.is_array))
        middle = time.perf_counter()
        solution = _solve(self.A, self.b, M, self.solver)
        jax.block_until_ready(solution.value)
        return {
            "setup_time": middle - start,
            "solve_time": time.perf_counter() - middle,
            "steps": float(solution.stats["num_steps"]),
            "converged": float(solution.result == sciml.RESULTS.successful),
        }


def _amg(A: Any, b: Any, rtol: float) -> dict[str, Callable[[], dict[str, float]]]:
    import pyamg

    def run(method: PyAMG) -> dict[str, float]:
        start = time.perf_counter()
        state = method.set_up()
        middle = time.perf_counter()
        found = method.solve(state, rtol)
        stop = time.perf_counter()
        residual = method.vector - method.matrix @ found["value"]
        small = np.linalg.norm(residual) <= 1.01 * rtol * np.linalg.norm(method.vector)
        return {
            "setup_time": middle - start,
            "solve_time": stop - middle,
            "steps": float(found["iterations"]),
            "converged": float(small),
        }

    methods = {
        "PyAMG Ruge-Stüben": pyamg.ruge_stuben_solver,
        "PyAMG aggregation": pyamg.smoothed_aggregation_solver,
    }
    system = System(A, b)
    return {
        name: functools.partial(run, PyAMG(system, build))
        for name, build in methods.items()
    }


def _products(builder: Any, A: Any) -> float | None:
    """Entries that the smoothing of one cycle reads, over those of A."""
    if isinstance(builder, Pretrained):
        builder = builder.learned
    if isinstance(builder, LearnedMultigrid):
        builder = builder.cycle()
    if not isinstance(builder, Multigrid):
        return None
    builder = dataclasses.replace(builder, coarsening=builder.coarsening.decide(A))
    levels, _ = eqx.filter_eval_shape(builder.hierarchy, A)
    entries = lambda s: (1 + 2 * len(s.offsets)) * s.diagonal.size
    work = sum(
        2 * len(level.smoothing.numbers) * entries(level.stencil) for level in levels
    )
    return work / entries(A.stencil)
