"""Interpolation from every second node, with a weight per node and neighbour."""

import itertools
from collections.abc import Mapping

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Corner = tuple[int, ...]


class Coarsening(eqx.Module):
    """Which nodes of a grid are coarse: per axis start, start + 2, …

    Fine nodes fall into 2ᵈ classes by the set of axes along which they lie between
    coarse nodes; the class of the empty set are the coarse nodes themselves.

    **Arguments:**

    - `num_points`: fine nodes per axis.
    - `starts`: index of the first coarse node per axis, 0 or 1; None for an axis that
        stays as fine as it is.
    - `periodic`: per axis.
    """

    num_points: tuple[int, ...] = eqx.field(static=True)
    starts: tuple[int | None, ...] = eqx.field(static=True)
    periodic: tuple[bool, ...] = eqx.field(static=True)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.num_points)

    @property
    def num_coarse(self) -> tuple[int, ...]:
        """Coarse nodes per axis."""
        return tuple(
            n if s is None else (n - s + 1) // 2
            for n, s in zip(self.num_points, self.starts, strict=True)
        )

    def classes(self) -> list[tuple[bool, ...]]:
        """Per class, along which axes its nodes lie between; coarse nodes first."""
        choices = [(False,) if s is None else (False, True) for s in self.starts]
        return sorted(itertools.product(*choices), key=sum)

    def corners(self, between: tuple[bool, ...]) -> list[Corner]:
        """The directions (−1, 0, 1 per axis) to the coarse neighbours of a class."""
        return list(itertools.product(*[(-1, 1) if b else (0,) for b in between]))

    def select(self, field: Array, between: tuple[bool, ...]) -> Array:
        """A fine field's values on one class, a smaller dense array."""
        return field[self._class_slices(between)]

    def merge(self, parts: dict[tuple[bool, ...], Array]) -> Array:
        """The fine field whose values on each class are `parts[class]`."""
        for axis in reversed(range(self.ndim)):
            parts = {
                key: parts[(*key, False)]
                if self.starts[axis] is None
                else self._interleave(parts[(*key, False)], parts[(*key, True)], axis)
                for key in {k[:axis] for k in parts}
            }
        return parts[()]

    def neighbour(self, coarse: Array, corner: Corner) -> Array:
        """At each node of a class, the coarse value in direction `corner`.

        The class is the set of axes where `corner` is not 0; 0 where there is no such
        coarse node.
        """
        for axis, direction in enumerate(corner):
            if direction:
                coarse = self._padded(coarse, axis)
                first = int(direction > 0)
                coarse = _cut(coarse, axis, first, self._num_between(axis))
        return coarse

    def offsets(self) -> list[Corner]:
        """The offsets −1, 0, 1 per axis from a coarse node to the fine ones it feeds.

        In the order of `classes` and `corners`; the coarse node itself comes first. A
        node of a class lies at minus its corner from the coarse neighbour there.
        """
        return [
            tuple(-k for k in corner)
            for between in self.classes()
            for corner in self.corners(between)
        ]

    def ring(self, field: Array) -> Array:
        """A field with one node more on every side: 0, or wrapped where periodic."""
        zero = [(0, 0) if wraps else (1, 1) for wraps in self.periodic]
        field = jnp.pad(field, zero)
        if any(self.periodic):
            wrap = [(1, 1) if wraps else (0, 0) for wraps in self.periodic]
            field = jnp.pad(field, wrap, mode="wrap")
        return field

    def place(self, values: Array, corner: Corner) -> Array:
        """Move values of a class to their coarse neighbours in direction `corner`.

        **Returns:** a coarse field with a `ring`.
        """
        for axis, direction in enumerate(corner):
            if not direction:
                continue
            shift = int(direction > 0) - self._start(axis)
            spare = self.num_coarse[axis] - self._num_between(axis)
            if self.periodic[axis] and spare == 0:
                values = jnp.roll(values, shift, axis)
            elif self.periodic[axis]:
                width = [(0, 0)] * values.ndim
                width[axis] = (shift, spare - shift)
                values = jnp.pad(values, width)
        zero = []
        for axis, (direction, wraps) in enumerate(
            zip(corner, self.periodic, strict=True)
        ):
            before = 1 + (int(direction > 0) - self._start(axis) if direction else 0)
            after = self.num_coarse[axis] + 2 - before - values.shape[axis]
            zero.append((0, 0) if wraps else (before, after))
        values = jnp.pad(values, zero)
        if any(self.periodic):
            wrap = [(1, 1) if wraps else (0, 0) for wraps in self.periodic]
            values = jnp.pad(values, wrap, mode="wrap")
        return values

    def towards(self, ringed: Array, corner: Corner) -> Array:
        """At each node of a class, a ringed coarse field's value at `corner`."""
        index = []
        for axis, direction in enumerate(corner):
            first, count = 1, self.num_coarse[axis]
            if direction:
                first = 1 + int(direction > 0) - self._start(axis)
                count = self._num_between(axis)
            index.append(slice(first, first + count))
        return ringed[tuple(index)]

    def from_coarse(self, ringed: Array, offset: Corner) -> Array:
        """At each coarse node, a ringed fine field's value at fine offset `offset`."""
        index = []
        for start, n, shift in zip(self.starts, self.num_coarse, offset, strict=True):
            if start is None:
                index.append(slice(1, 1 + n))
            else:
                first = 1 + start + shift
                index.append(slice(first, first + 2 * n - 1, 2))
        return ringed[tuple(index)]

    def _num_between(self, axis: int) -> int:
        return self.num_points[axis] - self.num_coarse[axis]

    def _padded(self, coarse: Array, axis: int) -> Array:
        """Entry j: left coarse neighbour of in-between node j; j + 1 its right one."""
        start, extra = self._start(axis), self._num_extra(axis)
        width = [(0, 0)] * coarse.ndim
        width[axis] = (start, extra)
        if self.periodic[axis] and extra:
            first = _cut(coarse, axis, 0, extra)
            return jnp.concatenate([coarse, first], axis)
        return jnp.pad(coarse, width)

    def _num_extra(self, axis: int) -> int:
        """How many coarse entries past the last one the in-between nodes ask for."""
        needed = self._num_between(axis) + 1
        return max(needed - self._start(axis) - self.num_coarse[axis], 0)

    def _start(self, axis: int) -> int:
        return self.starts[axis] or 0

    def _interleave(self, coarse: Array, middle: Array, axis: int) -> Array:
        first, second = (middle, coarse) if self.starts[axis] else (coarse, middle)
        n = self.num_points[axis]
        if first.shape[axis] > second.shape[axis]:
            width = [(0, 0)] * second.ndim
            width[axis] = (0, 1)
            second = jnp.pad(second, width)
        pair = jnp.stack([first, second], axis + 1)
        shape = list(first.shape)
        shape[axis] *= 2
        return _cut(pair.reshape(shape), axis, 0, n)

    def _class_slices(self, between: tuple[bool, ...]) -> tuple[slice, ...]:
        return tuple(
            slice(None) if s is None else slice((s + 1) % 2 if b else s, None, 2)
            for s, b in zip(self.starts, between, strict=True)
        )


