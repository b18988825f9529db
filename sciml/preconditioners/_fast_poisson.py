"""The constant-coefficient solve by fast sine, cosine and Fourier transforms."""

import equinox as eqx
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Float, Inexact

from ..grids import Dirichlet, Grid, Neumann, diffusion_stencil
from ..linear import AbstractPreconditioner, StencilOperator, SymmetricOperator
from ._transforms import AbstractTransform, Fourier, transform_of

Field = Float[Array, "*space"]


class FastPoisson(AbstractPreconditioner):
    """M = (−∇·(ā∇) + c̄)⁻¹ on the operator's grid: A with its coefficients averaged.

    The eigenvectors of a constant-coefficient stencil on a box are products of sines
    and cosines, whatever its boundary conditions, so that M costs two fast transforms,
    O(n log n). ā (one number per axis) and c̄ are the means over the stencil: where its
    coefficients are constant M is the inverse of A, and CG ends after one step.
    Elsewhere the number of steps is bounded for all grids by √(max a / min a): good
    for mild contrasts, hopeless for large ones.

    Set up and applied on the device, under `jit` and `vmap`. Without a Dirichlet side
    and reaction A is singular; constants are then multiplied by the inverse of its
    smallest other eigenvalue, which keeps M definite.

    **Raises:** `TypeError` for an operator that carries no grid.

    !!! example

        ```python
        import jax.numpy as jnp
        import sciml

        A = sciml.linear.diffusion_operator(1.0, sciml.grids.Grid((63, 63)))
        solution = sciml.linear_solve(
            A, jnp.ones((63, 63)), preconditioner=sciml.preconditioners.FastPoisson()
        )
        solution.stats["num_steps"]  # 1
        ```

    Source: Buzbee, Golub & Nielson, SIAM J. Numer. Anal. 7 (1970) 627; Concus & Golub,
    SIAM J. Numer. Anal. 10 (1973) 1103 (as preconditioner).
    """

    def build(self, operator: lx.AbstractLinearOperator) -> SymmetricOperator:
        """The averaged operator's inverse, as a lineax operator."""
        if not isinstance(operator, StencilOperator):
            raise TypeError(
                "operator: FastPoisson needs to know the grid and takes a "
                f"sciml.linear.StencilOperator, got {type(operator).__name__}."
            )
        return SymmetricOperator(
            _set_up(operator), operator.in_structure(), lx.positive_semidefinite_tag
        )


@eqx.filter_jit
def _set_up(operator: StencilOperator) -> "_Inverse":
    grid, stencil = operator.grid, operator.stencil
    dtype = stencil.diagonal.dtype
    free = tuple(slice(*_free_range(grid, axis)) for axis in range(grid.ndim))
    transforms = tuple(transform_of(grid, axis) for axis in range(grid.ndim))
    # The real transforms while the numbers are real.
    order = sorted(
        range(grid.ndim - 1, -1, -1), key=lambda k: isinstance(transforms[k], Fourier)
    )
    reference = diffusion_stencil(jnp.ones((), dtype), grid)
    means = []
    for axis in range(grid.ndim):
        offset = tuple(int(k == axis) for k in range(grid.ndim))
        ours, unit = (jnp.sum(s.coupling(offset)) for s in (stencil, reference))
        # (One node along an axis has no neighbours, and its diagonal says it all.)
        known = jnp.abs(unit) > 0
        means.append(jnp.where(known, ours / jnp.where(known, unit, 1.0), 0.0))
    total = jnp.max(jnp.stack(means))
    fallback = jnp.mean(stencil.diagonal) / jnp.mean(reference.diagonal)
    total = jnp.where(total > 0, total, fallback)
    means = [jnp.where(mean > 0, mean, total) for mean in means]
    values = jnp.zeros((1,) * grid.ndim, dtype)
    for axis, (mean, transform) in enumerate(zip(means, transforms, strict=True)):
        line = transform.eigenvalues() / grid.spacing[axis] ** 2
        shape = tuple(-1 if k == axis else 1 for k in range(grid.ndim))
        values = values + mean * jnp.asarray(line, dtype).reshape(shape)
    weights = grid.cell_weights()[free]
    # What is left of 1ᵀA1 when the fluxes through held sides are taken out.
    rest = jnp.sum(stencil.row_sums()[free])
    for axis, mean in enumerate(means):
        ends = sum(isinstance(c, Dirichlet) for c in grid.boundary[axis])
        across = np.sum(weights) / np.sum(_line(grid, axis)[free[axis]])
        rest = rest - mean * float(ends * across / grid.spacing[axis] ** 2)
    reaction = rest / float(np.sum(weights))
    # Where there is none, rounding must not make one up.
    size = jnp.mean(jnp.abs(stencil.diagonal[free]))
    noise = 100 * jnp.finfo(dtype).eps * size
    values = values + jnp.where(reaction > noise, reaction, 0.0)
    largest = jnp.max(values)
    live = values > 0.1 * jnp.finfo(dtype).eps * largest
    smallest = jnp.min(jnp.where(live, values, largest))
    everywhere = weights.shape == grid.num_points
    return _Inverse(
        transforms,
        jnp.transpose(1.0 / jnp.where(live, values, smallest), order),
        _scale(grid, free, dtype),
        None if everywhere else 1.0 / stencil.diagonal,
        free,
        tuple(order),
    )


