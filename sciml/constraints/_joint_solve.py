"""One solve for the weights of all experts, and what it found."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..linear import frozen
from ..linear._status import CONVERGED, NONFINITE
from ._coupled_least_squares import Chain, CoupledLeastSquares
from ._expert_rows import ExpertRows
from ._least_squares import floored, whitening
from ._links import Links
from ._optimum import WeightSolver, optimum


class FoundExperts(eqx.Module):
    """Weights of all experts, and how each was found."""

    weights: Float[Array, "experts n"]
    status: Int[Array, " experts"]
    num_steps: Int[Array, " experts"]
    residual_norm: Float[Array, " experts"]
    relative_gradient: Float[Array, " experts"]


@eqx.filter_jit
def joint_solve(
    groups: tuple[ExpertRows, ...],
    links: tuple[Links, ...],
    order: Chain,
    square: Float[Array, ""],
    ridge: Float[Array, ""],
    start: Float[Array, "experts n"],
    solver: WeightSolver,
    throw: bool,
) -> FoundExperts:
    """The weights of all experts at once.

    **Arguments:**

    - `groups`: the rows of experts; first those of the residual, of all of them.
    - `links`: what ties neighbours together.
    - `order`: in which they do.
    - `square`: mean square of the basis fields that links are about.
    - `ridge`, `start`, `solver`, `throw`: as of the layer.
    """
    experts, count = start.shape
    products = jnp.zeros((experts, count, count), start.dtype)
    alive = jnp.ones((experts,), bool)
    of_groups = [group.linearise(start) for group in groups]
    sizes = []
    for group, (rows, jacobian) in zip(groups, of_groups, strict=True):
        members = jnp.array(group.members)
        own = jnp.einsum("kim,kjm->kij", jacobian, jacobian)
        # (Squares are finite where the Jacobian is, and are fewer.)
        finite = jnp.isfinite(rows).all(1) & jnp.isfinite(own).all((1, 2))
        alive = alive.at[members].set(alive[members] & finite)
        products = products.at[members].add(own)
        sizes.append(jnp.trace(own, axis1=1, axis2=2))
    scales = residual_scales(sizes[0], count, square)
    number_alive = jnp.sum(alive.astype(start.dtype))
    typical = jnp.sum(jnp.where(alive, scales, 0)) / jnp.maximum(number_alive, 1)
    links = tuple(link.scaled(jnp.where(alive, scales, typical)) for link in links)
    for link in links:
        for side, seam in ((link.lefts, link.left), (link.rights, link.right)):
            products = products.at[jnp.array(side)].add(
                jnp.einsum("pim,pjm->pij", seam, seam)
            )
    identity = jnp.eye(count, dtype=start.dtype)[None]
    size = jax.vmap(floored)(jnp.where(alive[:, None, None], products, identity))
    P = jax.vmap(whitening)(size)
    R = ridge**2 * jnp.einsum("kia,kij,kjb->kab", P, size, P)
    groups = tuple(group.transformed(P) for group in groups)
    links = tuple(link.transformed(P) for link in links)
    problem = CoupledLeastSquares(groups, links, R, alive, order)
    first = jnp.linalg.solve(P, start[..., None])[..., 0]
    blocks, report = optimum(
        problem, order.blocks(first), solver=frozen(solver), throw=throw
    )
    own = order.experts(blocks)
    squares = jnp.zeros((experts,), start.dtype)
    for group in groups:
        added = jnp.sum(group.of(own) ** 2, 1)
        squares = squares.at[jnp.array(group.members)].add(added)
    nan = jnp.asarray(jnp.nan, start.dtype)
    return FoundExperts(
        jnp.where(alive[:, None], jnp.einsum("kij,kj->ki", P, own), nan),
        jnp.where(alive, report.status, NONFINITE).astype(jnp.int32),
        jnp.broadcast_to(report.num_steps, (experts,)),
        jnp.where(alive, jnp.sqrt(squares), nan),
        jnp.where(alive, report.relative_gradient, nan),
    )


def residual_scales(
    sizes: Float[Array, " experts"], count: int, square: Float[Array, ""]
) -> Float[Array, " experts"]:
    """What the residual makes of the basis: a ratio of root mean squares per expert.

    **Arguments:** `sizes` are sums of squares of the Jacobian of the residual's rows
    by `count` weights; `square` the mean square of the basis fields.
    """
    mean = sizes / count
    return jnp.sqrt(mean / jnp.where(square > 0, square, 1))


def failing(found: FoundExperts) -> Any:
    """Whether any expert failed, and the number of the first that did."""
    failed = found.status != CONVERGED
    return jnp.any(failed), jnp.argmax(failed)
