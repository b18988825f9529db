"""Classical preconditioners against their textbook definitions, written densely."""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
import numpy as np
import pytest
import scipy.sparse as sp
from linear_cases import AXES, PSD, is_free, outcome, solve_dense

import sciml
from sciml import preconditioners as pc
from sciml.grids import Grid
from sciml.linear import from_scipy, linear_solve

DTYPES = [np.float32, np.float64, np.complex128]
as_matrix = eqx.filter_jit(lambda operator: operator.as_matrix())


def inside(M) -> Any:
    """What the operator applies to flat vectors."""
    return M.function.function


def mesh_matrix(dtype=np.float64, n=30, seed=0):
    """Diagonally dominant and Hermitian, entries of both signs anywhere."""
    rng = np.random.default_rng(seed)
    lower = np.tril(rng.uniform(size=(n, n)) < 0.15, -1) * rng.normal(size=(n, n))
    if np.issubdtype(dtype, np.complexfloating):
        lower = lower * np.exp(2j * np.pi * rng.uniform(size=(n, n)))
    full = lower + lower.conj().T
    scale = rng.uniform(0.1, 10.0, size=n)
    dominant = full + np.diag(1.05 * abs(full).sum(1) + 0.1)
    return sp.csr_matrix((scale[:, None] * dominant * scale[None]).astype(dtype))


def grid_matrix(n=16):
    line = sp.csr_array(2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1))
    eye = sp.eye(n)
    return (sp.kron(line, eye) + sp.kron(eye, line)).tocsr()


def incomplete_cholesky(A):
    """IC(0), entry after entry."""
    A, n = A.toarray(), A.shape[0]
    L = np.zeros_like(A)
    for i, j in itertools.product(range(n), range(n)):
        if j <= i and A[i, j] != 0:
            rest = A[i, j] - L[i, :j] @ L[j, :j].conj()
            L[i, j] = np.sqrt(rest) if i == j else rest / L[j, j]
    return np.linalg.inv(L @ L.conj().T)


def swept_incomplete_cholesky(A, sweeps):
    n = A.shape[0]
    L = np.linalg.cholesky(np.linalg.inv(incomplete_cholesky(A)))
    D, N = np.diag(np.diag(L)), np.tril(L, -1)
    step = -np.linalg.solve(D, N)
    powers = sum(np.linalg.matrix_power(step, m) for m in range(sweeps + 1))
    p = powers @ np.linalg.inv(D)
    return p.conj().T @ p @ np.eye(n)


def ssor(A, omega):
    A = A.toarray()
    D, L = np.diag(np.diag(A)), np.tril(A, -1)
    X = D + omega * L
    P = X @ np.linalg.inv(D) @ X.conj().T / (omega * (2 - omega))
    return np.linalg.inv(P)


def approximate_inverse(A, power):
    A = A.toarray()
    pattern = np.linalg.matrix_power((A != 0).astype(float), power)
    G = np.zeros_like(A)
    for i in range(len(A)):
        J = np.flatnonzero(pattern[i, : i + 1])
        unit = np.zeros(len(J))
        unit[-1] = 1
        row = np.linalg.solve(A[np.ix_(J, J)], unit)
        G[i, J] = row.conj() / np.sqrt(row[-1].real)
    return G.conj().T @ G


def block_jacobi(A, width):
    A, M = A.toarray(), np.zeros(A.shape, A.dtype)
    for i in range(0, len(A), width):
        block = slice(i, i + width)
        M[block, block] = np.linalg.inv(A[block, block])
    return M


def chebyshev(A, degree, ratio):
    """From the polynomial's definition: 1 − λ p(λ) = T(…)/T(…)."""
    A = A.toarray()
    diagonal = np.real(np.diag(A))
    root = np.diag(1 / np.sqrt(diagonal))
    values, vectors = np.linalg.eigh(root @ A @ root)
    top = (abs(A).sum(1) / diagonal).max()
    bottom = top / ratio
    T = lambda t: np.polynomial.chebyshev.Chebyshev.basis(degree)(t)
    middle = (top + bottom) / (top - bottom)
    p = (1 - T(middle - 2 * values / (top - bottom)) / T(middle)) / values
    return root @ (vectors * p) @ vectors.conj().T @ root