class Interpolation(eqx.Module):
    """A prolongation P, and its exact transpose Pᵀ as restriction.

    Coarse nodes keep their value; coarse node J adds weight_o[J] u_J to the fine node
    at offset o from it:

        (P u)_i = Σ_o weight_o[J] u_J,  i = start + 2J + o.

    **Arguments:**

    - `coarsening`: which nodes are coarse.
    - `weights`: for each offset but the first of `Coarsening.offsets`, a coarse field
        with a ring (`Coarsening.place` makes it from the values at fine nodes).
    """

    coarsening: Coarsening
    weights: tuple[Float[Array, "..."], ...]

    def prolong(self, coarse: Float[Array, "*coarse"]) -> Float[Array, "*space"]:
        """P u: from coarse to fine nodes."""
        c = self.coarsening
        # Everything below reads this one padded array, so that the compiler
        # materialises it once instead of recomputing what made it.
        ringed = c.ring(coarse)
        weights = iter(self.weights)
        parts = {}
        for between in c.classes():
            total = None
            for corner in c.corners(between):
                term = c.towards(ringed, corner)
                if any(corner):
                    term = c.towards(next(weights), corner) * term
                total = term if total is None else total + term
            parts[between] = total
        return c.merge(parts)

    def restrict(self, fine: Float[Array, "*space"]) -> Float[Array, "*coarse"]:
        """Pᵀ r: from fine to coarse nodes, the exact transpose of `prolong`."""
        c = self.coarsening
        ringed = c.ring(fine)
        centre = (slice(1, -1),) * c.ndim
        offsets = c.offsets()
        out = c.from_coarse(ringed, offsets[0])
        for offset, weight in zip(offsets[1:], self.weights, strict=True):
            out = out + weight[centre] * c.from_coarse(ringed, offset)
        return out


