"""A coefficient that oscillates on many scales at once."""

import math

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ._grid import Grid
from ._random_fields import AbstractRandomField


class TrigonometricField(AbstractRandomField):
    """Products of waves over octaves of scales, in two dimensions.

        a(x) = Π_{k=1}^{K} (1 + ½ cos(a_k π (x₁ + x₂))) (1 + ½ sin(a_k π (x₂ − 3 x₁)))

    with a_k uniform in [2^(k−1), 1.5 · 2^(k−1)]. Values lie between 2^(−2K) and
    1.5^(2K). x is in units of the grid's extent: with `extent=2` it is the coefficient
    of the multiscale Darcy problem on [−1, 1]², up to the phase of the waves.

    The shortest wave along x₁ has a length of 2/(3 a_K): 0.014 for K = 6. A grid that
    is coarser than half of that does not see it; to train on coarse grids sample and
    solve on a fine one and use `sciml.data.Dataset.coarsen`.

    **Arguments:**

    - `num_scales`: K, default 6.

    **Raises:** `ValueError` for grids that are not two-dimensional.

    !!! example

        ```python
        import jax.random as jr
        from sciml.grids import Grid, TrigonometricField

        a = TrigonometricField(4).sample(Grid((63, 63), extent=2.0), key=jr.key(0))
        ```

    Source: Liu, Xu and Zhang, *Mitigating spectral bias for the multiscale operator
    learning*, Journal of Computational Physics 506, 2024 (the benchmark); Owhadi,
    *Multigrid with rough coefficients*, SIAM Review 59, 2017 (the idea).
    """

    num_scales: int = eqx.field(static=True, default=6)

    def __check_init__(self):
        if self.num_scales < 1:
            raise ValueError(f"num_scales: expected at least 1, got {self.num_scales}.")

    def sample(
        self, grid: Grid, *, key: PRNGKeyArray, closed: bool = False
    ) -> Float[Array, "*space"]:
        """One field, see `AbstractRandomField.sample`."""
        if grid.ndim != 2:
            raise ValueError(f"grid: expected two axes, got {grid.ndim}.")
        dtype = jnp.result_type(float)
        x, y = (
            jnp.asarray(grid.coordinates(axis, closed=closed), dtype) for axis in (0, 1)
        )
        low = 2.0 ** np.arange(self.num_scales)
        draws = jnp.stack(
            [jr.uniform(jr.fold_in(key, k), (), dtype) for k in range(self.num_scales)]
        )
        frequencies = math.pi * jnp.asarray(low, dtype) * (1 + 0.5 * draws)
        a = frequencies[:, None, None]
        x, y = x[None, :, None], y[None, None, :]
        waves = (1 + 0.5 * jnp.cos(a * (x + y))) * (1 + 0.5 * jnp.sin(a * (y - 3 * x)))
        return jnp.prod(waves, axis=0)
