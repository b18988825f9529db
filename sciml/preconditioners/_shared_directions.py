"""A network with as many levels as the grid asks for, all of the same weights."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._serialisation import register
from ..grids import Grid
from ..linear import AbstractLevel, v_cycle
from ._directions import AbstractDirections, Field, check_network

CoarseField = Float[Array, "*coarse"]

# Finer than this, axes are made coarser: log₂ N − 3 times where N is a power of two.
_COARSEST = 8
# The damping of Jacobi's method that smooths best, per number of axes.
_DAMPING = {1: 2 / 3, 2: 4 / 5, 3: 6 / 7}


@register
class SharedLevelDirections(AbstractDirections):
    """A V-cycle of CNNs, log₂N − 3 levels that share their weights.

    With the Laplacian Â of the grid in units of its diagonal and f the residual,

        u ← S(f),  u ← u + P V(R (f − Â u)),  u ← u + S'(f − Â u)

    where V is the same on a grid of half as many nodes, P multilinear interpolation, R
    its scaled transpose, and below nine nodes per axis the system is solved exactly.
    S and S' are networks of their own, the same on all levels:

        S(f) = k ∗ f + C₂ ρ(C₁ (f/|f|, fluid)) |f|

    with a linear kernel k and convolutions C₁ (from 2 to `width` channels, with bias)
    and C₂ of 3ᵈ nodes, |f| the root mean square, and ρ `jax.nn.relu`. Since each level
    sees fields of one size and one stencil, what is learned on small grids is used on
    large ones with more levels. Untrained, k is damped Jacobi and C₂ = 0: a classical
    V(1, 1)-cycle. Steps of CG do then not grow with the grid; training makes them
    fewer.

    Obstacles are known on every level: a coarse node is fluid where most of the nodes
    around it are.

    **Arguments:**

    - `ndim`: 1, 2 or 3 axes.
    - `width`: channels within S, default 8.
    - `key`: draws the weights of C₁.

    **Raises:** `ValueError` for arguments out of range.

    !!! example

        ```python
        import jax.random as jr
        import sciml

        network = sciml.preconditioners.SharedLevelDirections(3, key=jr.key(0))
        builder = sciml.preconditioners.DeepConjugateDirections(network)
        ```

    Source: ours. Two levels and the loss are those of `TwoLevelDirections`' authors; a
    network as a V-cycle after Lan et al., ICML 2024.
    """

    ndim: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    before: "_Smoothing"
    after: "_Smoothing"

    def __init__(self, ndim: int, width: int = 8, *, key: PRNGKeyArray):
        check_network(ndim, width)
        self.ndim, self.width = ndim, width
        one, other = jr.split(key)
        self.before = _Smoothing(ndim, width, key=one)
        self.after = _Smoothing(ndim, width, key=other)

    def on(self, grid: Grid, fluid: Field) -> Callable[[Field], Field]:
        """The network on a domain, as `AbstractDirections.on`."""
        dtype = self.before.kernel.dtype
        shape, intervals = grid.num_points, np.asarray(grid.num_points) + 1
        # Spacings do not matter, but for their ratios.
        lengths = np.asarray(grid.spacing) * intervals
        fluid, levels = fluid.astype(dtype), []
        while max(shape) > _COARSEST:
            coarse = _coarser(shape)
            pairs = zip(shape, coarse, strict=True)
            maps = tuple(jnp.asarray(_line(n, m), dtype) for n, m in pairs)
            weights, total = _unit_laplacian(shape, lengths)
            _, coarse_total = _unit_laplacian(coarse, lengths)
            scale = np.prod((np.asarray(coarse) + 1) / (np.asarray(shape) + 1))
            level = _Level(
                self.before,
                self.after,
                fluid,
                maps,
                weights,
                float(scale),
                float(total / coarse_total),
            )
            levels.append(level)
            fluid = (level.down(fluid) > 0.5).astype(dtype)
            shape = coarse
        weights, _ = _unit_laplacian(shape, lengths)
        return _Levels(tuple(levels), _exact(fluid, weights), fluid)

    def num_products(self, shape: tuple[int, ...]) -> int:
        """Multiplications by a weight in one application, as `AbstractDirections`'."""
        layers = self.before, self.after
        per_node = sum(x.size for x in jax.tree.leaves(layers)) - 2 * self.width
        total = 0
        while max(shape) > _COARSEST:
            total += per_node * math.prod(shape)
            shape = _coarser(shape)
        return total + math.prod(shape) ** 2


