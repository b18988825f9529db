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

from ..grids import Convolution, TransposedConvolution
from ..neural_operators._affine import Affine
from ..neural_operators._fno import SpectralConvolution
from ..neural_operators._stable_fno import BoundedLinear


def muon_optimiser(
    num_steps: int,
    learning_rate: float = 0.02,
    adamw_learning_rate: float = 2e-3,
    weight_decay: float = 1e-4,
) -> optax.GradientTransformation:
    """Muon for kernels and matrices, AdamW for the rest; one cosine cycle each.

        G ← mean of the last gradients,  G = U Σ Vᵀ,
        W ← W − η (√max(1, outputs/inputs) U Vᵀ + λ W)

    with Nesterov's momentum of 0.95. All directions of a matrix move by about the same
    length, also those whose gradients are small: where many linear maps follow one
    another, as in the V-cycles of `MgNO`, that is what steps per entry are worst at. In
    place of U Vᵀ five Newton–Schulz steps give a matrix with the same singular vectors
    whose singular values are between 0.65 and 1.25; less where G's own is below a
    hundredth of its norm. Gradients are scaled down to a global norm of 1.

    Matrices are the weights of convolutions, of `eqx.nn.Linear` and of this library's
    linear maps: (outputs, inputs, *stencil) is outputs × (inputs · stencil). Those of a
    `SpectralConvolution` are one matrix for each frequency, with the real and the
    imaginary parts side by side; axes in front (of stacked layers) count matrices, too.
    Everything else is left to AdamW: other arrays, maps with one input or one output
    only, depthwise and grouped ones, modules that are not known here. Rates rise from a
    tenth of their peak in the first tenth of the steps, and fall to a hundredth of it.

    **Arguments:**

    - `num_steps`: length of the cycle, the run's number of steps.
    - `learning_rate`: peak of η. Default 0.02.
    - `adamw_learning_rate`: the same for AdamW. Default 2e-3.
    - `weight_decay`: λ, in both. Default 1e-4.

    **Raises:** `ValueError` for fewer steps than one.

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
    if num_steps < 1:
        raise ValueError(f"num_steps: expected at least 1, got {num_steps}.")

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


_MAPS = (
    Affine,
    BoundedLinear,
    Convolution,
    SpectralConvolution,
    TransposedConvolution,
    eqx.nn.Conv,
    eqx.nn.ConvTranspose,
    eqx.nn.Linear,
)


def _rank(module: Any) -> int:
    """How many axes the weight of one map has; there may be more in front."""
    if isinstance(module, eqx.nn.Conv | eqx.nn.ConvTranspose):
        return 2 + module.num_spatial_dims
    if isinstance(module, Convolution | TransposedConvolution):
        return 2 + module.ndim
    return 3 + module.ndim if isinstance(module, SpectralConvolution) else 2


def _weight_axes(module: Any, weight: Any) -> _Axes | None:
    """Those of a map's weight, None where it is no matrix."""
    if not jnp.issubdtype(weight.dtype, jnp.floating) or weight.size == 0:
        return None
    if getattr(module, "groups", 1) != 1:
        return None
    first = weight.ndim - _rank(module)
    if first < 0:
        return None
    if isinstance(module, SpectralConvolution):
        part, outputs, inputs = (first, first + 1, first + 2)
        found = _Axes((outputs,), (part, inputs))
    else:
        outputs, inputs = first, first + 1
        found = _Axes((outputs,), tuple(range(inputs, weight.ndim)))
    return found if min(weight.shape[outputs], weight.shape[inputs]) > 1 else None


def _axes(tree: Any) -> list[_Axes | None]:
    """For each array of a tree its axes, None where it is no matrix."""
    found: list[_Axes | None] = []
    is_map = lambda node: isinstance(node, _MAPS)
    for node in jax.tree.leaves(tree, is_leaf=is_map):
        for path, leaf in jax.tree_util.tree_leaves_with_path(node):
            is_weight = bool(path) and getattr(path[-1], "name", None) == "weight"
            known = is_weight and is_map(node)
            found.append(_weight_axes(node, leaf) if known else None)
    return found


def _labels(tree: Any) -> Any:
    labels = ["adamw" if axes is None else "muon" for axes in _axes(tree)]
    return jax.tree.unflatten(jax.tree.structure(tree), labels)


def _orthogonal() -> optax.GradientTransformation:
    """Muon's direction, with all matrices of one shape as one array.

    A network has few shapes, and many matrices: a program for each would be long.
    """
    numbers = MuonDimensionNumbers(reduction_axis=(1,), output_axis=(2,))
    inner = scale_by_muon(
        weight_dimension_numbers=lambda groups: jax.tree.map(lambda _: numbers, groups)
    )

    def grouped(tree) -> dict[str, Array]:
        groups: dict[str, list[Array]] = {}
        for x, axes in zip(jax.tree.leaves(tree), _axes(tree), strict=True):
            assert axes is not None
            found = _computed(axes.matrices(x))
            groups.setdefault(_kind(found), []).append(found)
        return {name: jnp.concatenate(found) for name, found in groups.items()}

    def init(params):
        return inner.init(grouped(params))

    def update(updates, state, params=None):
        del params
        found: Any = inner.update(grouped(updates), state)
        directions: dict[str, Array] = found[0]
        used = dict.fromkeys(directions, 0)
        arrays = []
        leaves, structure = jax.tree.flatten(updates)
        for x, axes in zip(leaves, _axes(updates), strict=True):
            assert axes is not None
            matrices = _computed(axes.matrices(x))
            (count, inputs, outputs), name = matrices.shape, _kind(matrices)
            part = directions[name][used[name] : used[name] + count]
            used[name] += count
            scale = math.sqrt(max(1.0, outputs / inputs))
            arrays.append(axes.array(scale * part, x).astype(x.dtype))
        return jax.tree.unflatten(structure, arrays), found[1]

    return optax.GradientTransformation(init, update)


def _computed(matrices: Array) -> Array:
    """In single precision at least: the iteration would not get far in less."""
    return matrices.astype(jnp.float32) if matrices.dtype.itemsize < 4 else matrices


def _kind(matrices: Array) -> str:
    _, inputs, outputs = matrices.shape
    return f"{inputs}x{outputs} {matrices.dtype.name}"
