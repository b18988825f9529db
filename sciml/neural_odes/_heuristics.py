"""What a solver knows about its own steps, summed over a solve."""

from typing import Any

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, Int

# E^(1/q) has an infinite slope at zero, where a step contributes nothing anyway.
_SMALLEST_ESTIMATE = 1e-6
# A step this near the boundary of stability was probably chosen by it.
_NEAR_LIMIT = 0.9


class Series(eqx.Module):
    """Sum and maximum of one number per accepted step."""

    total: Float[Array, ""]
    largest: Float[Array, ""]


class Heuristics(eqx.Module):
    """Sums over the accepted steps of a solve, by `RecordHeuristics`.

    With E_j the error estimate of step j in units of the tolerances (a step is
    accepted if E_j < 1), h_j > 0 its size, q the order of the estimate and S_j the
    stiffness estimate, an approximation of the largest |∂f/∂y| along the step:

    - `error_estimate`: Σ E_j h_j, a time.
    - `error_estimate_squared`: Σ E_j².
    - `step_surrogate`: Σ E_j^(1/q). A step of size h E^(−1/q) would just have been
        accepted: this is the number of such steps.
    - `stiffness`: Σ S_j h_j, without unit; None where the method has no two stages at
        the end of a step.
    - `max_stiffness`: max S_j, per time. None as well.
    - `num_stability_limited`: steps with h_j S_j above 0.9 of what is stable.
    - `num_steps`: accepted steps.

    The first four are differentiable. They are no monitors of the cost: a controller
    keeps E_j near 1 by taking longer steps as f gets simpler.
    """

    error_estimate: Float[Array, ""]
    error_estimate_squared: Float[Array, ""]
    step_surrogate: Float[Array, ""]
    stiffness: Float[Array, ""] | None
    max_stiffness: Float[Array, ""] | None
    num_stability_limited: Int[Array, ""] | None
    num_steps: Int[Array, ""]
    nfe: Int[Array, ""] | None

    def diagnosis(self) -> str:
        """One sentence on what bounded the steps; outside of `jit` only."""
        if self.num_stability_limited is None:
            return "The method has no stiffness estimate."
        limited, steps = int(self.num_stability_limited), int(self.num_steps)
        if 2 * limited <= steps:
            return f"Stability-limited on {limited} of {steps} steps."
        return (
            f"Stability-limited on {limited} of {steps} steps: the problem is stiff, "
            "try diffrax.Kvaerno5."
        )


class Recorded(eqx.Module):
    """The running sums, as they are carried from step to step.

    As one array: each that a solve carries is saved at checkpoints, restored and
    differentiated by code of its own, which has to be compiled.
    """

    # Sums and maxima of E h, E², E^(1/q), 1 and, where a method has the stages for it,
    # S h, S and whether the step was near the boundary of stability.
    series: Float[Array, "2 kinds"]
    # Whether the boundary of stability is known.
    limited: bool = eqx.field(static=True)
    # Of f: per attempted step, and at the start.
    evaluations: tuple[int, int] | None = eqx.field(static=True)

    def add(
        self,
        E: Float[Array, ""],
        Sh: Float[Array, ""] | None,
        h: Float[Array, ""],
        order: Any,
        limit: float | None,
    ) -> "Recorded":
        """With one more step of size h, with error estimate E and stiffness S h."""
        one = jnp.ones((), E.dtype)
        root = jnp.maximum(E, _SMALLEST_ESTIMATE) ** (1.0 / order)
        root = jax.lax.select(E > _SMALLEST_ESTIMATE, root, 0 * one)
        values = [E * h, E * E, root, one]
        if Sh is not None:
            near = 0 * one if limit is None else Sh > _NEAR_LIMIT * limit
            S = Sh / jnp.maximum(h, jnp.finfo(h.dtype).tiny)
            values += [Sh, S, jax.lax.convert_element_type(near, E.dtype)]
        new = jnp.stack(values)
        totals, largest = self.series
        series = jnp.stack([totals + new, jnp.maximum(largest, new)])
        return Recorded(series, self.limited, self.evaluations)

    @property
    def error_estimate(self) -> Series:
        """Of E h."""
        return self._series(0)

    @property
    def error_estimate_squared(self) -> Series:
        """Of E²."""
        return self._series(1)

    @property
    def step_surrogate(self) -> Series:
        """Of E^(1/q)."""
        return self._series(2)

    @property
    def num_steps(self) -> Int[Array, ""]:
        """Accepted."""
        return self.series[0, 3].astype(jnp.int32)

    @property
    def stiffness(self) -> Series | None:
        """Of S h."""
        return self._series(4) if self._paired else None

    @property
    def max_stiffness(self) -> Float[Array, ""] | None:
        """Of S."""
        return self.series[1, 5] if self._paired else None

    @property
    def num_stability_limited(self) -> Int[Array, ""] | None:
        """Accepted steps near the boundary of stability."""
        return self.series[0, 6].astype(jnp.int32) if self.limited else None

    @property
    def _paired(self) -> bool:
        return self.series.shape[-1] > 4

    def _series(self, kind: int) -> Series:
        return Series(self.series[0, kind], self.series[1, kind])


