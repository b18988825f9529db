"""Layers that hold exactly, and parts of mixtures, survive `save` and `load`."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import sciml
from sciml import constraints
from sciml.grids import Dirichlet, Grid, Periodic

_LINE = Grid((9,), boundary=Dirichlet(stored=True))
_TORUS = Grid((8, 6), boundary=Periodic())
_SQUARE = Grid((7, 6), boundary=Dirichlet(stored=True))

_LAYERS = {
    "positive": (constraints.Positive(0.5), (9,)),
    "between": (constraints.Between(jnp.zeros(9), 2.0), (9,)),
    "clip": (constraints.Clip(high=0.25), (9,)),
    "non-negative": (constraints.NonNegativeWithMass(_LINE), (9,)),
    "dirichlet": (constraints.DirichletValues(_LINE), (9,)),
    "matched": (constraints.MatchedSides(axes=(-1,)), (9,)),
    "mass": (constraints.ShiftToMass(_LINE), (9,)),
    "scaled mass": (constraints.ScaleToMass(_LINE), (9,)),
    "energy": (constraints.ScaleToEnergy(_LINE), (9,)),
    "spectral": (constraints.LerayProjection(_TORUS), (2, 8, 6)),
    "central": (
        constraints.LerayProjection(_TORUS, constraints.central_symbol),
        (2, 8, 6),
    ),
    "curl": (constraints.CurlOfPotential(_SQUARE), (7, 6)),
    "polyhedron": (
        constraints.Polyhedron(jnp.ones((1, 4)), jnp.ones(1), -jnp.eye(4), jnp.ones(4)),
        (4,),
    ),
}


@pytest.mark.parametrize("name", _LAYERS)
def test_layers(name, tmp_path):
    layer, shape = _LAYERS[name]
    sciml.save(tmp_path / "layer", layer)
    loaded = sciml.load(tmp_path / "layer")
    field = 1.0 + jax.nn.softplus(jr.normal(jr.key(0), shape))
    conserves = any(word in type(layer).__name__ for word in ("Mass", "Energy"))
    extra = (jnp.asarray(0.7),) if conserves else ()
    np.testing.assert_array_equal(loaded(field, *extra), layer(field, *extra))


@pytest.mark.parametrize(
    "part",
    [
        constraints.GridPartition((2, 3), time=2, overlap=1, periodic=(1,)),
        constraints.Uncoupled(constraints.VmapExperts()),
        constraints.C0(3.0),
        constraints.C1(2.0, 0.5),
        constraints.Schwarz(num_sweeps=4),
        constraints.TimeMarching(constraints.C0()),
        constraints.GramLevenbergMarquardt(rtol=1e-7, max_steps=7),
        constraints.LinearLeastSquares(),
    ],
    ids=lambda part: type(part).__name__,
)
def test_parts_of_mixtures(part, tmp_path):
    sciml.save(tmp_path / "part", part)
    loaded = sciml.load(tmp_path / "part")
    assert jax.tree.structure(loaded) == jax.tree.structure(part)
    for one, other in zip(jax.tree.leaves(loaded), jax.tree.leaves(part), strict=True):
        np.testing.assert_array_equal(one, other)
