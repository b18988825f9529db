"""Rows of a sparse matrix padded to a few common lengths, and products with them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact, Int32

# Entries with their padding, over entries, that ask for another bucket …
_MAX_PADDED = 1.2
# … of which there are at most so many: each costs a loop of its own.
_MAX_BUCKETS = 6
# Blocks wider than this, a few dense rows usually, are summed by a reduction. It is
# several times slower per entry than an unrolled sum, which would compile for ever.
_MAX_UNROLLED = 128

Values = tuple[Inexact[Array, "_width _rows"], ...]


class Rows(eqx.Module):
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

    def product(self, blocks: Values, vector: Array) -> Array:
        """Σ_j blocks[j, i] · x_{columns[j, i]} for every row i.

        Of shape `(num_columns,)`, or `(num_columns, k)` for k vectors side by side.
        (Under `vmap` the scatter in `joined` would transpose them to and fro.)
        """
        products = []
        for values, columns in zip(blocks, self.columns, strict=True):
            values = values.reshape(values.shape + (1,) * (vector.ndim - 1))
            if not 0 < len(values) <= _MAX_UNROLLED:
                products.append(jnp.sum(values * _take(vector, columns), axis=0))
                continue
            out = values[0] * _take(vector, columns[0])
            for j in range(1, len(values)):
                out = out + values[j] * _take(vector, columns[j])
            products.append(out)
        return self.joined(products)

    def joined(self, blocks: list[Array]) -> Array:
        """Sums over the blocks of a number per row."""
        out = blocks[0]
        for rows, block in zip(self.rows[1:], blocks[1:], strict=True):
            out = out.at[rows].add(
                block,
                mode="promise_in_bounds",
                unique_indices=True,
                indices_are_sorted=True,
            )
        return out

    def row_numbers(self) -> list[Int32[Array, " _rows"]]:
        """The rows of each block."""
        every = jnp.arange(self.shape[0], dtype=jnp.int32)
        return [every if rows is None else rows for rows in self.rows]


class PaddedRows(eqx.Module):
    """A sparse matrix that is only multiplied with: `PaddedRowsOperator` without Aᵀ."""

    rows: Rows
    values: Values

    def mv(self, vector: Array) -> Array:
        """A x."""
        return self.rows.product(self.values, vector)


def padded_rows(csr, dtype) -> PaddedRows:
    """The product with a SciPy CSR matrix with sorted indices, in a type."""
    rows, slots = lay_out(csr.indptr, csr.indices, csr.shape)
    data = csr.data.astype(dtype)
    values = tuple(
        jnp.asarray(np.where(live, data[index], data.dtype.type(0)))
        for index, live in slots
    )
    return PaddedRows(rows, values)


def _take(vector: Array, indices: Array) -> Array:
    # The indices were checked when the operator was made. Unsigned: JAX would otherwise
    # count negative ones from the end, which costs a third of the product's time.
    return vector.at[indices.astype(jnp.uint32)].get(mode="promise_in_bounds")


# --- on the host ----------------------------------------------------------------------


def lay_out(
    starts: np.ndarray, columns: np.ndarray, shape: tuple[int, int]
) -> tuple[Rows, list[tuple[np.ndarray, np.ndarray]]]:
    """The layout; and the entry in each slot of each block, and whether there is one.

    **Arguments:**

    - `starts`: the number of the first entry of each row, and of the entries.
    - `columns`: of the entries, row by row.
    - `shape`: of the matrix.
    """
    # (Empty rows point to an entry too; where there is none at all, to this one.)
    columns = columns if columns.size else np.zeros(1, np.int32)
    starts = starts.astype(np.int32 if columns.size < 2**31 else np.int64)
    lengths = np.diff(starts).astype(np.int32)
    all_columns, all_lengths, all_rows, all_slots = [], [], [], []
    begin = 0
    for block, end in enumerate(bucket_widths(lengths)):
        if block:
            members = np.flatnonzero(lengths > begin).astype(np.int32)
            first, length = starts[members], lengths[members]
        else:
            members, first, length = None, starts[:-1], lengths
        slot = np.arange(begin, end, dtype=np.int32)[:, None]
        live = slot < length
        # Padding repeats the row's last column, which is at hand when the product gets
        # there, and lets no NaN of x into rows that do not touch it (into empty rows
        # that are padded: component 0).
        index = first + np.minimum(slot, np.maximum(length - 1, 0))
        if begin == 0 and (length == 0).any():
            index = np.where(length > 0, index, 0)
            held = np.where(length > 0, columns[index], 0)
        else:
            held = columns[index]
        all_columns.append(held.astype(np.int32, copy=False))
        all_slots.append((index, live))
        all_lengths.append(np.minimum(length, end) - np.int32(begin))
        all_rows.append(members)
        begin = end
    columns_, lengths_, rows = jax.device_put(
        (tuple(all_columns), tuple(all_lengths), tuple(all_rows))
    )
    return Rows(columns_, lengths_, rows, shape), all_slots


def bucket_widths(lengths: np.ndarray) -> list[int]:
    """The padded lengths of rows, ascending; a row is padded to the first that fits.

    As few as keep Σ padded ≤ 1.2 Σ lengths, or the best six. Exact, by dynamic
    programming over the distinct lengths.
    """
    of_length = np.bincount(lengths)
    distinct = np.flatnonzero(of_length)
    below = np.concatenate([[0], np.cumsum(of_length[distinct])])
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
