"""Hard constraints: what couplings reach, and what solving in parts costs."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
import numpy as np
import optimistix as optx
from jaxtyping import Array

from sciml import RESULTS
from sciml.constraints import (
    C0,
    C1,
    AbstractCoupling,
    GramLevenbergMarquardt,
    GridPartition,
    HardConstraint,
    LinearLeastSquares,
    MixtureOfExperts,
    Schwarz,
    Side,
    Uncoupled,
)

Row = dict[str, Any]

_VALUE = lambda terms, source: terms["u"]
_MATCHED = lambda basis: basis["u"]
_COUPLINGS: dict[str, AbstractCoupling] = {
    "Uncoupled (published)": Uncoupled(),
    "C0": C0(),
    "C1": C1(),
    "Schwarz": Schwarz(num_sweeps=100),
}


def bench_constraints(
    *,
    draws: int = 10,
    points: Sequence[int] = (2000, 8000, 32000),
    repeats: int = 5,
    seed: int = 7,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Couplings on Poisson's equation, solvers, and mixtures at equal total points.

    Three kinds of rows:

    - `problem` is Poisson's equation with Dirichlet sides, −u″ = f for sin πx + 0.3 sin
      7πx on 257 nodes with 16 random features tanh(ax + b), and −Δu = f for sin πx sin
      2πy on 65² nodes with 48: per coupling and number of `experts` the `median` and
      `worst` relative L2 error over random bases, the root mean square jump at seams
      over that of the field, `seam_jump`, and how many experts of all draws were
      `successful`, of so many `solves`. Boxes of `Schwarz` overlap by a quarter on
      either side, and are swept over 100 times.
    - `solver`: time of 2u³ − u″ = f with `weights` basis fields at `nodes`: ours and
      optimistix' Levenberg–Marquardt (the default, and with
      `lineax.Normal(lineax.Cholesky())`) to equal tolerance, `solve_time`, `num_steps`,
      `relative_gradient` and `of_ours`, its time over ours.
    - `mixture`: that `equation`, and the linear one without 2u³, in `experts` parts at
      equal total nodes: `converged` experts, `solve_time`, and `of_single`, its time
      over that of one layer.

    **Arguments:**

    - `draws`: of bases.
    - `points`: total nodes of the last kind.
    - `repeats`: of timings; medians, compilation apart.
    - `seed`: of bases.
    - `on_row`: called with each row when it is complete.
    """
    rows: list[Row] = []

    def tell(row: Row) -> None:
        rows.append(row)
        if on_row is not None:
            on_row(row)

    keys = list(jr.split(jr.key(seed), draws))
    for dimensions, counts in ((1, (1, 2, 4, 8)), (2, (1, 2, 4))):
        for name, coupling in _COUPLINGS.items():
            for count in counts:
                tell(_accuracy(dimensions, name, coupling, count, keys))
    for weights, nodes in ((16, 256), (64, 2000)):
        for row in _solvers(weights, nodes, repeats, keys[0]):
            tell(row)
    for total in points:
        for row in _mixtures(total, repeats, keys[0]):
            tell(row)
    return rows


def _accuracy(
    dimensions: int, name: str, coupling: AbstractCoupling, count: int, keys: list
) -> Row:
    source, exact, features = _line() if dimensions == 1 else _square()
    sides = tuple(
        Side(_VALUE, axis, end, weight=100.0)
        for axis in range(dimensions)
        for end in (0, -1)
    )
    layer = HardConstraint(
        lambda terms, source: -terms["laplacian"] - source,
        LinearLeastSquares(),
        sides=sides,
    )
    # A quarter of a box on either side.
    overlap = source.shape[0] // count // 4 if isinstance(coupling, Schwarz) else 0
    partition = GridPartition((count,) * dimensions, overlap=overlap)
    mixture = MixtureOfExperts(layer, partition, coupling, matched=_MATCHED)
    solve = eqx.filter_jit(lambda basis: mixture(basis, source, throw=False))
    errors, jumps, successes = [], [], 0
    for key in keys:
        out = solve(features(key))
        error = jnp.linalg.norm(out.value["u"] - exact) / jnp.linalg.norm(exact)
        errors.append(float(error))
        jumps.append(float(out.stats["seam_jump"]))
        successes += int(jnp.sum(out.result == RESULTS.successful))
    experts = count**dimensions
    return {
        "problem": f"Poisson, {dimensions}-D",
        "coupling": name,
        "experts": experts,
        "median": float(np.median(errors)),
        "worst": max(errors),
        "seam_jump": float(np.median(jumps)),
        "successful": successes,
        "solves": experts * len(keys),
    }


def _line() -> tuple[Array, Array, Callable[[Any], Any]]:
    x = jnp.linspace(0.0, 1.0, 257)
    waves = jnp.sin(jnp.pi * x), jnp.sin(7 * jnp.pi * x)
    source = jnp.pi**2 * (waves[0] + 0.3 * 49 * waves[1])

    def features(key):
        keys = jr.split(key)
        slopes = 8.0 * jr.normal(keys[0], (16, 1))
        shifts = jr.uniform(keys[1], (16, 1), minval=-8.0, maxval=8.0)
        return _tanh(slopes, shifts, x[:, None])

    return source, waves[0] + 0.3 * waves[1], features


