"""At which wavenumbers a model errs."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..data import Dataset
from ..training._losses import predict


def band_errors(
    model: Any,
    dataset: Dataset,
    bands: Sequence[float | int] = (4, 12),
    batch_size: int = 64,
) -> dict[str, float]:
    """Relative errors of a model in bands of wavenumbers.

        error(band) = (Σ_{k in band} |û^(k) − u^(k)|² / Σ_{k in band} |u^(k)|²)^½

    with the discrete Fourier transform of the stored nodes, |k| the length of the
    vector of integer wavenumbers, and both sums over all samples and channels: a sample
    with nothing in a band does not blow up. An operator that has learned the large
    shapes and no detail has a small error in the first band and 1 in the last.

    A field on a side that is not periodic has a jump there, which fills the high bands;
    compare models with each other, not with 0.

    **Arguments:**

    - `model`: maps one sample `(channels, *space)`.
    - `dataset`: with targets, on a grid.
    - `bands`: where bands end, rising; the last goes to infinity. Default (4, 12):
        |k| < 4, 4 ≤ |k| < 12, 12 ≤ |k|, about the low, middle and high of PDEBench.
    - `batch_size`: samples predicted at a time.

    **Returns:** errors by name, `"0-4"`, `"4-12"`, `"12-"`; NaN in a band where the
    targets have nothing but rounding errors.

    **Raises:** `ValueError` for bands that do not rise from above 0, and as `evaluate`.

    !!! example

        ```python
        sciml.evaluation.band_errors(model, test)["12-"]
        ```

    Source: Takamoto et al., *PDEBench*, NeurIPS 2022, the metric fRMSE (there not
    relative, and with |k| rounded).
    """
    edges = [0.0, *map(float, bands), np.inf]
    if len(edges) < 3 or any(a >= b for a, b in zip(edges, edges[1:], strict=False)):
        raise ValueError(f"bands: expected rising numbers above 0, got {bands!r}.")
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size!r}.")
    errors, sizes = np.zeros(len(edges) - 1), np.zeros(len(edges) - 1)
    for start in range(0, len(dataset), batch_size):
        part = dataset[start : start + batch_size]
        error, size = jax.device_get(_energies(model, part, tuple(edges)))
        errors += np.asarray(error, np.float64)
        sizes += np.asarray(size, np.float64)
    # What rounding leaves in an empty band is nothing.
    dtype = dataset.as_floating().targets.dtype
    floor = (100 * float(np.finfo(dtype).eps)) ** 2 * sizes.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.where(sizes > floor, np.sqrt(errors / sizes), np.nan)
    names = [
        f"{a:g}-{b:g}" if np.isfinite(b) else f"{a:g}-"
        for a, b in zip(edges, edges[1:], strict=False)
    ]
    return {name: float(r) for name, r in zip(names, ratios, strict=True)}


@eqx.filter_jit
def _energies(model: Any, batch: Dataset, edges: tuple[float, ...]):
    """Per band: energy of the error, and of the targets."""
    predictions, targets = predict(model, batch)
    waves = [np.fft.fftfreq(n, 1 / n) for n in batch.grid.shape]
    lengths = np.sqrt(sum(k**2 for k in np.meshgrid(*waves, indexing="ij")))
    axes = tuple(range(2, targets.ndim))

    def energies(field):
        spectrum = jnp.fft.fftn(field, axes=axes, norm="forward")
        square = jnp.sum(jnp.abs(spectrum) ** 2, axis=(0, 1))
        return jnp.stack(
            [
                jnp.sum(
                    jnp.where(jnp.asarray((a <= lengths) & (lengths < b)), square, 0)
                )
                for a, b in zip(edges, edges[1:], strict=False)
            ]
        )

    return energies(predictions - targets), energies(targets)
