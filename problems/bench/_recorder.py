"""What recording, and charging for, the steps of a solve costs."""

import contextlib
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from sciml.evaluation import paired
from sciml.neural_odes import (
    ErrorEstimate,
    Joint,
    RecordHeuristics,
    TimeMLP,
    UnrolledRungeKutta,
    heuristics_of,
    regularised_diffeqsolve,
)

from ._torch_peer import TorchPeer

Row = dict[str, Any]

_TOLERANCE = 1e-6
# Two solves with steps of their own: ten times the tolerance, and three digits.
_VALUES_AGREE, _GRADIENTS_AGREE = 10 * _TOLERANCE, 1e-3
_COMPILATIONS = 3
# Seconds.
_SETTLING = 0.3


def bench_recorder(
    fields: Sequence[str] = ("2-50-2", "64-100-64"),
    batches: Sequence[int] = (1, 128),
    *,
    repeats: int = 31,
    torch: str | None = None,
    seed: int = 7,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Solves of one neural ODE in turns: plain, recorded, priced, and unrolled.

    y' = f(t, y) on [0, 1] with a `TimeMLP` for f, tanh, a batch of standard normal y(0)
    as one state; Dopri5 with rtol = atol = 1e-6 in the default precision, float64 on
    the command line. The programs, each compiled as a whole, are the solve ("forward")
    and the gradient with respect to the parameters of f ("gradient") of Σ y(1), to
    which `regularised_diffeqsolve` adds 0.1 times `ErrorEstimate()`. "Unrolled" is
    `UnrolledRungeKutta`.

    With `torch`, torchdiffeq and torchode solve the same problem with Dopri5 and the
    same weights, in a process on the same cores that measures its rounds between ours.
    Ratios among ours are of rounds of their own, without torch.
    torchdiffeq takes the same steps for the whole batch, as we do; torchode has steps
    of its own for each sample. Both are differentiated through their operations, and
    run as they are or with `torch.compile`, on one thread or all, whichever is fastest.

    **Arguments:**

    - `fields`: as SIZE-WIDTH-SIZE.
    - `batches`: how many samples.
    - `repeats`: rounds; times are medians, ratios medians of those of a round.
    - `torch`: the interpreter of an environment with torch, torchdiffeq and torchode.
    - `seed`: of weights and initial values.
    - `on_row`: called with each row when it is complete.

    **Returns:** rows with `field`, `batch`, `method`, `program`, `num_steps`, `nfe`;
    `time`, of a compiled call, and `compile_time`, of tracing and compiling from empty
    caches, in seconds; `ratio`, of `time` to plain Diffrax's. With `torch` also
    `torchdiffeq_time` and `torchode_time`, of the solve and of the gradient of Σ y(1);
    `torchdiffeq_ratio` and `torchode_ratio`, theirs over ours, above 1 where ours is
    faster; `agrees`, whether their y(1) is ours to 1e-5 (1 + |y|), and their gradient
    to 1e-3 of its norm; and `torch`, what else there is to know: whose steps they are,
    evaluations, settings, differences.

    **Raises:** `ValueError` for a field, batch or number of repeats that makes no
    sense.
    """
    check_recorder(fields, batches, repeats)
    rows: list[Row] = []
    for size, width in map(_sizes, fields):
        for batch in batches:
            for row in _case(size, width, batch, repeats, torch, seed):
                rows.append(row)
                if on_row is not None:
                    on_row(row)
    return rows


def check_recorder(fields: Sequence[str], batches: Sequence[int], repeats: int) -> None:
    """Raise `ValueError` for arguments with which `bench_recorder` cannot begin."""
    for field in fields:
        _sizes(field)
    if not fields or not batches or min(*batches, repeats) < 1:
        raise ValueError(
            "recorder: needs a field, a batch and a round, all at least 1."
        )


def _sizes(field: str) -> tuple[int, int]:
    parts = re.fullmatch(r"([1-9]\d*)-([1-9]\d*)-\1", field)
    if parts is None:
        raise ValueError(f"recorder: expected a field such as 2-50-2, got {field!r}.")
    return int(parts[1]), int(parts[2])


def _case(
    size: int, width: int, batch: int, repeats: int, torch: str | None, seed: int
) -> list[Row]:
    keys = jr.split(jr.key(seed))
    network = TimeMLP(size, width, key=keys[0])
    parameters, static = eqx.partition(Joint(network), eqx.is_array)
    y0 = jr.normal(keys[1], (batch, size))
    programs = _programs(static)
    compiling, compiled = _compile(
        programs, (parameters, y0), min(repeats, _COMPILATIONS)
    )
    calls: dict[str, Callable] = {
        name: lambda program=program: program(parameters, y0)
        for name, program in compiled.items()
    }
    times = paired(calls, (parameters, y0), repeats)
    theirs, rounds, ours = {}, [], times
    if torch is not None:
        with TorchPeer(torch, _problem(network, y0)) as peer:

            def measure():
                peer.measure()
                # Its threads look for work for a while, on the cores of the next one,
                time.sleep(_SETTLING)

            # and the caches are its own. That is nobody else's fault.
            settle = calls["diffrax forward"]
            ours = paired({"torch": measure, "settle": settle} | calls, (), repeats)
            theirs, rounds = peer.facts["peers"], peer.rounds[-repeats:]
    plain = times["diffrax gradient"].value
    facts = {name: _compared(theirs[name], plain) for name in theirs}
    evaluations = times["RecordHeuristics forward"].value[1]["nfe"]
    rows = []
    for program in programs:
        method, kind = program.rsplit(maxsplit=1)
        timing, base = times[program], times[f"diffrax {kind}"]
        row = {
            "field": f"{size}-{width}-{size}",
            "batch": batch,
            "method": method,
            "program": kind,
            "num_steps": int(timing.value[1]["num_steps"]),
            "nfe": int(evaluations),
            "time": timing.run_time,
            "compile_time": compiling[program],
            "ratio": _median_ratio(timing.times, base.times),
        }
        for name in theirs:
            spent = [measured[name][kind] for measured in rounds]
            row[f"{name}_time"] = statistics.median(spent)
            row[f"{name}_ratio"] = _median_ratio(spent, ours[program].times)
        if theirs:
            row["agrees"] = all(fact["agrees"] for fact in facts.values())
            row["torch"] = facts
        rows.append(row)
    return rows


def _programs(static: Any) -> dict[str, Callable]:
    """By "method kind": functions of parameters and y(0) to a value and facts."""
    controller = dfx.PIDController(rtol=_TOLERANCE, atol=_TOLERANCE)
    interval, looped = (0.0, 1.0, None), dfx.Dopri5()
    unrolled = UnrolledRungeKutta(looped)

    def plain(solver, field, y0):
        solution = dfx.diffeqsolve(
            dfx.ODETerm(field),
            solver,
            *interval,
            y0,
            stepsize_controller=controller,
        )
        return solution, 0.0, {}

    def recorded(field, y0):
        solution = dfx.diffeqsolve(
            dfx.ODETerm(field),
            RecordHeuristics(looped),
            *interval,
            y0,
            stepsize_controller=controller,
            saveat=dfx.SaveAt(t1=True, solver_state=True),
        )
        # Returned, or XLA would leave out what is to be measured. (Each more of them
        # takes some microseconds to hand over.)
        heuristics = heuristics_of(solution)
        sums = heuristics.error_estimate, heuristics.stiffness
        return solution, 0.0, {"nfe": heuristics.nfe, "sums": sums}

    def priced(solver, field, y0):
        solution, penalty = regularised_diffeqsolve(
            dfx.ODETerm(field),
            solver,
            *interval,
            y0,
            penalty=ErrorEstimate(),
            stepsize_controller=controller,
        )
        return solution, penalty, {}

    def loss(solve):
        def value(parameters, y0):
            solution, penalty, facts = solve(eqx.combine(parameters, static), y0)
            facts |= {"y1": solution.ys[-1], "num_steps": solution.stats["num_steps"]}
            return jnp.sum(solution.ys[-1]) + 0.1 * penalty, facts

        return value

    methods = {
        "diffrax": loss(partial(plain, looped)),
        "RecordHeuristics": loss(recorded),
        "regularised_diffeqsolve": loss(partial(priced, looped)),
        "UnrolledRungeKutta": loss(partial(plain, unrolled)),
        "regularised, unrolled": loss(partial(priced, unrolled)),
    }
    forward = {f"{name} forward": value for name, value in methods.items()}
    return forward | {
        f"{name} gradient": jax.grad(value, has_aux=True)
        for name, value in methods.items()
    }


def _compile(
    programs: dict[str, Callable], arguments: tuple, repeats: int
) -> tuple[dict[str, float], dict[str, Callable]]:
    """Seconds from empty caches, medians of a few in turns; and what was compiled.

    Methods share parts, which JAX traces once: what comes second would seem cheap.
    """
    spent: dict[str, list[float]] = {name: [] for name in programs}
    compiled: dict[str, Callable] = {}

    def compile_anew(name: str) -> float:
        eqx.clear_caches()
        jax.clear_caches()
        start = time.perf_counter()
        compiled[name] = jax.jit(programs[name]).lower(*arguments).compile()
        return time.perf_counter() - start

    with _nothing_cached_on_disk():
        # What a process does once, such as loading modules, is on nobody's account.
        compile_anew(next(iter(programs)))
        for _ in range(repeats):
            for name in programs:
                spent[name].append(compile_anew(name))
    return {name: statistics.median(times) for name, times in spent.items()}, compiled


@contextlib.contextmanager
def _nothing_cached_on_disk() -> Iterator[None]:
    """Without JAX's persistent cache, where there is one."""
    before = jax.config.values["jax_enable_compilation_cache"]
    # (JAX decides once whether it uses the cache, unless it is reset.)
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def _problem(field: TimeMLP, y0: jax.Array) -> Row:
    layers = [(layer.weight, layer.bias) for layer in field.layers]
    return {
        "layers": [[np.asarray(part).tolist() for part in layer] for layer in layers],
        "y0": np.asarray(y0).tolist(),
        "rtol": _TOLERANCE,
        "atol": _TOLERANCE,
    }


def _compared(peer: Row, plain: tuple[Any, Row]) -> Row:
    """A peer's facts, its values replaced by how far they are from ours."""
    gradient, facts = plain
    ours, theirs = np.asarray(facts["y1"]), np.asarray(peer["value"])
    differences = np.abs(ours - theirs)
    scaled = float(np.max(differences / (1 + np.abs(ours))))
    layers = gradient.field.layers
    parts = [(p.weight[:, :-1], p.weight[:, -1], p.bias) for p in layers]
    ours = np.concatenate([np.ravel(part) for layer in parts for part in layer])
    theirs = np.concatenate(peer["gradient"])
    apart = float(np.linalg.norm(ours - theirs) / np.linalg.norm(ours))
    return {
        **{k: v for k, v in peer.items() if k not in ("value", "gradient")},
        "difference": float(np.max(differences)),
        "gradient_difference": apart,
        "agrees": scaled <= _VALUES_AGREE and apart <= _GRADIENTS_AGREE,
    }


def _median_ratio(times: Sequence[float], of: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(times, of, strict=True))
