"""Products with A, and what many right-hand sides at once cost."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np

import sciml
from sciml.evaluation import paired
from sciml.linear import (
    ColumnsOperator,
    StencilOperator,
    from_scipy,
    linear_solve_many,
    to_scipy,
)
from sciml.linear._tree import Columns
from sciml.preconditioners import AlgebraicMultigrid, Jacobi, Multigrid

from ._systems import make_system

Row = dict[str, Any]

# Products in one compiled loop, as in a solver: what a call costs is shared by them.
_CHAIN = 20
_MANY = 64
_COLUMNS = 16


def bench_products(
    points: Sequence[int] = (256, 1024),
    mesh: int = 220,
    *,
    repeats: int = 15,
    seed: int = 7,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """The time of y = A x for each kind of operator beside SciPy's CSR, in float64.

    Five-point stencils with a log-normal coefficient, as a stencil and as diagonals
    (DIA); linear finite elements on an L-shape as padded rows (ELL).

    **Arguments:**

    - `points`: nodes per axis of the stencils.
    - `mesh`: the square root of the mesh's unknowns, about. Default: 49,208.
    - `repeats`: rounds; times are medians.
    - `seed`: of coefficient and vector.
    - `on_row`: called with each row when it is complete.

    **Returns:** rows with `operator`, `unknowns`; `time`, of one call, and
    `loop_time`, per product in a compiled loop of 20; `scipy_time`, of one product of
    SciPy; `ratio` and `loop_ratio`, ours over SciPy's; `bandwidth`, the bytes of A, x
    and y over `loop_time` in GB/s, and `copy_bandwidth`, what a loop over 128 MB
    that only adds 1 reaches on this device.
    """
    rows = []
    copy = _copy_bandwidth(repeats)
    for size in points:
        A = make_system("lognormal", size, seed).operator
        csr = to_scipy(A)
        for name, operator in (("stencil", A), ("DIA", from_scipy(csr))):
            rows.append(_product_row(name, operator, csr, copy, repeats, seed))
            _tell(on_row, rows)
    A = make_system("l-shape", mesh, seed).operator
    rows.append(_product_row("ELL", A, to_scipy(A), copy, repeats, seed))
    _tell(on_row, rows)
    return rows


def bench_many(
    points: int = 255,
    mesh: int = 220,
    *,
    repeats: int = 5,
    seed: int = 7,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """What 64 right-hand sides cost in units of one.

    Products (of 16 columns at a time for padded rows), against one in a compiled loop,
    which finds its vectors in the cache as in a solve; and solves to 1e-8, at most 200
    steps each, by `linear_solve_many` one after the other, M built before.

    **Arguments:**

    - `points`: nodes per axis of the five-point stencil of −Δ.
    - `mesh`, `repeats`, `seed`, `on_row`: as of `bench_products`.

    **Returns:** rows with `system`, `unknowns`, `operation`, `one_time`, `many_time`
    (of all 64) and `ratio`.
    """
    rows = []
    for name, size, builders in (
        ("poisson", points, (None, Multigrid())),
        ("l-shape", mesh, (None, Jacobi(), AlgebraicMultigrid())),
    ):
        A = make_system(name, size, seed).operator
        structure = A.in_structure()
        b = jr.normal(jr.key(seed), (_MANY, *structure.shape), structure.dtype)
        operations = {"product": _products(A, b)}
        for builder in builders:
            label = "none" if builder is None else type(builder).__name__
            operations[f"CG, {label}"] = _solves(A, b, builder)
        for operation, calls in operations.items():
            times = paired(calls, repeats=repeats)
            one, many = (times[name].run_time for name in ("one", "many"))
            one /= _CHAIN if operation == "product" else 1
            row = {
                "system": name,
                "unknowns": A.in_size(),
                "operation": operation,
                "one_time": one,
                "many_time": many,
                "ratio": many / one,
            }
            rows.append(row)
            _tell(on_row, rows)
    return rows


@eqx.filter_jit
def _chain(A, x, scale):
    return jax.lax.fori_loop(0, _CHAIN, lambda _, x: scale * A.mv(x), x)


def _products(A, b) -> dict[str, Callable]:
    one = lambda: _chain(A, b[0], 1e-6)
    if isinstance(A, StencilOperator):
        # Nothing is gathered, and one after the other stays in the cache.
        single = eqx.filter_jit(lambda A, b: jax.lax.map(A.mv, b))
        return {"one": one, "many": lambda: single(A, b)}
    wide = ColumnsOperator(A, _COLUMNS)
    many = eqx.filter_jit(lambda A, blocks: [A.mv(x) for x in blocks])
    starts = range(0, len(b), _COLUMNS)
    columns = [Columns(jnp.moveaxis(b[i : i + _COLUMNS], 0, -1)) for i in starts]
    jax.block_until_ready(columns)
    return {"one": one, "many": lambda: many(wide, columns)}


def _solves(A, b, builder) -> dict[str, Callable]:
    M = None if builder is None else builder.build(A)
    # (Enough for all but the unpreconditioned.)
    solver = sciml.CG(rtol=1e-8, max_steps=200)

    @eqx.filter_jit
    def one(A, b, M):
        return sciml.linear_solve(A, b, solver, preconditioner=M, throw=False).value

    def many(A, b, M):
        return linear_solve_many(A, b, solver, preconditioner=M, throw=False).value

    return {"one": lambda: one(A, b[0], M), "many": lambda: many(A, b, M)}


def _product_row(name, operator, csr, copy, repeats, seed) -> Row:
    structure = operator.in_structure()
    x = jr.normal(jr.key(seed), structure.shape, structure.dtype)
    flat = np.asarray(x).ravel()
    # Keeps the iterates of the loop within range.
    scale = float(1.0 / np.max(abs(csr) @ np.ones(csr.shape[1])))
    arrays, static = eqx.partition(operator, eqx.is_array)
    product = jax.jit(lambda arrays, x: eqx.combine(arrays, static).mv(x))
    times = paired(
        {
            "ours": lambda: product(arrays, x),
            "loop": lambda: _chain(operator, x, scale),
            "SciPy": lambda: csr @ flat,
        },
        (operator, x),
        repeats,
    )
    loop = times["loop"].run_time / _CHAIN
    scipy = times["SciPy"].run_time
    leaves = jtu.tree_leaves(eqx.filter(operator, eqx.is_array))
    traffic = sum(leaf.nbytes for leaf in leaves) + 2 * x.nbytes
    return {
        "operator": name,
        "unknowns": x.size,
        "time": times["ours"].run_time,
        "loop_time": loop,
        "scipy_time": scipy,
        "ratio": times.ratio("ours", "SciPy"),
        "loop_ratio": loop / scipy,
        "bandwidth": traffic / loop / 1e9,
        "copy_bandwidth": copy,
    }


def _copy_bandwidth(repeats: int) -> float:
    """GB/s, read and written, of adding 1 to 128 MB again and again."""
    x = jnp.ones(16 * 2**20)
    add = jax.jit(lambda x: jax.lax.fori_loop(0, _CHAIN, lambda _, x: x + 1.0, x))
    timing = paired({"copy": lambda: add(x)}, x, repeats)["copy"]
    return 2 * _CHAIN * x.nbytes / timing.run_time / 1e9


def _tell(on_row: Callable[[Row], None] | None, rows: list[Row]) -> None:
    if on_row is not None:
        on_row(rows[-1])
