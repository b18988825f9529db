"""Smoothers that converge in the energy norm, whatever the coefficients are."""

import abc
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

Field = Float[Array, "*space"]
Padded = Float[Array, "..."]


@runtime_checkable
class SmoothableMatrix(Protocol):
    """What a smoother asks of a matrix: `sciml.grids.SymmetricStencil` has it all.

    Products are taken from a padded form of the field, so that iterations can keep it;
    matrices that need no padding return the field itself.
    """

    diagonal: Any

    def pad(self, u: Any) -> Any:
        """The form of u that `apply` reads."""
        ...

    def interior(self, padded: Any) -> Any:
        """u from `pad(u)`."""
        ...

    def apply(self, padded: Any) -> Any:
        """A u from `pad(u)`."""
        ...

    def absolute_row_sums(self) -> Any:
        """Σ_j |A_ij|."""
        ...


class AbstractSmoother(eqx.Module):
    """Describes a smoother; `build` fits it to one level's stencil."""

    @abc.abstractmethod
    def build(self, stencil: SmoothableMatrix) -> "AbstractSmoothing":
        """The smoothing iteration for this stencil."""

    def on_level(self, level: int, axes: tuple[int, ...]) -> "AbstractSmoother":
        """The smoother of a level of `Multigrid`, by default the same on all.

        **Arguments:**

        - `level`: 0 is the finest.
        - `axes`: along which the next level is coarser.
        """
        del level, axes
        return self


class AbstractSmoothing(eqx.Module):
    """A stationary iteration u ← u + B (f − A u) with 0 < λ(BA) < 2 and B symmetric.

    Then it converges in the A-norm, and a V-cycle with it before and after the coarse
    correction is symmetric positive definite.
    """

    @abc.abstractmethod
    def __call__(self, A: SmoothableMatrix, padded: Padded | None, f: Field) -> Field:
        """The improved u.

        **Arguments:**

        - `A`: the stencil.
        - `padded`: `A.pad(u)`, the form that products with A read; None for u = 0,
            which saves one product.
        - `f`: the right-hand side.
        """


def _weights(A: SmoothableMatrix) -> Field:
    """W, diagonal, with the spectrum of WA within (0, 1].

    W⁻¹ ≥ Σ_j |A_ij| for every row i suffices, by Gershgorin's theorem. Rows that are
    no worse than those of the Laplacian get their diagonal times one number, as a
    smoother wants; rows with large entries of either sign, which coarse operators have
    at jumps of the coefficient, are damped by themselves and not with all others.
    """
    sums = A.absolute_row_sums()
    largest = jnp.minimum(jnp.max(sums / A.diagonal), 2.0)
    return 1.0 / jnp.maximum(sums, largest * A.diagonal)


class Chebyshev(AbstractSmoother):
    """`degree` steps of Chebyshev iteration on WA.

    Damps the eigenvalues in [lower, 1] evenly, where W = 1 / max(Σ_j |A_ij|, 2 A_ii)
    for every row i (with a smaller number than 2 where no row sum reaches 2 A_ii)
    bounds the spectrum of WA by 1, by Gershgorin's theorem, so that 0 < μ p(μ) < 2
    holds on all of it. Costs `degree` products with A, one less from zero.

    **Arguments:**

    - `degree`: number of steps. Default 2; use 3 in three dimensions.
    - `lower`: lower end of the damped interval. Default 1/4: in two
        dimensions the modes that a coarse grid cannot represent lie above it.

    Source: Adams, Brezina, Hu & Tuminaro, J. Comput. Phys. 188 (2003) 593.
    """

    degree: int = eqx.field(static=True, default=2)
    lower: float = eqx.field(static=True, default=0.25)

    def __check_init__(self):
        if self.degree < 1:
            raise ValueError(f"degree: expected an integer ≥ 1, got {self.degree}.")
        if not 0 < self.lower < 1:
            raise ValueError(f"lower: expected a number in (0, 1), got {self.lower}.")

    def build(self, stencil: SmoothableMatrix) -> "ChebyshevSmoothing":
        """Scales the rows; one pass over the stencil."""
        return ChebyshevSmoothing(_weights(stencil), self.degree, self.lower)


