"""Relaxation parameters chosen while a sequence of systems is solved."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
import numpy as np
from jaxtyping import Array

import sciml
from sciml.linear import DiagonalsOperator, Stationary, from_scipy
from sciml.preconditioners import (
    AbstractRelaxation,
    AroundYoung,
    ChebCB,
    FixedOmega,
    PublishedNewton,
    RelaxationPlan,
    ResponseSurface,
    TsallisINF,
    TsallisINFContextual,
    Young,
)

from .._heat import HeatSequence

Row = dict[str, Any]

_FIXED = (1.0, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8)
# Of all 5000 steps, by a port of the authors' programs to NumPy with one seed.
_FULL = 5000
_RERUN = {
    "CG": (85422, 164441, 325008),
    "omega 1.0": (32793, 60733, 117578),
    "Young": (24038, 34479, 49184),
    "Tsallis-INF (published)": (33350, 48795, 75778),
    "Tsallis-INF-CB (published)": (31340, 46333, 69072),
    "ChebCB": (24928, 35542, 52005),
}
_INTERVALS = (25, 50, 100)


@dataclasses.dataclass(frozen=True)
class _Sequence:
    """Systems one after the other.

    `system(step, u, key)` gives A, b and the context, u being the last solution;
    `solve(A, b, M, u)` a solution, where M is what `relax(plan, A, omega)` made.
    """

    name: str
    size: int
    interval: tuple[float, float]
    num_bins: int
    start: Array
    system: Callable[[Any, Array, Array], tuple]
    relax: Callable[[RelaxationPlan, lx.AbstractLinearOperator, Array], Any]
    solve: Callable[..., Any]


def bench_relaxation(
    *,
    intervals: Sequence[int] = (25, 50),
    steps: int = _FULL,
    seeds: int = 2,
    seed: int = 7,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Steps of SSOR-CG and of SOR over sequences of systems, ω chosen on the way.

    `heat`: the systems of `HeatSequence`, each started from the last solution, to a
    relative residual of 1e-8; the context is κ. `low` and `high`: A + cI with A the
    five-point Laplacian of 10 × 10 nodes (4 on its diagonal), c = −0.15 + 0.6 times a
    Beta(2, 6) or Beta(½, 1½) variable, b ~ N(0, I) with ‖b‖ ≤ √n, by SOR from zero;
    the context is c.

    The rivals: CG without M, eight fixed ω, the best of which is known afterwards only,
    and Young's closed form, which learns nothing. "published" are the bandits with the
    Newton start of the authors' program.

    **Arguments:**

    - `intervals`: 1/h of each heat sequence.
    - `steps`: systems of each sequence: the first so many.
    - `seeds`: runs of each method that draws.
    - `seed`: of the first.
    - `on_row`: called with each row when it is complete.

    **Returns:** rows with `sequence`, `unknowns`, `method`, `total` (steps of all
    solves, mean over the seeds), `most` (of one seed), `of_young` (total over that of
    Young's form), `rerun` (the total of a port of the authors' programs, None where
    there is none), `failures` (solves that missed the tolerance) and `run_time` (of a
    sequence in seconds, median over the seeds, compilation apart).
    """
    rows = []
    for sequence in [*map(_heat, intervals), _shifted("low"), _shifted("high")]:
        A, *_ = sequence.system(jnp.asarray(0), sequence.start, jr.key(seed))
        plan = RelaxationPlan(A)
        young, programs = None, {}
        for name, method in _methods(sequence).items():
            state = () if method is None else method.init(A)
            kind = "fixed" if isinstance(method, FixedOmega) else name
            if kind not in programs:
                programs[kind] = _program(sequence, plan, method, state, steps)
            draws = not isinstance(method, Young | FixedOmega | None)
            keys = map(jr.key, range(seed, seed + (seeds if draws else 1)))
            runs = [_run(programs[kind], state, key) for key in keys]
            totals = [run["total"] for run in runs]
            young = young or float(np.mean(totals))
            row = {
                "sequence": sequence.name,
                "unknowns": sequence.size,
                "method": name,
                "total": float(np.mean(totals)),
                "most": max(totals),
                "of_young": float(np.mean(totals)) / young,
                "rerun": _rerun(sequence, name, steps),
                "failures": sum(run["failures"] for run in runs),
                "run_time": float(np.median([run["run_time"] for run in runs])),
            }
            rows.append(row)
            if on_row is not None:
                on_row(row)
    return rows


