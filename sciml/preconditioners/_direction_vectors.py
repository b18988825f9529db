"""Right-hand sides to train search directions on: mixed from eigenvectors of A."""

import jax.random as jr
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from ..data import Dataset
from ..grids import Grid
from ..linear import StencilOperator

# Of the Ritz vectors these come with the larger factor: half, and 500 of 10,000.
_LOW_SHARE = 0.55
# Ritz values below are those of a null space.
_SMALLEST = 1e-8


def sine_vectors(
    grid: Grid, count: int, *, low_weight: float = 9.0, key: PRNGKeyArray
) -> Dataset:
    """b = Σ_j c_j v_j over all eigenvectors v_j of −Δ, which are products of sines.

    c_j is normal with the standard deviation w_j √(ρ_j): ρ_j is the share of the
    eigenvalue's neighbourhood in the density 1/√((λ − λ_min)(λ_max − λ)) in which Ritz
    values of many Lanczos steps lie, and w_j is `low_weight` for the lower 55 % of that
    density, otherwise 1. So these are the published vectors in the limit of many
    steps, for the price of a sine transform each.

    **Arguments:**

    - `grid`: Dirichlet sides whose nodes are not stored; no obstacles.
    - `count`: of vectors.
    - `low_weight`: default 9, as published.
    - `key`: draws c.

    **Returns:** a `sciml.data.Dataset` of unit vectors, inputs of shape
    `(count, 1, *space)` in float32, without targets.

    **Raises:** `ValueError` for other sides, and arguments out of range.

    !!! example

        ```python
        grid = sciml.grids.Grid((31, 31, 31))
        vectors = sciml.preconditioners.sine_vectors(grid, 1000, key=jax.random.key(0))
        ```
    """
    import scipy.fft

    _check(count, low_weight)
    if any(pair != (1, 1) for pair in grid.margins):
        raise ValueError(
            "grid: expected Dirichlet sides whose nodes are not stored, got "
            f"{grid.boundary}."
        )
    deviations = _deviations(_laplacian_eigenvalues(grid), low_weight)
    samples = np.empty((count, 1, *grid.num_points), np.float32)
    for k, one in enumerate(jr.split(key, count)):
        drawn = np.asarray(jr.normal(one, grid.num_points, np.float32))
        field = np.asarray(scipy.fft.dstn(deviations * drawn, type=1, norm="ortho"))
        samples[k, 0] = field / np.linalg.norm(field)
    return Dataset(samples, None, grid)


def ritz_vectors(
    operator: StencilOperator,
    count: int,
    num_steps: int = 200,
    *,
    low_weight: float = 9.0,
    key: PRNGKeyArray,
) -> Dataset:
    """b = Σ_j c_j y_j over the Ritz vectors y_j of `num_steps` steps of Lanczos.

    From A x with x of independent normals, reorthogonalised against all vectors before.
    c_j is standard normal times `low_weight` for the lower 55 % of the Ritz values, and
    Ritz values below 1e-8 of the largest are left out. On the host, in float64, with
    `num_steps` vectors in memory.

    **Arguments:**

    - `operator`: any stencil, with obstacles or not.
    - `count`: of vectors.
    - `num_steps`: of Lanczos, default 200; the authors take 10,000. Fewer where A has
        no more different eigenvectors.
    - `low_weight`: default 9, as published.
    - `key`: draws x and c.

    **Returns:** a `sciml.data.Dataset` of unit vectors in float32, without targets. Its
    inputs have shape `(count, 1, *space)`; where A has obstacles (nodes that are
    coupled to no other) a second channel, 1 at all other nodes.

    **Raises:** `TypeError` for an operator without a stencil; `ValueError` for
    arguments out of range.

    !!! example

        ```python
        A = sciml.linear.with_obstacle(A, obstacle)
        vectors = sciml.preconditioners.ritz_vectors(A, 100, key=jax.random.key(0))
        ```

    Source: the authors' program for Kaneda et al., ICML 2023.
    """
    _check(count, low_weight)
    if num_steps < 1:
        raise ValueError(f"num_steps: expected at least 1, got {num_steps}.")
    if not isinstance(operator, StencilOperator):
        raise TypeError(
            "operator: expected a sciml.linear.StencilOperator, got "
            f"{type(operator).__name__}."
        )
    from ..linear import to_scipy

    matrix = to_scipy(operator).astype(np.float64).tocsr()
    row_sums = np.asarray(abs(matrix).sum(axis=1)).ravel()
    fluid = row_sums > abs(matrix.diagonal())
    first_key, mix_key = jr.split(key)
    start = fluid * np.asarray(jr.normal(first_key, (matrix.shape[0],)), float)
    values, vectors = _lanczos(matrix, matrix @ start, num_steps)
    known = values > _SMALLEST * values.max()
    values, vectors = values[known], vectors[:, known]
    low = np.arange(len(values)) < _LOW_SHARE * len(values)
    drawn = np.asarray(jr.normal(mix_key, (count, len(values))), float)
    mixed = (drawn * np.where(low, low_weight, 1.0)) @ vectors.T
    mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
    samples = mixed.reshape(count, 1, *operator.grid.num_points)
    if not fluid.all():
        mask = np.broadcast_to(fluid.reshape(samples.shape[2:]), samples.shape)
        samples = np.concatenate([samples, mask], axis=1)
    return Dataset(samples.astype(np.float32), None, operator.grid)


