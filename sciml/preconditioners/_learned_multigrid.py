"""Geometric multigrid whose interpolation and smoothing are learned."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
from jaxtyping import PRNGKeyArray

from .._serialisation import register
from ..linear import AbstractPreconditioner, SymmetricOperator
from ._learned_smoother import LearnedChebyshev
from ._learned_transfer import LearnedTransfer
from ._multigrid import Multigrid

_DTYPES = ("float32", "float64")


@register
class LearnedMultigrid(AbstractPreconditioner):
    """One V-cycle of `Multigrid` with `LearnedTransfer` and `LearnedChebyshev`.

    Small networks read each level's stencil and say how to interpolate and how wide an
    interval the smoother damps. Coarse operators stay Galerkin products, and the
    coarsest level is solved exactly. What is learned is local, so the same weights
    serve grids of any size, and every level.

    Whatever the weights, M is symmetric positive definite in exact arithmetic: P has
    full rank, PᵀAP is positive definite, and the smoother converges in the energy norm.
    Before training M is that of `Multigrid(smoother=Chebyshev(degree))`, exactly.

    It is a builder and a model: train it by `sciml.training.fit`, without solutions,
    through steps of CG (`sciml.preconditioners.UnrolledCG`) on stencils
    (`sciml.preconditioners.pack_stencils`); save it with `sciml.save`. The set-up
    remains jittable and vmappable, and costs a little more than that of `Multigrid`.

    **Arguments:**

    - `ndim`: 1, 2 or 3 axes.
    - `degree`: of the smoother. Default 2, in three dimensions 3.
    - `width`: of the networks' hidden layers. Default 8: wider ones learn more and cost
        more at every set-up.
    - `max_coarse_size`: as of `Multigrid`, default 50.
    - `cycle_dtype`: "float32" (default) or "float64", None for A's; as of `Multigrid`.
    - `key`: draws the weights.

    Statistics are those of `Multigrid`.

    There is no benchmark yet in which it gains more than it costs: it learns a better
    interval for turned anisotropy, and next to nothing where coefficients jump. Use
    `Multigrid` unless you train for a family of your own.

    **Raises:** `TypeError` for an operator that carries no grid; `ValueError` for one
    on a grid of another dimension.

    !!! example

        ```python
        import jax.numpy as jnp
        import jax.random as jr
        import sciml

        builder = sciml.preconditioners.LearnedMultigrid(2, key=jr.key(0))
        A = sciml.linear.diffusion_operator(1.0, sciml.grids.Grid((63, 63)))
        M = builder.build(A)
        M.mv(jnp.ones((63, 63))).shape  # (63, 63)
        ```

    Source: ours; Greenfeld et al. (ICML 2019) and Luz et al. (ICML 2020) learn
    interpolation by two-grid analysis.
    """

    ndim: int = eqx.field(static=True)
    degree: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    max_coarse_size: int = eqx.field(static=True)
    cycle_dtype: str | None = eqx.field(static=True)
    transfer: LearnedTransfer
    smoother: LearnedChebyshev

    def __init__(
        self,
        ndim: int,
        *,
        degree: int | None = None,
        width: int = 8,
        max_coarse_size: int = 50,
        cycle_dtype: str | None = "float32",
        key: PRNGKeyArray,
    ):
        if cycle_dtype is not None and cycle_dtype not in _DTYPES:
            raise ValueError(
                f"cycle_dtype: expected one of {', '.join(map(repr, _DTYPES))} or "
                f"None, got {cycle_dtype!r}."
            )
        transfer_key, smoother_key = jr.split(key)
        self.ndim, self.width = ndim, width
        self.degree = (3 if ndim == 3 else 2) if degree is None else degree
        self.max_coarse_size = max_coarse_size
        self.cycle_dtype = cycle_dtype
        self.transfer = LearnedTransfer(ndim, width, key=transfer_key)
        self.smoother = LearnedChebyshev(self.degree, width, key=smoother_key)

    def build(self, operator: lx.AbstractLinearOperator) -> SymmetricOperator:
        """The V-cycle for this operator, as a lineax operator."""
        dtype = None if self.cycle_dtype is None else jnp.dtype(self.cycle_dtype)
        return Multigrid(
            smoother=self.smoother,
            transfer=self.transfer,
            max_coarse_size=self.max_coarse_size,
            cycle_dtype=dtype,
        ).build(operator)
