"""Sparse systems on different meshes as samples of one data set."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Float

from .._serialisation import register
from ..data import Dataset
from ..linear import to_scipy
from ..linear._protocol import dense_from_products, register_operator
from ._incomplete_cholesky import incomplete_cholesky
from ._matrix_graph import (
    MatrixGraph,
    SlotMatrix,
    Slots,
    graph_of_matrix,
    lower_slots,
)

# Single precision holds integers up to here exactly.
_MAX_INDEX = 2**24


@register_operator
class GraphOperator(lx.AbstractLinearOperator):
    """A positive definite matrix on the slots of its graph: all of it may be traced."""

    graph: MatrixGraph
    matrix: SlotMatrix
    tags: frozenset[object] = eqx.field(static=True)

    def __init__(self, graph: MatrixGraph):
        # A symmetric matrix is its own transposed.
        self.graph = graph
        self.matrix = SlotMatrix(graph.values, graph.values, graph.columns)
        self.tags = frozenset({lx.positive_semidefinite_tag, lx.symmetric_tag})

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        """A vector."""
        return self.matrix(vector)

    def as_matrix(self) -> Float[Array, "n n"]:
        """The dense matrix. For small sizes only."""
        return dense_from_products(self)

    def diagonal_entries(self) -> Float[Array, " n"]:
        """The diagonal."""
        return self.graph.diagonal

    def transpose(self) -> "GraphOperator":
        """Itself."""
        return self

    def in_structure(self) -> jax.ShapeDtypeStruct:
        """A vector of length n."""
        values = self.graph.values
        return jax.ShapeDtypeStruct(values.shape[1:], values.dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        """A vector of length n."""
        return self.in_structure()


class PackedSystem(eqx.Module):
    """One system: its operator, IC(0), nodes, right-hand side and solution.

    Unknowns that were added to bring all systems to one size have 1 on the diagonal, no
    further entries, and zeros everywhere else.
    """

    operator: GraphOperator
    factor: Slots
    points: Float[Array, "n ndim"]
    vector: Float[Array, " n"]
    solution: Float[Array, " n"]


@register
class PackedSystems(eqx.Module):
    """From a sample of `pack_systems` to the system that it is.

    Called with an input of the data set it gives A as a lineax operator on vectors of
    length n, as losses such as `UnrolledCG` take it; `unpack` gives everything.

    **Arguments:**

    - `num_unknowns`: n, of the largest system.
    - `width`: entries of the longest row.
    - `ndim`: axes of the nodes' coordinates, 0 if there are none.
    """

    num_unknowns: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    ndim: int = eqx.field(static=True, default=0)

    def __call__(self, sample: Float[Array, " length"]) -> GraphOperator:
        """A."""
        return self.unpack(sample).operator

    def unpack(self, sample: Float[Array, " length"]) -> PackedSystem:
        """The system of a sample, a vector of length (4 width + ndim + 2) n."""
        rows = 4 * self.width + self.ndim + 2
        if sample.shape != (rows * self.num_unknowns,):
            raise ValueError(
                f"sample: expected shape ({rows * self.num_unknowns},) of systems with "
                f"{self.num_unknowns} unknowns and up to {self.width} entries per row, "
                f"got {sample.shape}."
            )
        table = sample.reshape(rows, self.num_unknowns)
        ends = np.cumsum([self.width] * 4 + [self.ndim, 1]).tolist()
        values, columns, mirrors, factor, points, vector, solution = jnp.split(
            table, ends
        )
        graph = MatrixGraph(
            values, columns.astype(jnp.int32), mirrors.astype(jnp.int32)
        )
        return PackedSystem(
            GraphOperator(graph), factor, points.T, vector[0], solution[0]
        )


def pack_systems(
    operators: Sequence[lx.AbstractLinearOperator],
    *,
    points: Sequence[np.ndarray] | None = None,
    vectors: Sequence[np.ndarray] | None = None,
    dtype: Any = np.float32,
) -> tuple[Dataset, PackedSystems]:
    """Systems A x = b of any patterns and sizes as a data set, in one array.

    Every sample holds the entries of A, where they stand, IC(0), the nodes, b, and the
    solution x, which is found by a direct solver. Smaller systems are filled up with
    decoupled unknowns, shorter rows with zeros. Host only.

    **Arguments:**

    - `operators`: symmetric positive definite, with entries that are known.
    - `points`: per system the unknowns' coordinates, shape `(n, ndim)`. Default none.
    - `vectors`: per system b, shape `(n,)`. Default: independent standard normals.
    - `dtype`: of the data set. Default float32.

    **Returns:** a `sciml.data.Dataset` of vectors, and what unpacks them.

    **Raises:** `ValueError` for no operators, and for more than 2²⁴ slots per system;
    as `IncompleteCholesky`.

    !!! example

        ```python
        data, systems = sciml.preconditioners.pack_systems(operators)
        loss = sciml.preconditioners.UnrolledCG(systems)
        ```
    """
    import scipy.sparse.linalg as spla

    for name, given in (("points", points), ("vectors", vectors)):
        if given is not None and len(given) != len(operators):
            raise ValueError(
                f"{name}: expected one per operator ({len(operators)}), got "
                f"{len(given)}."
            )
    if not operators:
        raise ValueError("operators: expected at least one.")
    matrices = [to_scipy(operator) for operator in operators]
    graphs = [graph_of_matrix("pack_systems", matrix) for matrix in matrices]
    width = max(graph.values.shape[0] for graph in graphs)
    size = max(matrix.shape[0] for matrix in matrices)
    if width * size > _MAX_INDEX:
        raise ValueError(
            f"operators: {width} × {size} slots are more than {_MAX_INDEX}, which "
            "single precision counts; train on smaller systems."
        )
    ndim = 0 if points is None else points[0].shape[1]
    rng = np.random.default_rng(0)
    samples = []
    for k, (matrix, graph) in enumerate(zip(matrices, graphs, strict=True)):
        b = rng.normal(size=matrix.shape[0]) if vectors is None else vectors[k]
        x = np.asarray(spla.spsolve(matrix.tocsc(), np.asarray(b, float)))
        lower, _ = incomplete_cholesky(matrix)
        nodes = np.zeros((matrix.shape[0], 0)) if points is None else points[k]
        # The number of a slot counts through rows of the length that all are given.
        place, row = np.divmod(np.asarray(graph.mirrors), matrix.shape[0])
        table = np.zeros((4 * width + ndim + 2, size), dtype)
        blocks = (
            (graph.values, 1.0),
            (graph.columns, np.arange(size)),
            (place * size + row, np.arange(width * size).reshape(width, size)),
            (lower_slots(graph, lower), 1.0),
        )
        for number, (block, filling) in enumerate(blocks):
            part = table[number * width : (number + 1) * width]
            if np.ndim(filling):
                part[:] = filling
            else:
                part[0] = filling
            part[: block.shape[0], : block.shape[1]] = block
        rest = table[4 * width :]
        rest[:, : matrix.shape[0]] = np.vstack([nodes.T, b, x])
        samples.append(table.ravel())
    return Dataset(np.stack(samples), None), PackedSystems(size, width, ndim)
