"""Data in all eight positions that the symmetries of a square give them."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..data import Dataset
from ..grids._square_symmetry import check_square, moved_by_d4
from ._losses import RelativeL2

_DEFAULT_LOSS = RelativeL2()


class D4Augmented(eqx.Module):
    """A loss of samples that are mirrored and turned at random, by one of D4 each.

        value = loss(model, {(g_i x_i, g_i u_i)}),   g_i uniform in D4

    The input and the target of a sample are moved by the same element; it is drawn anew
    in each step from the step's key. Where the problem has the symmetry (on a square,
    with the same condition on all sides, an isotropic equation, and data whose
    distribution does not prefer a direction) these are further samples of it, for
    nothing. On a periodic grid the node on the side stays on the side.

    Channels are scalar fields (time steps and parameters that are constant in space
    among them). The components of a vector field would have to turn with the square,
    and do not here.

    **Arguments:**

    - `loss`: as for `fit`. Default `RelativeL2()`. If it follows a schedule
        (`at_step`), so does this one.

    **Raises:** `ValueError` for data on a grid that the eight do not map to itself: two
    axes with other numbers of nodes or extents, sides with other conditions or numbers,
    or that store their nodes on some sides only.

    !!! example

        ```python
        loss = sciml.training.D4Augmented(sciml.training.RelativeH1())
        # sciml.training.fit(model, train, loss=loss, …)
        ```
    """

    loss: Callable = _DEFAULT_LOSS

    def at_step(self, step: Any) -> "D4Augmented":
        """The loss of one step of training: `fit` asks for it."""
        at_step = getattr(self.loss, "at_step", None)
        return self if at_step is None else D4Augmented(at_step(step))

    def __call__(
        self, model: Any, batch: Dataset, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """The loss of the batch in other positions; `key` draws these."""
        if batch.grid is None:
            raise ValueError("batch: these are symmetries of fields; there is no grid.")
        check_square(batch.grid)
        periodic = batch.grid.periodic[0]
        element_key, loss_key = jr.split(key)
        elements = jr.bernoulli(element_key, shape=(len(batch), 3))
        move = jax.vmap(lambda field, g: moved_by_d4(field, g, periodic))
        inputs = move(jnp.asarray(batch.inputs), elements)
        targets = batch.targets
        if targets is not None:
            targets = move(jnp.asarray(targets), elements)
        return self.loss(model, batch._with(inputs, targets), loss_key)
