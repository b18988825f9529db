"""From a latent vector to a function of x: what MultiONet and DGNO end with."""

import abc
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._serialisation import register
from ._affine import Affine, SiLUIdentity, TanhSin
from ._sample import check_counts

Activation = Callable[[Array], Array]


class AbstractDecoder(eqx.Module):
    """Maps a latent vector β to a function of x with one or more channels."""

    ndim: eqx.AbstractVar[int]
    latent_dim: eqx.AbstractVar[int]
    out_channels: eqx.AbstractVar[int]

    @abc.abstractmethod
    def __call__(
        self, latent: Float[Array, " latent"], points: Float[Array, "num ndim"]
    ) -> Float[Array, "out_channels num"]:
        """The function at points; differentiable in both.

        **Arguments:**

        - `latent`: β, shape `(latent_dim,)`.
        - `points`: shape `(num, ndim)`, in β's dtype.
        """

    def values_and_gradients(
        self, latent: Float[Array, " latent"], points: Float[Array, "num ndim"]
    ) -> tuple[Float[Array, "out_channels num"], Float[Array, "out_channels num ndim"]]:
        """The function and ∂/∂x of it, in forward mode: one more trunk per axis.

        Batched over β alone, the trunk and its derivatives are computed once.

        **Arguments:** as when called.
        """
        of_points = lambda points: self(latent, points)

        def along(direction):
            tangent = jnp.broadcast_to(direction, points.shape)
            return jax.jvp(of_points, (points,), (tangent,))

        directions = jnp.eye(self.ndim, dtype=points.dtype)
        return jax.vmap(along, out_axes=(None, -1))(directions)


@register
class MultiONetDecoder(AbstractDecoder):
    """u(x; β) by averaged inner products of two networks' layers.

        t⁰ = σ_t(W⁰ x + c⁰),  t^k = σ_t(W^k t^{k−1} + c^k)      trunk, of the place
        b⁰ = σ_b(V⁰ β + d⁰),  b^k = σ_b(V^k b^{k−1} + d^k)      branch, of the latent
        u(x) = (1/l) Σ_{k = K−l}^{K−1} w_k ⟨t^k(x), b^k(β)⟩ + b_0

    for k = 1 … K − 1. The scalars w_k and b_0 start as 0, so that it is the zero
    function before training. With several channels, entries 1 … width/out_channels of
    t^k and b^k make the inner product of the first, and so on; each has its own w_k and
    b_0.

    **Arguments:**

    - `ndim`: number of axes.
    - `latent_dim`: length of β.
    - `out_channels`: Default 1.
    - `width`: of all layers of branch and trunk; a multiple of `out_channels`.
        Default 100.
    - `depth`: K, the number of layers of each of the two, at least 2. Default 6.
    - `num_summed_layers`: l, from 1 to K − 1. Default 5, all but the first.
    - `activations`: σ_t and σ_b. Default `(TanhSin(), SiLUIdentity())`.
    - `periodic`: axes of period 1, of which the trunk sees cos 2πx and sin 2πx. Default
        none.
    - `key`: draws the parameters.

    **Raises:** `ValueError` for arguments out of range, and points of another shape.

    !!! example

        ```python
        decoder = sciml.neural_operators.MultiONetDecoder(2, 16, key=jr.key(0))
        u, gradient = decoder.values_and_gradients(jnp.ones(16), jnp.ones((5, 2)))
        u.shape, gradient.shape  # (1, 5), (1, 5, 2)
        ```

    Source: as for `MultiONet`.
    """

    trunk: tuple[Affine, ...]
    branch: tuple[Affine, ...]
    scales: Float[Array, "summed out_channels"]
    bias: Float[Array, " out_channels"]
    ndim: int = eqx.field(static=True)
    latent_dim: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    depth: int = eqx.field(static=True)
    num_summed_layers: int = eqx.field(static=True)
    activations: tuple[Activation, Activation] = eqx.field(static=True)
    periodic: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        ndim: int,
        latent_dim: int,
        out_channels: int = 1,
        width: int = 100,
        depth: int = 6,
        num_summed_layers: int = 5,
        activations: tuple[Activation, Activation] = (TanhSin(), SiLUIdentity()),  # noqa: B008
        periodic: tuple[int, ...] = (),
        *,
        key: PRNGKeyArray,
    ):
        _check_layers(ndim, latent_dim, out_channels, width, depth, num_summed_layers)
        if width % out_channels:
            raise ValueError(
                f"width: expected a multiple of out_channels ({out_channels}), since "
                f"each channel has a block of the layers' entries, got {width}."
            )
        self.ndim, self.latent_dim, self.out_channels = ndim, latent_dim, out_channels
        self.width, self.depth = width, depth
        self.num_summed_layers = num_summed_layers
        self.activations = tuple(activations)  # pyright: ignore[reportAttributeAccessIssue]
        self.periodic = tuple(periodic)
        trunk_key, branch_key = jr.split(key)
        self.trunk = _layers(ndim + len(self.periodic), width, depth, trunk_key)
        self.branch = _layers(latent_dim, width, depth, branch_key)
        self.scales = jnp.zeros((num_summed_layers, out_channels))
        self.bias = jnp.zeros(out_channels)

    def __call__(
        self, latent: Float[Array, "..."], points: Float[Array, "..."]
    ) -> Float[Array, "out_channels num"]:
        """u at points, from β; differentiable in both.

        **Arguments:**

        - `latent`: β, shape `(latent_dim,)`.
        - `points`: shape `(num, ndim)`, in β's dtype.
        """
        check_place(points, self.ndim)
        of_place, of_latent = self.activations
        t, b = _place(points, self.periodic), latent
        total, first = 0.0, self.depth - self.num_summed_layers
        for k, (trunk, branch) in enumerate(zip(self.trunk, self.branch, strict=True)):
            t, b = of_place(trunk(t)), of_latent(branch(b))
            if k >= first:
                scaled = b.reshape(self.out_channels, -1)
                scaled = scaled * self.scales[k - first, :, None].astype(b.dtype)
                blocks = t.reshape(t.shape[0], self.out_channels, -1)
                total = total + jnp.einsum("noc,oc->on", blocks, scaled)
        bias = self.bias.astype(latent.dtype)[:, None]
        return total / self.num_summed_layers + bias