TABLE = {
    "ic": (
        pc.IncompleteCholesky(pc.LevelSchedule()),
        incomplete_cholesky,
    ),
    "ic swept": (
        pc.IncompleteCholesky(),
        lambda A: swept_incomplete_cholesky(A, 3),
    ),
    "ssor": (pc.SSOR(1.3), lambda A: ssor(A, 1.3)),
    "fsai": (pc.FSAI(), lambda A: approximate_inverse(A, 1)),
    "fsai 2": (pc.FSAI(2), lambda A: approximate_inverse(A, 2)),
    "block jacobi": (pc.BlockJacobi(3), lambda A: block_jacobi(A, 3)),
    "chebyshev": (
        pc.ChebyshevPolynomial(5, 20.0),
        lambda A: chebyshev(A, 5, 20.0),
    ),
    "direct": (pc.DirectFactorisation(), lambda A: np.linalg.inv(A.toarray())),
}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", TABLE)
def test_definition(name, dtype):
    builder, dense = TABLE[name]
    A = mesh_matrix(dtype)
    M = builder.build(from_scipy(A, PSD))
    got = np.asarray(as_matrix(M))
    assert got.dtype == dtype and lx.is_positive_semidefinite(M)
    expected = dense(A.astype(np.result_type(dtype, np.float64)))
    tolerance = 3e-4 if dtype == np.float32 else 1e-9
    assert abs(got - expected).max() <= tolerance * abs(expected).max()
    assert (np.linalg.eigvalsh(got) > 0).all()


@pytest.mark.parametrize("name", TABLE)
def test_on_fields_of_a_grid(name):
    """A stencil operator gives the same M as its matrix, on fields, in a batch."""
    builder, _ = TABLE[name]
    A = sciml.linear.diffusion_operator(1.0, Grid((6, 5), (1.4, 1.2)))
    M = builder.build(A)
    fields = jr.normal(jr.key(0), (2, 6, 5))
    batch = eqx.filter_jit(lambda M, f: jax.vmap(M.mv)(f))(M, fields)
    flat = builder.build(from_scipy(sciml.linear.to_scipy(A), PSD))
    expected = as_matrix(flat) @ fields.reshape(2, 30).T
    assert np.allclose(batch.reshape(2, 30).T, expected, rtol=1e-10, atol=1e-14)


