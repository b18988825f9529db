"""What the tests of learned preconditioners share: systems, weights, properties."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.sparse as sp
from linear_cases import PSD

import sciml
from sciml.grids import Grid, LogNormalField, Neumann, Periodic, SquaredExponentialField
from sciml.linear import from_scipy


def mesh_matrix(n=40, seed=0):
    """Symmetric, positive definite, rows of many lengths, entries of both signs."""
    rng = np.random.default_rng(seed)
    lower = np.tril(rng.uniform(size=(n, n)) < 0.1, -1) * rng.normal(size=(n, n))
    full = lower + lower.T
    scale = rng.uniform(0.1, 10.0, size=n)
    dominant = full + np.diag(1.05 * abs(full).sum(1) + 0.1)
    return sp.csr_matrix(scale[:, None] * dominant * scale[None])


def lognormal(n, seed=0, dtype=jnp.float64, boundary=None):
    grid = Grid((n, n)) if boundary is None else Grid((n, n), 1.0, boundary)
    field = LogNormalField(SquaredExponentialField(variance=1.1))
    coefficient = field.sample(grid, key=jr.key(seed)).astype(dtype)
    return sciml.linear.diffusion_operator(coefficient, grid)


@functools.cache
def operators(dtype=jnp.float64):
    """On grids and not, one of them semidefinite, in a type."""
    return {
        "lognormal": lognormal(9, dtype=dtype),
        "periodic and Neumann": lognormal(
            8, dtype=dtype, boundary=[Periodic(), (Neumann(), Neumann())]
        ),
        "mesh": from_scipy(mesh_matrix(), PSD, dtype=dtype),
    }


def weights(model, kind: str):
    """The model with other weights: "first", "random", "large"."""
    if kind == "first":
        return model
    factor = {"random": 1.0, "large": 1e3}[kind]
    leaves, structure = jax.tree.flatten(model)
    keys = jr.split(jr.key(7), len(leaves))
    new = [
        factor * jr.normal(k, leaf.shape, leaf.dtype) if eqx.is_array(leaf) else leaf
        for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, new)


def in_type(model, dtype):
    return jax.tree.map(lambda x: x.astype(dtype) if eqx.is_array(x) else x, model)


# (One program for all weights of a model on an operator.)
_images = eqx.filter_jit(lambda M, vectors: jax.vmap(M.mv)(vectors))


def check_positive(M, num_vectors=1000):
    """vᵀ M v > 0 and uᵀ M v = vᵀ M u, to rounding of the type, for random vectors."""
    structure = M.in_structure()
    vectors = jr.normal(jr.key(1), (num_vectors, *structure.shape), structure.dtype)
    images = _images(M, vectors)
    assert images.dtype == structure.dtype
    v, z = (np.asarray(x, float).reshape(num_vectors, -1) for x in (vectors, images))
    quotients = (v * z).sum(1) / (v * v).sum(1)
    assert np.isfinite(z).all() and (quotients > 0).all()
    one, other = (v[1:] * z[:-1]).sum(1), (z[1:] * v[:-1]).sum(1)
    norms = np.linalg.norm(v, axis=1) * np.linalg.norm(z, axis=1)
    asymmetry = abs(one - other) / np.maximum(norms[1:], norms[:-1])
    assert asymmetry.max() <= (1e-6 if structure.dtype == np.float32 else 1e-12)


def steps(A, builder, seed=0, rtol=1e-8):
    structure = A.in_structure()
    b = jr.normal(jr.key(seed), structure.shape, structure.dtype)
    solution = sciml.linear_solve(
        A, b, sciml.CG(rtol=rtol, max_steps=2000), preconditioner=builder
    )
    return int(solution.stats["num_steps"])