class _Inverse(eqx.Module):
    transforms: tuple[AbstractTransform, ...]
    inverse: Float[Array, "..."]
    scale: tuple[Float[Array, "..."], ...]
    diagonal: Float[Array, "*all"] | None
    free: tuple[slice, ...] = eqx.field(static=True)
    # Which axis is transformed first; each is moved to the end for it, where the
    # transforms are fast, and stays there.
    order: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, f: Field) -> Field:
        # A = W^{1/2} Q Λ Qᵀ W^{1/2} with the cells' weights W on the free nodes, and
        # its diagonal on those that the boundary holds.
        u: Inexact[Array, ...] = self._scaled(f[self.free])
        for axis, place in zip(self.order, _places(self.order), strict=True):
            u = self.transforms[axis].forward(jnp.moveaxis(u, place, -1))
        u = self.inverse.astype(u.dtype) * u
        for axis, place in zip(
            reversed(self.order), reversed(_places(self.order)), strict=True
        ):
            if not isinstance(self.transforms[axis], Fourier):
                u = jnp.real(u)
            u = jnp.moveaxis(self.transforms[axis].backward(u), -1, place)
        u = self._scaled(jnp.real(u)).astype(f.dtype)
        if self.diagonal is None:
            return u
        return (self.diagonal * f).at[self.free].set(u)

    def _scaled(self, u: Field) -> Field:
        for line in self.scale:
            u = line * u
        return u


def _scale(grid: Grid, free: tuple[slice, ...], dtype) -> tuple[Array, ...]:
    """W^{-1/2} on the free nodes as one factor per axis, those of ones left out."""
    factors = []
    for axis in range(grid.ndim):
        line = 1 / np.sqrt(_line(grid, axis)[free[axis]])
        if np.any(line != 1):
            shape = tuple(-1 if k == axis else 1 for k in range(grid.ndim))
            factors.append(jnp.asarray(line.reshape(shape), dtype))
    return tuple(factors)


def _places(order: tuple[int, ...]) -> list[int]:
    """Where each axis stands when its turn comes, those before it at the end."""
    return [
        axis - sum(done < axis for done in order[:turn])
        for turn, axis in enumerate(order)
    ]


def _line(grid: Grid, axis: int) -> np.ndarray:
    """The cells' sizes along an axis in units of its spacing."""
    line = np.ones(grid.num_points[axis])
    for end, condition in zip((0, -1), grid.boundary[axis], strict=True):
        if isinstance(condition, Neumann):
            line[end] = 0.5
    return line


def _free_range(grid: Grid, axis: int) -> tuple[int, int]:
    """The nodes along an axis that no Dirichlet condition holds."""
    held = grid.dirichlet_mask()
    size = grid.num_points[axis]
    if held is None:
        return 0, size
    across = tuple(k for k in range(grid.ndim) if k != axis)
    nodes = np.flatnonzero(~np.all(np.asarray(held), axis=across))
    return int(nodes[0]), int(nodes[-1]) + 1
