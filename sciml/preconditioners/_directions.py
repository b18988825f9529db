"""Networks from a residual to a search direction, on grids of any size."""

import abc
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._serialisation import register
from ..grids import Convolution, Grid

Field = Float[Array, "*space"]


class AbstractDirections(eqx.Module):
    """A network that `DeepConjugateDirections` takes its directions from."""

    ndim: eqx.AbstractVar[int]

    @abc.abstractmethod
    def on(self, grid: Grid, fluid: Field) -> Callable[[Field], Field]:
        """The map from residuals to directions on one domain.

        **Arguments:**

        - `grid`: where the fields live; Dirichlet sides.
        - `fluid`: 1 at its nodes, 0 at those of obstacles.

        **Returns:** a module that maps a field to a field, both zero in obstacles. The
        root mean square of what it is given is 1.
        """

    @abc.abstractmethod
    def num_products(self, shape: tuple[int, ...]) -> int:
        """Multiplications by a weight in one application to fields of a shape."""


@register
class TwoLevelDirections(AbstractDirections):
    """The published network: a residual CNN on the grid and on one half as fine.

        c = C f,          a = ρ(C c),        b = ρ(C a)
        then `num_fine` times    a ← ρ(C b) + a,    b ← ρ(C a)
        u = average of b over blocks of 2ᵈ nodes
        then `num_coarse` times  u ← ρ(C ρ(C u)) + u
        v = u on all nodes of each block, + b
        then `num_after` times   v ← ρ(C ρ(C v)) + v
        f ↦ w·v + w₀

    Each C is another convolution with kernels of 3ᵈ nodes, `width` channels, zeros
    beyond the sides, and a bias; ρ is `jax.nn.relu`, applied before what is added. With
    the defaults and three axes these are the 97,457 numbers of the authors' network for
    64³ nodes; 2, 5, 3 are the 152,881 of the one for 128³.

    It looks about 22 nodes far, and needs more steps the finer the grid is. Blocks at
    the far sides of odd sizes are filled up by zeros.

    **Arguments:**

    - `ndim`: 1, 2 or 3 axes.
    - `width`: channels, default 16.
    - `num_fine`, `num_coarse`, `num_after`: as above; default 1, 3, 2.
    - `in_channels`: 1 (default): it sees the residual only, as published. 2: and where
        there are obstacles.
    - `key`: draws the kernels, uniformly from ±√(6/(fan_in + fan_out)); biases are 0.

    **Raises:** `ValueError` for arguments out of range.

    !!! example

        ```python
        import jax.random as jr
        import sciml

        network = sciml.preconditioners.TwoLevelDirections(3, key=jr.key(0))
        builder = sciml.preconditioners.DeepConjugateDirections(network)
        ```

    Source: Kaneda et al., *A deep conjugate direction method for iteratively solving
    linear systems*, ICML 2023 (arXiv 2205.10763), and the authors' program.
    """

    ndim: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    num_fine: int = eqx.field(static=True)
    num_coarse: int = eqx.field(static=True)
    num_after: int = eqx.field(static=True)
    in_channels: int = eqx.field(static=True)
    lift: Convolution
    first: tuple[Convolution, ...]
    fine: tuple[tuple[Convolution, Convolution], ...]
    coarse: tuple[tuple[Convolution, Convolution], ...]
    after: tuple[tuple[Convolution, Convolution], ...]
    project: Convolution

    def __init__(
        self,
        ndim: int,
        width: int = 16,
        num_fine: int = 1,
        num_coarse: int = 3,
        num_after: int = 2,
        in_channels: int = 1,
        *,
        key: PRNGKeyArray,
    ):
        check_network(ndim, width)
        counts = {
            "num_fine": num_fine,
            "num_coarse": num_coarse,
            "num_after": num_after,
        }
        for name, count in counts.items():
            if count < 0:
                raise ValueError(f"{name}: expected at least 0, got {count}.")
        if in_channels not in (1, 2):
            raise ValueError(f"in_channels: expected 1 or 2, got {in_channels!r}.")
        self.ndim, self.width, self.in_channels = ndim, width, in_channels
        self.num_fine, self.num_coarse = num_fine, num_coarse
        self.num_after = num_after
        num_pairs = num_fine + num_coarse + num_after
        keys = iter(jr.split(key, 4 + 2 * num_pairs))
        inner = lambda: _uniform(ndim, width, width, next(keys))
        pairs = lambda count: tuple((inner(), inner()) for _ in range(count))
        self.lift = _uniform(ndim, in_channels, width, next(keys))
        self.first = (inner(), inner())
        self.fine = pairs(num_fine)
        self.coarse = pairs(num_coarse)
        self.after = pairs(num_after)
        self.project = _uniform(ndim, width, 1, next(keys), kernel_size=1)

    def on(self, grid: Grid, fluid: Field) -> Callable[[Field], Field]:
        """The network on a domain, as `AbstractDirections.on`."""
        del grid
        return _TwoLevels(self, fluid)

    def num_products(self, shape: tuple[int, ...]) -> int:
        """Multiplications by a weight in one application, as `AbstractDirections`'."""
        fine = self.lift, self.first, self.fine, self.after, self.project
        per_node = lambda layers: sum(
            x.size for x in jax.tree.leaves(layers) if x.ndim > 1
        )
        halves = math.prod(-(-n // 2) for n in shape)
        return per_node(fine) * math.prod(shape) + per_node(self.coarse) * halves


class _TwoLevels(eqx.Module):
    network: TwoLevelDirections
    fluid: Field

    def __call__(self, f: Field) -> Field:
        net = self.network
        channels = [f, self.fluid.astype(f.dtype)][: net.in_channels]
        apply = lambda layer, x: jax.nn.relu(layer.channels_last(x))
        c = net.lift.channels_last(jnp.stack(channels, -1))
        a = apply(net.first[0], c)
        b = apply(net.first[1], a)
        for one, other in net.fine:
            a = apply(one, b) + a
            b = apply(other, a)
        u = _block_means(b)
        for one, other in net.coarse:
            u = apply(other, apply(one, u)) + u
        v = _repeated(u, f.shape) + b
        for one, other in net.after:
            v = apply(other, apply(one, v)) + v
        return net.project.channels_last(v)[..., 0] * self.fluid.astype(f.dtype)


def _block_means(x: Array) -> Array:
    """Means over blocks of two nodes per axis; channels last."""
    ndim = x.ndim - 1
    x = jnp.pad(x, [(0, n % 2) for n in x.shape[:-1]] + [(0, 0)])
    blocks = [part for n in x.shape[:-1] for part in (n // 2, 2)]
    within = tuple(1 + 2 * k for k in range(ndim))
    return jnp.mean(x.reshape(*blocks, x.shape[-1]), axis=within)


def _repeated(x: Array, shape: tuple[int, ...]) -> Array:
    """Every node twice per axis, cut off at a shape."""
    for axis in range(len(shape)):
        x = jnp.repeat(x, 2, axis=axis)
    return x[tuple(slice(n) for n in shape)]


def _uniform(
    ndim: int, ins: int, outs: int, key: PRNGKeyArray, kernel_size: int = 3
) -> Convolution:
    """A convolution that starts with Glorot's uniform kernel and a bias of zero."""
    layer = Convolution(ndim, ins, outs, kernel_size, use_bias=True, key=key)
    nodes = kernel_size**ndim
    factor = math.sqrt(6 / (nodes * (ins + outs))) * math.sqrt(ins * nodes)
    zeros = jnp.zeros((outs,))
    return eqx.tree_at(
        lambda c: (c.weight, c.bias), layer, (factor * layer.weight, zeros)
    )


def check_network(ndim: int, width: int) -> None:
    """**Raises:** `ValueError` naming the first of them that is out of range."""
    if ndim not in (1, 2, 3):
        raise ValueError(f"ndim: expected 1, 2 or 3, got {ndim!r}.")
    if width < 1:
        raise ValueError(f"width: expected at least 1, got {width}.")