def _square() -> tuple[Array, Array, Callable[[Any], Any]]:
    x, y = jnp.meshgrid(*[jnp.linspace(0.0, 1.0, 65)] * 2, indexing="ij")
    exact = jnp.sin(jnp.pi * x) * jnp.sin(2 * jnp.pi * y)
    places = jnp.stack([x.ravel(), y.ravel()], -1)

    def features(key):
        keys = jr.split(key)
        slopes = 5.0 * jr.normal(keys[0], (48, 2))
        shifts = jr.uniform(keys[1], (48, 1), minval=-5.0, maxval=5.0)
        basis = _tanh(slopes, shifts, places)
        return {name: leaf.reshape(48, 65, 65) for name, leaf in basis.items()}

    return 5 * jnp.pi**2 * exact, exact, features


def _tanh(slopes: Array, shifts: Array, places: Array) -> dict[str, Array]:
    """tanh(a·x + b) and its Laplacian, at places `(nodes, axes)`."""
    tanh = jnp.tanh(slopes @ places.T + shifts)
    squares = jnp.sum(slopes**2, 1, keepdims=True)
    return {"u": tanh, "laplacian": -2 * tanh * (1 - tanh**2) * squares}


def _features(nodes: int, weights: int, key: Any) -> tuple[Any, Array]:
    """Features that vanish at the sides, and the source of 2u³ − u″ = f for sin 3πx."""
    x = jnp.linspace(0.0, 1.0, nodes)
    exact = jnp.sin(3 * jnp.pi * x)
    keys = jr.split(key)
    slopes = 6.0 * jr.normal(keys[0], (weights, 1))
    shifts = jr.uniform(keys[1], (weights, 1), minval=-6.0, maxval=6.0)
    tanh = jnp.tanh(slopes * x[None] + shifts)
    first = slopes * (1 - tanh**2)
    second = -2 * slopes * tanh * first
    bubble, slope = x * (1 - x), 1 - 2 * x
    basis = {
        "u": bubble[None] * tanh,
        "laplacian": bubble[None] * second + 2 * slope[None] * first - 2 * tanh,
    }
    return basis, (3 * jnp.pi) ** 2 * exact + 2 * exact**3


def _cubic(terms, source):
    return 2 * terms["u"] ** 3 - terms["laplacian"] - source


def _linear(terms, source):
    return -terms["laplacian"] - source


def _run(model: HardConstraint | MixtureOfExperts, source: Array) -> Any:
    return eqx.filter_jit(lambda basis: model(basis, source, throw=False))


def _solvers(weights: int, nodes: int, repeats: int, key: Any) -> list[Row]:
    basis, source = _features(nodes, weights, key)
    cholesky = lx.Normal(lx.Cholesky())
    solvers: dict[str, Any] = {
        "GramLevenbergMarquardt": GramLevenbergMarquardt(),
        "optimistix LM": optx.LevenbergMarquardt(1e-8, 1e-8),
        "optimistix LM, Cholesky": optx.LevenbergMarquardt(
            1e-8, 1e-8, linear_solver=cholesky
        ),
    }
    layers = {name: HardConstraint(_cubic, s) for name, s in solvers.items()}
    runs = {name: _run(layer, source) for name, layer in layers.items()}
    times = _timed(runs, basis, repeats)
    rows = []
    for name, run in runs.items():
        out = run(basis)
        rows.append(
            {
                "solver": name,
                "weights": weights,
                "nodes": nodes,
                "num_steps": int(out.stats["num_steps"]),
                "relative_gradient": float(out.stats["relative_gradient"]),
                "solve_time": times[name],
                "of_ours": times[name] / times["GramLevenbergMarquardt"],
            }
        )
    return rows


def _mixtures(total: int, repeats: int, key: Any) -> list[Row]:
    basis, source = _features(total, 16, key)
    rows = []
    for equation, layer in (
        ("linear", HardConstraint(_linear, LinearLeastSquares())),
        ("cubic", HardConstraint(_cubic)),
    ):
        models: dict[Any, HardConstraint | MixtureOfExperts] = {("single", 1): layer}
        for experts in (4, 16):
            for name in ("Uncoupled (published)", "C1"):
                models[name, experts] = MixtureOfExperts(
                    layer, GridPartition(experts), _COUPLINGS[name], matched=_MATCHED
                )
        runs = {name: _run(model, source) for name, model in models.items()}
        times = _timed(runs, basis, repeats)
        for name, run in runs.items():
            out = run(basis)
            rows.append(
                {
                    "equation": equation,
                    "mixture": name[0],
                    "experts": name[1],
                    "nodes": total,
                    "converged": int(jnp.sum(out.result == RESULTS.successful)),
                    "num_steps": int(jnp.max(out.stats["num_steps"])),
                    "solve_time": times[name],
                    "of_single": times[name] / times["single", 1],
                }
            )
    return rows


def _timed(runs: dict[Any, Any], basis: Any, repeats: int) -> dict[Any, float]:
    """Median seconds of each, in turns, after a first one that compiles."""
    found: dict[Any, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        jax.block_until_ready(run(basis).value)
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run(basis).value)
            found[name].append(time.perf_counter() - start)
    return {name: float(np.median(times)) for name, times in found.items()}
