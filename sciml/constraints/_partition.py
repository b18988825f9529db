"""Boxes of a grid, one for each expert."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._serialisation import register


@register
class GridPartition(eqx.Module):
    """Cuts a grid into boxes of nodes, one for each expert.

    Every node belongs to one box, whose expert says what the field is there. Along an
    axis boxes have the same number of nodes but for one.

    **Arguments:**

    - `space`: number of boxes along the first axis, or along each of the first axes.
        Default none.
    - `time`: number of boxes along the last axis. Default 1.
    - `overlap`: nodes by which the equation of an expert reaches into each neighbour.
        Default 0. It does not reach across the ends of a periodic axis.
    - `periodic`: an axis, or axes, whose last node is next to their first one, so that
        experts are matched there, too. The basis has to be periodic along it. Default
        none.

    Axes that are not named in `space` are not cut.

    **Raises:** `ValueError` for numbers below 1; when used, for a grid with fewer axes
    or with fewer than two nodes per box.

    !!! example

        ```python
        partition = sciml.constraints.GridPartition(space=(2, 2))
        partition.parts((64, 64, 51))  # (2, 2, 1)
        torus = sciml.constraints.GridPartition(space=(4, 4), periodic=(0, 1))
        ```
    """

    space: tuple[int, ...] = eqx.field(static=True)
    time: int = eqx.field(static=True)
    overlap: int = eqx.field(static=True)
    periodic: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        space: int | tuple[int, ...] = (),
        time: int = 1,
        overlap: int = 0,
        periodic: int | tuple[int, ...] = (),
    ):
        self.space = (space,) if isinstance(space, int) else tuple(space)
        self.time, self.overlap = time, overlap
        for name, numbers in (("space", self.space), ("time", (time,))):
            if not all(isinstance(k, int) and k >= 1 for k in numbers):
                raise ValueError(f"{name}: expected integers ≥ 1, got {numbers}.")
        if not isinstance(overlap, int) or overlap < 0:
            raise ValueError(f"overlap: expected an integer ≥ 0, got {overlap!r}.")
        self.periodic = (periodic,) if isinstance(periodic, int) else tuple(periodic)
        if not all(type(k) is int and k >= 0 for k in self.periodic):
            raise ValueError(
                f"periodic: expected numbers of axes, 0 for the first, got {periodic}."
            )

    def parts(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The number of boxes along each axis of a grid."""
        if len(self.space) + (self.time > 1) > len(shape):
            raise ValueError(
                f"partition: space {self.space} and time {self.time} need more axes "
                f"than the grid {shape} has."
            )
        parts = [*self.space, *(1,) * (len(shape) - len(self.space))]
        parts[-1] *= self.time
        if any(axis >= len(shape) for axis in self.periodic):
            raise ValueError(
                f"partition: axes {self.periodic} are periodic, but the grid {shape} "
                f"has {len(shape)}."
            )
        for n, count in zip(shape, parts, strict=True):
            if count > 1 and n < 2 * count:
                raise ValueError(
                    f"partition: {count} boxes along an axis of {n} nodes; each needs "
                    "at least two."
                )
        return tuple(parts)

    def boxes(self, shape: tuple[int, ...]) -> "Boxes":
        """Where the boxes of a grid are."""
        return Boxes(shape, self.parts(shape), self.overlap, self.periodic)


