"""A surrogate of Darcy flow: data, training, evaluation, and a certified prediction.

Run it with `python examples/mgno_darcy.py`; it takes a few minutes on two cores. An
MgNO and an FNO learn the map from the coefficient a to the solution u of −∇·(a∇u) = 1
with u = 0 on the boundary, a being 1 or 10.
"""

import pathlib
import tempfile
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import problems
import sciml
from sciml.neural_operators import FNO, MgNO, normalised


def main(smoke: bool = False) -> dict[str, float]:
    """Run every step; `smoke` learns next to nothing, but fast.

    **Returns:** errors, residuals and steps by name.
    """
    # Solves to 1e-8 need float64; the models are trained in float32 all the same.
    jax.config.update("jax_enable_x64", True)
    points, num_train, num_test = (16, 60, 12) if smoke else (32, 1000, 100)
    num_steps = 200 if smoke else 1500
    problem = problems.Darcy(num_points=(points, points))

    # 1. Data: random coefficients and their solutions, each solved by multigrid-CG and
    # its residual verified. Inputs and targets have the shape (samples, 1, *space).
    data = problem.dataset(num_train + num_test, key=jr.key(0), rtol=1e-8)
    train, test = single_precision(data).split(num_train)
    mean = np.broadcast_to(train.targets.mean(0), test.targets.shape)
    numbers = {"mean_field_l2": relative_l2(mean, test.targets)}

    # 2. Train. A model maps one sample (channels, *space); its parameters do not depend
    # on the grid. `normalised` puts it between physical units: mean and deviation of
    # the training data become part of the model.
    models = untrained(train.grid, smoke)
    for name, model in models.items():
        model = normalised(single_precision(model), train.inputs, train.targets)
        model, history = sciml.training.fit(
            model,
            train,
            loss=sciml.training.RelativeH1(),
            optimiser=optax.adamw(optax.cosine_decay_schedule(4e-3, num_steps)),
            num_steps=num_steps,
            batch_size=10,
            progress=not smoke,
            key=jr.key(2),
        )
        models[name] = model
        numbers[f"{name}_first_loss"] = float(history.loss[0])

        # 3. Evaluate on samples that it has never seen.
        metrics = sciml.evaluation.evaluate(model, test)
        numbers |= {
            f"{name}_l2": metrics["relative_l2"],
            f"{name}_h1": metrics["relative_h1"],
        }
        print(
            f"{name:<5} relative L2 {metrics['relative_l2']:7.2%}   H1 "
            f"{metrics['relative_h1']:7.2%}   {history.training_time:.0f} s"
        )
    print(f"mean field        {numbers['mean_field_l2']:7.2%}\n")

    # 4. Save and load: one file, no pickle.
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "mgno.safetensors"
        sciml.save(path, models["mgno"])
        loaded = sciml.load(path)
    before, after = (m(test.inputs[0]) for m in (models["mgno"], loaded))
    numbers["change_by_saving"] = float(jnp.abs(after - before).max())

    # 5. Use it, with a certificate: the model predicts, the true residual of the
    # prediction is reported, and conjugate gradients finish from it.
    coefficient = problem.sample_coefficient(key=jr.key(3))
    out = sciml.predict(loaded, problem, coefficient, rtol=1e-8)
    numbers |= {
        "surrogate_residual": float(out.stats["surrogate_relative_residual"]),
        "surrogate_error": float(out.stats["surrogate_relative_error"]),
        "residual": float(out.stats["relative_residual"]),
        "steps": int(out.stats["num_steps"]),
        "successful": float(out.result == sciml.RESULTS.successful),
    }
    # The same from a prediction of zero, to see what the surrogate saves: next to
    # nothing, for multigrid needs a handful of steps from anywhere. What it buys is a
    # field at once, and what `predict` adds is that its residual is known.
    from_zero = sciml.predict(jnp.zeros_like, problem, coefficient, rtol=1e-8)
    numbers["steps_from_zero"] = int(from_zero.stats["num_steps"])
    print(f"prediction: error {numbers['surrogate_error']:.1%}, residual")
    print(f"  {numbers['surrogate_residual']:.1e}; {numbers['steps']} steps of CG end")
    print(f"  at {numbers['residual']:.1e} ({numbers['steps_from_zero']} from zero)")
    return numbers


def untrained(grid, smoke: bool) -> dict[str, Any]:
    """The two architectures; MgNO is told of the boundary, FNO has no use for it."""
    mgno_key, fno_key = jr.split(jr.key(1))
    width, depth = (6, 2) if smoke else (16, 4)
    return {
        "mgno": MgNO(
            2,
            in_channels=1,
            out_channels=1,
            width=width,
            depth=depth,
            num_levels=3 if smoke else 5,
            boundary=grid.boundary,
            key=mgno_key,
        ),
        "fno": FNO(
            2,
            in_channels=1,
            out_channels=1,
            width=width,
            depth=depth,
            num_modes=4 if smoke else 12,
            key=fno_key,
        ),
    }


def single_precision(tree):
    """A model or a data set with its numbers in float32."""
    return jax.tree.map(
        lambda x: x.astype(np.float32) if eqx.is_inexact_array(x) else x, tree
    )


def relative_l2(predictions, targets) -> float:
    """Mean over samples of ‖û − u‖/‖u‖."""
    axes = (1, 2, 3)
    error = np.sqrt(((predictions - targets) ** 2).sum(axes))
    return float(np.mean(error / np.sqrt((targets**2).sum(axes))))


if __name__ == "__main__":
    main()
