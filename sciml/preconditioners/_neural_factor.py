"""A learned triangular factor, and a learned correction of an incomplete one."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._serialisation import register
from ..linear import AbstractPreconditioner, StencilOperator, SymmetricOperator
from ._graph_network import GraphNetwork, Perceptron, shared
from ._host import flat_operator, host_matrix
from ._incomplete_cholesky import FactorInverse
from ._matrix_graph import MatrixGraph, Slots, lower_matrix, matrix_graph
from ._triangular import AbstractTriangularSolve, LevelSchedule


@register
class NeuralFactor(AbstractPreconditioner):
    """M = (L Lᵀ)⁻¹, L lower triangular on the pattern of A, by a network on its graph.

        L_ii = √A_ii,   L_ij = ω A_ij/√A_jj + √A_ii (l_ij + l_ji)/2 for i > j

    with rows shortened where Σ_j |L_ij|, j < i, exceeds both L_ii and what it is of
    A_ij/√A_jj. L is invertible for all weights, and M symmetric positive definite.
    Untrained, l = 0: with ω = 0, as published, M is Jacobi, with ω = 1 symmetric
    Gauss–Seidel. Messages run along the entries of A (the diagonal among them),

        e_ij ← f(e_ij, x_j, x_i),   x_i ← g(Σ_j e_ij, x_i)

    and l_ij is made of e_ij and of the mean of all of them. Nodes start from their
    coordinates and the right-hand side, entries from their length and from
    A_ij/√(A_ii A_jj): for A and c A there is one L but for √c. The network also
    predicts the solution, a first guess for CG: `predict`.

    Trained by `sciml.training.fit` with `FactorResidual`, which needs solutions. M
    belongs to the family of meshes that it was trained on.

    L and Lᵀ are solved with in turn, L y = r and Lᵀ z = y, by the slot `solve`; host
    only. (The published code applies the inverse of Lᵀ L instead, or a dense inverse.)

    **Arguments:**

    - `ndim`: of the coordinates.
    - `width`: of the network and its layers, default 16, as published.
    - `num_rounds`: of messages, default 5, as published.
    - `solve`: default `LevelSchedule()`, exact solves. `JacobiSweeps` needs many sweeps
        for what is learned, whose entries below the diagonal are large.
    - `relaxation`: ω, default 0, as published. With the diagonal fixed Gauss–Seidel is
        hard to improve on: on discs CG takes a median of 34 steps from ω = 1 before
        training and 35 after it, incomplete Cholesky 29 (`sciml train preconditioner
        neural-factor fem-disc-heat --relaxation 1 --batch-size 8 --num-steps 150
        --learning-rate 3e-4`). `CorrectedCholesky` learns the diagonal, too.
    - `key`: draws the weights.

    **Raises:** `ValueError` for sizes below 1, and for ω outside of [0, 2]. `build`
    raises `TypeError` for
    operators without coordinates (use `at`), or whose entries are traced or not known.

    !!! example

        ```python
        import jax.random as jr
        import sciml

        A = sciml.linear.diffusion_operator(1.0, sciml.grids.Grid((15, 15)))
        model = sciml.preconditioners.NeuralFactor(2, key=jr.key(0))
        M = model.build(A)
        ```

    Source: Li, Chen, Du & Matusik, *Learning preconditioners for conjugate gradient PDE
    solvers*, ICML 2023 (arXiv 2305.16432). There A_ij is not scaled, nodes have a mark
    for Dirichlet conditions, which are eliminated here, and heat equations give the
    entries of both of their matrices.
    """

    network: GraphNetwork
    head: Perceptron
    guess: Perceptron
    ndim: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    num_rounds: int = eqx.field(static=True)
    solve: AbstractTriangularSolve
    relaxation: float = eqx.field(static=True)

    on_host: ClassVar[bool] = True

    def __init__(
        self,
        ndim: int,
        width: int = 16,
        num_rounds: int = 5,
        solve: AbstractTriangularSolve = LevelSchedule(),  # noqa: B008
        relaxation: float = 0.0,
        *,
        key: PRNGKeyArray,
    ):
        check_sizes(ndim=ndim, width=width, num_rounds=num_rounds)
        if not 0 <= relaxation <= 2:
            raise ValueError(
                f"relaxation: expected a number from 0 to 2, got {relaxation}."
            )
        self.ndim, self.width, self.num_rounds = ndim, width, num_rounds
        self.solve, self.relaxation = solve, relaxation
        network_key, head_key, guess_key = jr.split(key, 3)
        self.network = GraphNetwork(
            ndim + 1,
            2,
            width,
            num_rounds,
            jax.nn.relu,
            residual=False,
            key=network_key,
        )
        head = Perceptron((width,) * 2, width, 1, jax.nn.relu, key=head_key)
        self.head = head.starting_at_zero()
        self.guess = Perceptron((width,), width, 1, jax.nn.relu, key=guess_key)

    def build(self, operator: lx.AbstractLinearOperator) -> SymmetricOperator:
        """M for an operator on a grid, whose nodes are known; b is taken to be zero."""
        inner = operator
        while isinstance(inner, lx.TaggedLinearOperator):
            inner = inner.operator
        if not isinstance(inner, StencilOperator):
            raise TypeError(
                "operator: NeuralFactor needs the coordinates of the unknowns, which a "
                f"{type(inner).__name__} does not have. Pass "
                "NeuralFactor(…).at(points, vector) as the preconditioner."
            )
        points = np.stack([axis.ravel() for axis in inner.grid.mesh()], -1)
        return self.at(points).build(operator)

    def at(
        self,
        points: Float[np.ndarray, "n ndim"],
        vector: Float[Array, " _size"] | None = None,
    ) -> "LocatedFactor":
        """The builder for unknowns at these places.

        **Arguments:**

        - `points`: coordinates, shape `(n, ndim)`.
        - `vector`: b, which the network was shown in training. Default zero.
        """
        if np.ndim(points) != 2 or np.shape(points)[1] != self.ndim:
            raise ValueError(
                f"points: expected shape (n, {self.ndim}), got {np.shape(points)}."
            )
        places = jnp.asarray(points)
        if vector is None:
            vector = jnp.zeros(places.shape[0], places.dtype)
        if vector.shape != places.shape[:1]:
            raise ValueError(
                f"vector: expected shape ({places.shape[0]},), one number per point, "
                f"got {vector.shape}."
            )
        return LocatedFactor(self, places, vector)

    def predict(
        self,
        graph: MatrixGraph,
        points: Float[Array, "n ndim"],
        vector: Float[Array, " n"],
    ) -> tuple[Slots, Float[Array, " n"]]:
        """L in the slots of a graph, and the predicted solution.

        The unit of the solution is ‖b‖₁ over the mean of A's diagonal.
        """
        dtype, values = self.network.dtype, graph.values.dtype
        coupled = graph.coupled
        num_rows = jnp.maximum(jnp.sum(coupled), 1).astype(values)
        points = points.astype(dtype)
        mean = jnp.sum(jnp.abs(vector)) / num_rows.astype(vector.dtype)
        shown = (vector / jnp.where(mean > 0, mean, 1.0)).astype(dtype)
        nodes = jnp.concatenate([points, shown[:, None]], -1)
        unit = graph.unit_diagonal()
        squares = jnp.sum((graph.neighbours(points) - points[None]) ** 2, -1)
        # (The root has no derivative at 0, and none is needed.)
        lengths = jax.lax.stop_gradient(jnp.sqrt(squares))
        edges = jnp.stack([lengths, unit.astype(dtype)], -1)
        x, e = self.network(graph, nodes, edges)
        counted = graph.live & coupled[None]
        total = jnp.sum(jnp.where(counted[:, :, None], e, 0.0), axis=(0, 1))
        count = jnp.maximum(jnp.sum(counted), 1).astype(dtype)
        raw = self.head(e, shared(total / count))[:, :, 0].astype(values)
        learned = self.relaxation * unit + (raw + graph.mirrored(raw)) / 2
        root = jnp.sqrt(graph.diagonal)
        lower = jnp.where(graph.strictly_lower, learned, 0.0)
        sums = jnp.sum(jnp.where(graph.strictly_lower, jnp.abs(unit), 0.0), axis=0)
        lower = capped(lower, jnp.maximum(sums, 1.0)) * root[None]
        diagonal = jnp.sum(jnp.where(coupled, graph.diagonal, 0.0)) / num_rows
        size = jnp.sum(jnp.abs(vector)).astype(values) / diagonal
        guess = size * self.guess(x)[:, 0].astype(values)
        # (What fills a system up is no part of it.)
        factor = jnp.where(graph.on_diagonal, root[None], lower)
        return factor, jnp.where(coupled, guess, vector.astype(values))


class LocatedFactor(AbstractPreconditioner):
    """A `NeuralFactor` for unknowns at given places, see `NeuralFactor.at`.

    **Arguments:**

    - `model`: the network.
    - `points`, `vector`: what it sees.
    """

    model: NeuralFactor
    points: Float[Array, "n ndim"]
    vector: Float[Array, " n"]

    on_host: ClassVar[bool] = True

    def build(self, operator: lx.AbstractLinearOperator) -> SymmetricOperator:
        """(L Lᵀ)⁻¹ for this operator, as a lineax operator."""
        slots, _, graph = self._predict(operator)
        return factor_operator(self.model, graph, slots, operator)

    def first_guess(self, operator: lx.AbstractLinearOperator) -> Float[Array, " n"]:
        """The predicted solution, flat: `x0` for `sciml.linear_solve`."""
        return self._predict(operator)[1]

    def _predict(self, operator: lx.AbstractLinearOperator):
        matrix = host_matrix(self, operator)
        if matrix.shape[0] != self.points.shape[0]:
            raise ValueError(
                f"operator: has {matrix.shape[0]} unknowns, but points were given for "
                f"{self.points.shape[0]}."
            )
        graph = matrix_graph(self, operator)
        slots, guess = _predict(self.model, graph, self.points, self.vector)
        return slots, guess, graph


# (One program for all systems of a size.)
@eqx.filter_jit
def _predict(model: NeuralFactor, *inputs: Any) -> Any:
    return model.predict(*inputs)


def factor_operator(
    model, graph: MatrixGraph, slots: Slots, operator: lx.AbstractLinearOperator
) -> SymmetricOperator:
    """(L Lᵀ)⁻¹ for L in the slots of a graph, solved with as the model says."""
    lower = lower_matrix(graph, slots)
    factor = model.solve.build(lower, graph.values.dtype)
    return flat_operator(FactorInverse(factor), operator)


def capped(lower: Slots, bound: Float[Array, " n"]) -> Slots:
    """Rows whose absolute sums exceed their bound, shortened to it.

    With row sums below the pivots solutions with L grow polynomially at worst;
    otherwise they may exponentially with n, out of the range of numbers.
    """
    sums = jnp.sum(jnp.abs(lower), axis=0)
    return lower * (bound / jnp.maximum(sums, bound))[None]


def check_sizes(**sizes: int) -> None:
    """Raise a `ValueError` for a size below 1."""
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}.")
