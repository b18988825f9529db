"""A network whose answers meet an equation, in one piece and in four.

Run it with `python examples/moe_hard_constraint.py`. −u″ + 4u³ = f on (0, 1), u = 0 at
the ends, for random f. An FNO maps f to eight basis fields; a hard-constraint layer
finds their best combination, for the whole interval or for each quarter of it, with
value and slope matched at the seams. It is trained on the residual alone, through the
layer, and compared with solutions that no network has seen.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax

import sciml
from sciml.constraints import C1, GridPartition, HardConstraint, MixtureOfExperts
from sciml.grids import Dirichlet, Grid, SquaredExponentialField

NODES, BASIS = 129, 8
GRID = Grid((NODES,), boundary=Dirichlet(stored=True))
X = jnp.linspace(0.0, 1.0, NODES)


def terms(u):
    """u and u″, which is known between the ends."""
    second = (u[2:] - 2 * u[1:-1] + u[:-2]) * (NODES - 1) ** 2
    return {"u": u, "u_xx": jnp.pad(second, 1)}


def residual(terms, source):
    """−u″ + 4u³ − f, zero at the ends."""
    found = 4 * terms["u"] ** 3 - terms["u_xx"] - source
    return found


class Solver(eqx.Module):
    """f ↦ u by a network's basis and a mixture of experts."""

    network: sciml.neural_operators.FNO
    experts: MixtureOfExperts

    def __call__(self, source):
        fields = self.network(source)
        basis = (X * (1 - X)).astype(fields.dtype)[None] * fields
        out = self.experts(basis, source[0], throw=False)
        return out.value[None]


@dataclasses.dataclass
class RelativeResidual:
    """mean over samples of ‖residual‖² / ‖f‖², of the field that is put together."""

    def __call__(self, model, batch, key):
        del key

        def one(source):
            rows = residual(terms(model(source)[0]), source[0])[1:-1]
            return jnp.sum(rows**2) / jnp.sum(source**2)

        return jnp.mean(jax.vmap(one)(jnp.asarray(batch.inputs))), {}


def reference(source):
    """Newton's method on the same differences, to rounding."""
    inside = NODES - 2
    A = (NODES - 1) ** 2 * (
        2 * jnp.eye(inside) - jnp.eye(inside, k=1) - jnp.eye(inside, k=-1)
    )
    f = source[0, 1:-1].astype(A.dtype)

    def newton(u, _):
        change = jnp.linalg.solve(A + jnp.diag(12 * u**2), A @ u + 4 * u**3 - f)
        return u - change, None

    u, _ = jax.lax.scan(newton, jnp.zeros(inside), None, length=20)
    return jnp.pad(u, 1)[None]


def main(smoke: bool = False) -> dict[str, float]:
    """Train with one expert and with four; `smoke` takes few steps.

    **Returns:** median relative L2 errors on unseen sources, before and after.
    """
    jax.config.update("jax_enable_x64", True)
    keys = jr.split(jr.key(0), 3)
    field = SquaredExponentialField(1e4, 0.1)
    draw = jax.vmap(lambda key: field.sample(GRID, key=key))
    count = 32 if smoke else 64
    sources = draw(jr.split(keys[0], count + 20)).astype(jnp.float32)[:, None]
    train = sciml.data.Dataset(sources[:count], None, GRID)
    unseen = sources[count:]
    exact = jax.vmap(reference)(unseen)
    layer = HardConstraint(lambda t, f: residual(t, f), terms=terms)
    numbers = {}
    for experts in (1, 4):
        mixture = MixtureOfExperts(layer, GridPartition(experts), C1())
        network = sciml.neural_operators.FNO(
            1, 1, BASIS, width=16, num_modes=8, depth=2, key=keys[1]
        )
        network = jax.tree.map(
            lambda x: x.astype(jnp.float32) if eqx.is_inexact_array(x) else x, network
        )
        model = Solver(network, mixture)
        for when in ("untrained", "trained"):
            if when == "trained":
                model, _ = sciml.training.fit(
                    model,
                    train,
                    loss=RelativeResidual(),
                    optimiser=optax.adam(3e-3),
                    num_steps=400 if smoke else 2000,
                    batch_size=4,
                    key=keys[2],
                )
            found = jax.vmap(model)(unseen)
            error = jnp.linalg.norm(found - exact, axis=-1)
            error = jnp.median(error / jnp.linalg.norm(exact, axis=-1))
            numbers[f"{when}_{experts}"] = float(error)
            print(f"{experts} expert(s), {when:<9} {float(error):8.2%}")
    return numbers


if __name__ == "__main__":
    main()
