"""ELL: a general sparse matrix as rows padded to a few common lengths."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Inexact, Int32

from ._padded_rows import Rows, lay_out
from ._protocol import register_operator


@register_operator
class PaddedRowsOperator(lx.AbstractLinearOperator):
    """A sparse matrix in the ELL format: rows padded to common lengths.

        (A x)_i = Σ_j values[j, i] · x_{columns[j, i]}

    For matrices of unstructured meshes, graphs and transfers between levels;
    rectangular ones too. Entries are stored column-major, the j-th entries of all rows
    together, so that a product is a short sum of whole-array gathers. Rows are padded
    to one of at most 6 lengths, as few as hold the entries with their padding to 1.2
    times the entries; what long rows have more than short ones is added in blocks.

    Made on the host from the positions of the entries; `values` may be traced. Where
    A is real and tagged symmetric it is its own transpose; otherwise the layout of Aᵀ
    is kept as well, so that `transpose()` is exact and differentiable.

    Derivatives are those of the entries: padding has none, and stays zero in training.

    **Arguments:**

    - `rows`, `columns`: NumPy integers of shape `(num_entries,)`, the position of
        each entry. Entries at one position add up.
    - `values`: of shape `(num_entries,)`, real or complex.
    - `shape`: `(num_rows, num_columns)`.
    - `tags`: lineax tags, as one tag or a frozenset; default none. They are believed;
        `sciml.linear.from_scipy` checks symmetry.

    **Raises:** `ValueError` if the arguments do not fit together.

    !!! example

        ```python
        import jax.numpy as jnp
        import numpy as np
        import sciml

        rows, columns = np.array([0, 0, 1]), np.array([0, 2, 1])
        A = sciml.linear.PaddedRowsOperator(
            rows, columns, jnp.array([1.0, 2.0, 3.0]), (2, 3)
        )
        A.mv(jnp.array([1.0, 10.0, 100.0]))  # [201., 30.]
        A.transpose().mv(jnp.array([1.0, 1.0]))  # [1., 3., 2.]
        ```

    Source: Saad, *Iterative Methods for Sparse Linear Systems*, §3.4 (Ellpack-Itpack).
    """

    values: tuple[Inexact[Array, "_width _rows"], ...]
    _layout: Rows
    _other: Rows | None
    # Slots of `values`, flattened and joined, that fill the slots of Aᵀ; and back.
    _forth: tuple[Int32[Array, "_width _rows"], ...] | None
    _back: tuple[Int32[Array, "_width _rows"], ...] | None
    tags: frozenset[object] = eqx.field(static=True)

    def __init__(
        self,
        rows: np.ndarray,
        columns: np.ndarray,
        values: ArrayLike,
        shape: tuple[int, int],
        tags: object | frozenset[object] = frozenset(),
    ):
        if not isinstance(values, np.ndarray):
            values = jnp.asarray(values)
        num_rows, num_columns = shape = (int(shape[0]), int(shape[1]))
        if min(shape) < 1 or max(shape) >= 2**31:
            raise ValueError(
                f"shape: expected two sizes from 1 to 2³¹ − 1, got {shape}."
            )
        rows = _checked_indices("rows", rows, num_rows)
        columns = _checked_indices("columns", columns, num_columns)
        if not rows.shape == columns.shape == values.shape:
            raise ValueError(
                "rows, columns, values: expected one length, the number of entries, "
                f"got shapes {rows.shape}, {columns.shape} and {values.shape}."
            )
        if not jnp.issubdtype(values.dtype, jnp.inexact):
            raise ValueError(
                f"values: expected a real or complex floating-point type, got "
                f"{values.dtype}; write values.astype(float)."
            )
        self.tags = tags if isinstance(tags, frozenset) else frozenset([tags])
        if lx.is_symmetric(self) and num_rows != num_columns:
            raise ValueError(
                f"tags: claim a symmetric matrix, but shape is {shape}; drop the tag."
            )
        self._layout, entries = _slots(rows, columns, shape)
        if isinstance(values, np.ndarray):
            # On the host each bucket's shape costs no compilation.
            padded = np.append(values, np.zeros_like(values, shape=1))
            self.values = tuple(jnp.asarray(padded[bucket]) for bucket in entries)
        else:
            self.values = _fill(values, _indices(entries))
        if self._is_own_transpose():
            self._other = self._forth = self._back = None
        else:
            self._other, other_entries = _slots(columns, rows, (num_columns, num_rows))
            self._forth = _moves(entries, other_entries, len(rows))
            self._back = _moves(other_entries, entries, len(rows))

    def mv(self, vector: Inexact[Array, " num_columns"]) -> Inexact[Array, " num_rows"]:
        """A vector."""
        _, num_columns = self._layout.shape
        if vector.shape != (num_columns,):
            raise ValueError(
                f"vector: expected shape ({num_columns},), got {vector.shape}; map a "
                "batch with jax.vmap(A.mv)."
            )
        return self._layout.product(tuple(self._entries()), vector)

    def mv_columns(
        self, vectors: Inexact[Array, "num_columns k"]
    ) -> Inexact[Array, "num_rows k"]:
        """A X for k vectors that stand side by side, faster than `vmap` of `mv`."""
        return self._layout.product(tuple(self._entries()), vectors)

    def as_matrix(self) -> Inexact[Array, "num_rows num_columns"]:
        """The dense matrix. For small sizes only."""
        dtype = self.values[0].dtype
        matrix = jnp.zeros(self._layout.shape, dtype)
        for rows, columns, values in zip(
            self._layout.row_numbers(),
            self._layout.columns,
            self._entries(),
            strict=True,
        ):
            rows = jnp.broadcast_to(rows[None], columns.shape)
            matrix = matrix.at[rows, columns].add(values)
        return matrix

    def diagonal_entries(self) -> Inexact[Array, " n"]:
        """The main diagonal, of the length of the shorter side."""
        return self._diagonal(0)

    def absolute_row_sums(self) -> Float[Array, " num_rows"]:
        """Σ_j |A_ij|; entries at one position count one by one."""
        return self._layout.joined(
            [jnp.sum(jnp.abs(v), axis=0) for v in self._entries()]
        )

    def transpose(self) -> "PaddedRowsOperator":
        """Aᵀ, exactly; itself where it is real and tagged symmetric.

        (A complex operator with a symmetric tag is taken to be Hermitian: its
        transpose is its conjugate, another operator.)
        """
        if self._other is None or self._forth is None:
            return self
        flat = jnp.concatenate([v.ravel() for v in self._entries()])
        return _assemble(
            values=_fill(flat, self._forth),
            _layout=self._other,
            _other=self._layout,
            _forth=self._back,
            _back=self._forth,
            tags=lx.transpose_tags(self.tags),
        )

    def in_structure(self) -> jax.ShapeDtypeStruct:
        """A vector of length `num_columns`."""
        return jax.ShapeDtypeStruct(self._layout.shape[1:], self.values[0].dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        """A vector of length `num_rows`."""
        return jax.ShapeDtypeStruct(self._layout.shape[:1], self.values[0].dtype)

    def triplets(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows, columns and values of the entries as NumPy arrays, without padding."""
        found = []
        for rows, columns, lengths, values in zip(
            self._layout.row_numbers(),
            self._layout.columns,
            self._layout.lengths,
            self.values,
            strict=True,
        ):
            # Transposed, so that the entries of a row stay together.
            live = np.arange(len(columns)) < np.asarray(lengths)[:, None]
            row = np.broadcast_to(np.asarray(rows)[:, None], live.shape)
            transposed = (row, np.asarray(columns).T, np.asarray(values).T)
            found.append([part[live] for part in transposed])
        rows, columns, values = (
            np.concatenate(part) for part in zip(*found, strict=True)
        )
        return rows, columns, values

    def _is_own_transpose(self) -> bool:
        return lx.is_symmetric(self) and not jnp.iscomplexobj(self.values[0])

    def _entries(self) -> list[Inexact[Array, "_width _rows"]]:
        """`values`, without a derivative where they are padding.

        Both branches hold the same numbers, so the compiled program has no `where`.
        Without it a step of training would fill the padding of A, not that of Aᵀ.
        """
        return [
            jnp.where(
                jnp.arange(len(values), dtype=jnp.int32)[:, None] < lengths[None],
                values,
                jax.lax.stop_gradient(values),
            )
            for values, lengths in zip(self.values, self._layout.lengths, strict=True)
        ]

    def _diagonal(self, offset: int) -> Inexact[Array, " m"]:
        """The entries A[i, i + offset] inside the matrix."""
        num_rows, num_columns = self._layout.shape
        sums = [
            jnp.sum(jnp.where(columns == (rows + offset)[None], values, 0), axis=0)
            for rows, columns, values in zip(
                self._layout.row_numbers(),
                self._layout.columns,
                self._entries(),
                strict=True,
            )
        ]
        return self._layout.joined(sums)[
            max(0, -offset) : min(num_rows, num_columns - offset)
        ]