def nothing_recorded(
    dtype: Any, stiffness: bool, limited: bool, evaluations: tuple[int, int] | None
) -> Recorded:
    """The sums over no steps."""
    zeros = jnp.zeros((2, 7 if stiffness else 4), dtype)
    return Recorded(zeros, limited, evaluations)


def recorded_in(solver_state: Any) -> Recorded:
    """The sums in the final state of a solver; `ValueError` if there are none."""
    is_leaf = lambda node: isinstance(node, Recorded)
    leaves = jtu.tree_leaves(solver_state, is_leaf=is_leaf)
    found = [leaf for leaf in leaves if is_leaf(leaf)]
    if not found:
        raise ValueError(
            "solution: nothing was recorded. Solve with `solver=RecordHeuristics(...)` "
            "and `saveat=diffrax.SaveAt(..., solver_state=True)`."
        )
    return found[0]


def heuristics_of(solution: dfx.Solution) -> Heuristics:
    """What `RecordHeuristics` recorded during a solve.

    `nfe` counts the evaluations of the vector field, those of rejected steps included:
    stages × attempted steps, and one for the first stage of methods that reuse the
    last one (once more for each time that the first step is rejected, which is not
    counted). The reverse pass of `RecursiveCheckpointAdjoint` takes as many
    vector-Jacobian products, and evaluates most stages a second time. None for
    implicit methods: see `EvaluationCounter`.

    **Raises:** `ValueError` if the solution does not hold the solver's final state.

    !!! example

        ```python
        import diffrax as dfx
        import jax.numpy as jnp
        import sciml

        solution = dfx.diffeqsolve(
            dfx.ODETerm(lambda t, y, args: -y),
            sciml.neural_odes.RecordHeuristics(dfx.Tsit5()),
            t0=0.0,
            t1=1.0,
            dt0=None,
            y0=jnp.ones(2),
            saveat=dfx.SaveAt(t1=True, solver_state=True),
            stepsize_controller=dfx.PIDController(rtol=1e-5, atol=1e-5),
        )
        heuristics = sciml.neural_odes.heuristics_of(solution)
        heuristics.error_estimate, heuristics.num_steps, heuristics.nfe
        ```
    """
    sums = recorded_in(solution.solver_state)
    nfe = None
    if sums.evaluations is not None:
        per_step, at_start = sums.evaluations
        nfe = per_step * jnp.asarray(solution.stats["num_steps"]) + at_start
    total = lambda series: None if series is None else series.total
    return Heuristics(
        sums.error_estimate.total,
        sums.error_estimate_squared.total,
        sums.step_surrogate.total,
        total(sums.stiffness),
        sums.max_stiffness,
        sums.num_stability_limited,
        sums.num_steps,
        nfe,
    )
