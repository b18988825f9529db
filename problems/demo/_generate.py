"""Act one: pairs of coefficient and solution, every residual recomputed."""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from sciml.data import Dataset

from .._diffusion import Darcy
from ._settings import DemoSettings


def generate(settings: DemoSettings, progress) -> tuple[Darcy, Dataset, dict[str, Any]]:
    """The problem, all pairs in float64, and what is to be said of them."""
    problem = Darcy((settings.pairs.points,) * 2, settings.pairs.contrast)
    total = settings.pairs.num_train + settings.pairs.num_test
    start = time.perf_counter()
    data = problem.dataset(
        total, key=jr.key(settings.seed), rtol=1e-8, progress=progress
    )
    seconds = time.perf_counter() - start
    residuals = np.asarray(_residuals(problem, data.inputs[:, 0], data.targets[:, 0]))
    facts = {
        "pairs": total,
        "num_points": list(problem.grid.num_points),
        "contrast": settings.pairs.contrast,
        "largest_relative_residual": float(residuals.max()),
        "time": seconds,
    }
    return problem, data, facts


@eqx.filter_jit
def _residuals(problem, coefficients, solutions):
    def one(pair):
        A, b = problem.assemble(pair[0])
        residual = b - A.mv(pair[1])
        return jnp.sqrt(jnp.sum(residual**2) / jnp.sum(b**2))

    pair = (jnp.asarray(coefficients), jnp.asarray(solutions))
    return jax.lax.map(one, pair, batch_size=50)