def interpolation_from_rows(
    coarsening: Coarsening, rows: Mapping[Corner, Array]
) -> Interpolation:
    """An `Interpolation` from weights given at the fine nodes.

    **Arguments:**

    - `coarsening`: which nodes are coarse.
    - `rows`: per corner (a direction −1, 0, 1 per axis, not all 0) the weight of the
        coarse neighbour there, at each node of the class between those axes.
    """
    corners = [k for b in coarsening.classes()[1:] for k in coarsening.corners(b)]
    return Interpolation(
        coarsening, tuple(coarsening.place(rows[k], k) for k in corners)
    )


def linear_interpolation(
    coarsening: Coarsening, reflecting: tuple[tuple[bool, bool], ...], dtype
) -> Interpolation:
    """Multilinear interpolation: 1/2 from either neighbour, axis by axis.

    **Arguments:**

    - `coarsening`: which nodes are coarse.
    - `reflecting`: per axis, whether its low and high side are stored boundary nodes
        (Neumann). An in-between node without a coarse neighbour there takes the other
        neighbour's value; on the other sides the missing neighbour counts as 0.
    - `dtype`: of the weights.
    """
    lines = [_line_weights(coarsening, axis, r) for axis, r in enumerate(reflecting)]
    rows = {}
    for between in coarsening.classes()[1:]:
        for corner in coarsening.corners(between):
            weight = np.ones((1,) * coarsening.ndim)
            for axis, direction in enumerate(corner):
                others = [k for k in range(coarsening.ndim) if k != axis]
                line = np.ones(coarsening.num_coarse[axis])
                if direction:
                    line = lines[axis][direction > 0]
                weight = weight * np.expand_dims(line, others)
            rows[corner] = jnp.asarray(weight, dtype)
    return interpolation_from_rows(coarsening, rows)


def _line_weights(c: Coarsening, axis: int, reflecting: tuple[bool, bool]):
    """Weights of the left and the right neighbour along one axis."""
    n, start = c.num_points[axis], c.starts[axis]
    between = n - c.num_coarse[axis]
    if start is None or between == 0:
        return np.ones(1), np.ones(1)
    left, right = np.full(between, 0.5), np.full(between, 0.5)
    if start == 1 and reflecting[0]:
        left[0], right[0] = 0.0, 1.0
    last_is_between = (n - 1 - start) % 2 == 1
    if last_is_between and reflecting[1] and not c.periodic[axis]:
        left[-1], right[-1] = 1.0, 0.0
    return left, right


def _cut(array: Array, axis: int, start: int, size: int) -> Array:
    index = [slice(None)] * array.ndim
    index[axis] = slice(start, start + size)
    return array[tuple(index)]
