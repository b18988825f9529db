"""A model between physical units whose inside sees fields of mean 0 and deviation 1."""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from .._serialisation import register
from ..grids._boundary import BoundaryPair
from ._sample import floating, grid_of
from ._transferred import Transferred

Statistic = tuple[float, ...]


@register
class Normalised(eqx.Module):
    """A model in physical units around one in normalised units, per channel:

        output = model((x − input_mean) / input_std) · output_std + output_mean

    and stored Dirichlet nodes set to the value of `model.boundary`, which is the
    physical one: a loss or a metric on the output is in physical units, and boundary
    values are exact there. The statistics are constants: they are saved with the
    model, never trained, and the same at every node, so that the grid stays free.

    **Arguments:**

    - `model`: maps one sample `(channels, *space)`.
    - `input_mean`, `input_std`: one number per input channel, or one number for a
        model with one channel.
    - `output_mean`, `output_std`: the same for the output channels.

    **Raises:** `ValueError` for deviations that are not positive, numbers that are not
    finite, and another number of channels than there are statistics.

    !!! example

        ```python
        model = Normalised(MgNO(2, 1, 1, key=key), 4.5, 3.7, 0.006, 0.004)
        model = normalised(MgNO(2, 1, 1, key=key), train.inputs, train.targets)
        ```
    """

    model: Callable[[Array], Array]
    input_mean: Statistic = eqx.field(static=True)
    input_std: Statistic = eqx.field(static=True)
    output_mean: Statistic = eqx.field(static=True)
    output_std: Statistic = eqx.field(static=True)

    def __init__(
        self,
        model: Callable[[Array], Array],
        input_mean: float | Sequence[float],
        input_std: float | Sequence[float],
        output_mean: float | Sequence[float],
        output_std: float | Sequence[float],
    ):
        self.model = model
        self.input_mean = _statistic("input_mean", input_mean)
        self.input_std = _statistic("input_std", input_std)
        self.output_mean = _statistic("output_mean", output_mean)
        self.output_std = _statistic("output_std", output_std)
        for side, mean, std in (
            ("input", self.input_mean, self.input_std),
            ("output", self.output_mean, self.output_std),
        ):
            if min(std) <= 0:
                raise ValueError(f"{side}_std: expected positive numbers, got {std}.")
            if len(mean) != len(std):
                raise ValueError(
                    f"{side}_std: expected as many numbers as {side}_mean has "
                    f"({len(mean)}), got {len(std)}."
                )
            channels = getattr(model, f"{side[:-3]}_channels", len(mean))
            if channels != len(mean):
                raise ValueError(
                    f"{side}_mean: the model has {channels} channels there, but "
                    f"{len(mean)} numbers were given; pass one per channel."
                )

    @property
    def boundary(self) -> tuple[BoundaryPair, ...]:
        """The wrapped model's boundary conditions, in physical units."""
        return self.model.boundary  # pyright: ignore[reportFunctionMemberAccess]

    def __call__(
        self, x: Shaped[Array | np.ndarray, "in_channels *space"]
    ) -> Float[Array, "out_channels *space"]:
        """The physical output of one physical input.

        **Arguments:**

        - `x`: shape `(in_channels, *space)`.
        """
        return self._physical(self.model(self._inside(x)))

    def with_intermediate(
        self, x: Shaped[Array | np.ndarray, "in_channels *space"]
    ) -> tuple[Float[Array, "out_channels *space"], Float[Array, "channels *space"]]:
        """The output and the estimate that `CAPE` makes on its way, in physical units.

        The estimate is one of the next state, hence has the statistics of the first
        channels of the input.

        **Raises:** `ValueError` if the model makes none.
        """
        if not hasattr(self.model, "with_intermediate"):
            raise ValueError(
                "model: expected one with a method `with_intermediate`, such as CAPE, "
                f"got {type(self.model).__name__}."
            )
        y, estimate = self.model.with_intermediate(self._inside(x))  # pyright: ignore[reportFunctionMemberAccess]
        channels = slice(estimate.shape[0])
        mean, std = _columns(
            estimate, self.input_mean[channels], self.input_std[channels]
        )
        return self._physical(y), self._imposed(estimate * std + mean)

    def _inside(self, x: Array | np.ndarray) -> Array:
        x = floating(x)
        _check_channels("x", x, self.input_mean)
        mean, std = _columns(x, self.input_mean, self.input_std)
        return (x - mean) / std

    def _physical(self, y: Array) -> Array:
        _check_channels("model's output", y, self.output_mean)
        mean, std = _columns(y, self.output_mean, self.output_std)
        return self._imposed(y * std + mean)

    def _imposed(self, y: Array) -> Array:
        if getattr(self.model, "boundary", None) is None:
            return y
        return grid_of(y.shape[1:], self.boundary).impose(y)

    def transfer(self, factor: int = 2) -> Transferred:
        """The same operator on grids whose spacing is `factor` times finer.

        See `Transferred`, whose shortcut this is.
        """
        return Transferred(self, factor)


def normalised(
    model: Callable[[Array], Array],
    inputs: Shaped[Array | np.ndarray, "samples in_channels *space"],
    targets: Shaped[Array | np.ndarray, "samples out_channels *space"],
) -> Normalised:
    """`Normalised` with the mean and deviation of training data, over all nodes.

    They are computed in float64 on the host. The deviation of a channel that is
    constant is taken as 1.

    **Arguments:**

    - `model`: maps one sample.
    - `inputs`, `targets`: training data `(samples, channels, *space)`.

    **Raises:** `ValueError` for data that are empty, traced, or not finite.

    !!! example

        ```python
        model = normalised(MgNO(2, 1, 1, key=key), train.inputs, train.targets)
        ```
    """
    return Normalised(
        model, *_mean_and_std("inputs", inputs), *_mean_and_std("targets", targets)
    )


def _mean_and_std(name: str, fields: Array | np.ndarray) -> tuple[Statistic, Statistic]:
    if isinstance(fields, jax.core.Tracer):
        raise ValueError(f"{name}: call `normalised` outside of `jit`, on data.")
    values = np.asarray(fields)
    if values.ndim < 3 or values.size == 0:
        raise ValueError(
            f"{name}: expected shape (samples, channels, *space), got {values.shape}."
        )
    over = (0, *range(2, values.ndim))
    mean = values.mean(over, dtype=np.float64)
    std = values.std(over, dtype=np.float64)
    if not (np.isfinite(mean).all() and np.isfinite(std).all()):
        raise ValueError(f"{name}: some values are NaN or infinite; clean the data.")
    # A constant's deviation is rounding noise, by which nothing should be divided.
    constant = std <= 1e-12 * np.abs(mean)
    std = np.where(constant, 1.0, std)
    return tuple(mean.tolist()), tuple(std.tolist())


def _statistic(name: str, given: float | Sequence[float]) -> Statistic:
    values = np.atleast_1d(np.asarray(given, np.float64))
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(
            f"{name}: expected one finite number per channel, got {given!r}."
        )
    return tuple(values.tolist())


def _columns(like: Array, *statistics: Statistic) -> list[Array]:
    shape = (-1,) + (1,) * (like.ndim - 1)
    return [jnp.asarray(values, like.dtype).reshape(shape) for values in statistics]


def _check_channels(name: str, field: Array, statistic: Statistic) -> None:
    if field.ndim < 2 or field.shape[0] != len(statistic):
        raise ValueError(
            f"{name}: expected one sample (channels, *space) with {len(statistic)} "
            f"channels, got shape {field.shape}. Use `jax.vmap` for a batch."
        )