def _methods(sequence: _Sequence) -> dict[str, AbstractRelaxation | None]:
    """By name; None is no preconditioner. Young first: the others are in its units."""
    interval, num_bins = sequence.interval, sequence.num_bins
    published = PublishedNewton()
    methods: dict[str, AbstractRelaxation | None] = {"Young": Young()}
    if sequence.name.startswith("heat"):
        methods["CG"] = None
    methods |= {f"omega {value}": FixedOmega(value) for value in _FIXED}
    return methods | {
        "Tsallis-INF (published)": TsallisINF(newton=published),
        "Tsallis-INF": TsallisINF(),
        "Tsallis-INF-CB (published)": TsallisINFContextual(
            interval, num_bins, newton=published
        ),
        "Tsallis-INF-CB": TsallisINFContextual(interval, num_bins),
        "ChebCB": ChebCB(interval),
        "response surface": ResponseSurface(interval),
        "Young + Tsallis-INF": TsallisINF(omegas=AroundYoung()),
        "Young + ChebCB": ChebCB(interval, omegas=AroundYoung()),
        "Young + response surface": ResponseSurface(
            interval, num_features=6, context_length=0.5, omegas=AroundYoung()
        ),
    }


def _program(
    sequence: _Sequence,
    plan: RelaxationPlan,
    method: AbstractRelaxation | None,
    state: Any,
    steps: int,
) -> Callable[[Any, Array], Any]:
    """The whole sequence, compiled, as a function of the first state and a key."""

    def advance(carry, inputs):
        u, state = carry
        step, system_key, key = inputs
        A, b, context = sequence.system(step, u, system_key)
        M = None
        if method is not None:
            omega, state = method.choose(state, context, A, key=key)
            M = sequence.relax(plan, A, omega)
        solution = sequence.solve(A, b, M, u)
        num_steps = solution.stats["num_steps"]
        if method is not None:
            state = method.update(state, num_steps)
        met = solution.result == sciml.RESULTS.successful
        return (solution.value, state), (num_steps, met)

    @jax.jit
    def run(state, key):
        # The systems of a seed are the same for all methods.
        keys = [jr.split(jr.fold_in(key, k), steps) for k in range(2)]
        inputs = (jnp.arange(steps), *keys)
        _, out = jax.lax.scan(advance, (sequence.start, state), inputs)
        return out

    return run.lower(state, jr.key(0)).compile()


def _run(program: Callable[[Any, Array], Any], state: Any, key: Array) -> Row:
    start = time.perf_counter()
    counts, met = jax.block_until_ready(program(state, key))
    return {
        "total": int(counts.sum()),
        "failures": int(met.size - met.sum()),
        "run_time": time.perf_counter() - start,
    }


def _rerun(sequence: _Sequence, name: str, steps: int) -> int | None:
    known = {f"heat {n}": k for k, n in enumerate(_INTERVALS)}
    if steps != _FULL or sequence.name not in known or name not in _RERUN:
        return None
    return _RERUN[name][known[sequence.name]]


def _heat(num_intervals: int) -> _Sequence:
    problem = HeatSequence(num_intervals)
    solver = sciml.CG(rtol=1e-8, history_length=1)
    return _Sequence(
        name=f"heat {num_intervals}",
        size=(num_intervals - 1) ** 2,
        interval=(0.0, 10.0),
        num_bins=6,
        start=problem.initial(),
        system=lambda step, u, key: (*problem.system(step, u), problem.context(step)),
        relax=lambda plan, A, omega: plan.ssor(A, omega),
        solve=lambda A, b, M, u: sciml.linear_solve(
            A, b, solver, preconditioner=M, x0=u, throw=False
        ),
    )


def _shifted(variance: str) -> _Sequence:
    import scipy.sparse as sp

    alpha, beta = {"low": (2.0, 6.0), "high": (0.5, 1.5)}[variance]
    nodes = 10
    line = sp.csr_array(2 * np.eye(nodes) - np.eye(nodes, k=1) - np.eye(nodes, k=-1))
    A = from_scipy(sp.kronsum(line, line).tocsr(), lx.positive_semidefinite_tag)
    assert isinstance(A, DiagonalsOperator)
    middle = A.offsets.index(0)
    # With ω = 1 the hardest of these systems take thousands of steps.
    solver = Stationary(rtol=1e-8, max_steps=20_000, history_length=1)

    def system(step, u, key):
        del step, u
        shift_key, key = jr.split(key)
        context = -0.15 + 0.6 * jr.beta(shift_key, alpha, beta)
        values = A.values.at[middle].add(context)
        shifted = DiagonalsOperator(A.offsets, values, A.tags)
        # Half of all draws are short enough.
        draws = jr.normal(key, (32, nodes**2))
        short = jnp.sum(draws**2, axis=1) <= nodes**2
        return shifted, draws[jnp.argmax(short)], context

    return _Sequence(
        name=variance,
        size=nodes**2,
        interval=(-0.15, 0.45),
        num_bins=5,
        start=jnp.zeros(nodes**2),
        system=system,
        relax=lambda plan, A, omega: plan.sor(A, omega),
        solve=lambda A, b, M, u: sciml.linear_solve(
            A, b, solver, preconditioner=M, throw=False
        ),
    )