# Iterations of CG to 1e-8 on the 256² five-point Laplacian, b of unit normals: counts
# of compiled codes elsewhere.
KNOWN = {
    "none": (None, 763),
    "jacobi": (pc.Jacobi(), 763),
    "ssor 1": (pc.SSOR(1.0), 291),
    "ssor 1.8": (pc.SSOR(1.8), 103),
    "ssor 1.95": (pc.SSOR(1.95), 64),
    "ic": (pc.IncompleteCholesky(pc.LevelSchedule()), 248),
    "ic, 3 sweeps": (pc.IncompleteCholesky(), 257),
    "fsai": (pc.FSAI(), 404),
    "fsai 2": (pc.FSAI(2), 287),
    "chebyshev 4": (pc.ChebyshevPolynomial(4), 211),
    "chebyshev 8": (pc.ChebyshevPolynomial(8), 108),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_known_steps(name):
    builder, known = KNOWN[name]
    A = from_scipy(grid_matrix(256), PSD)
    b = jnp.asarray(np.random.default_rng(0).normal(size=256**2))
    solver = sciml.CG(rtol=1e-8, max_steps=1000)
    solution = linear_solve(A, b, solver, preconditioner=builder)
    assert abs(int(solution.stats["num_steps"]) - known) <= 0.05 * known


def steps(A, builder, rtol=1e-8):
    b = jnp.asarray(np.random.default_rng(0).normal(size=A.shape[0]))
    solution = solve_dense(A.toarray(), b, None, None, sciml.CG(rtol=rtol))
    M = as_matrix(builder.build(from_scipy(A, PSD)))
    preconditioned = solve_dense(A.toarray(), b, M, None, sciml.CG(rtol=rtol))
    assert outcome(preconditioned.result) == "successful"
    return int(preconditioned.stats["num_steps"]), int(solution.stats["num_steps"])


def test_fewer_steps():
    """On a grid: IC(0) below FSAI below Jacobi; Young's ω below all fixed ones."""
    A = grid_matrix()
    names = ("ic", "ic swept", "fsai 2", "fsai", "chebyshev")
    counts = {name: steps(A, TABLE[name][0])[0] for name in names}
    plain = steps(A, pc.Jacobi())[0]
    assert counts["ic"] <= counts["ic swept"] <= counts["ic"] + 2
    assert counts["ic"] < counts["fsai 2"] < counts["fsai"] < plain
    young = steps(A, pc.SSOR())[0]
    assert young <= min(steps(A, pc.SSOR(w))[0] for w in (1.0, 1.4, 1.9)) + 1


def test_young():
    """ω from μ = cos(π/(n+1)), which Lanczos finds; 1 where the order is not his."""
    A = grid_matrix()
    (found,) = [float(pc.SSOR().build(from_scipy(m, PSD)).facts["omega"]) for m in (A,)]
    mu = np.cos(np.pi / 17)
    assert abs(found - 2 / (1 + np.sqrt(1 - mu**2))) < 1e-6
    omega = lambda A: pc.SSOR().build(from_scipy(A, PSD)).facts["omega"]
    shuffled = np.random.default_rng(0).permutation(256)
    assert omega(A[shuffled][:, shuffled].tocsr()) == 1.0
    assert omega(mesh_matrix()) == 1.0
    two = sp.block_diag([grid_matrix(3), grid_matrix(4)], format="csr")
    assert omega(two) > 1.1


def test_young_follows_a_sequence():
    eye = sp.eye(256)
    builder, omegas = pc.SSOR(), []
    M = builder.build(from_scipy(grid_matrix() + eye, PSD))
    for shift in (0.9, 0.7, 0.4, 0.2):
        A = (grid_matrix() + shift * eye).tocsr()
        M = builder.update(M, from_scipy(A, PSD))
        mu = 4 * np.cos(np.pi / 17) / (4 + shift)
        omegas.append(float(M.facts["omega"]))
        assert abs(omegas[-1] - 2 / (1 + np.sqrt(1 - mu**2))) < 2e-3
    with pytest.raises(TypeError, match="SSOR.build"):
        builder.update(pc.Jacobi().build(from_scipy(A, PSD)), from_scipy(A, PSD))


def test_shift_where_a_pivot_breaks_down():
    """Kershaw's matrix: positive definite, its IC(0) is not."""
    A = np.array([[3.0, -2, 0, 2], [-2, 3, -2, 0], [0, -2, 3, -2], [2, 0, -2, 3]])
    assert np.linalg.eigvalsh(A).min() > 0.1
    M = pc.IncompleteCholesky().build(from_scipy(sp.csr_matrix(A), PSD))
    assert M.facts["shift"] > 0
    assert (np.linalg.eigvalsh(np.asarray(as_matrix(M))) > 0).all()


@pytest.mark.sampled(5)
@pytest.mark.parametrize("low", AXES)
@pytest.mark.parametrize("reaction", [None, 3.0])
def test_fast_poisson_is_exact(low, reaction):
    """One step for every kind of axis (with a varied second one)."""
    second = list(AXES)[(list(AXES).index(low) + 2) % len(AXES)]
    pairs = [AXES[low], AXES[second]]
    A = sciml.linear.diffusion_operator(
        2.0, Grid((9, 12), (1.0, 2.0), pairs), reaction=reaction
    )
    b = jr.normal(jr.key(0), (9, 12))
    if is_free(pairs) and reaction is None:
        b = b - b.mean()
    solution = linear_solve(A, b, sciml.CG(rtol=1e-9), preconditioner=pc.FastPoisson())
    assert solution.stats["num_steps"] == 1


def test_fast_poisson_of_other_means():
    """Different coefficients per axis, and a reaction: still exact."""
    A = sciml.linear.diffusion_operator(1.0, Grid((9, 12)), reaction=40.0)
    edges = (3.0 * A.stencil.edges[0], 0.5 * A.stencil.edges[1])
    # A Dirichlet node's row holds both of its edges, those to the boundary too.
    diagonal = jnp.full((9, 12), 2 * 3.0 * 100 + 2 * 0.5 * 169 + 40.0)
    A = eqx.tree_at(
        lambda A: (A.stencil.edges, A.stencil.diagonal), A, (edges, diagonal)
    )
    solution = linear_solve(
        A, jnp.ones((9, 12)), sciml.CG(rtol=1e-9), preconditioner=pc.FastPoisson()
    )
    assert solution.stats["num_steps"] == 1


def test_fast_poisson_of_rough_coefficients():
    a = np.random.default_rng(0).uniform(1.0, 4.0, size=(20, 20))
    A = sciml.linear.diffusion_operator(a, Grid((20, 20)))
    solution = linear_solve(
        A, jnp.ones((20, 20)), sciml.CG(rtol=1e-8), preconditioner=pc.FastPoisson()
    )
    # √κ ≤ 2: CG's bound.
    assert int(solution.stats["num_steps"]) <= np.log(2e8) / np.log(3)


def test_low_rank_of_a_kernel():
    x = np.linspace(0, 1, 120)
    K = np.exp(-(((x[:, None] - x) / 0.2) ** 2))
    A = lx.MatrixLinearOperator(jnp.asarray(K + 1e-6 * np.eye(120)), PSD)
    builder = pc.RandomisedPivotedCholesky(16, 1e-6, key=jr.key(1))
    M = builder.build(A)
    dense = np.asarray(as_matrix(M))
    assert (np.linalg.eigvalsh(dense) > 0).all()
    condition = np.linalg.cond(dense @ np.asarray(A.matrix))
    assert condition < 1e-4 * np.linalg.cond(A.matrix)
    # A rank above K's: the rest of the columns is empty.
    low = lx.MatrixLinearOperator(jnp.eye(6) + jnp.ones((6, 6)), PSD)
    exact = pc.RandomisedPivotedCholesky(5, 1.0, key=jr.key(1)).build(low)
    assert np.allclose(as_matrix(exact) @ low.matrix, np.eye(6), atol=1e-12)


def test_direct_factorisations_are_told_apart():
    """Two of them in one compiled program, and none once it is gone."""
    matrices = [mesh_matrix(seed=s) for s in (0, 1)]
    Ms = [pc.DirectFactorisation().build(from_scipy(A, PSD)) for A in matrices]
    apply = eqx.filter_jit(lambda M, v: M.mv(v))
    v = jnp.ones(30)
    for A, M in zip(matrices, Ms, strict=True):
        assert np.allclose(A @ apply(M, v), 1.0)
    # Both at once, each with vectors of its own or with the same one.
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), *Ms)
    vectors = jnp.stack([v, 2.0 * v])
    for axes, rhs in (((0, 0), vectors), ((0, None), v)):
        solved = jax.vmap(lambda M, v: M.mv(v), in_axes=axes)(both, rhs)
        for k, A in enumerate(matrices):
            assert np.allclose(A @ solved[k], rhs[k] if rhs.ndim == 2 else rhs)
    gone = inside(Ms[0])
    lost = eqx.tree_at(lambda s: s.number, gone, jnp.asarray(-1, jnp.int32))
    with pytest.raises(Exception, match="factorisation is gone"):
        jax.block_until_ready(eqx.filter_jit(lost)(v))


