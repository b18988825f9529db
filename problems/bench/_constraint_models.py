"""Models of the comparison of constraints, and what they are trained on."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

import sciml
from sciml.constraints import (
    C0,
    C1,
    AbstractCoupling,
    HardConstraint,
    LinearLeastSquares,
    MixtureOfExperts,
    Schwarz,
    Uncoupled,
)
from sciml.neural_operators import FNO

from .._surrogate import in_float32
from ._equation_rows import AbstractEquationRows, TrainingSize

# Of the sides' rows, in layers and in the loss of hard constraints.
HARD_WEIGHT = 10.0
HARD_METHODS: dict[str, AbstractCoupling | None] = {
    "hard": None,
    "hard, Uncoupled": Uncoupled(),
    "hard, C0": C0(),
    "hard, C1": C1(),
    "hard, C1(10, 1)": C1(10.0, 1.0),
    "hard, C1(1, 0.1)": C1(1.0, 0.1),
    "hard, C1(100, 100)": C1(100.0, 100.0),
    "hard, Schwarz": Schwarz(num_sweeps=10),
}
# Nodes on either side.
SCHWARZ_OVERLAP = 4


class Penalised(eqx.Module):
    """u by the network alone."""

    network: FNO
    rows: AbstractEquationRows = eqx.field(static=True)

    def fields(self, u0: Float[Array, "1 *shape"]) -> tuple[Array, Array | None]:
        """What the network supplies, in its envelope, and the offset."""
        rows, found = self.rows, self.network(u0.astype(jnp.float32))
        envelope = rows.envelope()
        if envelope is not None:
            found = envelope.astype(found.dtype)[None] * found
        return found, rows.offset(u0[0])

    def __call__(self, u0: Float[Array, "1 *shape"]) -> Float[Array, "1 *shape"]:
        """One field."""
        found, offset = self.fields(u0)
        found = found.astype(u0.dtype)
        return found if offset is None else offset[None].astype(u0.dtype) + found


class Constrained(eqx.Module):
    """u by the best combination of fields that the network supplies."""

    penalised: Penalised
    layer: HardConstraint | MixtureOfExperts
    guess: HardConstraint | MixtureOfExperts

    def solve(self, u0: Float[Array, "1 *shape"]) -> sciml.linear.Solution:
        """The layer's solution, started from that of the linear equation."""
        rows = self.penalised.rows
        found, offset = self.penalised.fields(u0)
        basis = jax.vmap(rows.completed)(found.astype(u0.dtype))
        if offset is not None:
            offset = rows.completed(offset)
        parameters = rows.parameters(u0[0])
        fixed = lax.stop_gradient((basis, parameters, offset))
        start = self.guess(fixed[0], fixed[1], offset=fixed[2], throw=False)
        weights = start.stats["weights"]
        return self.layer(basis, parameters, offset=offset, start=weights, throw=False)

    def __call__(self, u0: Float[Array, "1 *shape"]) -> Float[Array, "1 *shape"]:
        """One field."""
        value = self.solve(u0).value
        return self.penalised.rows.field(value)[None].astype(u0.dtype)


class EquationLoss(eqx.Module):
    """mean over samples of rms(residual) + weight · Σ over sides of rms(its rows)."""

    rows: AbstractEquationRows = eqx.field(static=True)
    weight: float = eqx.field(static=True)

    def parts(
        self, u: Float[Array, "*shape"], u0: Float[Array, "*shape"]
    ) -> list[Array]:
        """Root mean squares: of the residual, then of each side's rows."""
        rows = self.rows
        terms, parameters = rows.terms(rows.completed(u)), rows.parameters(u0)
        found = [_rms(rows.residual(terms, parameters))]
        for side in rows.sides(1.0):
            pick = lambda field, side=side: jnp.take(field, side.end, side.axis)
            picked = jax.tree.map(pick, (terms, parameters))
            found.append(_rms(side.residual(*picked)))
        return found

    def __call__(self, model: Any, batch: Any, key: Any = None):
        """The loss, of inputs alone."""
        del key

        def one(u0):
            residual, *sides = self.parts(model(u0)[0], u0[0])
            return residual + self.weight * sum(sides)

        # (Each in turn: solves take their own numbers of steps.)
        return jnp.mean(lax.map(one, jnp.asarray(batch.inputs))), {}


def constraint_model(
    method: str, rows: AbstractEquationRows, size: TrainingSize, key: Any
) -> Penalised | Constrained:
    """A method's model, untrained."""
    channels = 1 if method == "soft" else size.network.num_basis
    network = in_float32(
        FNO(
            len(rows.shape),
            1,
            channels,
            width=size.network.width,
            depth=size.network.depth,
            num_modes=size.network.num_modes,
            boundary=rows.grid.boundary,
            coordinates=rows.coordinates,
            key=key,
        )
    )
    penalised = Penalised(network, rows)
    if method == "soft":
        return penalised
    return _constrained(penalised, rows, HARD_METHODS[method], size.experts)


def with_rows(
    model: Penalised | Constrained, rows: AbstractEquationRows, experts: tuple[int, ...]
) -> Penalised | Constrained:
    """The model with other rows, for example those of all times."""
    if isinstance(model, Penalised):
        return Penalised(model.network, rows)
    coupling = None
    if isinstance(model.layer, MixtureOfExperts):
        coupling = model.layer.coupling
    return _constrained(
        Penalised(model.penalised.network, rows), rows, coupling, experts
    )


def _constrained(
    penalised: Penalised,
    rows: AbstractEquationRows,
    coupling: AbstractCoupling | None,
    experts: tuple[int, ...],
) -> Constrained:
    sides = rows.sides(HARD_WEIGHT)
    layers: list[Any] = [
        HardConstraint(rows.residual, terms=rows.terms, sides=sides),
        HardConstraint(
            rows.linear, LinearLeastSquares(), terms=rows.terms, sides=sides
        ),
    ]
    if coupling is not None:
        overlap = SCHWARZ_OVERLAP if isinstance(coupling, Schwarz) else 0
        partition = rows.partition(experts, overlap)
        layers = [MixtureOfExperts(layer, partition, coupling) for layer in layers]
    return Constrained(penalised, *layers)


@eqx.filter_jit
def prediction(
    model: Penalised | Constrained, u0: Float[Array, "1 *shape"]
) -> dict[str, Any]:
    """u of one sample and what is told of its solve."""
    if isinstance(model, Penalised):
        u, stats = model(u0)[0], {}
        rows = model.rows
    else:
        out, rows = model.solve(u0), model.penalised.rows
        good = out.result == sciml.RESULTS.successful
        u = rows.field(out.value)
        stats = {
            "num_steps": jnp.mean(out.stats["num_steps"].astype(u.dtype)),
            "converged": jnp.mean(good.astype(u.dtype)),
            "seam_jump": out.stats.get("seam_jump", jnp.zeros(())),
        }
    residual, *sides = EquationLoss(rows, 1.0).parts(u, u0[0])
    return {"u": u, "residual": residual, "sides": sum(sides), **stats}


def _rms(rows: Array) -> Array:
    """Root mean square, with a derivative at zero."""
    return jnp.sqrt(jnp.mean(rows**2) + jnp.finfo(rows.dtype).tiny)
