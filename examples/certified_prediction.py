"""Predictions with a certificate: elliptic problems, batches, and a march in time.

Run it with `python examples/certified_prediction.py`; it takes some minutes on two
cores. An MgNO learns two-phase Darcy flow. What it predicts, on media of the kind that
it was trained on and of others, is finished by conjugate gradients, so that every
answer is a solution; the statistics say what the prediction was worth. Then the same
for the heat equation, one implicit step after the other.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import problems
import sciml
from sciml.grids import TwoPhaseField
from sciml.neural_operators import MgNO, normalised

RTOL = 1e-6


def main(smoke: bool = False) -> dict[str, float]:
    """Run every step; `smoke` learns little, but fast.

    **Returns:** residuals, errors and steps by name.
    """
    jax.config.update("jax_enable_x64", True)
    points, num_samples, num_steps = (15, 40, 80) if smoke else (63, 1000, 3000)
    problem = problems.Darcy(num_points=(points, points))
    model = trained(problem, num_samples, num_steps, smoke)
    numbers = {}

    # A batch: `predict` is a function like any other.
    @eqx.filter_jit
    @eqx.filter_vmap
    def finished(coefficient):
        return sciml.predict(
            model, problem, coefficient, rtol=RTOL, throw=False, compare=True
        )

    media = {
        "as trained": TwoPhaseField(1.0, 10.0),
        "contrast 1000": TwoPhaseField(1.0, 1000.0),
    }
    for name, field in media.items():
        keys = jr.split(jr.key(5), 4 if smoke else 50)
        fields = jnp.stack([field.sample(problem.grid, key=key) for key in keys])
        out = finished(fields)
        met = out.result == sciml.RESULTS.successful
        mean = lambda statistic, out=out: float(np.mean(out.stats[statistic]))
        short = name.split()[0]
        numbers |= {
            f"{short}_met": float(jnp.mean(jnp.where(met, 1.0, 0.0))),
            f"{short}_residual": float(jnp.max(out.stats["relative_residual"])),
            f"{short}_energy_error": mean("surrogate_energy_error"),
            f"{short}_steps": mean("num_steps"),
            f"{short}_steps_saved": mean("steps_saved"),
        }
        print(
            f"{name:<14} met {numbers[f'{short}_met']:.0%}; the prediction's energy "
            f"error {numbers[f'{short}_energy_error']:.1%}, "
            f"{numbers[f'{short}_steps']:.1f} steps, "
            f"{numbers[f'{short}_steps_saved']:+.1f} saved"
        )

    # Derivatives are those of the exact solution: none flow into the model, and a bad
    # model spoils none.
    coefficient = problem.sample_coefficient(key=jr.key(6))
    mean_of = lambda a: jnp.mean(sciml.predict(model, problem, a, rtol=1e-10).value)
    direction = jnp.cos(jnp.arange(coefficient.size)).reshape(coefficient.shape)
    slope = jnp.vdot(jax.grad(mean_of)(coefficient), direction)
    ahead, behind = (mean_of(coefficient + h * direction) for h in (1e-4, -1e-4))
    numbers["gradient_defect"] = abs(float((ahead - behind) / 2e-4 / slope - 1))

    # Implicit time steps: what is given is the state before. Predicting that nothing
    # changes is the rival that costs nothing.
    step = problems.HeatStep((points, points), time_step=2e-3)
    state = step.sample_coefficient(key=jr.key(7))
    guesses = {"zero": jnp.zeros_like, "state before": lambda u: u}
    for name, guess in guesses.items():
        u, total = state, 0
        for _ in range(5):
            out = sciml.predict(guess, step, u, rtol=RTOL)
            u, total = out.value, total + int(out.stats["num_steps"])
        numbers[f"heat_steps_from_{name.split()[0]}"] = total
    print(
        f"five steps of heat: {numbers['heat_steps_from_zero']} iterations from zero, "
        f"{numbers['heat_steps_from_state']} from the state before"
    )
    return numbers


def trained(problem, num_samples: int, num_steps: int, smoke: bool):
    """An MgNO in float32 that predicts in physical units."""
    data = problem.dataset(num_samples, key=jr.key(0), rtol=1e-8)
    train = jax.tree.map(
        lambda x: x.astype(np.float32) if eqx.is_inexact_array(x) else x, data
    )
    model = MgNO(
        2,
        in_channels=1,
        out_channels=1,
        width=6 if smoke else 24,
        depth=2 if smoke else 4,
        num_levels=3 if smoke else 5,
        boundary=problem.grid.boundary,
        key=jr.key(1),
    )
    model = jax.tree.map(
        lambda x: x.astype(jnp.float32) if eqx.is_inexact_array(x) else x, model
    )
    schedule = optax.cosine_decay_schedule(4e-3, num_steps)
    model, _ = sciml.training.fit(
        normalised(model, train.inputs, train.targets),
        train,
        optimiser=optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule)),
        num_steps=num_steps,
        batch_size=8,
        progress=not smoke,
        key=jr.key(2),
    )
    return model


if __name__ == "__main__":
    main()
