"""Coefficients that jump: checkerboards, boxes and channels."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ._grid import Grid
from ._random_fields import AbstractRandomField


class CheckerboardField(AbstractRandomField):
    """`low` and `high` on alternating blocks, `low` in the corner at the origin.

    Not random: the key plays no part. With large jumps the hardest of simple
    coefficients, for blocks of one kind touch only at their corners.

    **Arguments:**

    - `low`, `high`: the two values. Default 1 and 10.
    - `num_cells`: blocks per axis. Default 8. A node between two blocks belongs to the
        one with the larger coordinates.

    !!! example

        ```python
        import jax.random as jr
        from sciml.grids import CheckerboardField, Grid

        field = CheckerboardField(high=1e6, num_cells=2)
        field.sample(Grid((3, 3)), key=jr.key(0))[0]  # [1., 1e6, 1e6]
        ```
    """

    low: float = eqx.field(static=True, default=1.0)
    high: float = eqx.field(static=True, default=10.0)
    num_cells: int = eqx.field(static=True, default=8)

    def __check_init__(self):
        if self.num_cells < 1:
            raise ValueError(f"num_cells: expected at least 1, got {self.num_cells}.")

    def sample(
        self, grid: Grid, *, key: PRNGKeyArray, closed: bool = False
    ) -> Float[Array, "*space"]:
        """The field, see `AbstractRandomField.sample`."""
        del key
        total = np.zeros((1,) * grid.ndim, int)
        for position in _positions(grid, closed):
            # Rounding must not put a node of a block's edge before that edge.
            cell = np.floor(position * self.num_cells + 1e-9).astype(int)
            total = total + np.minimum(cell, self.num_cells - 1)
        values = np.where(total % 2, self.high, self.low)
        return jnp.asarray(values, jnp.result_type(float))


class BoxesField(AbstractRandomField):
    """1, and in random boxes other values from `low` to `high`.

    The sides of a box are uniform between 0.1 and 0.4 of the extent, its centre is
    uniform in the domain, its value log-uniform; later boxes lie on earlier ones.

    **Arguments:**

    - `low`, `high`: the range of the boxes' values, positive. Default 1e-3 to 1e3.
    - `num_boxes`: how many. Default 40, which leave little of the 1.
    """

    low: float = eqx.field(static=True, default=1e-3)
    high: float = eqx.field(static=True, default=1e3)
    num_boxes: int = eqx.field(static=True, default=40)

    def __check_init__(self):
        if not 0 < self.low <= self.high < math.inf:
            raise ValueError(
                "low, high: expected 0 < low ≤ high, both finite, got "
                f"{self.low} and {self.high}."
            )
        if self.num_boxes < 1:
            raise ValueError(f"num_boxes: expected at least 1, got {self.num_boxes}.")

    def sample(
        self, grid: Grid, *, key: PRNGKeyArray, closed: bool = False
    ) -> Float[Array, "*space"]:
        """One field, see `AbstractRandomField.sample`."""
        dtype = jnp.result_type(float)
        positions = [jnp.asarray(x, dtype) for x in _positions(grid, closed)]
        shape, shape_key, value_key = (self.num_boxes, grid.ndim), *jr.split(key)
        uniform = jr.uniform(shape_key, (2, *shape), dtype)
        centres, halves = uniform[0], 0.05 + 0.15 * uniform[1]
        powers = jr.uniform(value_key, shape[:1], dtype)
        values = jnp.exp(
            math.log(self.low) + powers * (math.log(self.high) - math.log(self.low))
        )

        def paint(box, field):
            inside = jnp.ones((1,) * grid.ndim, bool)
            for axis, x in enumerate(positions):
                inside = inside & (jnp.abs(x - centres[box, axis]) < halves[box, axis])
            return jnp.where(inside, values[box], field)

        field = jnp.ones([x.size for x in positions], dtype)
        # (A loop, not one array per box: data sets draw many fields side by side.)
        return jax.lax.fori_loop(0, self.num_boxes, paint, field)


class ChannelsField(AbstractRandomField):
    """`high` in thin winding channels that cross the box, `low` around them.

    Channel i runs along axis i modulo the number of axes, from side to side; its centre
    line is a random sine of its own in each of the other directions. A path of least
    resistance that is thinner than coarse cells is what breaks plain geometric
    multigrid.

    **Arguments:**

    - `low`, `high`: the two values. Default 1 and 10.
    - `num_channels`: how many. Default 6.
    - `width`: of a channel, as a fraction of the extent. Default 1/32. On grids whose
        spacing is more than half of it channels are torn, on coarser ones lost.

    **Raises:** `ValueError` on grids with one axis, where nothing can cross the box
    and leave anything around it.
    """

    low: float = eqx.field(static=True, default=1.0)
    high: float = eqx.field(static=True, default=10.0)
    num_channels: int = eqx.field(static=True, default=6)
    width: float = eqx.field(static=True, default=1 / 32)

    def __check_init__(self):
        if self.num_channels < 1:
            raise ValueError(
                f"num_channels: expected at least 1, got {self.num_channels}."
            )
        if not 0 < self.width < 1:
            raise ValueError(
                f"width: expected a fraction of the extent, 0 < width < 1, got "
                f"{self.width}."
            )

    def sample(
        self, grid: Grid, *, key: PRNGKeyArray, closed: bool = False
    ) -> Float[Array, "*space"]:
        """One field, see `AbstractRandomField.sample`."""
        if grid.ndim == 1:
            raise ValueError("grid: channels need two or three axes, got one.")
        dtype = jnp.result_type(float)
        positions = [jnp.asarray(x, dtype) for x in _positions(grid, closed)]
        # Offset, amplitude, frequency and phase of each channel in each direction.
        sines = jr.uniform(key, (self.num_channels, grid.ndim, 4), dtype)
        inside = jnp.zeros((1,) * grid.ndim, bool)
        for number in range(self.num_channels):
            inside = inside | self._channel(
                positions, number % grid.ndim, sines[number]
            )
        shape = [x.size for x in positions]
        low, high = jnp.asarray(self.low, dtype), jnp.asarray(self.high, dtype)
        return jnp.broadcast_to(jnp.where(inside, high, low), shape)

    def _channel(
        self,
        positions: Sequence[Float[Array, "..."]],
        along: int,
        sines: Float[Array, "ndim 4"],
    ) -> Bool[Array, "*space"]:
        distance = jnp.zeros((1,) * len(positions), sines.dtype)
        for axis, x in enumerate(positions):
            if axis != along:
                offset, amplitude, frequency, phase = sines[axis]
                angle = (0.5 + frequency) * positions[along] + phase
                wave = 0.1 * amplitude * jnp.sin(2 * math.pi * angle)
                distance = distance + (x - 0.1 - 0.8 * offset - wave) ** 2
        return distance < (self.width / 2) ** 2


def _positions(grid: Grid, closed: bool) -> list[np.ndarray]:
    """Coordinates as fractions of the extent, ready to be broadcast."""
    lines = []
    for axis in range(grid.ndim):
        x = grid.coordinates(axis, closed=closed) - grid.origin[axis]
        shape = [1] * grid.ndim
        shape[axis] = -1
        lines.append((x / grid.extent[axis]).reshape(shape))
    return lines