@register
class SequenceDecoder(AbstractDecoder):
    """Several functions of x: a branch for each entry of β, mixed at the end.

        b_m^k = branch of the number β_m,  the same network for all m
        u_o(x) = Σ_m A_om (1/l) Σ_{k = K−l}^{K−1} ⟨t^k(x), b_m^k⟩ + d_o

    The published form for several outputs (`MultiONet_X`): the number of entries of the
    latent vector does not change the branch, only the matrix A. Trunk and branch are
    those of `MultiONetDecoder`; there are no w_k, and it does not start as zero.

    **Arguments:** as of `MultiONetDecoder`.

    !!! example

        ```python
        decoder = sciml.neural_operators.SequenceDecoder(2, 16, 3, key=jr.key(0))
        decoder(jnp.ones(16), jnp.ones((5, 2))).shape  # (3, 5)
        ```

    Source: Zang & Koutsourelakis, *DGenNO*, J. Comput. Phys. 538 (2025) 114137, the
    accompanying code.
    """

    trunk: tuple[Affine, ...]
    branch: tuple[Affine, ...]
    mix: Affine
    ndim: int = eqx.field(static=True)
    latent_dim: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    depth: int = eqx.field(static=True)
    num_summed_layers: int = eqx.field(static=True)
    activations: tuple[Activation, Activation] = eqx.field(static=True)
    periodic: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        ndim: int,
        latent_dim: int,
        out_channels: int = 1,
        width: int = 100,
        depth: int = 6,
        num_summed_layers: int = 5,
        activations: tuple[Activation, Activation] = (TanhSin(), SiLUIdentity()),  # noqa: B008
        periodic: tuple[int, ...] = (),
        *,
        key: PRNGKeyArray,
    ):
        _check_layers(ndim, latent_dim, out_channels, width, depth, num_summed_layers)
        self.ndim, self.latent_dim, self.out_channels = ndim, latent_dim, out_channels
        self.width, self.depth = width, depth
        self.num_summed_layers = num_summed_layers
        self.activations = tuple(activations)  # pyright: ignore[reportAttributeAccessIssue]
        self.periodic = tuple(periodic)
        trunk_key, branch_key, mix_key = jr.split(key, 3)
        self.trunk = _layers(ndim + len(self.periodic), width, depth, trunk_key)
        self.branch = _layers(1, width, depth, branch_key)
        self.mix = Affine(latent_dim, out_channels, key=mix_key)

    def __call__(
        self, latent: Float[Array, "..."], points: Float[Array, "..."]
    ) -> Float[Array, "out_channels num"]:
        """The functions at points, from β; differentiable in both.

        **Arguments:**

        - `latent`: β, shape `(latent_dim,)`.
        - `points`: shape `(num, ndim)`, in β's dtype.
        """
        check_place(points, self.ndim)
        of_place, of_latent = self.activations
        t, b = _place(points, self.periodic), latent[:, None]
        mixed, first = 0.0, self.depth - self.num_summed_layers
        weight = self.mix.weight.astype(latent.dtype)
        for k, (trunk, branch) in enumerate(zip(self.trunk, self.branch, strict=True)):
            t, b = of_place(trunk(t)), of_latent(branch(b))
            if k >= first:
                # (Mixing before the inner product: latent_dim/out_channels times less.)
                mixed = mixed + (weight @ b) @ t.T
        bias = self.mix.bias.astype(latent.dtype)[:, None]
        return mixed / self.num_summed_layers + bias


def check_axes(ndim: int) -> None:
    """**Raises:** `ValueError` unless there are one to three."""
    if ndim not in (1, 2, 3):
        raise ValueError(f"ndim: expected 1, 2 or 3, got {ndim!r}.")


def check_place(points: Array, ndim: int) -> None:
    """**Raises:** `ValueError` unless points are `(num, ndim)`."""
    if points.ndim != 2 or points.shape[1] != ndim:
        raise ValueError(f"points: expected shape (num, {ndim}), got {points.shape}.")


def _check_layers(
    ndim: int,
    latent_dim: int,
    out_channels: int,
    width: int,
    depth: int,
    num_summed_layers: int,
) -> None:
    check_counts(latent_dim=latent_dim, out_channels=out_channels, width=width)
    check_axes(ndim)
    if not 1 <= num_summed_layers < depth:
        raise ValueError(
            f"num_summed_layers: expected 1 to depth − 1 = {depth - 1}, since the "
            f"first layers are not summed, got {num_summed_layers}."
        )


def _place(points: Array, periodic: tuple[int, ...]) -> Array:
    """What the trunk sees: x, or cos and sin of it along periodic axes."""
    columns = []
    for axis in range(points.shape[1]):
        x = points[:, axis]
        if axis in periodic:
            columns += [jnp.cos(2 * math.pi * x), jnp.sin(2 * math.pi * x)]
        else:
            columns.append(x)
    return jnp.stack(columns, -1)


def _layers(
    in_size: int, width: int, depth: int, key: PRNGKeyArray
) -> tuple[Affine, ...]:
    sizes = (in_size, *(width,) * (depth - 1))
    return tuple(
        Affine(size, width, key=layer_key)
        for size, layer_key in zip(sizes, jr.split(key, depth), strict=True)
    )
