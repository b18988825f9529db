"""Fields that meet an equation: a least-squares solve as a layer of a network."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .._result import RESULTS
from ..linear import Solution, frozen
from ..linear._status import our_result
from ._basis import Expansion, checked_ridge, expansion, in_precision
from ._least_squares import FieldLeastSquares, floored, gram, whitening
from ._optimum import Report, WeightSolver, optimum
from ._rows import Rows
from ._side import Side
from ._solvers import GramLevenbergMarquardt


class HardConstraint(eqx.Module):
    """u = offset + Σ_n ω_n basis_n, with the ω for which an equation holds best.

        ω = argmin  mean of residual(terms(u), parameters)²
                    + Σ over sides of weight² · mean of its rows²  +  ridge² ωᵀWω

    A network supplies the basis, `basis = model(input)`; whatever its weights, u is the
    best combination. A loss on u is differentiated through the argmin by the implicit
    function theorem, whichever solver found it.

    W is JᵀJ + 1e-12 tr(JᵀJ) I with the rows' derivatives J by the weights at the first
    guess, so that `ridge` has no unit and asks little of well-determined directions.
    The solve works in coordinates in which W is the identity: nearly dependent fields
    do no harm.

    The rows and all n × n systems are in double precision where JAX has it enabled,
    whatever the basis has; the value is in the basis' precision again. Without it a
    warning says that derivatives carry few digits, and the default ridge is larger.

    **Arguments:**

    - `residual`: `residual(terms, parameters) -> rows`, an array or a tree of them.
    - `solver`: default `GramLevenbergMarquardt()`; `LinearLeastSquares()` where rows
        are linear in u, or any least-squares solver or minimiser of Optimistix.
    - `terms`: linear map from a field to what the residual needs of it, for example
        its derivatives by a stencil. Default: the field itself.
    - `sides`: conditions on sides of the grid, `Side` objects.
    - `num_points`: nodes that the residual is taken at, drawn anew for each key.
        Default None: all of them. Otherwise `terms` has to have leaves of the grid's
        shape, and `residual` must act node by node.
    - `ridge`: default 1e-6 in double, 1e-2 in single precision; static. At least the
        root of the rounding error: below, derivatives would be rounding.

    **Raises:** `ValueError` naming the argument for shapes that do not fit, a ridge too
    small, sampling without a key.

    !!! example

        ```python
        import jax.numpy as jnp
        import sciml

        x = jnp.linspace(0.0, 1.0, 65)
        basis = jnp.stack([x**k * (1 - x) for k in range(1, 7)])
        second = lambda u: (u[2:] - 2 * u[1:-1] + u[:-2]) / (x[1] - x[0]) ** 2
        layer = sciml.constraints.HardConstraint(
            lambda terms, source: -terms - source, terms=second
        )
        out = layer(basis, jnp.sin(jnp.pi * x[1:-1]))  # −u″ = sin πx, u = 0 at the ends
        out.stats["residual_norm"]
        ```

    Source: Négiar, Mahoney & Krishnapriyan, ICLR 2023 (arXiv 2207.08675); Chalapathi,
    Du & Krishnapriyan, ICLR 2024 (arXiv 2402.13412).
    """

    residual: Callable[[Any, Any], Any]
    solver: WeightSolver
    terms: Callable[[Any], Any] | None
    sides: tuple[Side, ...]
    num_points: int | None = eqx.field(static=True)
    ridge: float | None = eqx.field(static=True)

    def __init__(
        self,
        residual: Callable[[Any, Any], Any],
        solver: WeightSolver | None = None,
        *,
        terms: Callable[[Any], Any] | None = None,
        sides: tuple[Side, ...] = (),
        num_points: int | None = None,
        ridge: float | None = None,
    ):
        self.residual = residual
        self.solver = GramLevenbergMarquardt() if solver is None else solver
        if not isinstance(self.solver, WeightSolver):
            raise TypeError(
                "solver: expected GramLevenbergMarquardt, LinearLeastSquares, or a "
                "least-squares solver or minimiser of Optimistix, got "
                f"{type(self.solver).__name__}."
            )
        self.terms = terms
        self.sides = tuple(sides)
        if num_points is not None and num_points < 1:
            raise ValueError(f"num_points: expected at least 1, got {num_points}.")
        self.num_points = num_points
        if ridge is not None and not 0 < ridge < float("inf"):
            raise ValueError(
                f"ridge: expected a positive number, got {ridge!r}. Without one, "
                "weights of dependent basis fields and their derivatives are rounding."
            )
        self.ridge = ridge

    def __call__(
        self,
        basis: PyTree[Array],
        parameters: PyTree = None,
        *,
        offset: PyTree[Array] | None = None,
        start: Float[Array, "..."] | None = None,
        key: PRNGKeyArray | None = None,
        throw: bool = True,
    ) -> Solution:
        """The field of the best weights.

        **Arguments:**

        - `basis`: a field, or a tree of them, with a first axis of length n.
        - `parameters`: of the residual. Arrays of the grid's shape count as fields:
            where rows are taken at some nodes only, so are they.
        - `offset`: a field that the combination is added to, for example one that has
            the initial values while the basis is zero there. Default zero.
        - `start`: first guess of the weights, default zeros.
        - `key`: draws the nodes, with `num_points`.
        - `throw`: raise where no optimum was found (default), or return what was.

        **Returns:** a `Solution`: `value` is u; `stats` has `weights`, `num_steps`,
        `residual_norm` (root of the sum of squares of all rows, without the ridge) and
        `relative_gradient`, ‖Jᵀr‖ / (‖J‖ ‖r‖), on which `result` is based.

        **Derivatives** flow into `basis`, `parameters`, `offset` and arrays within
        `residual`. They are NaN with `throw=False` where `result` is no success.
        """
        fields = expansion(basis, offset, self.terms)
        parameters = in_precision(parameters, fields.solve_dtype)
        ridge = checked_ridge(self.ridge, fields.solve_dtype)
        groups = (
            self.on_nodes(fields, parameters, key),
            *(on_side(side, fields, parameters) for side in self.sides),
        )
        start = checked_start(start, (fields.count,), fields.solve_dtype)
        with jax.default_matmul_precision("highest"):
            found = solved(groups, ridge, start, self.solver, throw)
            value = fields.value(found.weights)
        return found.solution(value, throw)

    def on_nodes(
        self, fields: Expansion, parameters: PyTree, key: PRNGKeyArray | None
    ) -> Rows:
        """The residual's rows, at all nodes or at some of them."""
        one = jnp.ones((), fields.solve_dtype)
        if self.num_points is None:
            picked = fields.terms, fields.offset_terms, parameters
        else:
            size = math.prod(fields.shape)
            if key is None:
                raise ValueError("key: needed to draw num_points nodes.")
            if self.num_points > size:
                raise ValueError(
                    f"num_points: {self.num_points}, but there are {size} nodes."
                )
            nodes = jr.choice(key, size, (self.num_points,), replace=False)
            picked = fields.pick(lambda field: field.ravel()[nodes], parameters)
        return Rows(self.residual, *picked, one)


