"""Losses between fields: relative L2 and H1 norms."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from ..data import Dataset
from ..grids import Grid
from ..grids._norms import squared_h1_seminorm, squared_l2


class RelativeL2(eqx.Module):
    """mean over samples of ‖û − u‖ / ‖u‖ with the discrete L2 norm of the grid.

    ‖u‖² = Σ_nodes w |u|², w being the volume of the node's cell (half of it on a
    stored side), summed over channels. A number without unit; 1 is what û = 0 gets. It
    is a mean over the batch, not a sum, so that a learning rate keeps its meaning when
    the batch size changes. A target that is zero everywhere gives NaN or infinity.

    As every loss of `sciml.training.fit`: `loss(model, batch, key) -> (scalar, aux)`,
    `model` mapping one sample, `batch` a `sciml.data.Dataset`.

    !!! example

        ```python
        value, _ = sciml.training.RelativeL2()(model, dataset[:16], key)
        ```
    """

    def __call__(self, model: Any, batch: Dataset, key: Any = None):
        """The loss and no further scalars; `key` is not used."""
        del key
        predictions, targets = predict(model, batch)
        return jnp.mean(relative_l2(predictions, targets, batch.grid)), {}


class RelativeH1(eqx.Module):
    """mean over samples of ‖û − u‖_H1 / ‖u‖_H1.

    ‖u‖²_H1 = ‖u‖² + |u|²_H1, where |u|²_H1 integrates the squared difference quotients
    between neighbouring nodes, up to and including the nodes of Dirichlet sides that
    are not stored (there û = u). In contrast to L2 it sees wrong fluxes and
    oscillations; it is the usual choice for elliptic problems. Since the second part is
    per length², the unit of the grid's extent decides how much it weighs: for a unit
    box the gradient dominates, as it should.

    Mean over the batch, as in `RelativeL2`. `aux` has `relative_l2`.

    !!! example

        ```python
        model, history = sciml.training.fit(
            model, train, loss=sciml.training.RelativeH1(), num_steps=5_000,
            batch_size=16, key=key,
        )
        ```
    """

    def __call__(self, model: Any, batch: Dataset, key: Any = None):
        """The loss, and `relative_l2`; `key` is not used."""
        del key
        predictions, targets = predict(model, batch)
        aux = {"relative_l2": jnp.mean(relative_l2(predictions, targets, batch.grid))}
        return jnp.mean(relative_h1(predictions, targets, batch.grid)), aux


class SpectralH1(eqx.Module):
    """mean over samples of ‖w (û^ − u^)‖ / ‖w u^‖ with Fourier weights w(k).

    ^ is the unitary discrete Fourier transform of the stored nodes, k the vector of
    integer wavenumbers, and w(k) = √(1 + |k|²) where |k| < `max_wavenumber`, 1 beyond,
    so that noise in the highest waves is not amplified. This is the loss with which
    MgNO was trained (He, Liu and Xu, 2024, there summed over the batch; here the mean,
    so that the learning rate does not depend on the batch size).

    It treats a field as periodic, whatever its boundary: for other boundaries
    `RelativeH1` has the right norm.

    **Arguments:**

    - `max_wavenumber`: default 20, as in the paper.

    !!! example

        ```python
        value, _ = sciml.training.SpectralH1()(model, dataset[:16], key)
        ```
    """

    max_wavenumber: float = 20.0

    def __check_init__(self):
        if not self.max_wavenumber > 0:
            raise ValueError(
                f"max_wavenumber: expected a positive number, got "
                f"{self.max_wavenumber!r}."
            )

    def __call__(self, model: Any, batch: Dataset, key: Any = None):
        """The loss and no further scalars; `key` is not used."""
        del key
        predictions, targets = predict(model, batch)
        waves = [np.fft.fftfreq(n, 1 / n) for n in batch.grid.shape]
        squares = sum(k**2 for k in np.meshgrid(*waves, indexing="ij"))
        weights = 1 + np.where(squares < self.max_wavenumber**2, squares, 0.0)

        def norm(field):
            axes = tuple(range(1, field.ndim))
            spectrum = jnp.fft.fftn(field, axes=axes, norm="ortho")
            square = _square(spectrum)
            return _root(jnp.sum(square * jnp.asarray(weights, square.dtype)[None]))

        ratio = jax.vmap(lambda p, t: norm(p - t) / norm(t))(predictions, targets)
        return jnp.mean(ratio), {}


class AbsoluteH1(eqx.Module):
    """mean over samples of (w ‖û − u‖² + |û − u|²_H1)^½, in the unit of u.

    Not relative: samples of large norm weigh more, as waves near a resonance do, whose
    error divided by their size says little. The norms are those of `RelativeH1`.

    **Arguments:**

    - `l2_weight`: w ≥ 0, in 1/length². Default 10, the one that MgNO was trained with
        on the Helmholtz equation (He, Liu and Xu, 2024, the accompanying code, which
        sums over nodes where here the integral is meant).

    !!! example

        ```python
        value, _ = sciml.training.AbsoluteH1()(model, dataset[:16], key)
        ```
    """

    l2_weight: float = 10.0

    def __check_init__(self):
        if not self.l2_weight >= 0:
            raise ValueError(
                f"l2_weight: expected a number ≥ 0, got {self.l2_weight!r}."
            )

    def __call__(self, model: Any, batch: Dataset, key: Any = None):
        """The loss, and `relative_l2`; `key` is not used."""
        del key
        predictions, targets = predict(model, batch)
        grid = batch.grid.homogeneous()

        def norm(error):
            square = self.l2_weight * squared_l2(error, grid)
            return _root(square + squared_h1_seminorm(error, grid))

        aux = {"relative_l2": jnp.mean(relative_l2(predictions, targets, batch.grid))}
        return jnp.mean(jax.vmap(norm)(predictions - targets)), aux


def predict(model: Any, batch: Dataset) -> tuple[Array, Array]:
    """A model's outputs for a batch, and the targets; `ValueError` unless they fit."""
    if batch.targets is None:
        raise ValueError(
            "batch: this loss compares with targets, but the dataset has none."
        )
    if batch.grid is None:
        raise ValueError("batch: this loss is a norm of fields, but there is no grid.")
    batch = batch.as_floating()
    targets = jnp.asarray(batch.targets)
    predictions = jax.vmap(model)(jnp.asarray(batch.inputs))
    if jnp.shape(predictions) != targets.shape:
        raise ValueError(
            f"model: expected an output of shape {targets.shape[1:]} for a sample of "
            f"shape {batch.inputs.shape[1:]}, got {jnp.shape(predictions)[1:]}."
        )
    return predictions, targets


