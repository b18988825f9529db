"""Incomplete Cholesky with a learned correction."""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
from jaxtyping import Array, Float, PRNGKeyArray

from .._serialisation import register
from ..linear import AbstractPreconditioner, SymmetricOperator
from ._graph_network import GraphNetwork, Perceptron, bounded, on_edges
from ._host import host_matrix
from ._incomplete_cholesky import incomplete_cholesky
from ._matrix_graph import MatrixGraph, Slots, graph_of_matrix, lower_slots
from ._neural_factor import capped, check_sizes, factor_operator
from ._triangular import AbstractTriangularSolve, LevelSchedule

# Pivots change by this factor at most.
_MAX_PIVOT_CHANGE = 4.0


@register
class CorrectedCholesky(AbstractPreconditioner):
    """M = (L Lᵀ)⁻¹, L = L₀ + α · network(L₀, A) on the pattern of L₀, that of IC(0).

        L_ij = (L₀)_ij + α √A_ii o_ij for i > j,
        L_ii = (L₀)_ii · exp(c tanh(α o_ii / c)),  c = log 4

    with rows shortened where Σ_j |L_ij|/L_ii, j < i, exceeds both 1 and that of L₀, so
    that L is invertible for all weights, and M symmetric positive definite. α is
    learned and starts at 0: untrained, M is incomplete Cholesky. The network sees L₀
    and A scaled to a unit diagonal, and nothing of the mesh: trained on small systems
    it is used on large ones, and on other patterns.

    Trained by `sciml.training.fit` with `FactorResidual`, which needs solutions. What
    it learns resembles modified incomplete Cholesky, whose row sums are those of A.

    **Arguments:**

    - `width`: of the network, default 16.
    - `num_rounds`: of messages, default 4.
    - `solve`: how L is applied. Default `LevelSchedule()`, exact solves.
    - `key`: draws the weights.

    **Raises:** `ValueError` for arguments below 1; `build` as `IncompleteCholesky`.

    !!! example

        ```python
        import jax.numpy as jnp
        import jax.random as jr
        import sciml

        A = sciml.linear.diffusion_operator(1.0, sciml.grids.Grid((15, 15)))
        model = sciml.preconditioners.CorrectedCholesky(key=jr.key(0))
        solution = sciml.linear_solve(
            A, jnp.ones((15, 15)), sciml.CG(rtol=1e-4), preconditioner=model
        )
        ```

    Source: Trifonov et al., *Learning from linear algebra: a graph neural network
    approach to preconditioner design for conjugate gradient solvers*, arXiv 2405.15557
    (there the diagonal is corrected by a sum, too, and the network sees L₀ only).
    """

    network: GraphNetwork
    head: Perceptron
    alpha: Float[Array, ""]
    width: int = eqx.field(static=True)
    num_rounds: int = eqx.field(static=True)
    solve: AbstractTriangularSolve

    on_host: ClassVar[bool] = True

    def __init__(
        self,
        width: int = 16,
        num_rounds: int = 4,
        solve: AbstractTriangularSolve = LevelSchedule(),  # noqa: B008
        *,
        key: PRNGKeyArray,
    ):
        check_sizes(width=width, num_rounds=num_rounds)
        self.width, self.num_rounds, self.solve = width, num_rounds, solve
        network_key, head_key = jr.split(key)
        self.network = GraphNetwork(
            1,
            3,
            width,
            num_rounds,
            jax.nn.gelu,
            residual=True,
            key=network_key,
        )
        self.head = Perceptron((width,) * 3, width, 1, jax.nn.gelu, key=head_key)
        self.alpha = jnp.zeros(())

    def build(self, operator: lx.AbstractLinearOperator) -> SymmetricOperator:
        """(L Lᵀ)⁻¹ for this operator, as a lineax operator."""
        matrix = host_matrix(self, operator)
        graph = graph_of_matrix(type(self).__name__, matrix)
        lower, _ = incomplete_cholesky(matrix)
        start = jnp.asarray(lower_slots(graph, lower), graph.values.dtype)
        return factor_operator(self, graph, _factor(self, graph, start), operator)

    def factor(self, graph: MatrixGraph, start: Slots) -> Slots:
        """L in the slots of the graph, from L₀ in them."""
        dtype = self.network.dtype
        root = jnp.sqrt(graph.diagonal)
        unit = start / root[None]
        upper = graph.live & ~graph.strictly_lower & ~graph.on_diagonal
        both = unit + jnp.where(upper, graph.mirrored(unit), 0.0)
        side = graph.strictly_lower.astype(unit.dtype)
        edges = jnp.stack([both, graph.unit_diagonal(), side], -1)
        sums = jnp.sum(graph.values, axis=0) / graph.diagonal
        x, e = self.network(graph, sums[:, None].astype(dtype), edges.astype(dtype))
        o = (self.alpha * self.head(e, *on_edges(graph, x))[:, :, 0]).astype(root.dtype)
        pivots = start[0] * jnp.exp(bounded(o[0], math.log(_MAX_PIVOT_CHANGE)))
        lower = jnp.where(graph.strictly_lower, start + o * root[None], 0.0)
        sums = jnp.sum(jnp.where(graph.strictly_lower, jnp.abs(start), 0.0), axis=0)
        # (Ratios to the pivots, as it is these that solutions grow with.)
        lower = capped(lower, pivots * jnp.maximum(1.0, sums / start[0]))
        return jnp.where(graph.on_diagonal, pivots[None], lower)


# (One program for all systems of a size.)
@eqx.filter_jit
def _factor(model: CorrectedCholesky, graph: MatrixGraph, start: Slots) -> Slots:
    return model.factor(graph, start)
