"""Train a preconditioner in half a minute, use it, and compare it with the classics.

Run it with `python examples/learned_preconditioner.py`. An incomplete Cholesky factor
is corrected by a small graph network, trained without solutions on systems with a
log-normal coefficient. It is then used on unseen systems, on a finer grid, too, beside
what it started from, and beside multigrid.
"""

import tempfile
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import problems
import sciml
from sciml.grids import LogNormalField, SquaredExponentialField
from sciml.preconditioners import (
    AbstractPreconditioner,
    CorrectedCholesky,
    FactorResidual,
    IncompleteCholesky,
    LevelSchedule,
    Multigrid,
    pack_systems,
)

FIELD = LogNormalField(SquaredExponentialField(variance=1.1))


def main(smoke: bool = False) -> dict[str, float]:
    """Train, save, load, compare; `smoke` takes small grids and a few updates.

    **Returns:** median steps of CG to 1e-8 per method and grid, the time that training
    took, and after how many solves on the finer grid it has paid.
    """
    jax.config.update("jax_enable_x64", True)
    size, num_train, num_steps, num_test = 32, 64, 400, 5
    if smoke:
        size, num_train, num_steps, num_test = 12, 8, 60, 3

    operators = systems(size, num_train, seed=0)
    data, packed = pack_systems(operators)
    model = CorrectedCholesky(width=8 if smoke else 16, key=jr.key(1))
    to_float32 = lambda x: x.astype(jnp.float32) if eqx.is_inexact_array(x) else x
    model = jax.tree.map(to_float32, model)
    model, history = sciml.training.fit(
        model,
        data,
        loss=FactorResidual(packed),
        optimiser=optimiser(num_steps),
        num_steps=num_steps,
        batch_size=4,
        progress=False,
        key=jr.key(2),
    )
    print(f"trained in {history.training_time:.0f} s on systems of {size}²")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ic.safetensors"
        sciml.save(path, model)
        model = sciml.load(path)

    builders: dict[str, AbstractPreconditioner] = {
        "ic": IncompleteCholesky(LevelSchedule()),
        "learned": model,
        "multigrid": Multigrid(),
    }
    numbers = {"training_time": history.training_time}
    for n in (size, 2 * size) if smoke else (size, 2 * size, 4 * size):
        # (On a grid, for multigrid; the others only look at the matrix.)
        unseen = systems(n, num_test, seed=n)
        seconds = {}
        for name, builder in builders.items():
            steps, set_up, seconds[name] = compare(builder, unseen)
            numbers[f"{name}_{n}"] = steps
            print(
                f"{n:>4}² {name:<10}{steps:>6.0f} steps, "
                f"set-up {1e3 * set_up:6.1f} ms, "
                f"solve {1e3 * seconds[name]:6.1f} ms"
            )
        saved = seconds["ic"] - seconds["learned"]
        numbers["pays_after"] = history.training_time / saved if saved > 0 else np.inf
    print(
        f"training has paid after {numbers['pays_after']:.0f} right-hand sides, beside "
        "the factor it started from and without the set-up; beside multigrid "
        f"{'never' if seconds['multigrid'] < seconds['learned'] else 'as well'}"
    )
    return numbers


def optimiser(num_steps: int) -> optax.GradientTransformation:
    """Adam, gently: at three times this rate one training in three comes to nothing."""
    rate = optax.warmup_cosine_decay_schedule(0.0, 1e-3, num_steps // 10, num_steps)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))


def systems(size: int, count: int, seed: int) -> list:
    """Operators −∇·(a∇u) with log-normal a."""
    problem = problems.Diffusion((size, size), FIELD)
    keys = jr.split(jr.key(seed), count)
    return [problem.linear_system(key=key)[0] for key in keys]


def compare(builder: AbstractPreconditioner, operators: list) -> tuple[float, ...]:
    """Medians: number of steps, seconds of set-up and of a solve; compiled before."""
    solver = sciml.CG(rtol=1e-8, max_steps=2000)
    rows = []
    for k, A in enumerate([operators[0], *operators]):
        b = jr.normal(jr.key(k), A.in_structure().shape)
        times = [time.perf_counter()]
        M = builder.build(A)
        jax.block_until_ready(eqx.filter(M, eqx.is_array))
        times.append(time.perf_counter())
        solution = sciml.linear_solve(A, b, solver, preconditioner=M)
        solution.value.block_until_ready()
        times.append(time.perf_counter())
        rows.append((int(solution.stats["num_steps"]), *np.diff(times)))
    # (The first one compiles.)
    return tuple(float(x) for x in np.median(rows[1:], axis=0))


if __name__ == "__main__":
    main()
