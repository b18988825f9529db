"""Faulty systems and weights: learned preconditioners never make a solve lie.

What is nonlinear has its own test, beside `DeepConjugateDirections`.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from learned_cases import weights
from linear_cases import outcome, random_field

import sciml
from sciml import preconditioners as pc
from sciml.grids import Grid
from sciml.linear import diffusion_operator

SHAPE = (8, 7)
GRID = Grid(SHAPE)
NODES = np.stack([axis.ravel() for axis in GRID.mesh()], -1)


@functools.cache
def builder(name: str, kind: str):
    key = jr.key(0)
    model = {
        "sparse inverse": lambda: pc.SparseApproximateInverse(4, 2, key=key),
        "factor": lambda: pc.NeuralFactor(2, 4, 2, key=key),
        "corrected": lambda: pc.CorrectedCholesky(4, 2, key=key),
        "multigrid": lambda: pc.LearnedMultigrid(
            2, transfer=pc.LearnedTransfer(2, key=key), max_coarse_size=12, key=key
        ),
    }[name]()
    model = weights(model, kind)
    return model.at(NODES) if name == "factor" else model


NAMES = ("sparse inverse", "factor", "corrected", "multigrid")


def system():
    field = jnp.asarray(random_field(SHAPE, 100.0, 1))
    return diffusion_operator(field, GRID), jr.normal(jr.key(2), SHAPE)


def changed_diagonal(A, change):
    return eqx.tree_at(lambda A: A.stencil.diagonal, A, change(A.stencil.diagonal))


FAULTS = {
    "none": lambda A, b: (A, b),
    # (The grid is not scaled: its numbers are lengths.)
    "units": lambda A, b: (
        eqx.tree_at(
            lambda A: A.stencil, A, jax.tree.map(lambda x: 1e25 * x, A.stencil)
        ),
        b,
    ),
    "NaN in b": lambda A, b: (A, b.at[3, 3].set(jnp.nan)),
    "infinity in b": lambda A, b: (A, b.at[3, 3].set(jnp.inf)),
    "zero b": lambda A, b: (A, 0 * b),
    "NaN in A": lambda A, b: (
        changed_diagonal(A, lambda d: d.at[3, 3].set(jnp.nan)),
        b,
    ),
    "indefinite A": lambda A, b: (changed_diagonal(A, lambda d: 0.6 * d), b),
    "negative diagonal": lambda A, b: (
        changed_diagonal(A, lambda d: d.at[3, 3].set(-1.0)),
        b,
    ),
}


@pytest.mark.parametrize("kind", ["first", "large"])
@pytest.mark.parametrize("name", NAMES)
def test_no_solve_lies(name, kind):
    good, b = system()
    solver = sciml.CG(rtol=1e-8, max_steps=300)
    for fault, change in FAULTS.items():
        A, vector = change(good, b)
        try:
            solution = sciml.linear_solve(
                A, vector, solver, preconditioner=builder(name, kind), throw=False
            )
        except ValueError as error:
            # Set-ups on the host name what is wrong with A.
            assert fault in ("NaN in A", "negative diagonal", "indefinite A"), fault
            assert "finite" in str(error) or "positive" in str(error)
            continue
        claimed = outcome(solution.result) == "successful"
        left = np.asarray(vector - A.mv(solution.value))
        size = np.linalg.norm(np.asarray(vector))
        true = bool(np.linalg.norm(left) <= 1.001e-8 * size)
        # A claim is true, and what is well posed is solved, whatever the weights are.
        assert not claimed or true, fault
        if fault in ("none", "units", "zero b"):
            assert claimed or kind == "large", (fault, outcome(solution.result))
        else:
            assert not claimed, fault


@pytest.mark.parametrize("name", NAMES)
def test_weights_that_are_no_numbers(name):
    """They are named, and `Fallback` goes on without them."""
    A, b = system()
    broken = jax.tree.map(
        lambda x: x * jnp.nan if eqx.is_inexact_array(x) else x, builder(name, "first")
    )
    solver = sciml.CG(rtol=1e-8, max_steps=300)
    alone = sciml.linear_solve(A, b, solver, preconditioner=broken, throw=False)
    assert outcome(alone.result) != "successful"
    both = sciml.linear_solve(A, b, solver, preconditioner=pc.Fallback(broken))
    assert both.stats["fallback_step"] >= 0
    assert np.linalg.norm(b - A.mv(both.value)) <= 1.001e-8 * np.linalg.norm(b)
