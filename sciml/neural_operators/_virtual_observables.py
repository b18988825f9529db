"""The loss of DGNO: residuals that are observed to be zero."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..data import Dataset
from ._dgno import DGNO, nodes_of
from ._precisions import AbstractPrecision, FixedPrecision, check_positive


class VirtualObservables(eqx.Module):
    """The negative evidence lower bound of DGNO, per node of the coefficient:

        E_q(β|a) [ −mean log p(a | β) + Σ_kinds misfit(r(β, a)) ] + KL(q ‖ p)/nodes

    averaged over the batch, of one draw of β, of the weak form's points and of nodes.
    r are the residuals of the weak form: that they are zero is what is "observed", with
    a precision. Targets of the batch are not looked at. With `BoxLatent` the last term
    is 0 and q a point, and the loss is the one of the published code.

    As every loss of `sciml.training.fit`: `loss(model, batch, key) -> (scalar, aux)`,
    `model` being a `DGNO`. `aux` has `residual` (the root mean square of all r),
    `reconstruction` (the mean of −log p(a | β)) and `divergence`.

    **Arguments:**

    - `precision`: `FixedPrecision()` (default), `AnnealedPrecision()` or
        `LearnedPrecision()`.
    - `num_nodes`: nodes of the coefficient that are compared, drawn anew in each step;
        all if there are fewer. Default 200.
    - `hardest`: how many of the largest squared residuals of the batch count once more,
        by their mean: hardest-particle mining. Default 0.
    - `labelled`: a `Dataset` with targets at the domain's nodes: pairs for which the
        relative L2 error of u is added. Default None.
    - `label_weight`, `label_batch`: of that error, and how many random pairs of them in
        each step. Default 1 and 20.

    **Raises:** `ValueError` for numbers out of range and labels without targets.

    !!! example

        ```python
        from sciml.neural_operators import VirtualObservables

        coefficients_only = sciml.data.Dataset(coefficients, None, form.grid)
        model, history = sciml.training.fit(
            model, coefficients_only, loss=VirtualObservables(),
            optimiser=sciml.training.muon_optimiser(2_000, 5e-3), num_steps=2_000,
            batch_size=100, key=key,
        )
        ```

    Source: Zang & Koutsourelakis, *DGenNO*, J. Comput. Phys. 538 (2025) 114137;
    learned precision and annealing are ours.
    """

    precision: AbstractPrecision = FixedPrecision()
    num_nodes: int = 200
    hardest: int = 0
    labelled: Dataset | None = None
    label_weight: float = 1.0
    label_batch: int = 20

    def __check_init__(self):
        for name in ("num_nodes", "label_weight", "label_batch"):
            check_positive(name, getattr(self, name))
        if self.hardest < 0:
            raise ValueError(f"hardest: expected a number ≥ 0, got {self.hardest}.")
        if self.labelled is not None and self.labelled.targets is None:
            raise ValueError("labelled: expected a dataset with targets.")

    def at_step(self, step: Any) -> "VirtualObservables":
        """The loss of a step of the training: that of its precision."""
        chosen = self.precision.at_step(step)
        return VirtualObservables(
            chosen,
            self.num_nodes,
            self.hardest,
            self.labelled,
            self.label_weight,
            self.label_batch,
        )

    def __call__(
        self, model: DGNO, batch: Dataset, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The loss, and what it is made of."""
        inputs = jnp.asarray(batch.as_floating().inputs)
        where_key, nodes_key, latent_key, label_key = jr.split(key, 4)
        form = model.weak_form
        dtype = inputs.dtype
        cast = lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x
        where = jax.tree.map(cast, form.draw(key=where_key))
        chosen = _some_nodes(form.grid.size, self.num_nodes, key=nodes_key)
        points = jnp.asarray(nodes_of(form.grid), dtype)[chosen]

        def of_sample(x, key):
            raw = model.raw_latent(x)
            latent = model.latent.draw(raw, key=key)
            at = lambda points: form.coefficient.between(x[0], form.grid, points)
            residuals = form.residuals(model.fields(latent), at, where)
            decoded = model.raw_coefficient(latent, points)
            misfit = form.coefficient.misfit(decoded, x[0].reshape(-1)[chosen])
            return residuals, jnp.mean(misfit), model.latent.divergence(raw)

        keys = jr.split(latent_key, len(inputs))
        residuals, misfits, divergences = jax.vmap(of_sample)(inputs, keys)
        reconstruction, divergence = jnp.mean(misfits), jnp.mean(divergences)
        total = reconstruction + divergence / form.grid.size
        for found in residuals.values():
            total = total + self.precision.misfit(found)
        together = jnp.concatenate([found.reshape(-1) for found in residuals.values()])
        if self.hardest:
            count = min(self.hardest, together.size)
            largest, _ = jax.lax.top_k(jnp.abs(together), count)
            total = total + self.precision.misfit(largest)
        aux = {
            "residual": jnp.sqrt(jnp.mean(together**2)),
            "reconstruction": reconstruction,
            "divergence": divergence,
        }
        if self.labelled is not None:
            error = self._label_error(model, self.labelled, dtype, key=label_key)
            total = total + self.label_weight * error
            aux["label_error"] = error
        return total, aux

    def _label_error(
        self, model: DGNO, labelled: Dataset, dtype: Any, *, key: PRNGKeyArray
    ) -> Float[Array, ""]:
        """The mean relative L2 error over some labelled pairs."""
        count = min(self.label_batch, len(labelled))
        chosen = jr.choice(key, len(labelled), (count,), replace=False)
        inputs = jnp.asarray(labelled.inputs, dtype)[chosen]
        targets = jnp.asarray(labelled.targets, dtype)[chosen]
        error = (jax.vmap(model)(inputs) - targets).reshape(count, -1)
        sizes = jnp.linalg.norm(targets.reshape(count, -1), axis=1)
        return jnp.mean(jnp.linalg.norm(error, axis=1) / sizes)


def _some_nodes(size: int, count: int, *, key: PRNGKeyArray) -> Array:
    if count >= size:
        return jnp.arange(size)
    return jr.permutation(key, size)[:count]
