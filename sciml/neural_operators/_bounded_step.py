"""Rollouts that are bounded by construction, whatever the model in them is."""

import math
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from .._serialisation import register
from ..grids._boundary import BoundaryPair
from ._depthwise_spectral import DepthwiseSpectralConvolution, low_pass
from ._sample import check_counts, floating, grid_of


@register
class BoundedStep(eqx.Module):
    """A time step around any model whose rollouts stay in a ball.

        v = F model(x)
        output = rate · K x + v / (1 + ‖v‖²/radius²)^½

    with a depthwise spectral convolution K, whose gains are below 1 and which starts
    near the identity (`DepthwiseSpectralConvolution`), and a filter F that leaves out
    the frequencies |k| ≥ num_modes. Noise in those has no way back into the state, and
    since the second term is never larger than `radius`,

        ‖output‖ ≤ rate ‖x‖ + radius,

    for every model and all values of its parameters, in the root mean square over nodes
    and channels. A rollout of any length stays within
    max(‖x‖, radius/(1 − rate)). Dissipative systems (Kuramoto–Sivashinsky, Kolmogorov
    flow) have such a ball, too; within it the model can be as wrong as any: measure it
    (`sciml.evaluation.rollout_errors`).

    The model learns what rate · x lacks. Put it inside of `normalised`, where the
    state's deviation is 1, with the same states for input and output: between two units
    there is no bound. Values that are not finite stay so: what cannot be computed is
    not made up.

    **Arguments:**

    - `model`: maps a state `(channels, *space)` to a field of its shape.
    - `ndim`, `channels`: axes and channels of the state.
    - `num_modes`: frequencies kept per axis, see `SpectralConvolution`. Two thirds of
        the grid's, n/3, leave products of two waves without aliases.
    - `radius`: bound of what is added, in the unit of the state. Default 2.
    - `rate`: in (0, 1). Default 0.5. With the default radius rollouts are bounded by 4
        deviations of the data; from x every band-limited state up to a root mean
        square of 2 − ‖x‖/2 is within one step.

    **Raises:** `ValueError` for arguments out of range, grids with fewer modes, and a
    model whose output is no state.

    !!! example

        ```python
        fno = FNO(1, 1, 1, num_modes=16, boundary=Periodic(), key=key)
        model = normalised(BoundedStep(fno, 1, 1, num_modes=21), states, states)
        ```

    Gains below 1 and the filter are from McCabe, Harrington, Subramanian and Brown,
    *Towards Stability of Autoregressive Neural Operators*, TMLR 2023; the bound is new.
    """

    model: Callable[[Array], Array]
    linear: DepthwiseSpectralConvolution
    ndim: int = eqx.field(static=True)
    channels: int = eqx.field(static=True)
    num_modes: int = eqx.field(static=True)
    radius: float = eqx.field(static=True)
    rate: float = eqx.field(static=True)

    def __init__(
        self,
        model: Callable[[Array], Array],
        ndim: int,
        channels: int,
        num_modes: int,
        radius: float = 2.0,
        rate: float = 0.5,
    ):
        check_counts(channels=channels, num_modes=num_modes)
        if not 0 < rate < 1:
            raise ValueError(f"rate: expected a number between 0 and 1, got {rate}.")
        if not 0 < radius < math.inf:
            raise ValueError(f"radius: expected a positive number, got {radius}.")
        self.model = model
        self.linear = DepthwiseSpectralConvolution(ndim, channels, num_modes, key=None)
        self.ndim = ndim
        self.channels = channels
        self.num_modes = num_modes
        self.radius = float(radius)
        self.rate = float(rate)

    @property
    def boundary(self) -> tuple[BoundaryPair, ...] | None:
        """The model's boundary conditions, None where it has none."""
        return getattr(self.model, "boundary", None)

    def __call__(
        self, x: Shaped[Array | np.ndarray, "channels *space"]
    ) -> Float[Array, "channels *space"]:
        """The next state of one state.

        **Arguments:**

        - `x`: shape `(channels, *space)`.
        """
        x = floating(x)
        v = self.model(x)
        if jnp.shape(v) != x.shape or x.shape[0] != self.channels:
            raise ValueError(
                f"model: expected a state of {self.channels} channels to be mapped to "
                f"one of its shape, got {x.shape} to {jnp.shape(v)}."
            )
        v = low_pass(v, self.num_modes)
        change = v / jnp.sqrt(1 + jnp.mean(v**2) / self.radius**2)
        y = self.rate * self.linear(x) + change
        if self.boundary is None:
            return y
        return grid_of(y.shape[1:], self.boundary).impose(y)
