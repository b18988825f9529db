"""A small message-passing network on the graph of a matrix."""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ._matrix_graph import MatrixGraph

Nodes = Float[Array, "n _c"]
Edges = Float[Array, "width n _c"]

_LARGEST = 1e12


class Perceptron(eqx.Module):
    """W₂ σ(W₁ x + b₁) + b₂ along the last axis, x given in parts side by side.

    Each part has its own columns of W₁, so that a part that lives on the nodes is
    multiplied there, and only the product is carried to the edges.
    """

    first: tuple[Float[Array, "_in hidden"], ...]
    bias: Float[Array, " hidden"]
    second: Float[Array, "hidden out"]
    second_bias: Float[Array, " out"]
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        parts: Sequence[int],
        hidden: int,
        out: int,
        activation: Callable[[Array], Array],
        *,
        key: PRNGKeyArray,
    ):
        *keys, bias, second, second_bias = jr.split(key, len(parts) + 3)
        draw = lambda key, shape, size: (
            jr.uniform(key, shape, minval=-1.0, maxval=1.0) / size**0.5
        )
        size = sum(parts)
        self.first = tuple(
            draw(k, (p, hidden), size) for k, p in zip(keys, parts, strict=True)
        )
        self.bias = draw(bias, (hidden,), size)
        self.second = draw(second, (hidden, out), hidden)
        self.second_bias = draw(second_bias, (out,), hidden)
        self.activation = activation

    def __call__(self, *parts: Array | Callable[[Array], Array]) -> Array:
        """The output; a part may be a function W ↦ x W, where that is cheaper."""
        total = None
        for part, weight in zip(parts, self.first, strict=True):
            term = part(weight) if callable(part) else _times(part, weight)
            total = term if total is None else total + term
        assert total is not None
        hidden = self.activation(total + _row(self.bias, total))
        out = _times(hidden, self.second)
        return out + _row(self.second_bias, out)

    def starting_at_zero(self) -> "Perceptron":
        """The same with W₂ = 0 and b₂ = 0."""
        where = lambda p: (p.second, p.second_bias)
        return eqx.tree_at(where, self, tuple(map(jnp.zeros_like, where(self))))


class _Round(eqx.Module):
    edge: Perceptron
    node: Perceptron


class GraphNetwork(eqx.Module):
    """Encoders for nodes and edges, and rounds of

        e_ij ← f(e_ij, x_j, x_i),   x_i ← g(Σ_j e_ij, x_i)

    or, if `residual`, of e ← e + f(…) and x ← x + g(…) with all that f and g are given
    standardised over channels, so that no weights make a round's output leave the range
    of numbers. Sums run over the row's entries, the diagonal among them. Arrays are of
    shapes (n, width) and (slots, n, width).

    **Arguments:**

    - `node_channels`, `edge_channels`: of the features.
    - `width`: of x, e and all hidden layers.
    - `num_rounds`: with weights of their own.
    - `activation`: σ.
    - `residual`: which of the two.
    """

    node_encoder: Perceptron
    edge_encoder: Perceptron
    rounds: tuple[_Round, ...]
    residual: bool = eqx.field(static=True)

    def __init__(
        self,
        node_channels: int,
        edge_channels: int,
        width: int,
        num_rounds: int,
        activation: Callable[[Array], Array],
        *,
        residual: bool,
        key: PRNGKeyArray,
    ):
        keys = iter(jr.split(key, 2 + 2 * num_rounds))
        make = lambda *parts: Perceptron(
            parts, width, width, activation, key=next(keys)
        )
        self.node_encoder, self.edge_encoder = make(node_channels), make(edge_channels)
        self.rounds = tuple(
            _Round(make(width, width, width), make(width, width))
            for _ in range(num_rounds)
        )
        self.residual = residual

    @property
    def dtype(self) -> jnp.dtype:
        """Of the weights, in which everything is computed."""
        return self.node_encoder.bias.dtype

    def __call__(
        self, graph: MatrixGraph, nodes: Nodes, edges: Edges
    ) -> tuple[Nodes, Edges]:
        """x and e after the last round."""
        live = graph.live[:, :, None]
        x = _standardised(self.node_encoder(nodes))
        e = _standardised(self.edge_encoder(edges))
        for step in self.rounds:
            if not self.residual:
                new = _in_range(step.edge(e, *on_edges(graph, x)))
                e = jnp.where(live, new, 0.0)
                x = _in_range(step.node(jnp.sum(e, axis=0), x))
                continue
            seen = _standardised(x)
            new = step.edge(_standardised(e), *on_edges(graph, seen))
            e = jnp.where(live, e + new, 0.0)
            x = x + step.node(_standardised(jnp.sum(e, axis=0)), seen)
        if self.residual:
            x, e = _standardised(x), jnp.where(live, _standardised(e), 0.0)
        return x, e


def bounded(x: Array, bound: float) -> Array:
    """x, bent towards ±bound."""
    return bound * jnp.tanh(x / bound)


def on_edges(
    graph: MatrixGraph, x: Nodes
) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """x_j and x_i on the edges, as parts of what a `Perceptron` takes."""
    return (
        lambda weight: graph.neighbours(_times(x, weight)),
        lambda weight: _times(x, weight)[None],
    )


def shared(x: Float[Array, " c"]) -> Callable[[Array], Array]:
    """One vector for all edges, as such a part."""
    return lambda weight: _times(x[None, None], weight)


def _in_range(x: Array) -> Array:
    # No finite weights make a round overflow, not even in single precision.
    return jnp.clip(x, -_LARGEST, _LARGEST)


def _times(x: Array, weight: Array) -> Array:
    return jnp.matmul(x, weight, precision=jax.lax.Precision.HIGHEST)


def _row(vector: Array, like: Array) -> Array:
    return vector.reshape((1,) * (like.ndim - 1) + (-1,))


def _standardised(x: Array) -> Array:
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centred**2, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + 1e-5)
