"""A spectral convolution that can only shrink, channel by channel."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ._modes import check_modes, hermitian, low_field, low_transform, modes_shape


class DepthwiseSpectralConvolution(eqx.Module):
    """A linear map that turns and shrinks each low frequency of each channel:

        û_c(k) = σ(m_c(k)) e^{iφ_c(k)} f̂_c(k) for |k| < num_modes, and 0 beyond

    with the logistic function σ, so that every gain is below 1: ‖u‖ < ‖f‖ whatever the
    parameters are. The cutoff is a ball and not a box, so that no direction of the grid
    is preferred. Channels do not mix here; with one number per channel and frequency
    instead of a matrix all frequencies can be afforded.

    **Arguments:**

    - `ndim`: number of axes, 1 to 3.
    - `channels`: channels of f and u.
    - `num_modes`: frequencies per axis, see `SpectralConvolution`.
    - `key`: draws m and φ (shape `(2, channels, *modes)`) from N(0, 1), as the source
        does. None: m = 4 and φ = 0, near the identity.

    **Raises:** `ValueError` if an axis has fewer than 2 num_modes − 1 nodes.

    !!! example

        ```python
        spectral = DepthwiseSpectralConvolution(2, 3, num_modes=8, key=jr.key(0))
        spectral(jnp.ones((3, 32, 48))).shape  # (3, 32, 48)
        ```

    Source: McCabe, Harrington, Subramanian and Brown, *Towards Stability of
    Autoregressive Neural Operators*, TMLR 2023.
    """

    weight: Float[Array, "2 channels *modes"]
    ndim: int = eqx.field(static=True)
    num_modes: int = eqx.field(static=True)

    def __init__(
        self, ndim: int, channels: int, num_modes: int, *, key: PRNGKeyArray | None
    ):
        shape = (channels, *modes_shape(ndim, num_modes))
        if key is None:
            self.weight = jnp.stack([jnp.full(shape, 4.0), jnp.zeros(shape)])
        else:
            self.weight = jr.normal(key, (2, *shape))
        self.ndim = ndim
        self.num_modes = num_modes

    def __call__(
        self, f: Float[Array, "channels *space"]
    ) -> Float[Array, "channels *space"]:
        """The map applied to one field."""
        space = f.shape[1:]
        check_modes(space, self.num_modes)
        magnitude, phase = self.weight.astype(f.dtype)
        inside = jnp.asarray(ball_of_modes(self.ndim, self.num_modes), f.dtype)[None]
        gain = jax.nn.sigmoid(magnitude) * inside
        weight = lax.complex(gain * jnp.cos(phase), gain * jnp.sin(phase))
        low = low_transform(f, self.num_modes)
        low = hermitian(weight, 1) * lax.complex(low[0], low[1])
        low = jnp.stack([jnp.real(low), jnp.imag(low)])
        return low_field(low, space, self.num_modes)


def low_pass(
    f: Float[Array, "channels *space"], num_modes: int
) -> Float[Array, "channels *space"]:
    """A field without its frequencies |k| ≥ num_modes."""
    space = f.shape[1:]
    check_modes(space, num_modes)
    inside = jnp.asarray(ball_of_modes(len(space), num_modes), f.dtype)[None, None]
    return low_field(low_transform(f, num_modes) * inside, space, num_modes)


def ball_of_modes(ndim: int, num_modes: int) -> Bool[np.ndarray, "*modes"]:
    """Where |k| < num_modes, among the frequencies that `low_modes` keeps."""
    full, half = np.arange(1 - num_modes, num_modes), np.arange(num_modes)
    squares = np.meshgrid(*[full**2] * (ndim - 1), half**2, indexing="ij")
    return np.sum(squares, axis=0) < num_modes**2