class Boxes(eqx.Module):
    """The boxes of one grid, numbered with the last axis running fastest.

    - `edges`: per axis the first node of each box, and the end.
    - `periodic`: axes whose last box touches the first.
    - `size`: nodes of every box along each axis, with its overlaps: the same for all,
        so that they can be stacked; at the ends of the grid boxes reach further inside.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    parts: tuple[int, ...] = eqx.field(static=True)
    edges: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    size: tuple[int, ...] = eqx.field(static=True)
    starts: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    periodic: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        shape: tuple[int, ...],
        parts: tuple[int, ...],
        overlap: int,
        periodic: tuple[int, ...] = (),
    ):
        self.shape, self.parts, self.periodic = shape, parts, periodic
        self.edges = tuple(
            tuple(round(k * n / count) for k in range(count + 1))
            for n, count in zip(shape, parts, strict=True)
        )
        self.size = tuple(
            min(n, -(-n // count) + (2 * overlap if count > 1 else 0))
            for n, count in zip(shape, parts, strict=True)
        )
        self.starts = tuple(
            tuple(
                min(max(low - (size - (high - low)) // 2, 0), n - size)
                for low, high in itertools.pairwise(edges)
            )
            for n, size, edges in zip(shape, self.size, self.edges, strict=True)
        )

    @property
    def count(self) -> int:
        """Number of boxes."""
        return math.prod(self.parts)

    @property
    def places(self) -> list[tuple[int, ...]]:
        """The position of each box, by its number."""
        return list(itertools.product(*(range(k) for k in self.parts)))

    def split(self, field: Array) -> Array:
        """A field `(*shape)` as `(count, *size)`."""
        nodes = [self._nodes(axis) for axis in range(len(self.shape))]
        return _cut(field, nodes).reshape(self.count, *self.size)

    def beside_seams(self, field: Array, axis: int) -> tuple[Array, Array]:
        """A field at the last nodes before, and the first after, the seams of an axis.

        **Returns:** each `(pairs, nodes)`, in the order of `neighbours`.
        """
        nodes = [
            np.array(edges[:-1], np.int32)[:, None]
            + np.arange(np.diff(edges).min(), dtype=np.int32)
            for edges in self.edges
        ]
        ends = self.edges[axis][1:] if axis in self.periodic else self.edges[axis][1:-1]
        before = np.array(ends, np.int32)[:, None] - 1
        found = []
        for beside in (before, (before + 1) % self.shape[axis]):
            nodes[axis] = beside
            pairs = math.prod(len(rows) for rows in nodes)
            found.append(_cut(field, nodes).reshape(pairs, -1))
        return found[0], found[1]

    def joined(self, pieces: Array) -> Array:
        """`(count, *size)` as a field `(*shape)`: each node from its own box."""
        count = len(self.shape)
        field = pieces.reshape(*self.parts, *self.size)
        order = itertools.chain(
            *zip(range(count), range(count, 2 * count), strict=True)
        )
        field = jnp.transpose(field, tuple(order))
        for axis, nodes in enumerate(self.shape):
            before, after = field.shape[:axis], field.shape[axis + 2 :]
            field = field.reshape(*before, -1, *after)
            if field.shape[axis] != nodes:
                field = jnp.take(field, self._owners(axis), axis, mode="clip")
        return field

    def combined(self, fields: Array, weights: Array) -> Array:
        """Σ_n weights[k, n] fields[n] in box k, from fields `(n, *shape)`."""
        pieces = jax.vmap(self.split)(fields)
        return self.joined(jnp.einsum("kn,nk...->k...", weights, pieces))

    def neighbours(self, axis: int) -> list[tuple[int, int]]:
        """Pairs of boxes that touch along an axis."""
        number = {place: k for k, place in enumerate(self.places)}
        count, found = self.parts[axis], []
        for place, k in number.items():
            after = place[axis] + 1
            if count > 1 and axis in self.periodic:
                after %= count
            other = (*place[:axis], after, *place[axis + 1 :])
            if other in number:
                found.append((k, number[other]))
        return found

    def across(self, box: int, axis: int) -> tuple[slice, ...]:
        """Nodes that boxes like this one have along the axes but one; equally many.

        The box' own nodes, without the last where some boxes have fewer.
        """
        place, found = self.places[box], []
        for other, k in enumerate(place):
            if other == axis:
                continue
            edges = self.edges[other]
            least = min(b - a for a, b in itertools.pairwise(edges))
            found.append(slice(edges[k], edges[k] + least))
        return tuple(found)

    def on_side(self, axis: int, end: int) -> list[int]:
        """The boxes at one side of the grid."""
        last = 0 if end == 0 else self.parts[axis] - 1
        return [k for k, place in enumerate(self.places) if place[axis] == last]

    def _nodes(self, axis: int) -> np.ndarray:
        """The nodes `(parts, size)` of all boxes along an axis."""
        starts = np.array(self.starts[axis], np.int32)[:, None]
        return starts + np.arange(self.size[axis], dtype=np.int32)

    def _owners(self, axis: int) -> np.ndarray:
        """Where among those the own nodes of boxes are."""
        nodes, size = self._nodes(axis), self.size[axis]
        found = [
            k * size + np.arange(low - nodes[k, 0], high - nodes[k, 0])
            for k, (low, high) in enumerate(itertools.pairwise(self.edges[axis]))
        ]
        return np.concatenate(found).astype(np.int32)


def _cut(field: Array, nodes: list[np.ndarray]) -> Array:
    """A field at nodes `(parts, size)` of each axis, as `(*parts, *sizes)`.

    Where these are all nodes in order that is a reshape: an array which is distributed
    over devices by boxes stays where it is.
    """
    count = len(nodes)
    for axis in reversed(range(count)):
        chosen, length = nodes[axis], field.shape[axis]
        if not np.array_equal(chosen.ravel(), np.arange(length)):
            field = jnp.take(field, chosen.ravel(), axis, mode="clip")
        before, after = field.shape[:axis], field.shape[axis + 1 :]
        field = field.reshape(*before, *chosen.shape, *after)
    return jnp.transpose(field, (*range(0, 2 * count, 2), *range(1, 2 * count, 2)))
