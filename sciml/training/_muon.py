"""An optimiser for networks whose parameters are matrices: kernels and linear maps."""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from ..grids import DepthwiseConvolution
from ..neural_operators import DepthwiseSpectralConvolution
from ..neural_operators._fno import SpectralConvolution


def muon_optimiser(
    num_steps: int,
    learning_rate: float = 0.02,
    adamw_learning_rate: float = 2e-3,
    weight_decay: float = 1e-4,
) -> optax.GradientTransformation:
    """Muon for kernels and matrices, AdamW for the rest; one cosine cycle each.

        G ← mean of the last gradients,  G = U Σ Vᵀ,
        W ← W − η (√max(1, outputs/inputs) U Vᵀ + λ W)

    Every direction of a matrix moves by the same length, also those whose gradients are
    small: where many linear maps follow one another, as in the V-cycles of `MgNO`, that
    is what Adam's steps per entry are worst at. U Vᵀ is computed to a few per cent by
    five Newton–Schulz steps, without a decomposition.

    Matrices are the arrays called `weight` of convolutions, of `eqx.nn.Linear` and of
    what is made like them: (outputs, inputs, *stencil) is outputs × (inputs · stencil).
    The weights of a `SpectralConvolution` are one matrix for each frequency, with the
    real and the imaginary parts side by side. Everything else is left to AdamW: other
    arrays, maps with one input or one output only, depthwise ones and those of
    normalisation layers. Rates rise from a tenth of their peak in the first
    tenth of the steps, and fall to a hundredth of it.

    **Arguments:**

    - `num_steps`: length of the cycle, the run's number of steps.
    - `learning_rate`: peak of η. Default 0.02; 0.05 is too much for `MgNO`.
    - `adamw_learning_rate`: the same for AdamW. Default 2e-3.
    - `weight_decay`: λ, in both. Default 1e-4.

    !!! example

        ```python
        optimiser = sciml.training.muon_optimiser(2_000)
        model, history = sciml.training.fit(
            model, train, optimiser=optimiser, num_steps=2_000, batch_size=8, key=key
        )
        ```

    Source: K. Jordan et al., Muon: an optimizer for hidden layers in neural networks,
    2024; the iteration is optax's.
    """

    def schedule(peak):
        warmup = max(num_steps // 10, 1)
        return optax.warmup_cosine_decay_schedule(
            peak / 10, peak, warmup, max(num_steps, warmup + 1), peak / 100
        )

    muon = optax.chain(
        _orthogonal(),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(schedule(learning_rate)),
    )
    adamw = optax.adamw(schedule(adamw_learning_rate), weight_decay=weight_decay)
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.partition({"muon": muon, "adamw": adamw}, _labels),
    )


@dataclasses.dataclass(frozen=True)
class _Axes:
    """Which axes of an array are a matrix's; the others count matrices."""

    outputs: tuple[int, ...]
    inputs: tuple[int, ...]

    def matrices(self, x: Array) -> Array:
        """(matrices, inputs, outputs)."""
        order = self._order(x.ndim)
        sizes = [math.prod(x.shape[k] for k in part) for part in order]
        return x.transpose(sum(order, ())).reshape(sizes)

    def array(self, matrices: Array, like: Array) -> Array:
        """What `matrices` was made from."""
        order = sum(self._order(like.ndim), ())
        back = sorted(range(like.ndim), key=order.__getitem__)
        return matrices.reshape([like.shape[k] for k in order]).transpose(back)

    def _order(self, ndim: int) -> tuple[tuple[int, ...], ...]:
        used = self.outputs + self.inputs
        counted = tuple(k for k in range(ndim) if k not in used)
        return counted, self.inputs, self.outputs


# Modules whose weights are factors of entries and no matrices.
_ENTRYWISE = (
    DepthwiseConvolution,
    DepthwiseSpectralConvolution,
    eqx.nn.Embedding,
    eqx.nn.LayerNorm,
)


def _axes(tree: Any) -> list[_Axes | None]:
    """For each array of a tree its axes, None where it is no matrix."""

    def is_known(node):
        return isinstance(node, (*_ENTRYWISE, SpectralConvolution))

    def one(path, node):
        leaves = jax.tree.leaves(node)
        if isinstance(node, SpectralConvolution):
            return [_Axes((1,), (0, 2)) for _ in leaves]
        named = bool(path) and getattr(path[-1], "name", None) == "weight"
        if is_known(node) or not named or node.ndim < 2 or min(node.shape[:2]) < 2:
            return [None for _ in leaves]
        return [_Axes((0,), tuple(range(1, node.ndim)))]

    nodes, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_known)
    return [axes for path, node in nodes for axes in one(path, node)]


def _labels(tree: Any) -> Any:
    labels = ["adamw" if axes is None else "muon" for axes in _axes(tree)]
    return jax.tree.unflatten(jax.tree.structure(tree), labels)


def _orthogonal() -> optax.GradientTransformation:
    """Muon's direction, with all matrices of one shape as one array.

    A network has few shapes: that compiles in a quarter of the time of a program for
    each matrix, and runs in half.
    """
    numbers = MuonDimensionNumbers(reduction_axis=(1,), output_axis=(2,))
    inner = scale_by_muon(
        weight_dimension_numbers=lambda groups: jax.tree.map(lambda _: numbers, groups)
    )

    def grouped(tree) -> dict[str, Array]:
        groups: dict[str, list[Array]] = {}
        for x, axes in zip(jax.tree.leaves(tree), _axes(tree), strict=True):
            assert axes is not None
            found = axes.matrices(x)
            groups.setdefault(f"{found.shape[1]}x{found.shape[2]}", []).append(found)
        return {name: jnp.concatenate(found) for name, found in groups.items()}

    def init(params):
        groups = grouped(params)
        state: Any = inner.init(groups)
        # (optax has them in JAX's default type, and would compute in that.)
        kind = jnp.result_type(*groups.values()) if groups else jnp.float32
        return state._replace(ns_coeffs=jnp.asarray(state.ns_coeffs).astype(kind))

    def update(updates, state, params=None):
        del params
        found: Any = inner.update(grouped(updates), state)
        directions: dict[str, Array] = found[0]
        used = dict.fromkeys(directions, 0)
        arrays = []
        leaves, structure = jax.tree.flatten(updates)
        for x, axes in zip(leaves, _axes(updates), strict=True):
            assert axes is not None
            count, inputs, outputs = axes.matrices(x).shape
            name = f"{inputs}x{outputs}"
            part = directions[name][used[name] : used[name] + count]
            used[name] += count
            scale = math.sqrt(max(1.0, outputs / inputs))
            arrays.append(axes.array(scale * part, x).astype(x.dtype))
        return jax.tree.unflatten(structure, arrays), found[1]

    return optax.GradientTransformation(init, update)