def on_side(side: Side, fields: Expansion, parameters: PyTree) -> Rows:
    """The rows of a condition on a side."""
    if side.axis >= len(fields.shape):
        raise ValueError(
            f"sides: axis {side.axis}, but the fields have {len(fields.shape)} axes."
        )
    end = side.end % fields.shape[side.axis]
    picked = fields.pick(
        lambda field: lax.index_in_dim(field, end, side.axis, keepdims=False),
        parameters,
    )
    return Rows(side.residual, *picked, jnp.asarray(side.weight, fields.solve_dtype))


def checked_start(
    start: Any, shape: tuple[int, ...], dtype: Any
) -> Float[Array, "..."]:
    """The first guess of the weights, default zeros."""
    if start is None:
        return jnp.zeros(shape, dtype)
    start = jnp.asarray(start)
    if start.shape != shape:
        raise ValueError(
            f"start: expected weights of shape {shape}, got {start.shape}."
        )
    return lax.stop_gradient(start.astype(dtype))


class Found(eqx.Module):
    """Weights and how they were found."""

    weights: Float[Array, "..."]
    report: Report
    residual_norm: Float[Array, "..."]

    def solution(self, value: Any, throw: bool) -> Solution:
        """With the field, for whoever called."""
        result = our_result(self.report.status)
        stats = {
            "weights": self.weights,
            "num_steps": self.report.num_steps,
            "residual_norm": self.residual_norm,
            "relative_gradient": self.report.relative_gradient,
        }
        solution = Solution(value, result, stats)
        if throw:
            solution = result.error_if(solution, result != RESULTS.successful)
        return solution


@eqx.filter_jit
def solved(
    groups: tuple[Rows, ...],
    ridge: Float[Array, ""],
    start: Float[Array, " n"],
    solver: WeightSolver,
    throw: bool,
) -> Found:
    size = floored(gram(groups, start))
    P = whitening(size)
    white = tuple(group.transformed(P) for group in groups)
    problem = FieldLeastSquares(white, ridge**2 * (P.T @ size @ P))
    start = jnp.linalg.solve(P, start)
    weights, report = optimum(problem, start, solver=frozen(solver), throw=throw)
    squares = [jnp.sum(group(weights) ** 2) for group in white]
    norm = jnp.sqrt(sum(squares[1:], squares[0]))
    return Found(P @ weights, report, norm)
