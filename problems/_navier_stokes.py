"""Incompressible flow in a periodic square, by its vorticity."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Complex, Float, PRNGKeyArray

from sciml.grids import AbstractRandomField, GaussianField, Grid

from ._evolution import AbstractSemilinear
from ._evolution_arguments import (
    coefficient,
    periodic_grid,
    positive,
    refinement,
    same_shapes,
    times_and_places,
)
from ._fourier import FourierSpace


class NavierStokesVorticity(AbstractSemilinear):
    """ω_t + u·∇ω = ν Δω + f on the unit torus, u = (ψ_y, −ψ_x), −Δψ = ω.

    ω = ∂u₂/∂x − ∂u₁/∂y is the vorticity of the velocity u, which has no divergence and
    no mean; f = s (sin 2π(x + y) + cos 2π(x + y)) drives it. The benchmark of the
    Fourier neural operator. Solved by a Fourier method and ETDRK4
    (`problems.AbstractSemilinear`); the mean of ω, 0 on a torus, is conserved.

    **Arguments:**

    - `num_points`: nodes per axis, two. Default 64 × 64.
    - `viscosity`: ν > 0, array leaf. Default 1e-3; the benchmark goes down to 1e-5,
        where 64 × 64 nodes need `refine=4` and `time_step=0.01` (up to t = 20 solutions
        with `refine=1` and 2 are 0.16 and 0.02 off, where |ω| is up to 2.8).
    - `forcing`: s, array leaf. Default 0.1; 0 lets the flow decay.
    - `initial_field`: distribution of ω(0). Default N(0, 7^{3/2} (−Δ + 49)^{−5/2}),
        as printed in the paper: `GaussianField(7.0, 2.5, scale=7.0**0.75)`.
    - `final_time`: default 10; the paper has 50 for ν = 1e-3, 30 and 20 for smaller ν.
    - `time_step`: the longest step. Default 0.02, for speeds up to about 0.5 on
        64 × 64 nodes (2 / (κ |u|), κ the largest wave number that is kept, is what is
        stable); take it in proportion to the spacing of the solve.
    - `refine`: nodes of the solve per node of the grid and axis. Default 1.

    **Raises:** `ValueError` for arguments out of their ranges.

    !!! example

        ```python
        import jax.random as jr
        import problems

        problem = problems.NavierStokesVorticity((32, 32), final_time=1.0)
        vorticity = problem.solve(problem.initial(key=jr.key(0)), num_saves=2)
        problem.velocity(vorticity[-1]).shape  # (2, 32, 32)
        ```

    Source: Z. Li et al., Fourier neural operator for parametric partial differential
    equations, ICLR 2021, section 5.3 and appendix A.3.3.
    """

    grid: Grid
    viscosity: Float[Array, ""]
    forcing: Float[Array, ""]
    initial_field: AbstractRandomField
    final_time: float = eqx.field(static=True)
    time_step: float = eqx.field(static=True)
    refine: int = eqx.field(static=True)
    kept: float = eqx.field(static=True)

    def __init__(
        self,
        num_points: int | Sequence[int] = (64, 64),
        viscosity: ArrayLike = 1e-3,
        forcing: ArrayLike = 0.1,
        initial_field: AbstractRandomField | None = None,
        final_time: float = 10.0,
        time_step: float = 0.02,
        refine: int = 1,
    ):
        self.grid = periodic_grid(num_points, 1.0, axes=(2,))
        self.viscosity = coefficient("viscosity", viscosity)
        self.forcing = coefficient("forcing", forcing, at_least_zero=True)
        if initial_field is None:
            initial_field = GaussianField(7.0, 2.5, scale=7.0**0.75)
        self.initial_field = initial_field
        self.final_time = positive("final_time", final_time)
        self.time_step = positive("time_step", time_step)
        self.refine = refinement(refine)
        self.kept = 2 / 3

    def initial(self, *, key: PRNGKeyArray) -> Float[Array, "n m"]:
        """A random ω(0), of `initial_field`, less its mean."""
        field = self.initial_field.sample(self.grid, key=key)
        return field - jnp.mean(field)

    def velocity(self, vorticity: Float[Array, "n m"]) -> Float[Array, "2 n m"]:
        """u of a vorticity, by spectral differentiation.

        **Arguments:**

        - `vorticity`: ω, a field on the grid. Its mean is ignored.
        """
        space = FourierSpace(self.grid.shape, self.grid.extent)
        u = _velocity(space.coefficients(vorticity), space)
        return jnp.stack([space.field(component) for component in u])

    def symbol(self, squares: Any) -> Any:
        """−ν |κ|²."""
        return -self.viscosity * squares

    def nonlinear(
        self, v: Complex[Array, "*modes"], space: FourierSpace
    ) -> Complex[Array, "*modes"]:
        """−u·∇ω + f."""
        first, second = _velocity(v, space)
        along_x, along_y = (space.field(space.derivative(v, k)) for k in (0, 1))
        transport = space.field(first) * along_x + space.field(second) * along_y
        nodes = (np.arange(n) / n for n in space.num_points)
        wave = _wave(*np.meshgrid(*nodes, indexing="ij"))
        source = self.forcing.astype(transport.dtype) * jnp.asarray(
            wave, transport.dtype
        )
        return space.coefficients(source - transport)

    def residual(
        self,
        vorticity: Float[Array, "..."],
        vorticity_t: Float[Array, "..."],
        gradient: Float[Array, "..."],
        laplacian: Float[Array, "..."],
        velocity: Float[Array, "..."],
        *coordinates: ArrayLike,
    ) -> Float[Array, "..."]:
        """ω_t + u·∇ω − ν Δω − f, node by node: what a loss or a constraint makes 0.

        It holds u to nothing: that u is the velocity of ω (`velocity`, on the grid) is
        another condition, as it is that the mean of ω is 0.

        **Arguments:**

        - `vorticity`, `vorticity_t`, `laplacian`: ω, ω_t, Δω, of one shape, from
            differences or from a network.
        - `gradient`, `velocity`: ∇ω and u, each of shape (2, *shape of ω).
        - `coordinates`: x and y where ω is taken, of its shape, since f depends on
            them. Default the nodes of the grid, for ω of shape (..., n, m).

        **Raises:** `ValueError` where the shapes differ.

        !!! example

            ```python
            import jax.random as jr
            import problems
            from sciml.grids import gradient, laplacian

            problem = problems.NavierStokesVorticity((32, 32))
            grid, w = problem.grid, problem.initial(key=jr.key(0))
            w_t = 0 * w  # so that the rows are what ω changes by, but for the sign
            rows = problem.residual(
                w, w_t, gradient(w, grid), laplacian(w, grid), problem.velocity(w)
            )
            ```
        """
        same_shapes(vorticity=vorticity, vorticity_t=vorticity_t, laplacian=laplacian)
        shape, dtype = jnp.shape(vorticity), vorticity.dtype
        for name, field in (("gradient", gradient), ("velocity", velocity)):
            if jnp.shape(field) != (2, *shape):
                raise ValueError(
                    f"{name}: expected shape {(2, *shape)}, 2 and the vorticity's, got "
                    f"{jnp.shape(field)}."
                )
        expected = shape if coordinates else shape[-2:]
        _, places = times_and_places(self.grid, 0.0, coordinates)
        if places[0].shape != expected:
            raise ValueError(
                f"coordinates: expected the vorticity's shape {shape}, or none and a "
                f"vorticity of shape (..., {self.grid.shape[0]}, {self.grid.shape[1]}),"
                f" got shape {places[0].shape}."
            )
        wave = jnp.broadcast_to(_wave(*places).astype(dtype), shape)
        transport = velocity[0] * gradient[0] + velocity[1] * gradient[1]
        diffusion = self.viscosity.astype(dtype) * laplacian
        source = self.forcing.astype(dtype) * wave
        return vorticity_t + transport - diffusion - source

    def exact_solution(
        self, times: ArrayLike, *coordinates: ArrayLike, amplitude: ArrayLike = 1.0
    ) -> Float[Array, "..."]:
        """The vortices of Taylor and Green, and what f adds to them:

            ω = A e^{−λνt} sin 2πx sin 2πy + (1 − e^{−λνt}) f / (λν),  λ = 8π².

        −Δω = λω, so that ψ = ω/λ and transport vanishes: u·∇ω = 0. Without forcing they
        decay and keep their shape. For `jit`, `vmap`, and derivatives with respect to
        t, x, y, ν, s and A.

        Where ν is small the flow may be unstable; a solver then leaves it in the end,
        from what rounding amounts to.

        **Arguments:**

        - `times`: t ≥ 0, of any shape.
        - `coordinates`: x and y, of one shape. Default the nodes of the grid.
        - `amplitude`: A, in units of 1/time. Default 1.

        **Returns:** shape (*times, *places), in the precision of the coordinates,
        where none are given of the times.

        !!! example

            ```python
            import jax.numpy as jnp
            import problems

            problem = problems.NavierStokesVorticity((16, 16), final_time=1.0)
            found = problem.solve(problem.exact_solution(0.0), num_saves=4)
            jnp.abs(found - problem.exact_solution(problem.times(4))).max()  # rounding
            ```

        Source: G. I. Taylor and A. E. Green, Mechanism of the production of small
        eddies from large ones, Proc. R. Soc. A 158 (1937), 499–521; in two dimensions
        G. I. Taylor, Phil. Mag. 46 (1923), 671–674.
        """
        t, (x, y) = times_and_places(self.grid, times, coordinates)
        nu, forcing = self.viscosity.astype(t.dtype), self.forcing.astype(t.dtype)
        rate = 8 * np.pi**2 * nu
        vortices = jnp.sin(2 * np.pi * x) * jnp.sin(2 * np.pi * y)
        driven = -jnp.expm1(-rate * t) / rate * forcing
        amplitude = jnp.asarray(amplitude, t.dtype)
        return amplitude * jnp.exp(-rate * t) * vortices + driven * _wave(x, y)


def _wave(x: Any, y: Any) -> Any:
    """sin 2π(x + y) + cos 2π(x + y), NumPy's or JAX's like x."""
    library = np if isinstance(x, np.ndarray) else jnp
    phase = 2 * np.pi * (x + y)
    return library.sin(phase) + library.cos(phase)


def _velocity(
    v: Complex[Array, "*modes"], space: FourierSpace
) -> tuple[Complex[Array, "*modes"], Complex[Array, "*modes"]]:
    squares = space.squares()
    squares[0, 0] = np.inf
    stream = v * jnp.asarray(1.0 / squares, v.dtype)
    return space.derivative(stream, 1), -space.derivative(stream, 0)
