"""Rows that tie the fields of neighbouring experts together."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._partition import Boxes


class Links(eqx.Module):
    """weight / √m · (Σ_n ω_n(left) seams_n − Σ_n ω_n(right) seams_n) for some pairs.

    - `lefts`, `rights`: numbers of experts.
    - `left`, `right`: what the basis fields of either are at the seam, `(pairs, n, m)`;
        the same, but for what coordinates the weights of an expert are in.
    """

    left: Float[Array, "pairs n m"]
    right: Float[Array, "pairs n m"]
    lefts: tuple[int, ...] = eqx.field(static=True)
    rights: tuple[int, ...] = eqx.field(static=True)

    def rows(self, weights: Float[Array, "experts n"]) -> Float[Array, "pairs m"]:
        """What jumps."""
        one = jnp.einsum("pn,pnm->pm", weights[np.array(self.lefts)], self.left)
        other = jnp.einsum("pn,pnm->pm", weights[np.array(self.rights)], self.right)
        return one - other

    def transformed(self, P: Float[Array, "experts n n"]) -> "Links":
        """For weights ω̃ with ω = P ω̃."""
        change = lambda P, seams: jnp.einsum("pnk,pnm->pkm", P, seams)
        return Links(
            change(P[np.array(self.lefts)], self.left),
            change(P[np.array(self.rights)], self.right),
            self.lefts,
            self.rights,
        )

    def scaled(self, scales: Float[Array, " experts"]) -> "Links":
        """Times the mean of what both experts of a pair have here."""
        lefts, rights = np.array(self.lefts), np.array(self.rights)
        scale = ((scales[lefts] + scales[rights]) / 2)[:, None, None]
        return Links(scale * self.left, scale * self.right, self.lefts, self.rights)


def seams(
    matched: list[Array], boxes: Boxes, axis: int, weights: tuple[float, ...]
) -> Links | None:
    """The links across all seams of one axis; None where it is not cut.

    The seam lies half way between the last node of one box and the first of the next.
    Matched are the mean of what an expert says at both, times the first weight, and
    their difference times the number of nodes of a box, times the second if there is
    one: value and slope in units of a box.
    """
    pairs = boxes.neighbours(axis)
    if not pairs:
        return None
    length = boxes.shape[axis] / boxes.parts[axis]
    rows = []
    for leaf in matched:
        across = lambda field: boxes.beside_seams(field, axis)
        before, after = jax.vmap(across, out_axes=1)(leaf)
        values = ((before + after) / 2, length * (after - before))
        count = before.shape[2] ** 0.5
        rows += [w / count * v for w, v in zip(weights, values, strict=False)]
    both = jnp.concatenate(rows, 2)
    lefts, rights = ([pair[k] for pair in pairs] for k in (0, 1))
    return Links(both, both, tuple(lefts), tuple(rights))