def _assemble(**fields) -> PaddedRowsOperator:
    """An operator from its parts, as unflattening makes it."""
    operator = object.__new__(PaddedRowsOperator)
    for name, value in fields.items():
        object.__setattr__(operator, name, value)
    return operator


# (One program, not one for each step of each bucket: operators are often made once.)
@jax.jit
def _fill(source: Array, indices: tuple[Array, ...]) -> tuple[Array, ...]:
    """source[index] per bucket, zero where the index points past its end."""
    return tuple(source.at[i].get(mode="fill", fill_value=0) for i in indices)


def _indices(buckets: list[np.ndarray]) -> tuple[Array, ...]:
    return tuple(jnp.asarray(bucket.astype(np.int32)) for bucket in buckets)


# --- on the host ----------------------------------------------------------------------


def _checked_indices(name: str, indices: np.ndarray, bound: int) -> np.ndarray:
    indices = np.asarray(indices)
    if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(
            f"{name}: expected integers of shape (num_entries,), got {indices.dtype} "
            f"of shape {indices.shape}."
        )
    if indices.size and (indices.min() < 0 or indices.max() >= bound):
        raise ValueError(
            f"{name}: expected indices from 0 to {bound - 1}, as shape says, got "
            f"{indices.min()} to {indices.max()}."
        )
    return indices


