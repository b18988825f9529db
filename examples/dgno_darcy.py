"""A surrogate of two-phase Darcy flow that is trained without a single solution.

Run it with `python examples/dgno_darcy.py`. A DGNO learns from 1,000 media alone: what
it decodes has to meet the equation, −∇·(a∇u) = 10, in the form of fluxes that balance
exactly. Its errors are measured on media that it has not seen, against finite volumes
on a grid five times as fine, and it bounds them itself. (`sciml bench dgno` has its
rivals beside it.)
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import problems
import sciml
from sciml.neural_operators import DGNO, FixedPrecision, VirtualObservables
from sciml.training import D4Augmented, fit, muon_optimiser


def main(smoke: bool = False) -> dict[str, float]:
    """Train and judge a surrogate; `smoke` takes few media and steps.

    **Returns:** mean relative L2 error of u on unseen media, that of the mean field in
    its place, the seconds of the training, and the median bound on the error in the
    energy norm.
    """
    keys = jr.split(jr.key(0), 4)
    problem = problems.TwoPhaseDarcy()
    media = problem.coefficients(200 if smoke else 1000, key=keys[0])
    media = sciml.data.Dataset(np.asarray(media.inputs, np.float32), None, media.grid)
    num_steps = 120 if smoke else 1500

    model, history = fit(
        DGNO(problem.weak_form(), key=keys[1]),
        media,
        # Media that are mirrored or turned are media as well.
        loss=D4Augmented(VirtualObservables(FixedPrecision(50.0))),
        optimiser=muon_optimiser(num_steps, 1e-2, 5e-3),
        num_steps=num_steps,
        batch_size=100,
        key=keys[2],
    )
    unseen = jnp.asarray(problem.coefficients(20, key=keys[3]).inputs, jnp.float32)
    exact = jax.lax.map(problem.reference, unseen[:, 0])
    norm = lambda field: jnp.linalg.norm(field.reshape(len(unseen), -1), axis=1)
    error = lambda found: float(jnp.mean(norm(found - exact) / norm(exact)))

    def bound(a):
        form, latent = model.weak_form, model.latent.mean(model.raw_latent(a))
        at = lambda points: form.coefficient.between(a[0], form.grid, points)
        return form.error_bound(model.fields(latent), at)

    numbers = {
        "error": error(jax.vmap(model)(unseen)[:, 0]),
        "mean_field": error(exact.mean(0, keepdims=True)),
        "training_time": history.training_time,
        "bound": float(jnp.median(jax.lax.map(bound, unseen))),
    }
    print(f"{len(media)} media, no solutions, {num_steps} steps")
    print(f"relative L2 error on unseen media  {numbers['error']:7.2%}")
    print(f"of the mean field in its place     {numbers['mean_field']:7.2%}")
    print(f"seconds of training                {numbers['training_time']:7.0f}")
    print(f"bound on the energy error, median  {numbers['bound']:7.2%}")
    return numbers


if __name__ == "__main__":
    main()
