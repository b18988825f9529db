"""One step of training as a function of arrays only, for `jax.jit`."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax

from ..data import Dataset
from ..grids import AbstractBoundary, Grid
from ._placement import Placement
from ._series import with_prefix


def split_model(model: Any) -> tuple[Any, Any, Any]:
    """(trained arrays, other arrays, the rest), to be joined by `eqx.combine`.

    Trained is every array of floating-point or complex numbers, except boundary data
    and grids: those belong to the problem.
    """

    def is_given(node: Any) -> bool:
        return isinstance(node, AbstractBoundary | Grid)

    chosen = jax.tree.map(
        lambda node: False if is_given(node) else eqx.is_inexact_array(node),
        model,
        is_leaf=is_given,
    )
    trained, others = eqx.partition(model, chosen)
    arrays, rest = eqx.partition(others, eqx.is_array)
    return trained, arrays, rest


def epoch_order(key: Any, epoch: Any, num_samples: int) -> jax.Array:
    """The order of the samples in an epoch, a function of key and epoch only."""
    return jr.permutation(jr.fold_in(key, epoch), num_samples)


def make_step(
    rest: Any,
    dataset: Dataset,
    loss: Callable,
    optimiser: optax.GradientTransformation,
    batch_size: int,
    placement: Placement,
) -> Callable:
    """`step(state, data) -> (state, (record, finite))`, `record` by name: "loss", and
    "aux.…" for the further scalars.

    `state` is (parameters, optimiser state, order of the samples, number of steps
    done); `data` is (inputs, targets, arrays of the model that are not trained, key of
    the order, key of the losses). Of `dataset` only the grid is used. On a mesh all of
    these are on every device, and the batch is spread: XLA does the rest, that is, it
    averages the gradients of the parts.

    Once a loss or a parameter is not finite the state stays as it was: the host, which
    reads losses back many steps later, then finds the last finite model.
    """
    num_samples = len(dataset)
    per_epoch = num_samples // batch_size
    extra = isinstance(optimiser, optax.GradientTransformationExtraArgs)

    def batch_at(order, done, inputs, targets, order_key):
        if order is None:
            fields = placement.spread((inputs, targets))
            return dataset._with(*fields).as_floating(), None
        place = done % per_epoch
        order = jax.lax.cond(
            place == 0,
            lambda old: epoch_order(order_key, done // per_epoch, num_samples),
            lambda old: old,
            order,
        )
        index = jax.lax.dynamic_slice(order, (place * batch_size,), (batch_size,))
        # (With the index spread, each device takes the samples of its part only.)
        index = placement.spread(index)
        fields = jax.tree.map(lambda field: field[index], (inputs, targets))
        return dataset._with(*placement.spread(fields)).as_floating(), order

    def step(state, data):
        parameters, optimiser_state, order, done = state
        inputs, targets, arrays, order_key, loss_key = data
        batch, order = batch_at(order, done, inputs, targets, order_key)
        key = jr.fold_in(loss_key, done)

        # (A loss whose coefficients follow a schedule.)
        at_step = getattr(loss, "at_step", None)
        now = loss if at_step is None else at_step(done)

        def evaluate(p):
            return checked_loss(now(eqx.combine(p, arrays, rest), batch, key))

        (value, aux), gradient = jax.value_and_grad(evaluate, has_aux=True)(parameters)
        # JAX's gradient of a real function of complex numbers is the conjugate of
        # the direction of steepest ascent.
        gradient = jax.tree.map(jnp.conj, gradient)
        known = dict(value=value, grad=gradient, value_fn=lambda p: evaluate(p)[0])
        # optax relies on implicit promotion; a user's strict setting is for the rest.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            updates, new_optimiser_state = optimiser.update(
                gradient, optimiser_state, parameters, **(known if extra else {})
            )
        new_parameters = optax.apply_updates(parameters, updates)
        finite = jnp.isfinite(value)
        for leaf in jax.tree.leaves(new_parameters):
            finite = finite & jnp.all(jnp.isfinite(leaf))
        # The types of the old state, so that one compiled program serves every step.
        kept = jax.tree.map(
            lambda new, old: jnp.where(finite, jnp.asarray(new, old.dtype), old),
            (new_parameters, new_optimiser_state),
            (parameters, optimiser_state),
        )
        state = (*kept, order, jnp.where(finite, done + 1, done))
        return state, ({"loss": value} | with_prefix("aux.", aux), finite)

    return step


def checked_loss(returned: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    """What a loss returned, if it keeps the protocol."""
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise ValueError(
            "loss: expected `loss(model, batch, key) -> (scalar, aux)`, got "
            f"{returned!r}."
        )
    value, aux = jnp.asarray(returned[0]), returned[1]
    if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(
            "loss: expected (scalar, aux) with a real scalar, got "
            f"{value.dtype}{list(value.shape)} as its first part."
        )
    aux = {} if aux is None else aux
    if not isinstance(aux, dict):
        raise ValueError(
            f"loss: expected a dict of scalars (or None) as second part, got {aux!r}."
        )
    for name, entry in aux.items():
        if not isinstance(name, str) or jnp.shape(entry) != ():
            raise ValueError(
                f"loss: expected aux to hold scalars by name, got {name!r}: {entry!r}."
            )
    return value, {name: jnp.asarray(entry) for name, entry in aux.items()}
