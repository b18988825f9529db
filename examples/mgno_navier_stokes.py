"""A time stepper for a two-dimensional flow, rolled out.

Run it with `python examples/mgno_navier_stokes.py`; it takes some ten minutes on two
cores. An `MgNOStepper` learns the vorticity one unit of time later, from pairs of
states; fed its own output it then forecasts ten units. Beside it stands persistence:
nothing changes.
"""

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import optax

import problems
import sciml
from sciml.evaluation import rollout_errors
from sciml.grids import GaussianField
from sciml.neural_operators import MgNOStepper, normalised


def main(smoke: bool = False) -> dict[str, float]:
    """Run every step; `smoke` learns little, but fast.

    **Returns:** errors after the first and the last step, by name.
    """
    points, trajectories, num_steps = (16, 50, 300) if smoke else (64, 200, 3000)
    saves = 4 if smoke else 10
    problem = problems.NavierStokesVorticity(
        (points, points),
        viscosity=1e-2 if smoke else 1e-3,
        final_time=float(saves),
        time_step=0.1 if smoke else 0.02,
        # Large swirls, which turn for a while before the forcing takes over.
        initial_field=GaussianField(tau=3.0, alpha=2.5, scale=20.0),
    )
    # Pairs one unit of time apart to learn from; whole trajectories to test with.
    train = single_precision(
        problem.transitions(trajectories, num_saves=saves, key=jr.key(0))
    )
    test = single_precision(problem.dataset(4, num_saves=saves, key=jr.key(1)))
    width, depth, num_levels = (8, 2, 3) if smoke else (24, 4, 5)
    stepper = MgNOStepper(
        2,
        in_channels=1,
        out_channels=1,
        width=width,
        depth=depth,
        num_levels=num_levels,
        boundary=train.grid.boundary,
        key=jr.key(2),
    )
    persistence = rollout_errors(lambda u: u, test).relative_l2
    numbers = {
        "persistence_first": float(persistence[0]),
        "persistence_last": float(persistence[-1]),
    }
    # Means and deviations of all states: the same in and out, for it is a step.
    states = np.concatenate([train.inputs, train.targets])
    model, history = sciml.training.fit(
        normalised(single_precision(stepper), states, states),
        train,
        loss=sciml.training.RelativeL2(),
        optimiser=optax.adam(optax.cosine_decay_schedule(4e-3, num_steps)),
        num_steps=num_steps,
        batch_size=8,
        progress=not smoke,
        key=jr.key(3),
    )
    errors = rollout_errors(model, test)
    numbers |= {
        "first_loss": float(history.loss[0]),
        "first": float(errors.relative_l2[0]),
        "last": float(errors.relative_l2[-1]),
        "accurate_steps": errors.num_accurate,
        "rms": float(errors.rms[-1]),
    }
    print(
        f"relative L2 after one step {errors.relative_l2[0]:.2%}, after {saves} "
        f"{errors.relative_l2[-1]:.1%}; a useful forecast for {errors.num_accurate}"
    )
    print(f"persistence after {saves} steps {numbers['persistence_last']:.1%}")
    return numbers


def single_precision(tree):
    """A model or a data set with its numbers in float32."""
    return jax.tree.map(
        lambda x: x.astype(np.float32) if eqx.is_inexact_array(x) else x, tree
    )


if __name__ == "__main__":
    main()
