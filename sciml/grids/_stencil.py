"""Symmetric nearest-neighbour stencils with a coefficient per edge."""

import itertools
import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

Offset = tuple[int, ...]


def half_offsets(ndim: int, *, diagonals: bool) -> tuple[Offset, ...]:
    """One offset of each pair ±o of the 3ᵈ neighbourhood.

    **Arguments:**

    - `ndim`: the number of axes d.
    - `diagonals`: all (3ᵈ − 1)/2 of them, or only the d along the axes.
    """
    offsets = [
        o
        for o in itertools.product((-1, 0, 1), repeat=ndim)
        if next((k for k in o if k), 0) > 0
    ]
    if not diagonals:
        offsets = [o for o in offsets if sum(map(abs, o)) == 1]
    return tuple(sorted(offsets, reverse=True))


class SymmetricStencil(eqx.Module):
    """The symmetric linear map

        (A u)_i = d_i u_i + Σ_o ( c_o[i, i+o] u_{i+o} + c_o[i−o, i] u_{i−o} )

    on arrays of shape `num_points`, with one coefficient for each edge (i, i+o).
    Symmetry is structural: both end points read the same number.

    **Arguments:**

    - `diagonal`: d, of shape `num_points`.
    - `edges`: per offset o an array of shape n_k + |o_k|, the coefficients of the edges
        that touch the box. Along an axis with o_k = 1 entry p belongs to the edge from
        node p−1 to p, with o_k = −1 to the edge from p to p−1. Edges that leave the
        box are 0, or repeated at both ends where the axis is periodic.
    - `offsets`: one of each pair ±o, entries in {−1, 0, 1}.
    - `periodic`: per axis.
    """

    diagonal: Float[Array, "*space"]
    edges: tuple[Float[Array, "..."], ...]
    offsets: tuple[Offset, ...] = eqx.field(static=True)
    periodic: tuple[bool, ...] = eqx.field(static=True)

    def __check_init__(self):
        for offset, edge in zip(self.offsets, self.edges, strict=True):
            expected = tuple(
                n + abs(k) for n, k in zip(self.diagonal.shape, offset, strict=True)
            )
            if edge.shape != expected:
                raise ValueError(
                    f"edges: offset {offset} needs shape {expected} for a field of "
                    f"shape {self.diagonal.shape}, got {edge.shape}."
                )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the fields that it acts on."""
        return self.diagonal.shape

    def __call__(self, u: Float[Array, "*space"]) -> Float[Array, "*space"]:
        """A u, of u's shape and dtype."""
        return self.apply(self.pad(u))

    def apply(self, padded: Float[Array, "..."]) -> Float[Array, "*space"]:
        """A u from `pad(u)`.

        Iterations that keep their field padded let the compiler write it once: a field
        that is used padded and plain is computed twice.
        """
        out = self.diagonal * self.interior(padded)
        for offset, (forward, backward) in self._sides():
            ahead = self.shifted(padded, offset, 1)
            behind = self.shifted(padded, offset, -1)
            out = out + forward * ahead + backward * behind
        return out

    def pad(self, u: Shaped[Array, "*space"]) -> Shaped[Array, "..."]:
        """u with one node more on every side: 0, or wrapped where periodic."""
        u = jnp.pad(u, [(0, 0) if wraps else (1, 1) for wraps in self.periodic])
        if any(self.periodic):
            width = [(1, 1) if wraps else (0, 0) for wraps in self.periodic]
            u = jnp.pad(u, width, mode="wrap")
        return u

    def interior(self, padded: Float[Array, "..."]) -> Float[Array, "*space"]:
        """u from `pad(u)`."""
        return padded[(slice(1, -1),) * padded.ndim]

    def absolute_row_sums(self) -> Float[Array, "*space"]:
        """Σ_j |A_ij|: ℓ1 weights, and by Gershgorin a bound for the spectrum."""
        out = jnp.abs(self.diagonal)
        for _, (forward, backward) in self._sides():
            out = out + jnp.abs(forward) + jnp.abs(backward)
        return out

    def row_sums(self) -> Float[Array, "*space"]:
        """Σ_j A_ij, i.e. A applied to the constant 1."""
        out = self.diagonal
        for _, (forward, backward) in self._sides():
            out = out + forward + backward
        return out

    def couples(self, offset: Offset) -> bool:
        """Whether the stencil has entries A_{i, i+offset} at all."""
        known = {o for o in self.offsets} | {tuple(-k for k in o) for o in self.offsets}
        return not any(offset) or offset in known

    def coupling(self, offset: Offset) -> Float[Array, "*space"]:
        """The entries A_{i, i+offset}, of shape `num_points`; any sign of offset."""
        if not any(offset):
            return self.diagonal
        for known, (forward, backward) in self._sides():
            if known == offset:
                return forward
            if known == tuple(-k for k in offset):
                return backward
        return jnp.zeros_like(self.diagonal)

    def dense(self) -> Float[Array, "n n"]:
        """The matrix, fields flattened in C order. For small grids only."""
        size = math.prod(self.shape)
        index = jnp.arange(size).reshape(self.shape)
        matrix = jnp.zeros((size, size), self.diagonal.dtype)
        matrix = matrix.at[index.ravel(), index.ravel()].add(self.diagonal.ravel())
        padded = self.pad(index)
        for offset, sides in self._sides():
            for sign, values in zip((1, -1), sides, strict=True):
                neighbour = self.shifted(padded, offset, sign)
                matrix = matrix.at[index.ravel(), neighbour.ravel()].add(values.ravel())
        return matrix

    def shifted(
        self, padded: Shaped[Array, "..."], offset: Offset, sign: int = 1
    ) -> Shaped[Array, "*space"]:
        """u_{i + sign·offset} from `pad(u)`."""
        return padded[
            tuple(
                slice(1 + sign * k, 1 + sign * k + n)
                for n, k in zip(self.shape, offset, strict=True)
            )
        ]

    def _sides(self):
        """Per offset the coefficients towards i+o and towards i−o, at every node i."""
        for offset, edge in zip(self.offsets, self.edges, strict=True):
            views = tuple(
                edge[
                    tuple(
                        slice(max(sign * k, 0), max(sign * k, 0) + n)
                        for n, k in zip(self.shape, offset, strict=True)
                    )
                ]
                for sign in (1, -1)
            )
            yield offset, views
