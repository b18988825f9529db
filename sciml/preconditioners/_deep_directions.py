"""Search directions of a network, for flexible conjugate gradients."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Shaped

from .._serialisation import register
from ..linear import AbstractPreconditioner, StencilOperator, SymmetricOperator
from ._directions import AbstractDirections, Field

# Of the angle between residual and direction.
_SMALLEST_COSINE = 0.01


@register
class DeepConjugateDirections(AbstractPreconditioner):
    """M(r) = |r| (± f(u) + γ |f(u)| u), u = r/|r|, f a network.

    A direction for `FlexibleCG`: ±f is the half of the line that descends, and γ is
    zero unless the angle between f and r has a cosine below 0.01, which it then fills
    up to that: so M(r) descends whatever the weights.

    |r| is the root mean square, so that M is of degree 1 and the network sees numbers
    of size 1 on grids of all sizes. It is neither linear nor symmetric: use it in
    `sciml.linear.FlexibleCG`, with `num_directions` of 5 or more (its default); the
    authors take 2, and networks far from linear then need several times the steps.
    `sciml.CG` refuses it. Where a solve breaks down, `Fallback` goes on with another
    method.

    The network knows the grid and where there are obstacles, nodes that no other node
    is coupled to (`sciml.linear.with_obstacle`), but no coefficients: it is for −Δ, and
    for what it was trained on. In obstacles M is 1/A_ii. The network computes in the
    type of its weights, whatever that of A.

    It is a model as well: train it by `sciml.training.fit` with `DirectionResidual` on
    vectors of `sine_vectors` or `ritz_vectors`, without solutions; save it with
    `sciml.save`. `build` can be jitted and vmapped.

    **Arguments:**

    - `network`: `TwoLevelDirections` as published, or `SharedLevelDirections`, which is
        trained on a small grid and used on large ones.

    **Raises:** `TypeError` for an operator that is no stencil; `ValueError` for one on
    a grid of another dimension, and for sides that are not Dirichlet.

    !!! example

        ```python
        import jax.numpy as jnp
        import jax.random as jr
        import sciml

        network = sciml.preconditioners.SharedLevelDirections(2, key=jr.key(0))
        A = sciml.linear.diffusion_operator(1.0, sciml.grids.Grid((31, 31)))
        solution = sciml.linear_solve(
            A,
            jnp.ones((31, 31)),
            sciml.linear.FlexibleCG(rtol=1e-4),
            preconditioner=sciml.preconditioners.DeepConjugateDirections(network),
        )
        ```

    Source: Kaneda et al., ICML 2023 (arXiv 2205.10763). There ‖r‖ is the Euclidean
    norm, γ = 0, and x and r are updated as in `FlexibleCG(num_directions=2)`.
    """

    network: AbstractDirections

    def build(self, operator: lx.AbstractLinearOperator) -> SymmetricOperator:
        """M for this operator, not tagged definite: it is not linear."""
        if not isinstance(operator, StencilOperator):
            raise TypeError(
                "operator: DeepConjugateDirections needs a "
                f"sciml.linear.StencilOperator, got {type(operator).__name__}."
            )
        grid, ndim = operator.grid, self.network.ndim
        if grid.ndim != ndim:
            raise ValueError(
                f"operator: these directions are for grids with {ndim} axes, this one "
                f"has {grid.ndim}."
            )
        if any(pair != (1, 1) for pair in grid.margins):
            raise ValueError(
                "operator: DeepConjugateDirections is for Dirichlet sides whose nodes "
                f"are not stored, got {grid.boundary}."
            )
        stencil = operator.stencil
        coupled = jnp.zeros(stencil.shape, bool)
        for offset in stencil.offsets:
            for sign in (1, -1):
                coupling = stencil.coupling(tuple(sign * k for k in offset))
                coupled = coupled | (coupling != 0)
        fluid = coupled.astype(stencil.diagonal.dtype)
        function = _Directions(
            self.network.on(grid, fluid), fluid, stencil.diagonal, _dtype(self)
        )
        return SymmetricOperator(function, operator.in_structure())


class _Directions(eqx.Module):
    network: Callable[[Field], Field]
    fluid: Field
    diagonal: Field
    dtype: jnp.dtype = eqx.field(static=True)

    def __call__(self, r: Field) -> Field:
        free = r * self.fluid
        size = _root_mean_square(free)
        unit = free / jnp.where(size == 0, 1, size)
        f = self.network(unit.astype(self.dtype)).astype(r.dtype)
        f = _descending(f, unit)
        scaled = size / jnp.max(self.diagonal)
        return scaled * self.fluid * f + (1 - self.fluid) * r / self.diagonal


def _descending(f: Field, unit: Field) -> Field:
    """±f, with as much of the residual added as its angle to that asks for."""
    length = jnp.sqrt(jnp.mean(f * f) + jnp.finfo(f.dtype).tiny)
    cosine = jnp.mean(f * unit) / length
    turned = jnp.where(cosine < 0, -1, 1).astype(f.dtype)
    missing = jnp.maximum(_SMALLEST_COSINE - jnp.abs(cosine), 0)
    return turned * f + missing * length * unit


def _root_mean_square(x: Field) -> Shaped[Array, ""]:
    """√(mean x²), for numbers of any size."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x)))
    unit = x / jnp.where(largest == 0, 1, largest)
    return largest * jnp.sqrt(jnp.mean(unit**2))


def _dtype(model: eqx.Module) -> jnp.dtype:
    leaves = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
    return jnp.result_type(*leaves)