def relative_l2(
    predictions: Inexact[Array, "samples channels *space"],
    targets: Inexact[Array, "samples channels *space"],
    grid: Grid,
) -> Float[Array, " samples"]:
    """‖û − u‖ / ‖u‖ of each sample."""

    def ratio(prediction, target):
        error = squared_l2(prediction - target, grid)
        return _root(error) / _root(squared_l2(target, grid))

    return jax.vmap(ratio)(predictions, targets)


def relative_h1(
    predictions: Inexact[Array, "samples channels *space"],
    targets: Inexact[Array, "samples channels *space"],
    grid: Grid,
) -> Float[Array, " samples"]:
    """‖û − u‖_H1 / ‖u‖_H1 of each sample."""

    # The error vanishes where the boundary data are imposed.
    of_errors = grid.homogeneous()

    def square(field, on):
        return squared_l2(field, on) + squared_h1_seminorm(field, on)

    def ratio(prediction, target):
        error = square(prediction - target, of_errors)
        return _root(error) / _root(square(target, grid))

    return jax.vmap(ratio)(predictions, targets)


def _square(field: Array) -> Array:
    return jnp.real(field * jnp.conj(field))


def _root(square: Array) -> Array:
    """√ with derivative 0 instead of infinity at 0: a sample can be met exactly."""
    zero = square == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))