def _laplacian_eigenvalues(grid: Grid) -> Float[np.ndarray, "*space"]:
    """Of −Δ, in the order of the sine transform's coefficients."""
    total = np.zeros(grid.num_points)
    for axis, (n, h) in enumerate(zip(grid.num_points, grid.spacing, strict=True)):
        line = 4 * np.sin(np.pi * np.arange(1, n + 1) / (2 * (n + 1))) ** 2 / h**2
        total = total + line.reshape([-1 if k == axis else 1 for k in range(grid.ndim)])
    return total


def _deviations(eigenvalues: np.ndarray, low_weight: float) -> np.ndarray:
    """w √ρ for each eigenvalue."""
    rounded = np.round(eigenvalues / eigenvalues.max(), 12)
    values, place, counts = np.unique(rounded, return_inverse=True, return_counts=True)
    if len(values) == 1:
        return np.ones(eigenvalues.shape)
    # The distribution function of the density, between neighbouring eigenvalues.
    ends = np.concatenate([values[:1], (values[1:] + values[:-1]) / 2, values[-1:]])
    below = lambda x: np.arcsin(np.sqrt((x - x[0]) / (x[-1] - x[0]))) * 2 / np.pi
    share = np.diff(below(ends)) / counts
    weight = np.where(below(values) < _LOW_SHARE, low_weight, 1.0)
    return (weight * np.sqrt(share))[place].reshape(eigenvalues.shape)


def _lanczos(matrix, start: np.ndarray, num_steps: int):
    """Ritz values, ascending, and unit Ritz vectors as columns."""
    num_steps = min(num_steps, len(start))
    basis = np.zeros((num_steps, len(start)))
    diagonal, beside = np.zeros(num_steps), np.zeros(num_steps)
    vector, size = start, np.linalg.norm(start)
    scale, done = 0.0, 0
    for k in range(num_steps):
        # An invariant space: there is nothing left but rounding.
        if size <= 1e-12 * scale or size == 0:
            break
        basis[k] = vector / size
        beside[k] = size
        vector = matrix @ basis[k]
        scale = max(scale, np.linalg.norm(vector))
        diagonal[k] = basis[k] @ vector
        for _ in range(2):
            vector = vector - basis[: k + 1].T @ (basis[: k + 1] @ vector)
        size, done = np.linalg.norm(vector), k + 1
    if done == 0:
        raise ValueError("operator: expected one that is not zero.")
    import scipy.linalg

    values, mixing = scipy.linalg.eigh_tridiagonal(diagonal[:done], beside[1:done])
    return values, basis[:done].T @ mixing


def _check(count: int, low_weight: float) -> None:
    if count < 1:
        raise ValueError(f"count: expected at least 1, got {count}.")
    if not 0 < low_weight < float("inf"):
        raise ValueError(
            f"low_weight: expected a positive finite number, got {low_weight}."
        )