def test_mistakes():
    A: Any = from_scipy(grid_matrix(3), PSD)
    on_host = [builder for builder, _ in TABLE.values() if builder.on_host]
    assert len(on_host) == 7
    for builder in on_host:
        with pytest.raises(
            TypeError, match=f"{type(builder).__name__}.*outside of jit"
        ):
            eqx.filter_jit(builder.build)(A)
    nan = eqx.tree_at(lambda o: o.values, A, A.values.at[2, 4].set(jnp.nan))
    negative = from_scipy((grid_matrix(3) - 5 * sp.eye(9)).tocsr(), PSD)
    for operator in (nan, negative):
        for builder in on_host:
            with pytest.raises(ValueError, match="positive diagonal"):
                builder.build(operator)
    for make, message in [
        (lambda: pc.SSOR(2.0), "omega"),
        (lambda: pc.FSAI(0), "power"),
        (lambda: pc.BlockJacobi(2).build(A), "does not divide"),
        (lambda: pc.ChebyshevPolynomial(0), "degree"),
        (lambda: pc.ChebyshevPolynomial(4, 1.0), "ratio"),
        (lambda: pc.JacobiSweeps(-1), "num_sweeps"),
        (lambda: pc.RandomisedPivotedCholesky(0, 1.0, key=jr.key(0)), "rank"),
        (lambda: pc.RandomisedPivotedCholesky(1, 0.0, key=jr.key(0)), "shift"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(TypeError, match="grid"):
        pc.FastPoisson().build(A)
    indefinite = sp.csr_matrix([[1.0, 2.0], [2.0, 1.0]])
    for builder in (pc.FSAI(), pc.BlockJacobi(2)):
        with pytest.raises(ValueError, match="positive definite"):
            builder.build(from_scipy(indefinite, PSD))
