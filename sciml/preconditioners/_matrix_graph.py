"""A symmetric sparse matrix as a graph with rows of one length, for networks on it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int32

from ..linear import AbstractPreconditioner, StencilOperator
from ._host import Matrix, host_matrix

Slots = Float[Array, "width n"]


class MatrixGraph(eqx.Module):
    """The entries of a real symmetric matrix in slots, column-major: the w-th entries
    of all rows together, the diagonal first.

    Slot (w, i) holds A_ij for j = `columns[w, i]`, and A_ji stands in the slot whose
    number, counted over the flattened array, is `mirrors[w, i]`. Slots without an entry
    have the value 0, the row itself as column and themselves as mirror.

    So a transposition is a permutation of slots that is its own inverse, a sum over
    neighbours is one over an axis, and neither these nor their derivatives scatter.

    **Arguments:**

    - `values`: A_ij, shape `(width, n)`.
    - `columns`, `mirrors`: the same shape.
    """

    values: Slots
    columns: Int32[Array, "width n"]
    mirrors: Int32[Array, "width n"]

    @property
    def diagonal(self) -> Float[Array, " n"]:
        """A_ii."""
        return self.values[0]

    @property
    def live(self) -> Bool[Array, "width n"]:
        """Which slots hold entries; those of the diagonal do."""
        return (self.values != 0) | self.on_diagonal

    @property
    def on_diagonal(self) -> Bool[Array, "width 1"]:
        """Which slots hold the diagonal, the same in all rows."""
        return jnp.arange(self.columns.shape[0], dtype=jnp.int32)[:, None] == 0

    @property
    def coupled(self) -> Bool[Array, " n"]:
        """Which rows have entries besides their diagonal: those that fill up do not."""
        return jnp.any(self.live[1:], axis=0)

    @property
    def strictly_lower(self) -> Bool[Array, "width n"]:
        """Which slots hold entries below the diagonal."""
        rows = jnp.arange(self.columns.shape[1], dtype=self.columns.dtype)
        return (self.columns < rows[None]) & self.live

    def mirrored(self, slots: Float[Array, "width n *c"]) -> Float[Array, "width n *c"]:
        """What stands in the slots of the transposed entries."""
        return _mirrored(slots, self.mirrors)

    def neighbours(self, x: Float[Array, "n *c"]) -> Float[Array, "width n *c"]:
        """x_j in the slot of every A_ij."""
        return _neighbours(x, self.columns, self.mirrors)

    def unit_diagonal(self) -> Slots:
        """D^{-1/2} A D^{-1/2}."""
        root = jax.lax.rsqrt(self.diagonal)
        return self.values * root[None] * self.neighbours(root)


class SlotMatrix(eqx.Module):
    """A matrix S on the slots of a graph, to multiply with it and its transposed.

    **Arguments:**

    - `values`: S_ij.
    - `transposed`: S_ji, in the slots of S_ij.
    - `columns`: of the graph.
    """

    values: Slots
    transposed: Slots
    columns: Int32[Array, "width n"]

    def __call__(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """S x."""
        return _product(self.values, self.transposed, self.columns, x)

    @property
    def T(self) -> "SlotMatrix":
        """Sᵀ."""
        return SlotMatrix(self.transposed, self.values, self.columns)


def slot_matrix(graph: MatrixGraph, values: Slots) -> SlotMatrix:
    """The matrix with these values in a graph's slots."""
    return SlotMatrix(values, graph.mirrored(values), graph.columns)


@jax.custom_vjp
def _product(values, transposed, columns, x):
    del transposed
    out = values[0] * x
    for entries, numbers in zip(values[1:], columns[1:], strict=True):
        out = out + entries * _take(x, numbers)
    return out


def _product_back(residuals, cotangent):
    # The derivative of a gather would be a scatter; this one is Sᵀ times a vector.
    values, transposed, columns, x = residuals
    back = _product(transposed, values, columns, cotangent)
    return cotangent[None] * _take(x, columns), None, None, back


_product.defvjp(lambda *inputs: (_product(*inputs), inputs), _product_back)


def _take(array: Array, index: Array) -> Array:
    # Unsigned: JAX would otherwise count negative indices from the end.
    return array.at[index.astype(jnp.uint32)].get(mode="promise_in_bounds")


@jax.custom_vjp
def _mirrored(slots, mirrors):
    flat = slots.reshape(-1, *slots.shape[2:])
    return _take(flat, mirrors)


def _mirrored_back(mirrors, cotangent):
    return _mirrored(cotangent, mirrors), None


_mirrored.defvjp(lambda slots, m: (_mirrored(slots, m), m), _mirrored_back)


@jax.custom_vjp
def _neighbours(x, columns, mirrors):
    del mirrors
    return _take(x, columns)


def _neighbours_back(mirrors, cotangent):
    # The slots that read x_j are the mirrors of row j's.
    return jnp.sum(_mirrored(cotangent, mirrors), axis=0), None, None


_neighbours.defvjp(lambda x, c, m: (_neighbours(x, c, m), m), _neighbours_back)


