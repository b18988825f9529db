"""The heat equation with a conductivity that changes in time: a sequence of systems."""

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from sciml.grids import Grid, SymmetricStencil, diffusion_stencil
from sciml.linear import StencilOperator


class HeatSequence(eqx.Module):
    """∂u/∂t = κ(t) Δu + f on the unit square, u = 0 around it, by Crank–Nicolson:

        A_k u_{k+1} = b_k,  A_k = I − ½ Δt κ(t_k + ½Δt) Δ_h,
        b_k = (I + ½ Δt κ(t_k + ½Δt) Δ_h) u_k + Δt f(t_k + ½Δt),  t_k = k Δt,

    with Δ_h the five-point Laplacian. Systems that change from step to step, none much
    harder than the one before: the benchmark of methods that tune a solver while they
    use it. κ(t) = max(0.1 sin 2πt, −10 sin 2πt) spends half of each period at small
    values and half at values up to a hundred times larger; f is 32 times a bump of
    radius 1/8 that circles the centre eight times per unit of time, u_0 a bump of
    radius 1/4 in the middle.

    The protocol of the source: start each solve from the previous solution, stop at a
    relative residual of 1e-8, add up the iterations of all steps; Δt = 1e-3 up to
    t = 5, and 1/h = 25, 50, 100, 200 or 400. What is told of step k beforehand is
    κ(t_k), not κ at the half step. Iterations of all 5000 steps, by loops in SciPy
    (`pytest -m slow tests/test_heat_sequence.py` repeats the first row):

    | 1/h | CG | SSOR-CG, ω = 1 | ω = 1.5 | ω from `jacobi_radius` |
    |---|---|---|---|---|
    | 25 | 85 422 | 32 793 | 32 318 | 24 038 |
    | 50 | 164 441 | 60 733 | 43 978 | 34 479 |

    **Arguments:**

    - `num_intervals`: 1/h; there are (num_intervals − 1)² unknowns. Default 25.
    - `num_steps`: steps up to `final_time`. Default 5000.
    - `final_time`: default 5.

    All methods take `step` as an integer or a traced one: the operators have one
    structure, and one compiled program serves the whole sequence.

    !!! example

        ```python
        import jax
        import problems
        import sciml

        problem = problems.HeatSequence(25)

        @jax.jit
        def advance(step, u):
            A, b = problem.system(step, u)
            solution = sciml.linear_solve(A, b, sciml.CG(rtol=1e-4), x0=u)
            return solution.value, solution.stats["num_steps"]

        u, total = problem.initial(), 0
        for step in range(10):
            u, num_steps = advance(step, u)
            total = total + num_steps
        ```

    Source: Khodak, Chow, Balcan & Talwalkar, *Learning to Relax*, ICLR 2024, §4, with
    the constants of the authors' program (their text has 0.01 in κ where it has 0.1).
    """

    grid: Grid
    num_steps: int = eqx.field(static=True)
    final_time: float = eqx.field(static=True)

    def __init__(
        self, num_intervals: int = 25, num_steps: int = 5000, final_time: float = 5.0
    ):
        if num_intervals < 2:
            raise ValueError(
                f"num_intervals: expected at least 2, got {num_intervals}."
            )
        if num_steps < 1:
            raise ValueError(f"num_steps: expected at least 1, got {num_steps}.")
        if not 0 < final_time < math.inf:
            raise ValueError(
                f"final_time: expected a positive number, got {final_time}."
            )
        self.grid = Grid((num_intervals - 1,) * 2)
        self.num_steps, self.final_time = num_steps, float(final_time)

    def initial(self) -> Float[Array, "n n"]:
        """u_0."""
        return self._bump((0.5, 0.5), 0.25)

    def system(
        self, step: int | Int[Array, ""], u: Float[Array, "n n"]
    ) -> tuple[StencilOperator, Float[Array, "n n"]]:
        """A_k and b_k of a step, given u_k.

        **Arguments:**

        - `step`: k from 0 to `num_steps − 1`.
        - `u`: u_k, the previous solution (`initial()` for k = 0); the guess to start
            from as well.
        """
        step_size = self.final_time / self.num_steps
        time = (self._index(step) + 0.5) * step_size
        factor = 0.5 * step_size * _conductivity(time)
        laplacian = diffusion_stencil(1.0, self.grid)
        stencil = SymmetricStencil(
            1.0 + factor * laplacian.diagonal,
            tuple(factor * edge for edge in laplacian.edges),
            laplacian.offsets,
            laplacian.periodic,
        )
        angle = 16 * math.pi * time
        centre = (0.5 + 0.25 * jnp.cos(angle), 0.5 + 0.25 * jnp.sin(angle))
        source = 32.0 * self._bump(centre, 0.125)
        b = u - factor * laplacian(u) + step_size * source
        return StencilOperator(stencil, self.grid), b

    def context(self, step: int | Int[Array, ""]) -> Float[Array, ""]:
        """κ(t_k): what a method may know of a step before it is taken."""
        return _conductivity(self._index(step) * (self.final_time / self.num_steps))

    def jacobi_radius(self, step: int | Int[Array, ""]) -> Float[Array, ""]:
        """The spectral radius μ of I − D⁻¹A_k, D the diagonal, in closed form.

        2/(1 + √(1 − μ²)) is Young's optimal relaxation parameter, the rival that
        learns nothing.
        """
        step_size = self.final_time / self.num_steps
        time = (self._index(step) + 0.5) * step_size
        h = self.grid.spacing[0]
        c = 0.5 * step_size * _conductivity(time) / h**2
        return 4 * c * math.cos(math.pi * h) / (1 + 4 * c)

    def _index(self, step: int | Int[Array, ""]) -> Float[Array, ""]:
        return jnp.asarray(step).astype(jnp.result_type(float))

    def _bump(
        self, centre: tuple[ArrayLike, ArrayLike], radius: float
    ) -> Float[Array, "n n"]:
        """exp(1 − 1/(1 − min(1, |x − c|²/r²))): smooth, 0 from the radius on."""
        dtype = jnp.result_type(float)
        x, y = (jnp.asarray(coordinate, dtype) for coordinate in self.grid.mesh())
        square = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / radius**2
        inside = square < 1.0
        return jnp.where(
            inside, jnp.exp(1.0 - 1.0 / (1.0 - jnp.where(inside, square, 0.0))), 0.0
        )


def _conductivity(time: Float[Array, ""]) -> Float[Array, ""]:
    wave = jnp.sin(2 * math.pi * time)
    return jnp.maximum(0.1 * wave, -10.0 * wave)
