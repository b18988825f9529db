"""Regularisers of the vector field that were there before: energy and derivatives."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax.experimental import jet
from jaxtyping import Array, PRNGKeyArray, PyTree

from ._penalties import AbstractRunningCost


class KineticEnergy(AbstractRunningCost):
    """∫ mean_i f_i(t, y)² dt: short ways.

    Source: Finlay, Jacobsen, Nurbekyan & Oberman, *How to Train Your Neural ODE*, ICML
    2020 (without the Jacobian's part).
    """

    def integrand(self, term, t, y, args):
        """mean_i f_i²."""
        return _mean_square(term.vf(t, y, args))


class TayNODE(AbstractRunningCost):
    """∫ mean_i (dᴷy_i/dtᴷ)² dt: solutions that a method of order K − 1 integrates.

    The derivative is taken along the solution by Taylor-mode differentiation.

    **Arguments:**

    - `order`: K. Default 3, as published for images; 2 for time series.

    Source: Kelly, Bettencourt, Johnson & Duvenaud, *Learning Differential Equations
    that are Easy to Solve*, NeurIPS 2020.
    """

    order: int = eqx.field(static=True, default=3)

    def __check_init__(self):
        if self.order < 1:
            raise ValueError(f"order: expected an integer ≥ 1, got {self.order}.")

    def integrand(self, term, t, y, args):
        """mean_i (dᴷy_i/dtᴷ)²."""
        field = lambda t, y: term.vf(t, y, args)
        return _mean_square(total_derivative(field, t, y, self.order))


def total_derivative(field: Any, t: Any, y: PyTree, order: int) -> PyTree:
    """dᴷy/dtᴷ along y' = f(t, y), from the Taylor series of f at one point."""
    leaves, structure = jtu.tree_flatten(y)
    t = jnp.asarray(t, leaves[0].dtype)

    def flat(t, *leaves):
        return tuple(jtu.tree_leaves(field(t, jtu.tree_unflatten(structure, leaves))))

    series = [[derivative] for derivative in flat(t, *leaves)]
    ones = [jnp.ones_like(t), *([jnp.zeros_like(t)] * (order - 2))]
    for k in range(1, order):
        # (t, y) moves along t' = 1 and the derivatives of y that are known so far.
        _, values = jet.jet(flat, (t, *leaves), (ones[:k], *series))
        for known, new in zip(series, values, strict=True):
            known.append(new[-1])
    return jtu.tree_unflatten(structure, [known[-1] for known in series])


def steer_end_time(t1: Any, width: Any, *, key: PRNGKeyArray) -> Array:
    """A random end t₁ + U(−width, width) for a training step.

    The prediction keeps t₁. `width` must leave t₁ − width beyond t₀.

    Source: Ghosh, Behl, Dupont, Torr & Namboodiri, *STEER*, NeurIPS 2020.
    """
    t1 = jnp.asarray(t1, jnp.result_type(float, t1))
    return t1 + jax.random.uniform(key, (), t1.dtype, -width, width)


def _mean_square(tree: PyTree) -> Array:
    leaves = jax.tree.leaves(tree)
    size = sum(leaf.size for leaf in leaves)
    squares = [jnp.sum(jnp.abs(leaf) ** 2) for leaf in leaves]
    return sum(squares[1:], squares[0]) / size
