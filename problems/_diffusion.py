"""−∇·(a∇u) = f with random coefficients."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from sciml.grids import (
    AbstractBoundary,
    AbstractRandomField,
    ChannelsField,
    CheckerboardField,
    Dirichlet,
    GaussianField,
    Grid,
    LogNormalField,
    TwoPhaseField,
)

from ._diffusion_family import AbstractDiffusion


class Diffusion(AbstractDiffusion):
    """−∇·(a∇u) = f on a box, a drawn from a distribution of coefficients.

    The benchmark of linear solvers: condition number and difficulty grow with
    the resolution, the contrast and the roughness of a.

    **Arguments:**

    - `num_points`: nodes per axis, one to three axes. Default 255 × 255 inside.
    - `coefficient`: "two_phase" (default; 1 and `contrast`, by the sign of a Gaussian
        field with τ = 3), "lognormal" (exp of that field, scaled to a range of about
        `contrast`), "checkerboard" (1 and `contrast` on 8 blocks per axis), "channels"
        (`contrast` in thin random channels), "constant" (1), or a
        `sciml.grids.AbstractRandomField`, which has its own contrast.
    - `contrast`: largest over smallest coefficient. Default 10.
    - `source`: f, a number or a field. Default 1.
    - `boundary`: as for `sciml.grids.Grid`. Default homogeneous Dirichlet.
    - `extent`: as for `sciml.grids.Grid`. Default 1.

    !!! example

        ```python
        import jax.random as jr
        import problems
        from sciml.grids import GaussianField, TwoPhaseField

        problem = problems.Diffusion(num_points=(63, 63), contrast=1e3)
        A, b = problem.linear_system(key=jr.key(5))

        grains = TwoPhaseField(1.0, 1e3, GaussianField(tau=20.0))
        hard = problems.Diffusion(num_points=(63, 63), coefficient=grains)
        ```
    """

    grid: Grid
    field: AbstractRandomField | None
    source: ArrayLike

    def __init__(
        self,
        num_points: int | Sequence[int] = (255, 255),
        coefficient: str | AbstractRandomField = "two_phase",
        contrast: float = 10.0,
        source: ArrayLike = 1.0,
        boundary: AbstractBoundary | Sequence = Dirichlet(),
        extent: float | Sequence[float] = 1.0,
    ):
        self.grid = Grid(num_points, extent, boundary)
        self.field = random_coefficient(coefficient, contrast)
        self.source = source

    def sample_coefficient(self, *, key: PRNGKeyArray) -> Float[Array, "*space"]:
        """One coefficient, a field on the grid."""
        if self.field is None:
            return jnp.ones(self.grid.num_points, jnp.result_type(float))
        return self.field.sample(self.grid, key=key)


class Darcy(AbstractDiffusion):
    """−∇·(a∇u) = 1 on the unit square, u = 0 around it, a of two phases.

    The benchmark of neural operators: a is 1 or `contrast`, by the sign of a Gaussian
    field with covariance (−Δ + τ²)⁻², τ = 3. The surrogate's only input is a.

    **Arguments:**

    - `num_points`: interior nodes per axis. Default 64 × 64.
    - `contrast`: default 10. (The data of the Fourier neural operator have 4.)

    Source: Li et al., *Fourier Neural Operator for Parametric PDEs*, §5.2.
    """

    grid: Grid
    contrast: float = eqx.field(static=True)
    source: ArrayLike

    def __init__(
        self, num_points: int | Sequence[int] = (64, 64), contrast: float = 10.0
    ):
        self.grid = Grid(num_points)
        self.contrast = float(contrast)
        self.source = 1.0
        random_coefficient("two_phase", contrast)

    def sample_coefficient(self, *, key: PRNGKeyArray) -> Float[Array, "*space"]:
        """One coefficient, a field on the grid."""
        return TwoPhaseField(1.0, self.contrast).sample(self.grid, key=key)


def random_coefficient(
    coefficient: str | AbstractRandomField, contrast: float
) -> AbstractRandomField | None:
    """The distribution that a name and a contrast stand for; None for a constant."""
    if isinstance(coefficient, AbstractRandomField):
        return coefficient
    if not 1 <= contrast < float("inf"):
        raise ValueError(f"contrast: expected a finite number ≥ 1, got {contrast}.")
    if coefficient == "two_phase":
        return TwoPhaseField(1.0, float(contrast))
    if coefficient == "lognormal":
        # The Gaussian field of scale τ reaches about ±0.7 on the unit square.
        return LogNormalField(GaussianField(scale=3.0 * math.log(contrast) / 1.4))
    if coefficient == "checkerboard":
        return CheckerboardField(1.0, float(contrast))
    if coefficient == "channels":
        return ChannelsField(1.0, float(contrast))
    if coefficient == "constant":
        return None
    raise ValueError(
        "coefficient: expected 'two_phase', 'lognormal', 'checkerboard', 'channels', "
        f"'constant' or a random field of sciml.grids, got {coefficient!r}."
    )
