"""A neural ODE that classifies digits, trained with and without a price on its solve.

Run it with `python examples/regularised_neural_ode.py`; it needs scikit-learn, which
has the images. Prints what each model reaches and how often it evaluates its field, at
the tolerance of the training and with other solvers.
"""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import problems
import sciml
from sciml.neural_odes import (
    ErrorEstimate,
    NeuralODE,
    NumSteps,
    ODEClassifier,
    RegularisedLoss,
    TimeMLP,
    cross_entropy,
    heuristics_of,
)

RTOL = 1e-7


def main(smoke: bool = False) -> dict[str, float]:
    """Train three models; `smoke` takes small ones, for a few steps.

    **Returns:** accuracies and evaluations by name.
    """
    jax.config.update("jax_enable_x64", True)
    (images, labels), test = problems.load_digits(key=jr.key(0))
    train = sciml.data.Dataset(images, labels)
    width, num_steps = (24, 60) if smoke else (100, 440)
    numbers = {}
    for name, penalty, coefficient in (
        ("vanilla", (), 0.0),
        # What a step is worth, in units of the loss.
        ("num_steps", NumSteps(), 0.03),
        ("error_estimate", ErrorEstimate(), 0.1),
    ):
        ode_key, head_key, fit_key = jr.split(jr.key(1), 3)
        ode = NeuralODE(TimeMLP(64, width, key=ode_key), rtol=RTOL, atol=RTOL)
        model, history = sciml.training.fit(
            ODEClassifier(ode, 64, 10, key=head_key),
            train,
            loss=RegularisedLoss(cross_entropy, penalty, coefficient),
            optimiser=optax.adam(1e-2 if smoke else 2e-3),
            num_steps=num_steps,
            batch_size=128,
            progress=False,
            key=fit_key,
        )
        accuracy, evaluations = judge(model, *test)
        numbers[f"{name}_accuracy"] = accuracy
        numbers[f"{name}_evaluations"] = evaluations
        print(f"{name}: {accuracy:.1%} of the test digits, {evaluations} evaluations")
        print(f"  trained in {history.training_time:.1f} s")
        # What was saved is the field's, not the solver's.
        others = ((dfx.Bosh3(), RTOL), (dfx.Tsit5(), 1e-9), (dfx.Dopri8(), RTOL))
        for solver, rtol in others[:1] if smoke else others:
            other = ODEClassifier(
                model.ode.with_tolerances(rtol, solver=solver), 64, 10, key=head_key
            )
            other = eqx.tree_at(lambda m: m.head, other, model.head)
            accuracy, evaluations = judge(other, *test)
            solved_by = f"{type(solver).__name__} at {rtol:.0e}"
            print(f"  {solved_by}: {accuracy:.1%}, {evaluations} evaluations")
    return numbers


@eqx.filter_jit
def classify(model, images):
    """All at once, as one state."""
    logits, solution, _ = model.classify(images)
    return jnp.argmax(logits, axis=1), heuristics_of(solution).nfe


def judge(model, images, labels) -> tuple[float, int]:
    """Accuracy, and evaluations of the field."""
    found, evaluations = classify(model, jnp.asarray(images))
    return float(np.mean(np.asarray(found) == labels)), int(evaluations)


if __name__ == "__main__":
    main()