class ChebyshevSmoothing(AbstractSmoothing):
    """The iteration that `Chebyshev` and `LearnedChebyshev` build:

        u ← u + momentum_k (u − previous u) + gain_k W (f − A u)

    The numbers are found once: hundreds of operations on scalars in every cycle would
    cost as much as a level.
    """

    weights: Field
    # Constants of the compiled program where the interval is one.
    known: tuple[tuple[float, float], ...] | None = eqx.field(static=True)
    chosen: tuple[tuple[Array, Array], ...] | None

    def __init__(self, weights: Field, degree: int, lower: ArrayLike):
        self.weights = weights
        # Saad, Iterative Methods for Sparse Linear Systems, algorithm 12.1.
        centre, half = (1 + lower) / 2, (1 - lower) / 2
        sigma = centre / half
        rho = 1 / sigma
        found: list[Any] = [(0 * centre, 1 / centre)]
        for _ in range(degree - 1):
            rho_next = 1 / (2 * sigma - rho)
            found.append((rho_next * rho, 2 * rho_next / half))
            rho = rho_next
        is_known = isinstance(lower, float)
        self.known = tuple(found) if is_known else None
        self.chosen = None if is_known else tuple(found)

    @property
    def numbers(self) -> tuple:
        """Momentum and gain of each step."""
        return self.known or self.chosen or ()

    def __call__(self, A: SmoothableMatrix, padded: Padded | None, f: Field) -> Field:
        """The improved u."""
        old = padded
        residual = f if old is None else f - A.apply(old)
        (_, gain), *later = self.numbers
        new = gain * self.weights * residual
        if old is not None:
            new = A.interior(old) + new
        for momentum, gain in later:
            padded = A.pad(new)
            u = A.interior(padded)
            step = u if old is None else u - A.interior(old)
            residual = f - A.apply(padded)
            new = u + momentum * step + gain * self.weights * residual
            old = padded
        return new


class PerLevel(AbstractSmoother):
    """Another smoother on each level.

    In two dimensions a level has a quarter of the unknowns of the one before it, so
    that more smoothing there costs little.

    **Arguments:**

    - `smoothers`: of the levels, the finest first; the last one serves all further
        levels.

    !!! example

        ```python
        from sciml.preconditioners import Chebyshev, Multigrid, PerLevel

        smoothers = (Chebyshev(2), Chebyshev(3, 0.15), Chebyshev(5, 0.05))
        builder = Multigrid(PerLevel(smoothers))
        ```
    """

    smoothers: tuple[AbstractSmoother, ...]

    def __check_init__(self):
        if not self.smoothers:
            raise ValueError("smoothers: expected at least one.")

    def on_level(self, level: int, axes: tuple[int, ...]) -> AbstractSmoother:
        """Its smoother."""
        chosen = self.smoothers[min(level, len(self.smoothers) - 1)]
        return chosen.on_level(level, axes)

    def build(self, stencil: SmoothableMatrix) -> AbstractSmoothing:
        """That of the finest level."""
        return self.smoothers[0].build(stencil)


class DampedJacobi(AbstractSmoother):
    """`num_steps` steps of u ← u + 2ω W (f − A u).

    W is that of `Chebyshev`: D⁻¹/2 for the unit Laplacian, which makes this the usual
    damped Jacobi method, and such that for ω < 1 the iteration converges for every
    symmetric positive definite A.

    **Arguments:**

    - `num_steps`: default 2.
    - `omega`: in (0, 1). Default 0.8, optimal in two dimensions (2/3 in one, 6/7 in
        three).

    Source: Trottenberg, Oosterlee & Schüller, *Multigrid*, §2.1.
    """

    num_steps: int = eqx.field(static=True, default=2)
    omega: float = eqx.field(static=True, default=0.8)

    def __check_init__(self):
        if self.num_steps < 1:
            raise ValueError(
                f"num_steps: expected an integer ≥ 1, got {self.num_steps}."
            )
        if not 0 < self.omega < 1:
            raise ValueError(f"omega: expected a number in (0, 1), got {self.omega}.")

    def build(self, stencil: SmoothableMatrix) -> "JacobiSmoothing":
        """Scales the rows; one pass over the stencil."""
        return JacobiSmoothing(2.0 * self.omega * _weights(stencil), self.num_steps)


class JacobiSmoothing(AbstractSmoothing):
    """The iteration that `DampedJacobi` builds."""

    weights: Field
    num_steps: int = eqx.field(static=True)

    def __call__(self, A: SmoothableMatrix, padded: Padded | None, f: Field) -> Field:
        """The improved u."""
        u = f
        for _ in range(self.num_steps):
            if padded is None:
                u = self.weights * f
            else:
                residual = f - A.apply(padded)
                u = A.interior(padded) + self.weights * residual
            padded = A.pad(u)
        return u
