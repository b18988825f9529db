"""Deep conjugate directions beside CG and multigrid, on Poisson's equation."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np

import sciml
from sciml.grids import Grid
from sciml.linear import FlexibleCG, diffusion_operator, with_obstacle
from sciml.preconditioners import (
    DeepConjugateDirections,
    Multigrid,
    SharedLevelDirections,
)

from .._surrogate import in_float32

Row = dict[str, Any]

_RTOL = 1e-8


def bench_deep_directions(
    models: Mapping[str, DeepConjugateDirections],
    *,
    ndim: int = 3,
    sizes: Sequence[int] = (32, 64),
    num_vectors: int = 20,
    cap: int = 500,
    obstacles: bool = False,
    seed: int = 7,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Steps and times of CG, CG with multigrid, and flexible CG with networks.

    −Δu = f on the unit box with Dirichlet sides, in float64; right-hand sides are
    independent standard normals, the same for all methods, and x starts at zero.
    Residuals are recomputed here.

    **Arguments:**

    - `models`: trained ones by name. `SharedLevelDirections` without training are
        measured as well.
    - `ndim`: axes.
    - `sizes`: nodes per axis.
    - `num_vectors`: right-hand sides.
    - `cap`: maximal number of steps.
    - `obstacles`: cut a box out of the domain, another one for each right-hand side.
    - `seed`: of right-hand sides and boxes.
    - `on_row`: called with each row when it is complete.

    **Returns:** rows with `points` (per axis), `method`, `median_1e4`, `median_1e8` and
    `worst_1e8` (steps to relative residuals of 1e-4 and 1e-8, None where one missed
    it), `converged`, `relative_residual` (the worst), `of_cg` (the median to 1e-8 over
    CG's), `solve_time` (median, in seconds, set-up and compilation apart) and
    `compile_time`.
    """
    untrained = SharedLevelDirections(ndim, 1, key=jr.key(0))
    methods: dict[str, Any] = {
        "CG": None,
        "CG + Multigrid": Multigrid(),
        "untrained shared levels": in_float32(DeepConjugateDirections(untrained)),
        **models,
    }
    rows = []
    for size in sizes:
        plain = diffusion_operator(1.0, Grid((size,) * ndim))
        systems = [
            _system(plain, obstacles, key)
            for key in jr.split(jr.key(seed), num_vectors)
        ]
        of_cg = None
        for name, builder in methods.items():
            row = {"points": size, "method": name, **_measure(builder, systems, cap)}
            of_cg = row["median_1e8"] if builder is None else of_cg
            steps = row["median_1e8"]
            row["of_cg"] = None if steps is None or not of_cg else steps / of_cg
            rows.append(row)
            if on_row is not None:
                on_row(row)
    return rows


def _system(A: Any, obstacles: bool, key: Any) -> tuple[Any, Any]:
    shape = A.grid.num_points
    b_key, box_key = jr.split(key)
    b = jr.normal(b_key, shape)
    if not obstacles:
        return A, b
    lengths, starts = np.asarray(jr.uniform(box_key, (2, len(shape))))
    obstacle = np.zeros(shape, bool)
    sides = [int(n * (0.2 + 0.3 * x)) for n, x in zip(shape, lengths, strict=True)]
    places = [
        int((n - side) * x) for n, side, x in zip(shape, sides, starts, strict=True)
    ]
    obstacle[tuple(slice(p, p + s) for p, s in zip(places, sides, strict=True))] = True
    return with_obstacle(A, obstacle), b * ~obstacle


def _measure(builder: Any, systems: list, cap: int) -> Row:
    flexible = isinstance(builder, DeepConjugateDirections)
    solver = (FlexibleCG if flexible else sciml.CG)(rtol=_RTOL, max_steps=cap)
    build = lambda A: None if builder is None else builder.build(A)
    solve = lambda A, b, M: sciml.linear_solve(
        A, b, solver, preconditioner=M, throw=False
    )
    (A, b), start = systems[0], time.perf_counter()
    M = build(A)
    run = eqx.filter_jit(solve)
    jax.block_until_ready(run(A, b, M).value)
    compile_time = time.perf_counter() - start
    steps: dict[float, list[int | None]] = {1e-4: [], _RTOL: []}
    times, residuals = [], []
    for A, b in systems:
        M = jax.block_until_ready(build(A))
        start = time.perf_counter()
        solution = run(A, b, M)
        jax.block_until_ready(solution.value)
        times.append(time.perf_counter() - start)
        residual = np.asarray(b - A.mv(solution.value))
        residuals.append(float(np.linalg.norm(residual) / np.linalg.norm(b)))
        history = np.asarray(solution.stats["residual_history"])
        for rtol, found in steps.items():
            met = np.flatnonzero(history <= rtol)
            found.append(int(met[0]) if met.size else None)
        if solution.result != sciml.RESULTS.successful:
            steps[_RTOL][-1] = None
    to = {rtol: [s for s in found if s is not None] for rtol, found in steps.items()}
    all_met = {rtol: len(found) == len(systems) for rtol, found in to.items()}
    median = lambda rtol: float(np.median(to[rtol])) if all_met[rtol] else None
    return {
        "median_1e4": median(1e-4),
        "median_1e8": median(_RTOL),
        "worst_1e8": max(to[_RTOL]) if all_met[_RTOL] else None,
        "converged": len(to[_RTOL]),
        "relative_residual": max(residuals),
        "solve_time": float(np.median(times)),
        "compile_time": compile_time,
    }
