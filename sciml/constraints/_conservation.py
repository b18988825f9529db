"""Fields with a prescribed mass or energy."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._result import RESULTS
from .._serialisation import register
from ..grids import Grid
from ..linear import Solution
from ._outcome import all_finite, concluded, first_result, guarded

_NO_DERIVATIVE = "The projection failed, so it has no derivative either."


def mass(field: ArrayLike, grid: Grid) -> Float[Array, "..."]:
    """∫ u by the trapezoidal rule: each node weighs its cell's volume.

    **Arguments:**

    - `field`: shape `grid.num_points`, or with leading axes (channels) in front.
    - `grid`: the grid.

    **Returns:** one number for each leading index, in units of u times volume.

    !!! example

        ```python
        import jax.numpy as jnp
        from sciml.constraints import mass
        from sciml.grids import Grid, Neumann

        mass(jnp.ones(5), Grid(5, extent=2.0, boundary=Neumann()))  # 2.0
        ```
    """
    field = jnp.asarray(field)
    return jnp.sum(field * _volumes(field, grid), axis=_axes(grid))


def energy(field: ArrayLike, grid: Grid) -> Float[Array, "..."]:
    """∫ u² by the trapezoidal rule, see `mass`."""
    return mass(jnp.asarray(field) ** 2, grid)


@register
class ShiftToMass(eqx.Module):
    """u + c, with the constant c for which ∫ (u + c) = m: the nearest field in L2.

        c = (m − ∫ u) / ∫ 1

    What rounding leaves is shifted away once more, so that the mass is exact to the
    rounding of its own sum. Linear in u and m. The integral is `mass`.

    **Arguments:**

    - `grid`: where the fields live.

    `layer(u, m)` is the field and raises where there is none; `layer.project(u, m)`
    returns a `Solution`.

    !!! example

        ```python
        import jax.numpy as jnp
        from sciml.constraints import ShiftToMass
        from sciml.grids import Grid, Neumann

        layer = ShiftToMass(Grid(5, boundary=Neumann()))
        layer(jnp.arange(5.0), 1.0)  # [-1, 0, 1, 2, 3], ∫ = 1
        ```
    """

    grid: Grid

    def __call__(self, field: ArrayLike, target: ArrayLike) -> Float[Array, "..."]:
        """The field of mass `target`; raises where there is none, see `project`."""
        return self.project(field, target).value

    def project(
        self, field: ArrayLike, target: ArrayLike, *, throw: bool = True
    ) -> Solution:
        """The field with its result (`nonfinite` for NaN) and statistics.

        Statistics: `relative_residual`, |∫ x − m| / (∫ |x| + |m|); `shift`, c.

        **Arguments:**

        - `field`: u, of shape `grid.num_points`, or with leading axes (channels).
        - `target`: m, a number or one for each leading index.
        - `throw`: raise where it fails (default), or return with the `result`.
        """
        field, target = _checked(field, target, self.grid)
        volume = mass(jnp.ones(self.grid.num_points, field.dtype), self.grid)
        value = field
        for _ in range(2):
            shift = (target - mass(value, self.grid)) / volume
            value = value + _spread(shift, self.grid)
        total = jnp.abs(value)
        shift = jnp.mean(value - field, axis=_axes(self.grid))
        possible = jnp.ones((), bool)
        stats = {"shift": jax.lax.stop_gradient(shift)}
        found = mass(value, self.grid), mass(total, self.grid)
        return _concluded(value, target, found, possible, stats, throw)


@register
class ScaleToMass(eqx.Module):
    """u · c with c = m / ∫ u: for positive fields, which it keeps positive.

    The integral is `mass`; see `ShiftToMass` for arguments and what is exact. A field
    of mass 0, or of the other sign than m, has no such multiple that keeps its sign:
    `RESULTS.infeasible`, unless m is 0 too, when the result is zero.

    **Arguments:**

    - `grid`: where the fields live.

    !!! example

        ```python
        import jax.numpy as jnp
        from sciml.constraints import ScaleToMass
        from sciml.grids import Grid, Periodic

        layer = ScaleToMass(Grid(4, boundary=Periodic()))
        layer(jnp.array([1.0, 2.0, 3.0, 2.0]), 1.0)  # [0.5, 1.0, 1.5, 1.0]
        ```
    """

    grid: Grid

    def __call__(self, field: ArrayLike, target: ArrayLike) -> Float[Array, "..."]:
        """The field of mass `target`; raises where there is none, see `project`."""
        return self.project(field, target).value

    def project(
        self, field: ArrayLike, target: ArrayLike, *, throw: bool = True
    ) -> Solution:
        """The field with its result and statistics.

        Statistics: `relative_residual`, |∫ x − m| / (∫ |x| + |m|); `factor`, c.

        **Arguments:** as for `ShiftToMass.project`.
        """
        field, target = _checked(field, target, self.grid)
        present = mass(field, self.grid)
        possible = (present * target > 0) | (target == 0)
        factor = target / jnp.where(present == 0, 1.0, present)
        value = field * _spread(factor, self.grid)
        again = mass(value, self.grid)
        value = value * _spread(jnp.where(again == 0, 1.0, target / again), self.grid)
        stats = {"factor": jax.lax.stop_gradient(factor)}
        found = mass(value, self.grid), mass(jnp.abs(value), self.grid)
        return _concluded(value, target, found, possible, stats, throw)


@register
class ScaleToEnergy(eqx.Module):
    """u · c with c = √(e / ∫ u²): the nearest field in L2 with ∫ x² = e.

    The integral is `energy`; see `ShiftToMass` for arguments and what is exact. A
    negative e, or a field that is zero where e is not, is `RESULTS.infeasible`. For
    e = 0 the result is zero, with a derivative in u but none in e.

    **Arguments:**

    - `grid`: where the fields live.

    !!! example

        ```python
        import jax.numpy as jnp
        from sciml.constraints import ScaleToEnergy
        from sciml.grids import Grid, Periodic

        layer = ScaleToEnergy(Grid(4, boundary=Periodic()))
        layer(jnp.array([1.0, -1.0, 1.0, -1.0]), 4.0)  # [2, -2, 2, -2]
        ```
    """

    grid: Grid

    def __call__(self, field: ArrayLike, target: ArrayLike) -> Float[Array, "..."]:
        """The field of energy `target`; raises where there is none, see `project`."""
        return self.project(field, target).value

    def project(
        self, field: ArrayLike, target: ArrayLike, *, throw: bool = True
    ) -> Solution:
        """The field with its result and statistics.

        Statistics: `relative_residual`, |∫ x² − e| / (2 e); `factor`, c.

        **Arguments:** as for `ShiftToMass.project`.
        """
        field, target = _checked(field, target, self.grid)
        # (So that squares neither over- nor underflow.)
        size = jnp.max(jnp.abs(field), axis=_axes(self.grid))
        size = jax.lax.stop_gradient(jnp.where(size > 0, size, 1.0))
        unit = field / _spread(size, self.grid)
        present = energy(unit, self.grid)
        possible = (present > 0) & (target >= 0) | (target == 0)
        root = jnp.sqrt(jnp.maximum(target, 0.0) / jnp.where(present > 0, present, 1.0))
        value = unit * _spread(root, self.grid)
        stats = {"factor": jax.lax.stop_gradient(root / size)}
        found = energy(value, self.grid)
        return _concluded(value, target, (found, found), possible, stats, throw)


def _axes(grid: Grid) -> tuple[int, ...]:
    return tuple(range(-grid.ndim, 0))


def _spread(number: Array, grid: Grid) -> Array:
    """One number for each leading index, so that it multiplies a field."""
    return jnp.expand_dims(number, _axes(grid))


def _volumes(field: Array, grid: Grid) -> Array:
    weights = grid.cell_weights() * math.prod(grid.spacing)
    lead = (None,) * (field.ndim - grid.ndim)
    return jnp.asarray(weights, field.dtype)[lead]


def _checked(field: ArrayLike, target: ArrayLike, grid: Grid) -> tuple[Array, Array]:
    """A field of the grid, and a target for each of its leading indices."""
    field = jnp.asarray(field)
    lead = field.shape[: max(field.ndim - grid.ndim, 0)]
    if field.shape[len(lead) :] != grid.num_points:
        raise ValueError(
            f"field: expected trailing shape {grid.num_points}, as the grid has, got "
            f"{field.shape}."
        )
    if not jnp.issubdtype(field.dtype, jnp.floating):
        raise ValueError(f"field: expected real values, got {field.dtype}.")
    target = jnp.asarray(target, field.dtype)
    if target.shape not in ((), lead):
        raise ValueError(
            f"target: expected a number or an array of shape {lead}, one for each "
            f"leading index of the field, got {target.shape}."
        )
    return field, jnp.broadcast_to(target, lead)


def _concluded(value, target, found, possible, stats: dict[str, Any], throw: bool):
    """The `Solution`: met where the mass (or energy) is, to the rounding of its sum."""
    found, total, goal = jax.lax.stop_gradient((*found, target))
    residual = jnp.abs(found - goal)
    size = total + jnp.abs(goal)
    relative = jnp.max(residual / jnp.where(size > 0, size, 1.0), initial=0.0)
    tolerance = 20 * jnp.finfo(value.dtype).eps
    possible = jnp.all(possible)
    result = first_result(
        (~all_finite(value, goal), RESULTS.nonfinite),
        (~possible, RESULTS.infeasible),
        (relative > tolerance, RESULTS.stagnated),
    )
    good = result == RESULTS.successful
    value = guarded(value, good, _NO_DERIVATIVE, throw=throw)
    stats = {"relative_residual": relative, **stats}
    return concluded(value, result, stats, throw=throw)
