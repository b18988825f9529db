"""Geometric multigrid whose smoothing is learned, and its interpolation if wanted."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
from jaxtyping import PRNGKeyArray

from .._serialisation import register
from ..linear import AbstractPreconditioner, SymmetricOperator
from ._coarsening import AbstractCoarsening, BySpacing, ByStrength
from ._learned_smoother import LearnedChebyshev
from ._multigrid import Multigrid
from ._smoothers import PerLevel
from ._transfer import AbstractTransfer, OperatorDependent

_DTYPES = ("float32", "float64")
# One network for each of three levels, the last one for all further ones.
_DEGREES = {1: (2, 2, 2), 2: (2, 2, 2), 3: (3, 3, 3)}


@register
class LearnedMultigrid(AbstractPreconditioner):
    """One V-cycle of `Multigrid` with a `LearnedChebyshev` for each level.

    Small networks read each level's stencil and say how wide an interval its smoother
    damps; `LearnedTransfer` corrects the interpolation, too. Coarse operators stay
    Galerkin products, and the coarsest level is solved exactly. What is learned does
    not know of the grid's size, so the same weights serve all.

    Whatever the weights, M is symmetric positive definite in exact arithmetic: P has
    full rank, PᵀAP is positive definite, and the smoother converges in the energy norm.
    Before training M is that of `Multigrid` with a `PerLevel` of `Chebyshev(d,
    1/(1 + d²))`, exactly.

    It is a builder and a model: train it by `sciml.training.fit`, without solutions,
    through steps of CG (`sciml.preconditioners.UnrolledCG`) on stencils
    (`sciml.preconditioners.pack_stencils`); save it with `sciml.save`.

    **Arguments:**

    - `ndim`: 1, 2 or 3 axes.
    - `degrees`: of the smoothers, the finest level's first, the last one for all
        further levels; each has a network of its own. Default (2, 2, 2), in three
        dimensions (3, 3, 3). Growing ones, (2, 3, 5), save steps with turned
        anisotropy, and time in no benchmark of ours.
    - `width`: of the networks' hidden layers. Default 8.
    - `transfer`: default `OperatorDependent()`; `LearnedTransfer(ndim, key=key)` is
        learned, too, and has not gained more than its set-up costs.
    - `coarsening`: default `ByStrength(if_traced=BySpacing())`: axes along which A
        couples strongly are coarsened first, where A's entries are known, outside of
        `jit`; in training they are not.
    - `max_coarse_size`: as of `Multigrid`, default 50.
    - `cycle_dtype`: "float32" (default) or "float64", None for A's; as of `Multigrid`.
    - `key`: draws the weights.

    Statistics are those of `Multigrid`.

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
    degrees: tuple[int, ...] = eqx.field(static=True)
    width: int = eqx.field(static=True)
    max_coarse_size: int = eqx.field(static=True)
    cycle_dtype: str | None = eqx.field(static=True)
    transfer: AbstractTransfer
    coarsening: AbstractCoarsening
    smoothers: tuple[LearnedChebyshev, ...]

    def __init__(
        self,
        ndim: int,
        *,
        degrees: tuple[int, ...] | None = None,
        width: int = 8,
        transfer: AbstractTransfer | None = None,
        coarsening: AbstractCoarsening | None = None,
        max_coarse_size: int = 50,
        cycle_dtype: str | None = "float32",
        key: PRNGKeyArray,
    ):
        if ndim not in _DEGREES:
            raise ValueError(f"ndim: expected 1, 2 or 3, got {ndim}.")
        if cycle_dtype is not None and cycle_dtype not in _DTYPES:
            raise ValueError(
                f"cycle_dtype: expected one of {', '.join(map(repr, _DTYPES))} or "
                f"None, got {cycle_dtype!r}."
            )
        if coarsening is None:
            coarsening = ByStrength(if_traced=BySpacing())
        self.ndim, self.width = ndim, width
        self.degrees = _DEGREES[ndim] if degrees is None else tuple(degrees)
        self.max_coarse_size = max_coarse_size
        self.cycle_dtype = cycle_dtype
        self.transfer = OperatorDependent() if transfer is None else transfer
        self.coarsening = coarsening
        self.smoothers = tuple(
            LearnedChebyshev(degree, width, key=k)
            for degree, k in zip(
                self.degrees, jr.split(key, len(self.degrees)), strict=True
            )
        )

    @property
    def on_host(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the coarsening reads A's entries."""
        return self.coarsening.on_host

    def cycle(self) -> Multigrid:
        """The builder of this cycle with its learned parts in their slots."""
        dtype = None if self.cycle_dtype is None else jnp.dtype(self.cycle_dtype)
        return Multigrid(
            smoother=PerLevel(self.smoothers),
            transfer=self.transfer,
            max_coarse_size=self.max_coarse_size,
            coarsening=self.coarsening,
            cycle_dtype=dtype,
        )

    def build(self, operator: lx.AbstractLinearOperator) -> SymmetricOperator:
        """The V-cycle for this operator, as a lineax operator."""
        structure = operator.in_structure()
        ndim = len(getattr(structure, "shape", (0,) * self.ndim))
        if ndim != self.ndim:
            raise ValueError(
                f"operator: this builder was made for {self.ndim} axes, the grid has "
                f"{ndim}."
            )
        return self.cycle().build(operator)