class _Smoothing(eqx.Module):
    """S: from a residual to a correction, of degree 1.

    Kernels hold their 3ᵈ nodes in C order as the last axis. All nodes' neighbourhoods
    are one matrix here, and its products with so few channels take a fifth of the time
    of a convolution on CPUs.
    """

    kernel: Float[Array, " nodes"]
    first: Float[Array, "width two nodes"]
    bias: Float[Array, " width"]
    second: Float[Array, "width nodes"]

    def __init__(self, ndim: int, width: int, *, key: PRNGKeyArray):
        nodes = 3**ndim
        self.kernel = jnp.zeros((nodes,)).at[nodes // 2].set(_DAMPING[ndim])
        one, other = jr.split(key)
        limit = 1 / math.sqrt(2 * nodes)
        draw = lambda key, shape: jr.uniform(key, shape, minval=-limit, maxval=limit)
        self.first = draw(one, (width, 2, nodes))
        self.bias = draw(other, (width,))
        self.second = jnp.zeros((width, nodes))

    def __call__(self, f: Field, fluid: Field) -> Field:
        size = jnp.sqrt(jnp.mean(f * f) + jnp.finfo(f.dtype).tiny)
        unit = f / size
        seen = _neighbourhoods(jnp.stack([unit, fluid]))
        first = self.first.reshape(self.first.shape[0], -1)
        hidden = jax.nn.relu(first @ seen + self.bias[:, None])
        parts = (self.second.T @ hidden).reshape(-1, *f.shape)
        parts = parts + jnp.multiply.outer(self.kernel, unit)
        return size * _gathered(parts) * fluid


# (Axis by axis: programs with a slice for each of the 3ᵈ nodes compile for seconds.)
def _neighbourhoods(fields: Float[Array, "fields *space"]) -> Float[Array, "all n"]:
    """Rows: of each field what is at node + o for each o, zero beyond the sides."""
    ndim = fields.ndim - 1
    found = fields[:, None]
    for axis in range(2, ndim + 2):
        found = jnp.stack([_moved(found, axis, step) for step in (-1, 0, 1)], axis=2)
        found = found.reshape(fields.shape[0], -1, *fields.shape[1:])
    return found.reshape(-1, math.prod(fields.shape[1:]))


def _gathered(parts: Float[Array, "nodes *space"]) -> Field:
    """Σ_o part_o at node + o, zero beyond the sides."""
    ndim = parts.ndim - 1
    for axis in range(1, ndim + 1):
        parts = parts.reshape(3, -1, *parts.shape[1:])
        low, middle, high = (_moved(parts[k], axis, k - 1) for k in range(3))
        parts = low + middle + high
    return parts[0]


def _moved(array: Array, axis: int, step: int) -> Array:
    """What is at index + step along an axis; zeros come in."""
    pads = [(0, 0, 0)] * array.ndim
    pads[axis] = (-step, step, 0)
    return jax.lax.pad(array, jnp.zeros((), array.dtype), pads)


class _Level(AbstractLevel):
    before: _Smoothing
    after: _Smoothing
    fluid: Field
    maps: tuple[Float[Array, "_ _"], ...]
    weights: tuple[float, ...] = eqx.field(static=True)
    scale: float = eqx.field(static=True)
    coarsening: float = eqx.field(static=True)

    def residual(self, u: Field, f: Field) -> Field:
        """f − Â u."""
        return f - u + self.fluid * _neighbours(u, self.weights)

    def down(self, f: Field) -> CoarseField:
        """Weighted means of a field at the coarse nodes."""
        maps = [jax.lax.stop_gradient(p).T for p in self.maps]
        return self.scale * _along_axes(f, maps)

    def pre_smooth(self, u: Field | None, f: Field) -> Field:
        del u
        return self.before(f, self.fluid)

    def restrict(self, u: Field, f: Field) -> tuple[None, CoarseField]:
        return None, self.coarsening * self.down(self.residual(u, f))

    def prolong(self, u: Field, coarse_u: CoarseField) -> Field:
        maps = [jax.lax.stop_gradient(p) for p in self.maps]
        return u + self.fluid * _along_axes(coarse_u, maps)

    def post_smooth(self, u: Field, f: Field) -> Field:
        return u + self.after(self.residual(u, f), self.fluid)


class _Levels(eqx.Module):
    levels: tuple[_Level, ...]
    inverse: Float[Array, "n n"]
    coarse_fluid: Field

    def __call__(self, f: Field) -> Field:
        def solve(u: Any, f: Field) -> Field:
            del u
            inverse = jax.lax.stop_gradient(self.inverse)
            held = self.coarse_fluid * f
            return (inverse @ held.ravel()).reshape(f.shape)

        return v_cycle(self.levels, solve, f)


def _coarser(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n // 2 if n > _COARSEST else n for n in shape)


def _unit_laplacian(
    shape: tuple[int, ...], lengths: np.ndarray
) -> tuple[tuple[float, ...], float]:
    """−Δ u = diagonal · (u − Σ_k weight_k (the two neighbours along axis k))."""
    inverse_squares = ((np.asarray(shape) + 1) / lengths) ** 2
    diagonal = 2 * inverse_squares.sum()
    return tuple(float(w) for w in inverse_squares / diagonal), float(diagonal)


def _neighbours(u: Field, weights: tuple[float, ...]) -> Field:
    """Σ_k weight_k (u₊ + u₋), with zeros beyond the sides."""
    total = jnp.zeros_like(u)
    for axis, weight in enumerate(weights):
        total = total + weight * (_moved(u, axis, 1) + _moved(u, axis, -1))
    return total


def _line(fine: int, coarse: int) -> np.ndarray:
    """Linear interpolation from `coarse` to `fine` equidistant nodes of an interval.

    Zero at its ends, which are no nodes; the two sets of nodes need not be nested.
    """
    x = np.arange(1, fine + 1) * (coarse + 1) / (fine + 1)
    distance = np.abs(x[:, None] - np.arange(1, coarse + 1)[None])
    return np.maximum(1 - distance, 0)


def _along_axes(x: Array, maps: list[Array]) -> Array:
    """A matrix applied along each axis."""
    for axis, matrix in enumerate(maps):
        if matrix.shape[0] == matrix.shape[1]:
            continue
        x = jnp.moveaxis(jnp.tensordot(matrix, x, (1, axis)), 0, axis)
    return x


def _exact(fluid: Field, weights: tuple[float, ...]) -> Float[Array, "n n"]:
    """The inverse of Â between nodes of fluid; the identity at the others."""
    units = jnp.eye(fluid.size, dtype=fluid.dtype).reshape(-1, *fluid.shape)
    apply = lambda u: u - fluid * _neighbours(fluid * u, weights)
    rows = jax.vmap(apply)(units).reshape(fluid.size, fluid.size)
    return jnp.linalg.inv(jax.lax.stop_gradient(rows))
