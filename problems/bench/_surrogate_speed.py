"""How fast MgNO and FNO train and predict, beside the same networks in torch."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from sciml.evaluation import paired
from sciml.grids import Dirichlet, Periodic
from sciml.neural_operators import FNO, MgNO

from .._surrogate import in_float32, num_parameters
from ._torch_peer import SURROGATES, TorchPeer

Row = dict[str, Any]

# Seconds in which the other process's threads stop looking for work.
_SETTLING = 0.3


def bench_surrogate_speed(
    *,
    num_points: int = 64,
    batch: int = 8,
    width: int = 24,
    num_modes: int = 16,
    repeats: int = 11,
    torch: str | None = None,
    seed: int = 7,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Forward passes, and gradients of the mean square of the output, in float32.

    MgNO has depth 4 and 6 levels and stored Dirichlet nodes, which makes its
    convolutions those of the published code; the FNO has depth 4 and `num_modes`. With
    `torch` the same MgNO with the same weights, and neuraloperator's FNO of the same
    width, depth and frequencies without its extra perceptrons, run in a process on the
    same cores, whose rounds are measured between ours; as they are, with channels last
    and with `torch.compile`, whichever is fastest.

    **Arguments:**

    - `num_points`: nodes per axis; even as often as there are levels.
    - `batch`: samples.
    - `width`: channels of both.
    - `num_modes`: of the FNO.
    - `repeats`: rounds; times are medians, ratios medians of those of a round.
    - `torch`: the interpreter of an environment with torch and neuraloperator.
    - `seed`: of weights and inputs.
    - `on_row`: called with each row when it is complete.

    **Returns:** rows with `model`, `program`, `parameters`, `time`, `compile_time`, and
    with `torch` also `torch_time`, `torch_parameters`, `torch_ratio` (ours over theirs:
    below 1 where ours is faster), `torch_setting`, and for MgNO `difference`, the
    largest of the outputs relative to their size.
    """
    keys = jr.split(jr.key(seed), 3)
    models = {
        "mgno": MgNO(
            2, 1, 1, width=width, boundary=Dirichlet(stored=True), key=keys[0]
        ),
        "fno": FNO(
            2, 1, 1, width=width, num_modes=num_modes, boundary=Periodic(), key=keys[1]
        ),
    }
    models = {name: in_float32(model) for name, model in models.items()}
    x = jr.normal(keys[2], (batch, 1, num_points, num_points), jnp.float32)
    calls: dict[str, Callable] = {}
    for name, model in models.items():
        calls |= _calls(name, model, x)
    # The first calls compile.
    compiling = {name: timing.compile_time for name, timing in _each(calls)}
    theirs, rounds, ours = None, [], []
    if torch is not None:
        problem = _problem(models["mgno"], x, width, num_modes)
        with TorchPeer(torch, problem, SURROGATES) as peer:
            theirs = peer.facts["peers"]
            for _ in range(repeats):
                peer.measure()
                time.sleep(_SETTLING)
                ours.append(_seconds(calls))
            rounds = peer.rounds
    else:
        ours = [_seconds(calls) for _ in range(repeats)]
    rows = []
    for call in calls:
        name, program = call.split()
        times = [round[call] for round in ours]
        row: Row = {
            "model": name,
            "program": program,
            "parameters": num_parameters(models[name]),
            "time": statistics.median(times),
            "compile_time": compiling[call],
        }
        if theirs is not None:
            other = [round[name][program] for round in rounds]
            pairs = zip(times, other, strict=True)
            row["torch_time"] = statistics.median(other)
            row["torch_parameters"] = theirs[name]["parameters"]
            row["torch_ratio"] = statistics.median(a / b for a, b in pairs)
            row["torch_setting"] = theirs[name]["settings"][program]["fastest"]
            if name == "mgno":
                row["difference"] = _difference(models[name], x, theirs[name]["value"])
        rows.append(row)
        if on_row is not None:
            on_row(row)
    return rows


def _calls(name: str, model: Any, x: jax.Array) -> dict[str, Callable]:
    parameters, static = eqx.partition(model, eqx.is_inexact_array)

    def predict(parameters, x):
        return jax.vmap(eqx.combine(parameters, static))(x)

    forward = jax.jit(predict)
    gradient = jax.jit(jax.grad(lambda p, x: jnp.mean(predict(p, x) ** 2)))
    return {
        f"{name} forward": lambda: forward(parameters, x),
        f"{name} gradient": lambda: gradient(parameters, x),
    }


def _each(calls: dict[str, Callable]):
    timing = paired(calls, repeats=1)
    return [(name, timing[name]) for name in calls]


def _seconds(calls: dict[str, Callable]) -> dict[str, float]:
    timing = paired(calls, repeats=1, warmup=0)
    # (The first call of `paired` is not the first one of the program.)
    return {name: timing[name].run_time for name in calls}


def _difference(model: Any, x: jax.Array, value: list[float]) -> float:
    """At the nodes inside: those of the boundary are imposed here, and not there."""
    ours = np.asarray(jax.jit(jax.vmap(model))(x))
    theirs = np.asarray(value, np.float32).reshape(ours.shape)
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    gap = np.abs(ours[inside] - theirs[inside]).max()
    return float(gap / np.abs(theirs[inside]).max())


def _problem(model: MgNO, x: jax.Array, width: int, num_modes: int) -> Row:
    weights = {}

    def put(name: str, weight: Any) -> None:
        weights[name] = np.asarray(weight).tolist()

    for k, layer in enumerate(model.layers):
        cycle = layer.multigrid
        steps = [level.pre for level in cycle.levels] + [cycle.coarsest]
        for l, level in enumerate(steps):
            place = f"cycles.{k}"
            operators = [step.operator for step in level if step.operator is not None]
            for i, operator in enumerate(operators):
                put(f"{place}.A.{l}.{i}.weight", operator.weight)
            for i, step in enumerate(level):
                put(f"{place}.S.{l}.{i}.weight", step.smoother.weight)
        for l, level in enumerate(cycle.levels):
            transfer: Any = level.restriction
            put(f"cycles.{k}.Pi.{l}.weight", transfer.restrict_u.weight)
            put(f"cycles.{k}.R.{l}.weight", transfer.restrict_f.weight)
            # Torch has the channels of a transposed convolution the other way round.
            prolongation = jnp.swapaxes(level.prolongation.weight, 0, 1)
            put(f"cycles.{k}.P.{l}.weight", prolongation)
        put(f"pointwise.{k}.weight", layer.pointwise.weight)
        put(f"pointwise.{k}.bias", layer.pointwise.bias)
    put("output.weight", model.output.weight)
    sizes = {"width": width, "depth": model.depth, "levels": model.num_levels}
    return {
        "mgno": {**sizes, "weights": weights},
        "fno": {"width": width, "depth": 4, "modes": num_modes},
        "inputs": np.asarray(x).tolist(),
    }
