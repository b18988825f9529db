"""ELL: a general sparse matrix as rows padded to a few common lengths."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Inexact, Int32

from ._protocol import register_operator

# Entries with their padding, over entries, that ask for another bucket …
_MAX_PADDED = 1.2
# … of which there are at most so many: each costs a loop of its own.
_MAX_BUCKETS = 6
# Blocks wider than this, a few dense rows usually, are summed by a reduction. It is
# several times slower per entry than an unrolled sum, which would compile for ever.
_MAX_UNROLLED = 128


class _Rows(eqx.Module):
    """Where the entries stand: rows cut into blocks, each stored column-major.

    The first block holds the first entries of every row, the next ones what is left of
    longer rows, whose numbers are `rows` (of the first: None). Slot j of the r-th row
    of a block belongs to column `columns[block][j, r]`; from `lengths[block][r]` on
    slots are padding.

    Cutting rows pads as little as sorting them into buckets by length would, and leaves
    the result in its order: few rows are added to it, instead of all being gathered.
    """

    columns: tuple[Int32[Array, "_width _rows"], ...]
    lengths: tuple[Int32[Array, " _rows"], ...]
    rows: tuple[Int32[Array, " _rows"] | None, ...]
    shape: tuple[int, int] = eqx.field(static=True)


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
    _layout: _Rows
    _other: _Rows | None
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
        self._layout, entries = _lay_out(rows, columns, shape)
        if isinstance(values, np.ndarray):
            # On the host each bucket's shape costs no compilation.
            padded = np.append(values, np.zeros_like(values, shape=1))
            self.values = tuple(jnp.asarray(padded[bucket]) for bucket in entries)
        else:
            self.values = _fill(values, _indices(entries))
        if self._is_own_transpose():
            self._other = self._forth = self._back = None
        else:
            self._other, other_entries = _lay_out(
                columns, rows, (num_columns, num_rows)
            )
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
        products = []
        for values, columns in zip(self._entries(), self._layout.columns, strict=True):
            if not 0 < len(values) <= _MAX_UNROLLED:
                products.append(jnp.sum(values * _take(vector, columns), axis=0))
                continue
            out = values[0] * _take(vector, columns[0])
            for j in range(1, len(values)):
                out = out + values[j] * _take(vector, columns[j])
            products.append(out)
        return self._joined(products)

    def as_matrix(self) -> Inexact[Array, "num_rows num_columns"]:
        """The dense matrix. For small sizes only."""
        dtype = self.values[0].dtype
        matrix = jnp.zeros(self._layout.shape, dtype)
        for rows, columns, values in zip(
            self._row_numbers(), self._layout.columns, self._entries(), strict=True
        ):
            rows = jnp.broadcast_to(rows[None], columns.shape)
            matrix = matrix.at[rows, columns].add(values)
        return matrix

    def diagonal_entries(self) -> Inexact[Array, " n"]:
        """The main diagonal, of the length of the shorter side."""
        return self._diagonal(0)

    def absolute_row_sums(self) -> Float[Array, " num_rows"]:
        """Σ_j |A_ij|; entries at one position count one by one."""
        return self._joined([jnp.sum(jnp.abs(v), axis=0) for v in self._entries()])

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
            self._row_numbers(),
            self._layout.columns,
            self._layout.lengths,
            self.values,
            strict=True,
        ):
            # Transposed, so that the entries of a row stay together.
            live = np.arange(len(columns)) < np.asarray(lengths)[:, None]
            row = np.broadcast_to(np.asarray(rows)[:, None], live.shape)
            found.append((row[live], np.asarray(columns).T[live], values.T[live]))
        rows, columns, values = (
            np.concatenate([np.asarray(part[k]) for part in found]) for k in range(3)
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

    def _joined(self, blocks: list[Array]) -> Array:
        """Sums over the blocks of a number per row."""
        out = blocks[0]
        for rows, block in zip(self._layout.rows[1:], blocks[1:], strict=True):
            out = out.at[rows].add(
                block,
                mode="promise_in_bounds",
                unique_indices=True,
                indices_are_sorted=True,
            )
        return out

    def _row_numbers(self) -> list[Int32[Array, " _rows"]]:
        """The rows of each block."""
        every = jnp.arange(self._layout.shape[0], dtype=jnp.int32)
        return [every if rows is None else rows for rows in self._layout.rows]

    def _diagonal(self, offset: int) -> Inexact[Array, " m"]:
        """The entries A[i, i + offset] inside the matrix."""
        num_rows, num_columns = self._layout.shape
        sums = [
            jnp.sum(jnp.where(columns == (rows + offset)[None], values, 0), axis=0)
            for rows, columns, values in zip(
                self._row_numbers(), self._layout.columns, self._entries(), strict=True
            )
        ]
        return self._joined(sums)[max(0, -offset) : min(num_rows, num_columns - offset)]


def _assemble(**fields) -> PaddedRowsOperator:
    """An operator from its parts, as unflattening makes it."""
    operator = object.__new__(PaddedRowsOperator)
    for name, value in fields.items():
        object.__setattr__(operator, name, value)
    return operator


def _take(vector: Array, indices: Array) -> Array:
    # The indices were checked when the operator was made. Unsigned: JAX would otherwise
    # count negative ones from the end, which costs a third of the product's time.
    return vector.at[indices.astype(jnp.uint32)].get(mode="promise_in_bounds")


# (One program, not one for each step of each bucket: operators are often made once.)
@jax.jit
def _fill(source: Array, indices: tuple[Array, ...]) -> tuple[Array, ...]:
    """source[index] per bucket, zero where the index points past its end."""
    return tuple(source.at[i].get(mode="fill", fill_value=0) for i in indices)


def _indices(buckets: list[np.ndarray]) -> tuple[Array, ...]:
    return tuple(jnp.asarray(bucket, jnp.int32) for bucket in buckets)


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


def _lay_out(
    rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]
) -> tuple[_Rows, list[np.ndarray]]:
    """The layout, and per slot the number of the entry in it (their count: padding)."""
    keys = rows.astype(np.int64) * shape[1] + columns
    if (keys[1:] >= keys[:-1]).all():
        order = np.arange(len(keys))
    else:
        order = np.argsort(keys, kind="stable")
    lengths = np.bincount(rows, minlength=shape[0])
    starts = np.cumsum(lengths) - lengths
    # One more at the end stands for padding.
    entry, column = np.append(order, len(rows)), np.append(columns[order], 0)
    all_columns, all_lengths, all_rows, all_entries = [], [], [], []
    begin = 0
    for block, end in enumerate(bucket_widths(lengths)):
        members = np.flatnonzero(lengths > begin) if block else np.arange(shape[0])
        length, slot = lengths[members], np.arange(begin, end)[:, None]
        # Padding repeats the row's last column, which is at hand when the product gets
        # there, and lets no NaN of x into rows that do not touch it (into empty rows
        # that are padded: component 0).
        last = starts[members] + np.minimum(slot, length - 1)
        all_columns.append(column[np.where(length > 0, last, len(rows))])
        all_entries.append(np.where(slot < length, entry[last], len(rows)))
        all_lengths.append(np.minimum(length, end) - begin)
        all_rows.append(jnp.asarray(members, jnp.int32) if block else None)
        begin = end
    layout = _Rows(_indices(all_columns), _indices(all_lengths), tuple(all_rows), shape)
    return layout, all_entries


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


def bucket_widths(lengths: np.ndarray) -> list[int]:
    """The padded lengths of rows, ascending; a row is padded to the first that fits.

    As few as keep Σ padded ≤ 1.2 Σ lengths, or the best six. Exact, by dynamic
    programming over the distinct lengths.
    """
    distinct, counts = np.unique(lengths, return_counts=True)
    below = np.concatenate([[0], np.cumsum(counts)])
    # cost[j]: fewest slots for the rows of the j shortest lengths in so many buckets.
    cost = np.where(np.arange(len(distinct) + 1) == 0, 0.0, np.inf)
    splits = []
    for _ in range(min(_MAX_BUCKETS, len(distinct))):
        split, new = np.zeros(len(cost), int), np.full(len(cost), np.inf)
        for j in range(1, len(cost)):
            slots = cost[:j] + distinct[j - 1] * (below[j] - below[:j])
            split[j] = np.argmin(slots)
            new[j] = slots[split[j]]
        splits.append(split)
        cost = new
        if cost[-1] <= _MAX_PADDED * lengths.sum():
            break
    widths, j = [], len(distinct)
    for split in reversed(splits):
        widths.append(int(distinct[j - 1]))
        j = split[j]
    return widths[::-1]


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
