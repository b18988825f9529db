"""A learned sparse approximate inverse."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
from jaxtyping import Array, Float, PRNGKeyArray

from .._serialisation import register
from ..linear import AbstractPreconditioner, SymmetricOperator
from ._graph_network import GraphNetwork, Perceptron, bounded, on_edges
from ._host import flat_operator
from ._matrix_graph import MatrixGraph, SlotMatrix, Slots, matrix_graph, slot_matrix

# The start of ε, as a fraction of what G D⁻¹ Gᵀ does to the smoothest vectors.
_FIRST_EPSILON = 1e-2
_SMALLEST_EPSILON = 1e-5
_MAX_LEARNED = 2.0
# ε = e^(rate · parameter), so that a learning rate that suits the network suits ε.
_EPSILON_RATE = 30.0


@register
class SparseApproximateInverse(AbstractPreconditioner):
    """M = ε D⁻¹ + G D⁻¹ Gᵀ, G on the pattern of A by a small network.

    D is the diagonal of A. With Â = D^{-1/2} A D^{-1/2} the network gives for each
    entry an o_ij, |o_ij| < 2, from messages that are passed along the entries, and

        G = D^{-1/2} Ĝ D^{1/2},   Ĝ = I − 4/(3 ρ) Â + o ∘ Â,
        ρ = max_i Σ_j |A_ij| / A_ii

    M is symmetric positive definite for all weights, since ε > 0. It is the same for A
    and c A but for a factor 1/c. Untrained, o = 0, and but for ε M is the polynomial of
    degree 2 in D⁻¹A that makes the smallest eigenvalues of M A largest: a Chebyshev
    polynomial, whose double root needs ε. Then CG takes about a third of the steps of
    Jacobi where ρ is the largest eigenvalue of D⁻¹A, as on five-point stencils, for
    which nothing on this pattern can do better than a third once the mesh is fine.

    What is learned belongs to no mesh: trained on small systems, used on large ones and
    on other patterns. Applied as two products with a matrix of A's pattern, all of
    whose rows run at once: `stats["preconditioner"]["nonzeros"]` counts the entries
    that one application touches, 2 nnz(G), and those of D⁻¹ once.

    Trained by `sciml.training.fit` with `UnrolledCG` or `InverseResidual`, without
    solutions. For a `StencilOperator` everything runs on the device, and `build` may be
    jitted and vmapped; of other operators the entries are read on the host.

    **Arguments:**

    - `width`: channels of the network, default 16.
    - `num_rounds`: of message passing, default 3: how many entries away G looks.
    - `key`: draws the weights.

    **Raises:** `ValueError` for arguments below 1. `build` raises `TypeError` where
    entries are not known, or traced in other operators than stencils; `ValueError`
    where they are complex, not finite or not symmetric, or the diagonal is not
    positive.

    !!! example

        ```python
        import jax.numpy as jnp
        import jax.random as jr
        import sciml

        A = sciml.linear.diffusion_operator(1.0, sciml.grids.Grid((31, 31)))
        model = sciml.preconditioners.SparseApproximateInverse(key=jr.key(0))
        solution = sciml.linear_solve(
            A, jnp.ones((31, 31)), sciml.CG(rtol=1e-4), preconditioner=model
        )
        ```

    Source: the form and the network after Yang et al., *Learning sparse approximate
    inverse preconditioners for conjugate gradient solvers on GPUs*, NeurIPS 2025
    (arXiv 2510.27517); the start: Saad, *Iterative Methods for Sparse Linear Systems*,
    §12.3.
    """

    network: GraphNetwork
    head: Perceptron
    epsilon_exponent: Float[Array, ""]
    width: int = eqx.field(static=True)
    num_rounds: int = eqx.field(static=True)

    def __init__(self, width: int = 16, num_rounds: int = 3, *, key: PRNGKeyArray):
        for name, value in (("width", width), ("num_rounds", num_rounds)):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}.")
        self.width, self.num_rounds = width, num_rounds
        network_key, head_key = jr.split(key)
        self.network = GraphNetwork(
            2,
            3,
            width,
            num_rounds,
            jax.nn.gelu,
            residual=True,
            key=network_key,
        )
        head = Perceptron((width,) * 3, width, 1, jax.nn.gelu, key=head_key)
        self.head = head.starting_at_zero()
        start = math.log(_FIRST_EPSILON) / _EPSILON_RATE
        self.epsilon_exponent = jnp.asarray(start)

    def build(self, operator: lx.AbstractLinearOperator) -> SymmetricOperator:
        """M for this operator, as a lineax operator."""
        M = _make(self, matrix_graph(self, operator))
        entries = jnp.sum(M.factor.values != 0) * 2 + M.root.size
        return flat_operator(M, operator, {"nonzeros": entries})

    def factor(self, graph: MatrixGraph) -> Slots:
        """Ĝ in the slots of the graph."""
        dtype = self.network.dtype
        scaled, live = graph.unit_diagonal(), graph.live
        sizes = jnp.abs(graph.values) / graph.diagonal[None]
        row_sums = jnp.sum(sizes, axis=0)
        bound = jnp.max(row_sums)
        signed = jnp.sum(graph.values, axis=0) / graph.diagonal
        nodes = jnp.stack([signed, row_sums / bound], -1).astype(dtype)
        logs = jnp.log(graph.diagonal)
        ratio = jnp.tanh((graph.neighbours(logs) - logs[None]) / 2)
        first = graph.on_diagonal.astype(scaled.dtype)
        mark = jnp.broadcast_to(first, scaled.shape)
        edges = jnp.stack([scaled, jnp.where(live, ratio, 0.0), mark], -1)
        x, e = self.network(graph, nodes, edges.astype(dtype))
        learned = bounded(self.head(e, *on_edges(graph, x))[:, :, 0], _MAX_LEARNED)
        return first + (learned.astype(scaled.dtype) - 4.0 / (3.0 * bound)) * scaled

    def epsilon(self) -> Float[Array, ""]:
        """ε."""
        # (Bounded, so that no weights make it infinite.)
        exponent = jnp.minimum(_EPSILON_RATE * self.epsilon_exponent, 0.0)
        return jnp.exp(exponent) + _SMALLEST_EPSILON


class _Inverse(eqx.Module):
    """r ↦ D^{-1/2} (ε + Ĝ Ĝᵀ) D^{-1/2} r."""

    factor: SlotMatrix
    root: Float[Array, " n"]
    epsilon: Float[Array, ""]

    def __call__(self, vector):
        scaled = self.root * vector
        # (Written out: fused, each entry of the second product would redo the first.)
        inner = jax.lax.optimization_barrier(self.factor.T(scaled))
        return self.root * (self.epsilon * scaled + self.factor(inner))


@eqx.filter_jit
def _make(model: SparseApproximateInverse, graph: MatrixGraph) -> _Inverse:
    factor = slot_matrix(graph, model.factor(graph))
    root = jax.lax.rsqrt(graph.diagonal)
    return _Inverse(factor, root, model.epsilon().astype(root.dtype))