def matrix_graph(
    builder: AbstractPreconditioner, operator: lx.AbstractLinearOperator
) -> MatrixGraph:
    """The graph of an operator's entries, rows and columns those of flat vectors.

    A `StencilOperator` may be traced; of other operators the entries are read on the
    host.

    **Raises:** as `host_matrix`; `ValueError` for complex entries and for a pattern
    that is not symmetric.
    """
    if isinstance(operator, lx.TaggedLinearOperator):
        return matrix_graph(builder, operator.operator)
    if isinstance(operator, StencilOperator):
        _check_known(builder, operator)
        return _graph_of_stencil(operator)
    known = getattr(operator, "graph", None)
    if isinstance(known, MatrixGraph):
        return known
    return graph_of_matrix(type(builder).__name__, host_matrix(builder, operator))


def _check_known(builder: AbstractPreconditioner, operator: StencilOperator) -> None:
    diagonal = operator.stencil.diagonal
    if isinstance(diagonal, Tracer):
        return
    least = float(jnp.min(diagonal))
    if not least > 0:
        raise ValueError(
            f"operator: {type(builder).__name__} needs a positive, finite diagonal, "
            f"but A's smallest entry on it is {least:.3g}. Is A positive definite?"
        )


def _graph_of_stencil(operator: StencilOperator) -> MatrixGraph:
    stencil = operator.stencil
    shape = stencil.shape
    index = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    shifts = [s for o in stencil.offsets for s in (o, tuple(-k for k in o))]
    values, columns, mirrors = [stencil.diagonal.ravel()], [index], [index]
    for number, shift in enumerate(shifts):
        inside = np.ones(shape, bool)
        for axis, (k, wraps) in enumerate(zip(shift, stencil.periodic, strict=True)):
            if k and not wraps:
                outer = [slice(None)] * len(shape)
                outer[axis] = slice(-k, None) if k > 0 else slice(None, -k)
                inside[tuple(outer)] = False
        neighbour = np.roll(index, [-k for k in shift], range(len(shape)))
        # (The slots of +o and −o are each other's mirrors.)
        opposite = 1 + (number ^ 1)
        here = (1 + number) * index.size + index
        columns.append(np.where(inside, neighbour, index))
        mirrors.append(np.where(inside, opposite * index.size + neighbour, here))
        values.append(stencil.coupling(shift).ravel())
    return MatrixGraph(
        jnp.stack(values),
        jnp.asarray(np.stack([c.ravel() for c in columns]), jnp.int32),
        jnp.asarray(np.stack([m.ravel() for m in mirrors]), jnp.int32),
    )


def graph_of_matrix(name: str, matrix: Matrix) -> MatrixGraph:
    """The graph of a SciPy CSR matrix; `name` is what an error calls its user."""
    if np.iscomplexobj(matrix.data):
        raise ValueError(f"operator: {name} needs real entries, got {matrix.dtype}.")
    size = matrix.shape[0]
    matrix.sum_duplicates()
    rows = np.repeat(np.arange(size), np.diff(matrix.indptr))
    off = (rows != matrix.indices) & (matrix.data != 0)
    rows, columns, data = rows[off], matrix.indices[off], matrix.data[off]
    # The k-th entry column by column is the transposed of the k-th one row by row.
    order = np.lexsort((rows, columns))
    if not (
        np.array_equal(rows[order], columns) and np.array_equal(columns[order], rows)
    ):
        raise ValueError(
            f"operator: {name} needs a symmetric matrix, but some A_ij ≠ 0 has A_ji = "
            "0. Pass (A + A.T) / 2 if that is only rounding."
        )
    transposed = np.empty(len(rows), np.int64)
    transposed[order] = np.arange(len(rows))
    counts = np.bincount(rows, minlength=size)
    width = 1 + int(counts.max(initial=0))
    if width * size >= 2**31:
        raise ValueError(
            f"operator: {name} pads all rows to the longest one, {width} entries, "
            f"which for {size} rows is too much: A has rows that are nearly full."
        )
    place = 1 + np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    slot = place * size + rows
    values = np.zeros(width * size, matrix.dtype)
    values[:size] = matrix.diagonal()
    held = np.tile(np.arange(size, dtype=np.int32), width)
    mirrors = np.arange(width * size, dtype=np.int32)
    values[slot], held[slot], mirrors[slot] = data, columns, slot[transposed]
    shape = (width, size)
    return MatrixGraph(
        jnp.asarray(values.reshape(shape)),
        jnp.asarray(held.reshape(shape)),
        jnp.asarray(mirrors.reshape(shape)),
    )


def lower_slots(graph: MatrixGraph, lower: Matrix) -> np.ndarray:
    """A lower triangular SciPy matrix, of the pattern of A or less, in A's slots."""
    columns = np.asarray(graph.columns)
    rows = np.broadcast_to(np.arange(columns.shape[1]), columns.shape)
    wanted = (columns < rows) | (np.arange(len(columns))[:, None] == 0)
    found = np.asarray(lower.tocsr()[rows[wanted], columns[wanted]]).ravel()
    slots = np.zeros(columns.shape, lower.dtype)
    slots[wanted] = found
    return slots


def lower_matrix(graph: MatrixGraph, slots: Slots) -> Matrix:
    """The lower triangle that stands in a graph's slots, as a sorted CSR matrix.

    Entries that are zero stay in it. Host only.
    """
    import scipy.sparse as sp

    columns, values = np.asarray(graph.columns), np.asarray(slots)
    rows = np.broadcast_to(np.arange(columns.shape[1]), columns.shape)
    kept = np.asarray(graph.strictly_lower) | (np.arange(len(columns))[:, None] == 0)
    size = columns.shape[1]
    found = sp.csr_matrix((values[kept], (rows[kept], columns[kept])), (size, size))
    found.sort_indices()
    return found
