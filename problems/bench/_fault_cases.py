"""Linear systems and preconditioners that go wrong, and some that must not."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sciml.preconditioners import Jacobi

SIZE = 48
_CALLS = 5


class Systems(NamedTuple):
    """A batch of systems A x = b and A.T y = g, one per seed, ‖b‖ = ‖g‖ = √n."""

    A: np.ndarray
    b: np.ndarray
    g: np.ndarray


class BentPreconditioner(eqx.Module):
    """r ↦ r (|r|/max|r| + 1/20)^power + bend |Sr|, S a cyclic shift; or NaN.

    NaN for every r that is not in the span of `basis` (unit vectors, zero columns
    ignored) where `armed`. In each method here the k-th vector that M = I is applied
    to, counting from zero, lies in the Krylov space K_{k+1}(A, b) but not in K_k(A, b).
    With a basis of K_k(A, b), M is the identity for k calls and then gives NaN: it
    breaks at call k under any transformation, without having to count. In an adjoint
    solve it gives NaN at once.
    """

    power: Float[Array, "..."]
    bend: Float[Array, "..."]
    armed: Bool[Array, "..."]
    basis: Float[Array, "... n calls"]

    def __call__(self, r):
        """M(r) of a vector r."""
        largest = jnp.max(jnp.abs(r))
        unit = r / jnp.where(largest > 0, largest, 1)
        z = r * (jnp.abs(unit) + 0.05) ** self.power
        z = z + self.bend * jnp.abs(jnp.roll(r, 1))
        outside = unit - self.basis @ (self.basis.T @ unit)
        new = jnp.sum(outside**2) > 1e-6 * jnp.sum(unit**2)
        return jnp.where(self.armed & new, jnp.nan, z)


def systems(kind: str, seeds: Sequence[int], base: int, dtype: Any) -> Systems:
    """The systems of a kind (see `SYSTEMS`), rounded to a dtype."""
    found = []
    for seed in seeds:
        rng = np.random.default_rng([base, list(SYSTEMS).index(kind), seed])
        A, b = SYSTEMS[kind](rng, seed)
        found.append((A, _unit(b), _unit(rng.normal(size=SIZE))))
    return Systems(*(np.array(part).astype(dtype) for part in zip(*found, strict=True)))


def preconditioners(
    kind: str, cases: Systems, seeds: Sequence[int], base: int, dtype: Any
) -> Any:
    """The preconditioners of a kind (see `PRECONDITIONERS`) for systems.

    **Returns:** None, a builder without arrays, an array of matrices, or a batched
    `BentPreconditioner`.
    """
    if kind == "none":
        return None
    if kind == "Jacobi":
        return Jacobi()
    # The same for every operator, so that rows differ by one thing.
    rngs = [
        np.random.default_rng([base, 99, list(PRECONDITIONERS).index(kind), seed])
        for seed in seeds
    ]
    if kind == "nonlinear":
        return bent(
            np.array([rng.uniform(-0.9, 2.0) for rng in rngs]),
            np.array([(0.0, 0.3, 1.0)[seed % 3] for seed in seeds]),
            np.zeros(len(seeds), bool),
            np.zeros((len(seeds), SIZE, _CALLS)),
            dtype,
        )
    if kind == "NaN at call k":
        bases = [
            _krylov_basis(np.float64(A), np.float64(b), seed % (_CALLS + 1))
            for A, b, seed in zip(cases.A, cases.b, seeds, strict=True)
        ]
        zero = np.zeros(len(seeds))
        return bent(zero, zero, np.ones(len(seeds), bool), np.array(bases), dtype)
    make = _MATRICES[kind]
    matrices = [make(rng, seed) for rng, seed in zip(rngs, seeds, strict=True)]
    return np.array(matrices).astype(dtype)


def structure_of(kind: str) -> str:
    """What kinds of preconditioners share a compiled program."""
    if kind in ("nonlinear", "NaN at call k"):
        return "bent"
    return kind if kind in ("none", "Jacobi") else "matrix"


def harmless(structure: str, count: int, dtype: Any) -> Any:
    """A batch of good preconditioners of a structure, see `structure_of`."""
    if structure == "bent":
        zero = np.zeros(count)
        basis = np.zeros((count, SIZE, _CALLS))
        return bent(zero, zero, np.zeros(count, bool), basis, dtype)
    if structure == "matrix":
        return np.tile(np.eye(SIZE, dtype=dtype), (count, 1, 1))
    return Jacobi() if structure == "Jacobi" else None


def bent(power, bend, armed, basis, dtype) -> BentPreconditioner:
    """A batch of `BentPreconditioner` in a dtype."""
    power, bend, basis = (jnp.asarray(v, dtype) for v in (power, bend, basis))
    return BentPreconditioner(power, bend, jnp.asarray(armed), basis)


def well_conditioned(count: int, base: int, dtype: Any) -> Systems:
    """Positive definite systems of condition 4: neighbours for a bad one."""
    found = []
    for k in range(count):
        rng = np.random.default_rng([base, 98, k])
        b, g = rng.normal(size=(2, SIZE))
        found.append((_rotated(np.geomspace(1, 4, SIZE), rng)[0], _unit(b), _unit(g)))
    return Systems(*(np.array(part).astype(dtype) for part in zip(*found, strict=True)))


def _unit(v: np.ndarray) -> np.ndarray:
    return v * (SIZE**0.5 / np.linalg.norm(v))


def _rotated(values, rng) -> tuple[np.ndarray, np.ndarray]:
    """A symmetric matrix of given eigenvalues, and its eigenvectors as columns."""
    q, _ = np.linalg.qr(rng.normal(size=(SIZE, SIZE)))
    matrix = (q * values) @ q.T
    return (matrix + matrix.T) / 2, q


def _definite(rng, seed):
    """Conditions 1 to 1e6, every fourth badly scaled as well."""
    A, _ = _rotated(np.geomspace(1, 10.0 ** (seed % 7), SIZE), rng)
    if seed % 4 == 3:
        d = 10 ** rng.uniform(-1.5, 1.5, SIZE)
        A = d[:, None] * A * d
    return A, rng.normal(size=SIZE)


def _near_singular(rng, seed):
    """Condition 1e12: diagonal, or rotated with b = A y, or with any b."""
    values = np.geomspace(1e-12, 1, SIZE)
    if seed % 3 == 0:
        return np.diag(rng.permutation(values)), rng.normal(size=SIZE)
    A, _ = _rotated(values, rng)
    y = rng.normal(size=SIZE)
    return A, A @ y if seed % 3 == 1 else y


def _semidefinite(rng, seed):
    """A singular matrix ≥ 0 and an orthonormal basis of its null space."""
    if seed % 2 == 0:
        nullity = 1 + seed % 3
        values = np.geomspace(1, 100, SIZE)
        values[:nullity] = 0
        A, q = _rotated(values, rng)
        return A, q[:, :nullity]
    jumps = 10 ** rng.uniform(0, 2, SIZE - 1)
    difference = np.diff(np.eye(SIZE), axis=0)
    return (difference.T * jumps) @ difference, np.full((SIZE, 1), SIZE**-0.5)


def _consistent(rng, seed):
    A, _ = _semidefinite(rng, seed)
    return A, A @ rng.normal(size=SIZE)


def _inconsistent(rng, seed):
    A, null = _semidefinite(rng, seed)
    b = A @ rng.normal(size=SIZE)
    left = null @ rng.normal(size=null.shape[1])
    size = (1.0, 0.3, 0.03)[seed % 3]
    return A, b / np.linalg.norm(b) + size * left / np.linalg.norm(left)


def _indefinite(rng, seed):
    """With one negative eigenvalue, with two, half, all but one, or all of them so."""
    values = np.geomspace(1, 30, SIZE)
    negative = (1, 2, SIZE // 2, SIZE - 1, SIZE)[seed % 5]
    values[rng.permutation(SIZE)[:negative]] *= -1
    return _rotated(values, rng)[0], rng.normal(size=SIZE)


def _nonsymmetric(rng, seed):
    A, _ = _rotated(np.geomspace(1, 100, SIZE), rng)
    G = rng.normal(size=(SIZE, SIZE))
    A = (A + (0.1, 1.0, 10.0)[seed // 3 % 3] * (G - G.T), A + 5 * np.triu(G + 1), G)
    return A[seed % 3], rng.normal(size=SIZE)


def _zero_row(rng, seed):
    """A row, or a row and its column, of zeros, with b zero there or not."""
    A, _ = _rotated(np.geomspace(1, 100, SIZE), rng)
    b = rng.normal(size=SIZE)
    row = int(rng.integers(SIZE))
    A[row] = 0
    if seed % 2 == 0:
        A[:, row] = 0
    if seed // 2 % 2 == 1:
        b[row] = 0
    return A, b


def _nan_entry(rng, seed):
    """On the diagonal, in a symmetric pair, or on one side only."""
    A, _ = _rotated(np.geomspace(1, 100, SIZE), rng)
    i, j = rng.choice(SIZE, 2, replace=False)
    if seed % 3 == 0:
        A[i, i] = np.nan
    else:
        A[i, j] = np.nan
        A[j, i] = np.nan if seed % 3 == 1 else A[j, i]
    return A, rng.normal(size=SIZE)


SYSTEMS: dict[str, Callable] = {
    "SPD": _definite,
    "near-singular": _near_singular,
    "singular consistent": _consistent,
    "singular inconsistent": _inconsistent,
    "indefinite": _indefinite,
    "nonsymmetric": _nonsymmetric,
    "zero row": _zero_row,
    "NaN entry": _nan_entry,
}
"""Kinds of A, by name: from a generator and a seed to A and b."""

# What CG asks for: A ≥ 0 and M > 0, all of it finite.
KEPT_SYSTEMS = ("SPD", "near-singular", "singular consistent", "singular inconsistent")
KEPT_MATRICES = ("none", "Jacobi", "SPD")


def _turned(rng, seed):
    """Symmetric, its least eigenvalue −0.3 to −1."""
    G = rng.normal(size=(SIZE, SIZE))
    S = (G + G.T) / 2
    S = S / -np.linalg.eigvalsh(S)[0]
    return np.eye(SIZE) + (1.3 + 0.7 * (seed % 20) / 19) * S


def _skewed(rng, seed):
    G = rng.normal(size=(SIZE, SIZE)) / SIZE**0.5
    eye = np.eye(SIZE)
    return (eye + 0.1 * G, eye + 0.5 * (G - G.T), eye + G, G)[seed % 4]


def _infinite(rng, seed):
    """One infinite entry on the diagonal, or nothing else."""
    if seed % 2:
        return np.full((SIZE, SIZE), np.inf)
    d = np.ones(SIZE)
    d[rng.integers(SIZE)] = np.inf
    return np.diag(d)


_MATRICES: dict[str, Callable] = {
    "SPD": lambda rng, seed: _rotated(np.geomspace(1, 50, SIZE), rng)[0],
    "indefinite": _turned,
    "nonsymmetric": _skewed,
    "zero": lambda rng, seed: np.zeros((SIZE, SIZE)),
    "-I": lambda rng, seed: -np.eye(SIZE),
    "Inf": _infinite,
}
PRECONDITIONERS = (
    "none",
    "Jacobi",
    *_MATRICES,
    "NaN at call k",
    "nonlinear",
    "wrong shape",
)
"""Kinds of M."""


def _krylov_basis(A, b, count: int) -> np.ndarray:
    """An orthonormal basis of K_count(A, b), padded with zero columns."""
    basis = np.zeros((SIZE, _CALLS))
    if not np.isfinite(A).all():
        return basis
    v = b / np.linalg.norm(b)
    for k in range(count):
        basis[:, k] = v
        v = A @ v
        size = np.linalg.norm(v)
        for _ in range(2):
            v = v - basis @ (basis.T @ v)
        if np.linalg.norm(v) <= 1e-12 * size:
            break
        v = v / np.linalg.norm(v)
    return basis