def _slots(
    rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]
) -> tuple[Rows, list[np.ndarray]]:
    """The layout, and per slot the number of the entry in it (their count: padding)."""
    keys = rows.astype(np.int64) * shape[1] + columns
    order = None
    if not (keys[1:] >= keys[:-1]).all():
        order = np.argsort(keys, kind="stable")
        columns = columns[order]
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))])
    layout, slots = lay_out(starts, columns, shape)
    # One more at the end stands for padding.
    entry = np.arange(len(rows) + 1) if order is None else np.append(order, len(rows))
    return layout, [np.where(live, entry[index], len(rows)) for index, live in slots]


def _moves(
    source: list[np.ndarray], target: list[np.ndarray], num_entries: int
) -> tuple[Array, ...]:
    """Per slot of the target the slot of the source with the same entry."""
    held = np.concatenate([bucket.ravel() for bucket in source])
    if len(held) >= 2**31:
        raise ValueError("values: more than 2³¹ entries with their padding.")
    slot_of = np.full(num_entries + 1, len(held))
    live = np.flatnonzero(held < num_entries)
    slot_of[held[live]] = live
    return _indices([slot_of[bucket] for bucket in target])


# The registered answers would go through the dense matrix.
lx.materialise.register(PaddedRowsOperator)(lambda operator: operator)
lx.tridiagonal.register(PaddedRowsOperator)(
    lambda operator: tuple(operator._diagonal(k) for k in (0, -1, 1))
)
lx.conj.register(PaddedRowsOperator)(
    lambda operator: eqx.tree_at(
        lambda o: o.values, operator, tuple(v.conj() for v in operator.values)
    )
)
