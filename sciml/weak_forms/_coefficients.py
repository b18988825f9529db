"""Coefficients that are known at nodes, and how likely a decoded one is."""

import abc

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._serialisation import register
from ..grids import Grid


class AbstractCoefficient(eqx.Module):
    """What a coefficient's values are like.

    A model decodes a raw field for it, which `value` turns into values of a, and which
    `misfit` compares with a known a.
    """

    @abc.abstractmethod
    def normalised(self, values: Float[Array, "..."]) -> Float[Array, "..."]:
        """The values in a range of about −1 to 1, for an encoder."""

    @abc.abstractmethod
    def between(
        self,
        field: Float[Array, "..."],
        grid: Grid,
        points: Float[Array, "num ndim"],
    ) -> Float[Array, " num"]:
        """A nodal field at points of the grid's box."""

    @abc.abstractmethod
    def value(self, raw: Float[Array, "..."]) -> Float[Array, "..."]:
        """The coefficient that is expected, given what was decoded."""

    @abc.abstractmethod
    def misfit(
        self, raw: Float[Array, "..."], values: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """−log p(values | raw) at each place, up to a constant."""

    def relaxed(
        self, raw: Float[Array, "..."], *, key: PRNGKeyArray
    ) -> Float[Array, "..."]:
        """A sample that is differentiable by `raw`; the expectation unless it says.

        **Arguments:**

        - `raw`: what was decoded.
        - `key`: draws it.
        """
        del key
        return self.value(raw)

    @abc.abstractmethod
    def check(self, values: Float[Array, "..."]) -> None:
        """**Raises:** `ValueError` for values that a coefficient of this kind has not.

        Of values that are being traced nothing is known.
        """


@register
class TwoPhaseCoefficient(AbstractCoefficient):
    """a is `low` or `high`, in the cell around each node.

        p = p(a = high) = σ(raw),   −log p(a) = log(1 + exp(∓raw))
        E a = low + (high − low) p

    **Arguments:**

    - `low`, `high`: the two values, 0 < low < high.

    **Raises:** `ValueError` for other numbers.

    !!! example

        ```python
        kind = sciml.weak_forms.TwoPhaseCoefficient(5.0, 10.0)
        kind.value(jnp.zeros(3))  # 7.5
        ```
    """

    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)

    def __check_init__(self):
        if not 0 < self.low < self.high < float("inf"):
            raise ValueError(
                f"low, high: expected 0 < low < high, got {self.low} and {self.high}."
            )

    def normalised(self, values):
        """−1 for `low`, 1 for `high`."""
        middle = (self.low + self.high) / 2
        return (values - middle) / ((self.high - self.low) / 2)

    def between(self, field, grid, points):
        """The value of the nearest node."""
        return nearest(field, grid, points)

    def value(self, raw):
        """E a."""
        return self.low + (self.high - self.low) * jax.nn.sigmoid(raw)

    def misfit(self, raw, values):
        """The cross-entropy; for values in between, of their mixture."""
        high = (values - self.low) / (self.high - self.low)
        return jax.nn.softplus(raw) - high * raw

    def relaxed(self, raw, *, key):
        """`value` of raw + the mean of 25 standard logistic numbers, as published."""
        noise = jnp.mean(jr.logistic(key, (25, *raw.shape), raw.dtype), 0)
        return self.value(raw + noise)

    def check(self, values):
        """Expected from `low` to `high`: values between them are mixtures."""
        slack = 1e-5 * (self.high - self.low)
        text = f"values from {self.low:.4g} to {self.high:.4g}"
        _check(values, self.low - slack, self.high + slack, text)


