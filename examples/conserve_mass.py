"""A surrogate of the heat equation, with and without its mass held exactly.

Run it with `python examples/conserve_mass.py`. Diffusion on a periodic line moves mass
about and makes none. A model that is right to a hundredth loses or makes some at every
step, and more with each; the same model behind `ShiftToMass` does not, on inputs that
it has never seen.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax

import sciml
from sciml.constraints import ShiftToMass, mass

GRID = sciml.grids.Grid(64, boundary=sciml.grids.Periodic())
TIME = 2e-3


class Conservative(eqx.Module):
    """The inner model's field, moved to the mass of the input."""

    inner: Callable
    layer: ShiftToMass

    def __call__(self, field):
        """The next field, of the input's mass."""
        return self.layer(self.inner(field), mass(field, GRID))


def later(field):
    """The exact solution of ∂u/∂t = Δu after `TIME`."""
    k = 2 * jnp.pi * jnp.fft.rfftfreq(64, 1 / 64)
    decay = jnp.exp(-(k**2) * TIME).astype(jnp.complex64)
    return jnp.fft.irfft(decay * jnp.fft.rfft(field), 64).astype(field.dtype)


def samples(number: int, *, key) -> sciml.data.Dataset:
    """Random positive fields, and what becomes of them."""
    noise = jr.normal(key, (number, 1, 64), jnp.float32)
    rough = jax.vmap(jax.vmap(later))(3 * noise)
    first = jax.nn.softplus(2 * rough)
    return sciml.data.Dataset(first, jax.vmap(jax.vmap(later))(first), GRID)


def main(smoke: bool = False) -> dict[str, float]:
    """Train both; `smoke` takes few steps.

    **Returns:** errors, and how far the mass is off, by name.
    """
    train, test = samples(512, key=jr.key(0)), samples(64, key=jr.key(1))
    plain = sciml.neural_operators.FNO(
        1,
        in_channels=1,
        out_channels=1,
        width=12,
        depth=2,
        num_modes=12,
        boundary=GRID.boundary,
        key=jr.key(2),
    )
    numbers = {}
    models = {"plain": plain, "conservative": Conservative(plain, ShiftToMass(GRID))}
    for name, model in models.items():
        # The layer is differentiable: the model is trained behind it.
        model, _ = sciml.training.fit(
            model,
            train,
            optimiser=optax.adam(3e-3),
            num_steps=150 if smoke else 1000,
            batch_size=32,
            progress=False,
            key=jr.key(3),
        )
        error = sciml.evaluation.evaluate(model, test)["relative_l2"]
        once = worst_change(model, test.inputs, 1)
        often = worst_change(model, test.inputs, 50)
        print(
            f"{name}: error {error:.1e}; mass off by {once:.0e}, by {often:.0e} after"
        )
        print("  50 applications to its own output")
        numbers[f"{name}_error"] = float(error)
        numbers[f"{name}_mass"], numbers[f"{name}_rollout_mass"] = once, often
    return numbers


@eqx.filter_jit
def rollout(model, fields, steps):
    """The model applied to its own output."""
    return jax.lax.fori_loop(0, steps, lambda _, u: jax.vmap(model)(u), fields)


def worst_change(model, fields, steps) -> float:
    """The largest relative change of mass among unseen fields."""
    before = mass(fields, GRID)
    after = mass(rollout(model, fields, jnp.asarray(steps)), GRID)
    return float(jnp.max(jnp.abs(after - before) / before))


if __name__ == "__main__":
    main()
