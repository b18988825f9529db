"""A medium of two phases from a hundred noisy values of the pressure in it.

Run it with `python examples/dgno_inverse.py`. A DGNO, trained on media alone, decodes
medium and pressure from one vector of 128 numbers; the most probable vector, given the
values and where the vectors of the training media are, is found in tenths of a second,
and what is left uncertain with it.
"""

import time

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import problems
import sciml
from sciml.inverse import LatentPrior, Observations, posterior
from sciml.neural_operators import DGNO, FixedPrecision, VirtualObservables
from sciml.training import D4Augmented, fit, muon_optimiser


def main(smoke: bool = False) -> dict[str, float]:
    """Train, measure, invert; `smoke` takes few media and steps.

    **Returns:** means over five cases: relative L2 errors of the medium and the
    pressure, the share of nodes whose phase is right and of those where the pressure
    is within its interval of 95 %, and the share that is flagged as another kind;
    and the median of the seconds that each took, of which the first compiles.
    """
    keys = jr.split(jr.key(0), 4)
    problem = problems.TwoPhaseDarcy()
    media = problem.coefficients(200 if smoke else 1000, key=keys[0])
    media = sciml.data.Dataset(np.asarray(media.inputs, np.float32), None, media.grid)
    num_steps = 120 if smoke else 1500
    model, _ = fit(
        DGNO(problem.weak_form(), key=keys[1]),
        media,
        loss=D4Augmented(VirtualObservables(FixedPrecision(50.0))),
        optimiser=muon_optimiser(num_steps, 1e-2, 5e-3),
        num_steps=num_steps,
        batch_size=100,
        key=keys[2],
    )
    prior = LatentPrior.fit(model, media)
    unseen = problem.coefficients(5, key=keys[3]).inputs[:, 0]
    inside = np.arange(29 * 29).reshape(29, 29)[1:-1, 1:-1].ravel()
    rows, seconds = [], []
    for number, a in enumerate(unseen):
        rng = np.random.default_rng(number)
        exact = np.asarray(problem.reference(jnp.asarray(a)))
        chosen = rng.choice(inside, 100, replace=False)
        values = exact.ravel()[chosen]
        std = np.sqrt(np.mean(exact**2) / 10**2.5)
        values = values + std * rng.normal(size=100)
        seen = Observations(
            np.asarray(model.nodes, np.float32)[chosen],
            np.asarray(values, np.float32),
            std=std,
        )
        start = time.perf_counter()
        found = posterior(model, seen, prior=prior, key=jr.key(number))
        jax.block_until_ready(found.mean)
        seconds.append(time.perf_counter() - start)
        mean, spread = np.asarray(found.mean[0]), np.asarray(found.std[0])
        medium = np.asarray(found.coefficient_mean)
        off = np.abs(mean - exact)[1:-1, 1:-1]
        rows.append(
            {
                "medium_error": np.linalg.norm(medium - a) / np.linalg.norm(a),
                "pressure_error": np.linalg.norm(mean - exact) / np.linalg.norm(exact),
                "phase_right": np.mean((medium > 7.5) == (a > 7.5)),
                "coverage": np.mean(off < 1.96 * spread[1:-1, 1:-1]),
                "flagged": float(found.stats["out_of_distribution"]),
            }
        )
    numbers = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    for name, number in numbers.items():
        print(f"{name:<15} {number:7.2%}")
    numbers["inversion_time"] = float(np.median(seconds))
    print(f"{'inversion time':<15} {numbers['inversion_time']:6.2f} s")
    return numbers


if __name__ == "__main__":
    main()