@register
class SmoothCoefficient(AbstractCoefficient):
    """a varies smoothly: log a is decoded, with an error of known size.

        a = centre exp(spread raw)
        −log p(a) = (log(a/centre) − spread raw)² / (2 std²)

    **Arguments:**

    - `centre`, `spread`: the geometric mean of a, and the standard deviation of log a,
        about: so that raw fields are of size 1. Default 1 and 1.
    - `std`: of log a given the latent vector. Default 0.1.

    **Raises:** `ValueError` for numbers that are not positive.

    !!! example

        ```python
        kind = sciml.weak_forms.SmoothCoefficient(centre=2.0, spread=0.5)
        ```
    """

    centre: float = eqx.field(static=True, default=1.0)
    spread: float = eqx.field(static=True, default=1.0)
    std: float = eqx.field(static=True, default=0.1)

    def __check_init__(self):
        for name in ("centre", "spread", "std"):
            number = getattr(self, name)
            if not 0 < number < float("inf"):
                raise ValueError(f"{name}: expected a positive number, got {number}.")

    def normalised(self, values):
        """(log a − log centre)/spread."""
        return jnp.log(values / self.centre) / self.spread

    def between(self, field, grid, points):
        """Linear between the nodes, along each axis; constant beyond the last."""
        return multilinear(field, grid, points)

    def value(self, raw):
        """The a of the decoded logarithm."""
        return self.centre * jnp.exp(self.spread * raw)

    def misfit(self, raw, values):
        """That of a normal distribution of log a."""
        error = jnp.log(values / self.centre) - self.spread * raw
        return 0.5 * (error / self.std) ** 2

    def check(self, values):
        """Expected positive."""
        _check(values, np.finfo(float).tiny, np.finfo(float).max, "positive numbers")


@register
class PrescribedValues(AbstractCoefficient):
    """Not a coefficient, but what the solution is told to be somewhere.

    Its values at t = 0, or where a fluid enters; they are decoded with an error of
    known size:

        −log p(a) = ((a − u_0)/(std scale))² / 2

    **Arguments:**

    - `scale`: U, the size of the values: their standard deviation, about. Default 1.
    - `std`: of the error, in units of U. Default 0.1.

    **Raises:** `ValueError` for numbers that are not positive.

    !!! example

        ```python
        kind = sciml.weak_forms.PrescribedValues(scale=0.5)
        ```
    """

    scale: float = eqx.field(static=True, default=1.0)
    std: float = eqx.field(static=True, default=0.1)

    def __check_init__(self):
        for name in ("scale", "std"):
            number = getattr(self, name)
            if not 0 < number < float("inf"):
                raise ValueError(f"{name}: expected a positive number, got {number}.")

    def normalised(self, values):
        """In units of U."""
        return values / self.scale

    def between(self, field, grid, points):
        """Linear between the nodes."""
        return multilinear(field, grid, points)

    def value(self, raw):
        """u_0 itself."""
        return raw

    def misfit(self, raw, values):
        """That of a normal distribution."""
        return 0.5 * ((values - raw) / (self.std * self.scale)) ** 2

    def check(self, values):
        """Expected finite."""
        _check(values, -np.finfo(float).max, np.finfo(float).max, "finite numbers")


def _check(values: Array, low: float, high: float, expected: str) -> None:
    if isinstance(values, jax.core.Tracer):
        return
    known = np.asarray(values, float)
    inside = (known >= low) & (known <= high)
    if not inside.all():
        worst = known[~inside].ravel()[0]
        raise ValueError(
            f"x: expected {expected}, got others at {int((~inside).sum())} of "
            f"{known.size} nodes, the first is {worst:.4g}."
        )


def nearest(
    field: Float[Array, "..."], grid: Grid, points: Float[Array, "num ndim"]
) -> Float[Array, " num"]:
    """The values of the nodes that are nearest to points."""
    index = []
    for axis, places in enumerate(_in_nodes(grid, points)):
        last = grid.num_points[axis] - 1
        index.append(jnp.clip(jnp.rint(places), 0, last).astype(jnp.int32))
    return field[tuple(index)]


def multilinear(
    field: Float[Array, "..."], grid: Grid, points: Float[Array, "num ndim"]
) -> Float[Array, " num"]:
    """Interpolated along each axis, with the outermost nodes' values beyond them."""
    places = jnp.stack(_in_nodes(grid, points))
    return jax.scipy.ndimage.map_coordinates(field, list(places), 1, mode="nearest")


def _in_nodes(grid: Grid, points: Array) -> list[Array]:
    """Coordinates in units of nodes, 0 being the first stored one."""
    found = []
    for axis in range(grid.ndim):
        first = float(grid.coordinates(axis)[0])
        found.append((points[:, axis] - first) / grid.spacing[axis])
    return found
