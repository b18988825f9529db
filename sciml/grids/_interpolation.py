"""Interpolation from every second node, with a weight per node and neighbour."""

import itertools

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

    def add_to_neighbour(self, values: Array, corner: Corner) -> Array:
        """The transpose of `neighbour`: sum class values into coarse nodes."""
        for axis, direction in enumerate(corner):
            if direction:
                values = self._padded_transpose(values, axis, int(direction > 0))
        return values

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

    def _padded_transpose(self, values: Array, axis: int, first: int) -> Array:
        start, extra = self._start(axis), self._num_extra(axis)
        total = start + self.num_coarse[axis] + extra
        width = [(0, 0)] * values.ndim
        width[axis] = (first, total - first - values.shape[axis])
        full = jnp.pad(values, width)
        body = _cut(full, axis, start, self.num_coarse[axis])
        if self.periodic[axis] and extra:
            tail = _cut(full, axis, start + self.num_coarse[axis], extra)
            rest = [(0, 0)] * values.ndim
            rest[axis] = (0, self.num_coarse[axis] - extra)
            body = body + jnp.pad(tail, rest)
        return body

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
    """A prolongation P with one weight per fine node and coarse neighbour, and Pᵀ.

    Coarse nodes keep their value; a fine node in class S takes

        (P u)_i = Σ_corner w_S,corner[i] u[coarse neighbour of i towards corner].

    **Arguments:**

    - `coarsening`: which nodes are coarse.
    - `weights`: for each class but the first, for each of its corners, an array of the
        class's shape (or one that broadcasts to it), in the order of
        `Coarsening.classes` and `Coarsening.corners`.
    """

    coarsening: Coarsening
    weights: tuple[tuple[Float[Array, "..."], ...], ...]

    def prolong(self, coarse: Float[Array, "..."]) -> Float[Array, "..."]:
        """P u: from coarse to fine nodes."""
        c = self.coarsening
        first, *others = c.classes()
        parts = {first: coarse}
        for between, weights in zip(others, self.weights, strict=True):
            total = None
            for corner, weight in zip(c.corners(between), weights, strict=True):
                term = weight * c.neighbour(coarse, corner)
                total = term if total is None else total + term
            assert total is not None
            parts[between] = total
        return c.merge(parts)

    def restrict(self, fine: Float[Array, "..."]) -> Float[Array, "..."]:
        """Pᵀ r: from fine to coarse nodes, the exact transpose of `prolong`."""
        c = self.coarsening
        first, *others = c.classes()
        out = c.select(fine, first)
        for between, weights in zip(others, self.weights, strict=True):
            part = c.select(fine, between)
            for corner, weight in zip(c.corners(between), weights, strict=True):
                out = out + c.add_to_neighbour(weight * part, corner)
        return out


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
    weights = []
    for between in coarsening.classes()[1:]:
        of_class = []
        for corner in coarsening.corners(between):
            weight = np.ones((1,) * coarsening.ndim)
            for axis, direction in enumerate(corner):
                if direction:
                    line = lines[axis][direction > 0]
                    others = [k for k in range(coarsening.ndim) if k != axis]
                    weight = weight * np.expand_dims(line, others)
            of_class.append(jnp.asarray(weight, dtype))
        weights.append(tuple(of_class))
    return Interpolation(coarsening, tuple(weights))


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
    if (left == 0.5).all() and (right == 0.5).all():
        return np.full(1, 0.5), np.full(1, 0.5)
    return left, right


def _cut(array: Array, axis: int, start: int, size: int) -> Array:
    index = [slice(None)] * array.ndim
    index[axis] = slice(start, start + size)
    return array[tuple(index)]
