"""A model of an incompressible flow, with and without its divergence held at zero.

Run it with `python examples/divergence_free.py`. From noisy measurements of a velocity
the model finds the flow. That flows have no divergence it learns to a tenth; behind
`LerayProjection` it has none, to rounding, and a slightly smaller error.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax

import sciml
from sciml.constraints import CurlOfPotential, LerayProjection, central_symbol

GRID = sciml.grids.Grid((32, 32), boundary=sciml.grids.Periodic())


class Incompressible(eqx.Module):
    """The inner model's field without the part that is a gradient."""

    inner: Callable
    layer: LerayProjection

    def __call__(self, field):
        """The flow, of which `sciml.grids.divergence` is zero."""
        return self.layer(self.inner(field))


def samples(number: int, *, key) -> sciml.data.Dataset:
    """Random flows from stream functions, and what is measured of them."""
    keys = jr.split(key, 2)
    law = sciml.grids.GaussianField()
    draw = lambda k: law.sample(GRID, key=k).astype(jnp.float32)
    flows = jax.vmap(lambda k: CurlOfPotential(GRID)(draw(k)))(
        jr.split(keys[0], number)
    )
    flows = flows / jnp.std(flows)
    noise = 0.5 * jr.normal(keys[1], flows.shape, jnp.float32)
    return sciml.data.Dataset(flows + noise, flows, GRID)


def main(smoke: bool = False) -> dict[str, float]:
    """Train both; `smoke` takes few samples and steps.

    **Returns:** errors and divergences by name.
    """
    train = samples(128 if smoke else 1024, key=jr.key(0))
    test = samples(32, key=jr.key(1))
    plain = sciml.neural_operators.FNO(
        2,
        in_channels=2,
        out_channels=2,
        width=12,
        depth=2,
        num_modes=8,
        boundary=GRID.boundary,
        key=jr.key(2),
    )
    # With the differences that `divergence` takes; `spectral_symbol` would take out
    # that of the Fourier modes.
    layer = LerayProjection(GRID, central_symbol)
    numbers = {}
    models = {"plain": plain, "incompressible": Incompressible(plain, layer)}
    for name, model in models.items():
        model, _ = sciml.training.fit(
            model,
            train,
            optimiser=optax.adam(1e-2),
            num_steps=120 if smoke else 600,
            batch_size=16,
            progress=False,
            key=jr.key(3),
        )
        error = float(sciml.evaluation.evaluate(model, test)["relative_l2"])
        found = float(worst_divergence(model, test.inputs))
        print(f"{name}: error {error:.1%}, relative divergence {found:.0e}")
        numbers |= {f"{name}_error": error, f"{name}_divergence": found}
    return numbers


@eqx.filter_jit
def worst_divergence(model, fields):
    """The largest ‖∇·v‖ h / ‖v‖ among unseen fields."""

    def relative(field):
        flow = model(field)
        size = jnp.sqrt(jnp.sum(flow**2))
        spread = jnp.sqrt(jnp.sum(sciml.grids.divergence(flow, GRID) ** 2))
        return spread * GRID.spacing[0] / size

    return jnp.max(jax.vmap(relative)(fields))


if __name__ == "__main__":
    main()
