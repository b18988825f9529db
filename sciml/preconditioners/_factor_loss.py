"""The loss that learned triangular factors are trained with."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..data import Dataset
from ._corrected_cholesky import CorrectedCholesky
from ._matrix_graph import slot_matrix
from ._neural_factor import NeuralFactor
from ._packed_systems import PackedSystems


class FactorResidual(eqx.Module):
    """mean over samples of ‖L Lᵀ x − b‖² / ‖b‖², x being the solution of A x = b.

    The error of L Lᵀ as an approximation of A, seen by solutions, in which the
    smallest eigenvalues of A have the largest part: those are what CG takes its steps
    for. For a `NeuralFactor` the error of its predicted solution is added,
    ‖x̂ − x‖² / ‖x‖².

    **Arguments:**

    - `systems`: what `pack_systems` gave with the data set.
    - `guess_weight`: of the second term. Default 1, as published.

    `aux` has `factor_residual`, and `guess_error` where there is one.

    !!! example

        ```python
        data, systems = sciml.preconditioners.pack_systems(operators)
        loss = sciml.preconditioners.FactorResidual(systems)
        model, history = sciml.training.fit(model, data, loss=loss, …)
        ```

    Source: Li et al., arXiv 2305.16432, eq. of the data loss (with sums, and not
    relative); Trifonov et al., arXiv 2405.15557.
    """

    systems: PackedSystems
    guess_weight: float = 1.0

    def __call__(
        self, model: NeuralFactor | CorrectedCholesky, batch: Dataset, key: Any = None
    ):
        """The loss and its terms; `key` is not used."""
        del key

        def one(sample):
            system = self.systems.unpack(sample)
            graph, x, b = system.operator.graph, system.solution, system.vector
            error = jnp.zeros((), x.dtype)
            if isinstance(model, NeuralFactor):
                slots, guess = model.predict(graph, system.points, b)
                error = jnp.sum((guess - x) ** 2) / jnp.sum(x**2)
            else:
                slots = model.factor(graph, system.factor)
            factor = slot_matrix(graph, slots)
            residual = factor(factor.T(x)) - b
            return jnp.sum(residual**2) / jnp.sum(b**2), error

        inputs = jnp.asarray(batch.as_floating().inputs)
        residual, error = map(jnp.mean, jax.vmap(one)(inputs))
        aux = {"factor_residual": residual}
        if isinstance(model, NeuralFactor):
            aux["guess_error"] = error
        return residual + self.guess_weight * error, aux
