"""How sure one is that residuals are zero: a slot of `VirtualObservables`."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def check_positive(name: str, number: float | int) -> None:
    """**Raises:** `ValueError` unless it is positive and finite."""
    if not 0 < number < float("inf"):
        raise ValueError(f"{name}: expected a positive number, got {number!r}.")


class AbstractPrecision(eqx.Module):
    """How sure one is that residuals are zero."""

    @abc.abstractmethod
    def misfit(self, residuals: Float[Array, "..."]) -> Float[Array, ""]:
        """−log p(0 | residuals), up to a constant, per node of the coefficient."""

    def at_step(self, step: Any) -> "AbstractPrecision":
        """The precision of a step of the training; the same for all unless it says."""
        del step
        return self


class FixedPrecision(AbstractPrecision):
    """weight · mean r²: m residuals of precision λ = 2 · weight · nodes/m each.

    **Arguments:**

    - `weight`: Default 20, good for residuals in units of the fluxes.

    **Raises:** `ValueError` unless it is positive.
    """

    weight: float | Float[Array, ""] = 20.0

    def __check_init__(self):
        if not isinstance(self.weight, jax.Array):
            check_positive("weight", float(self.weight))

    def misfit(self, residuals):
        """weight · mean r²."""
        return jnp.asarray(self.weight, residuals.dtype) * jnp.mean(residuals**2)


class AnnealedPrecision(AbstractPrecision):
    """As `FixedPrecision`, with a weight that grows by powers.

    **Arguments:**

    - `first`, `last`: weights at step 0, and from step `num_steps` on.
    - `num_steps`: Default 1000.

    **Raises:** `ValueError` for numbers that are not positive; `RuntimeError` where it
    is used by itself, not by `fit`.
    """

    first: float = 1.0
    last: float = 100.0
    num_steps: int = 1000

    def __check_init__(self):
        for name in ("first", "last", "num_steps"):
            check_positive(name, getattr(self, name))

    def at_step(self, step):
        """The weight of a step."""
        done = jnp.minimum(jnp.asarray(step, jnp.float32) / self.num_steps, 1)
        return FixedPrecision(self.first * (self.last / self.first) ** done)

    def misfit(self, residuals):
        """Unknown without a step."""
        raise RuntimeError(
            "AnnealedPrecision: has to be asked for a step, as fit does."
        )


class LearnedPrecision(AbstractPrecision):
    """The most likely precision itself: ½ share log(mean r² + floor).

    For m residuals of one unknown precision λ, m/2 (λ mean r² − log λ) is smallest at
    λ = 1/mean r², where it is m/2 log mean r² and a constant. λ grows while the
    training goes on, and no weight has to be chosen.

    **Arguments:**

    - `share`: residuals per node of the coefficient, m over nodes. Default 1.
    - `floor`: residuals are not believed to be smaller than its root. Default 1e-6.

    **Raises:** `ValueError` unless both are positive.
    """

    share: float = 1.0
    floor: float = 1e-6

    def __check_init__(self):
        check_positive("share", self.share)
        check_positive("floor", self.floor)

    def misfit(self, residuals):
        """½ share log(mean r² + floor)."""
        return 0.5 * self.share * jnp.log(jnp.mean(residuals**2) + self.floor)
