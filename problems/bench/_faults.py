"""Every fault a linear solve can meet: does a solver claim a success it has not?"""

import collections
import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

import sciml
from sciml.linear import GMRES, MINRES, AbstractKrylov, FlexibleCG

from ._fault_cases import (
    KEPT_MATRICES,
    KEPT_SYSTEMS,
    PRECONDITIONERS,
    SIZE,
    SYSTEMS,
    Systems,
    harmless,
    preconditioners,
    structure_of,
    systems,
    well_conditioned,
)
from ._fault_judge import (
    MUST_BE_ZERO,
    judge,
    relative_residuals,
    solved_by_scipy,
)
from ._fault_solves import (
    MODES,
    RIVALS,
    rejects_wrong_shape,
    rival_batch,
    solve_batch,
)

Row = dict[str, Any]
Maker = Callable[..., AbstractKrylov]

SOLVERS: dict[str, Maker] = {
    "CG": sciml.CG,
    "FlexibleCG": FlexibleCG,
    "MINRES": MINRES,
    "GMRES": functools.partial(GMRES, SIZE),
}
RTOL = {"float32": 1e-4, "float64": 1e-8}
MAX_STEPS = 4000
_TIGHT = {"float32": 1e-5, "float64": 1e-13}
_OTHERS = ("due", "behind_cg", "gradients", "worst", "apart", "unmarked_misses")


def bench_faults(
    *,
    num_seeds: int = 20,
    seed: int = 7,
    solvers: Mapping[str, Maker] | None = None,
    rivals: Sequence[str] = tuple(RIVALS),
    on_row: Callable[[Row], None] | None = None,
) -> tuple[list[Row], list[Row]]:
    """Kinds of A × kinds of M × dtypes × modes × seeds through every solver.

    See `fault_cells` for what is counted. What is to be solved in float64 to 1e-8, in
    float32 to 1e-4, in at most 4000 steps, has n = 48 unknowns.

    **Arguments:**

    - `num_seeds`: systems of each kind.
    - `seed`: of the random numbers.
    - `solvers`: by name, called with rtol and max_steps. Default our four.
    - `rivals`: who gets the same systems, in float64 and within `jit`, see
        `rival_cells`.
    - `on_row`: called with each row of totals when it is complete.

    **Returns:** totals per solver, dtype and mode (see `fault_totals`), and the cells
    that they sum up.
    """
    if not jax.config.read("jax_enable_x64"):
        raise ValueError(
            "bench_faults: half of it is in float64; call "
            "jax.config.update('jax_enable_x64', True) first."
        )
    totals, cells = [], []

    def report(some: list[Row]):
        cells.extend(some)
        totals.append(fault_totals(some))
        if on_row is not None:
            on_row(totals[-1])

    seeds = range(num_seeds)
    for name, make in (SOLVERS if solvers is None else solvers).items():
        for dtype, mode in itertools.product(RTOL, MODES):
            report(fault_cells(name, make, dtype, mode, seeds=seeds, base=seed))
    for name in rivals:
        report(rival_cells(name, seeds=seeds, base=seed))
    return totals, cells


def fault_cells(
    name: str,
    make: Maker,
    dtype: str,
    mode: str,
    *,
    seeds: Iterable[int],
    base: int = 7,
    kinds: Iterable[tuple[str, str]] | None = None,
    max_steps: int = MAX_STEPS,
) -> list[Row]:
    """One solver, dtype and mode on every kind of A with every kind of M.

    With r the relative residual ‖b − A x‖/‖b‖, recomputed in NumPy's longest floating
    type from the very numbers that the solver was given, and δ the bound for the
    rounding of such a residual in the data's own precision (`relative_residuals`):

    - `silent_failures`: claims of success without r ≤ min(rtol + δ, 10 rtol).
    - `false_failures`: failures where SciPy's function of the same method (`cg`,
        `minres`, `gmres`; CG for FlexibleCG), given the same data in the same
        precision, solves A x = b: on A ≥ 0 with b in its range, for MINRES on
        indefinite and for GMRES on nonsymmetric A as well; without M, with Jacobi's or
        a positive definite one; at a tolerance within reach (`solved_by_scipy`).
    - `misreported`: a reported relative residual that is not r, but for δ and one part
        in 1e10 (float32: in 1000).
    - `wrong_gradients` (mode "grad": of gᵀx): derivatives that are neither NaN
        throughout nor right. λ, the one with respect to b, has to meet the tolerance
        in Aᵀλ = g and, where A is regular, be as near to a dense solve as this
        implies; where the forward solve succeeded, the one with respect to A is −λxᵀ.
        NaN where SciPy solves both systems counts as a false failure.
    - `disturbed` (mode "vmap"): 1 if a bad system in a batch changes good ones by more
        than 1e-12, or if those differ from solves one by one: by 1e-12 in float64, by
        eight times the tolerance in float32.

    **Arguments:**

    - `name`, `make`: the solver, called with rtol and max_steps.
    - `dtype`, `mode`: "float32" or "float64"; "eager", "jit", "vmap" or "grad".
    - `seeds`, `base`: which systems.
    - `kinds`: pairs (kind of A, kind of M). Default all.
    - `max_steps`: that the solver, and SciPy's, may take.

    **Returns:** rows with these counts, `outcomes` (how many ended how), `worst` (the
    largest r/rtol of a success), `due` (how many SciPy solves), `apart` (the largest
    difference from its number of steps), `behind_cg` (failures where SciPy's function
    of the method fails too, but its `cg` does not), `gradients` (how many are not NaN).
    """
    seeds = tuple(seeds)
    solver = make(rtol=RTOL[dtype], max_steps=max_steps)
    method = {MINRES: "minres", GMRES: "gmres"}.get(type(solver), "cg")
    rows = []
    for kind, m_kind in _all_kinds() if kinds is None else kinds:
        cases = systems(kind, seeds, base, dtype)
        head = {"solver": name, "dtype": dtype, "mode": mode, "A": kind, "M": m_kind}
        if m_kind == "wrong shape":
            rows.append(head | _refusal(rejects_wrong_shape(cases, solver, mode)))
            continue
        M = preconditioners(m_kind, cases, seeds, base, dtype)
        ends = solve_batch(cases, M, solver, mode)
        solved, by_cg = (
            solved_by_scipy(
                by, kind, m_kind, seeds, base, dtype, RTOL[dtype], max_steps
            )
            for by in (method, "cg")
        )
        row = head | judge(cases, ends, RTOL[dtype], solved, by_cg)
        if mode == "vmap" and len(seeds) > 1:
            row["disturbed"] = int(_disturbed(cases, M, m_kind, make, max_steps))
        rows.append(row)
    return rows


def rival_cells(
    name: str,
    *,
    seeds: Iterable[int],
    base: int = 7,
    kinds: Iterable[tuple[str, str]] | None = None,
) -> list[Row]:
    """The same systems, in float64 and within `jit`, through another code's CG.

    `RIVALS` says what each is asked for. A silent failure is a claim of success at a
    recomputed relative residual above 10 rtol, which is never what was asked for.
    JAX's `cg` claims nothing: `unmarked_misses` counts what it returns, finite and
    without an error, with such a residual.
    """
    seeds = tuple(seeds)
    rows = []
    rtol = RTOL["float64"]
    for kind, m_kind in _all_kinds() if kinds is None else kinds:
        cases = systems(kind, seeds, base, "float64")
        row = {
            "solver": name,
            "dtype": "float64",
            "mode": "jit",
            "A": kind,
            "M": m_kind,
        }
        row |= dict.fromkeys((*MUST_BE_ZERO, *_OTHERS))
        rows.append(row)
        if m_kind == "wrong shape":
            M = np.eye(cases.A.shape[1] + 1)[None]
            first = Systems(*(part[:1] for part in cases))
            try:
                rival_batch(first, M, name, rtol, MAX_STEPS)
            except (ValueError, TypeError):
                row["outcomes"] = {"rejected": 1}
            else:
                row["outcomes"] = {"accepted": 1}
            continue
        M = preconditioners(m_kind, cases, seeds, base, "float64")
        claims, values = rival_batch(cases, M, name, rtol, MAX_STEPS)
        residual, _ = relative_residuals(cases.A, values, cases.b)
        missed = ~(residual <= 10 * rtol)
        finite = np.isfinite(values).all(1)
        if claims is None:
            row["unmarked_misses"] = int((missed & finite).sum())
            ends = np.where(missed, "returned a miss", "returned a solution")
            ends = np.where(finite, ends, "returned NaN")
        else:
            row["silent_failures"] = int((claims & missed).sum())
            row["worst"] = (
                float(residual[claims].max() / rtol) if claims.any() else None
            )
            ends = np.where(claims, "successful", "failed")
        row["outcomes"] = dict(collections.Counter(ends.tolist()))
    return rows


def fault_totals(cells: Sequence[Row]) -> Row:
    """The sums over cells of one solver, dtype and mode: one row of the table.

    `within_contract` is how many of the silent failures and unmarked misses are on
    systems that keep to what CG asks for: finite, A ≥ 0, M > 0.
    """
    outcomes = collections.Counter()
    for cell in cells:
        outcomes.update(cell["outcomes"])
    numbers = lambda name: [c[name] for c in cells if c.get(name) is not None]
    total = lambda name: sum(numbers(name)) if numbers(name) else None
    misses = lambda c: (c["silent_failures"] or 0) + (c.get("unmarked_misses") or 0)
    kept = [c for c in cells if c["A"] in KEPT_SYSTEMS and c["M"] in KEPT_MATRICES]
    claims = total("unmarked_misses") is None
    return {
        **{name: cells[0][name] for name in ("solver", "dtype", "mode")},
        "solves": outcomes.total(),
        "successes": outcomes["successful"] if claims else None,
        **{name: total(name) for name in MUST_BE_ZERO},
        "unmarked_misses": total("unmarked_misses"),
        "within_contract": sum(map(misses, kept)),
        **{name: total(name) for name in ("due", "behind_cg", "gradients")},
        "worst": max(numbers("worst"), default=None),
        "outcomes": dict(outcomes),
    }


def has_failed(total: Row) -> bool:
    """Whether a row of totals has a fault that is ours."""
    return total["solver"] not in RIVALS and any(total[name] for name in MUST_BE_ZERO)


def nested_cells(cells: Sequence[Row]) -> Row:
    """Cells as solver → dtype → mode → kind of A → kind of M → what is not zero."""
    nested: Row = {}
    for cell in cells:
        place = nested
        for name in ("solver", "dtype", "mode", "A"):
            place = place.setdefault(cell[name], {})
        rest = {k: v for k, v in cell.items() if k in MUST_BE_ZERO and v}
        if cell["worst"] is not None:
            rest["worst"] = float(f"{cell['worst']:.3g}")
        rest |= {k: cell[k] for k in _OTHERS if k != "worst" and cell.get(k)}
        place[cell["M"]] = cell["outcomes"] | rest
    return nested


def _all_kinds():
    return itertools.product(SYSTEMS, PRECONDITIONERS)


def _refusal(rejected: bool) -> Row:
    """The row of a preconditioner that does not fit."""
    return {
        "outcomes": {"rejected" if rejected else "accepted": 1},
        **dict.fromkeys(MUST_BE_ZERO, 0),
        "silent_failures": int(not rejected),
        **dict.fromkeys(_OTHERS),
    }


def _disturbed(cases: Systems, M, m_kind: str, make: Maker, max_steps: int) -> bool:
    """Whether the middle system changes good neighbours in its batch."""
    count, dtype = len(cases.A), cases.A.dtype.name
    middle = count // 2
    good, good_M, together, apart = _neighbours(
        make, max_steps, structure_of(m_kind), count, dtype
    )
    put = lambda all_good, all_bad: np.concatenate(
        [all_good[:middle], all_bad[middle : middle + 1], all_good[middle + 1 :]]
    )
    mixed = Systems(*(put(g, b) for g, b in zip(good, cases, strict=True)))
    mixed_M = jax.tree.map(lambda g, b: put(np.asarray(g), np.asarray(b)), good_M, M)
    solver = make(rtol=_TIGHT[dtype], max_steps=max_steps)
    values = solve_batch(mixed, mixed_M, solver, "vmap").value
    others = np.arange(count) != middle
    slack = 1e-12 if dtype == "float64" else 8 * _TIGHT[dtype]
    near = lambda x, limit: np.abs(values - x).max(1) <= limit * np.abs(x).max(1)
    return not (near(together, 1e-12) & near(apart, slack))[others].all()


@functools.cache
def _neighbours(make: Maker, max_steps: int, structure: str, count: int, dtype: str):
    """Good systems, their preconditioners, and their solutions together and apart."""
    good, M = well_conditioned(count, 7, dtype), harmless(structure, count, dtype)
    solver = make(rtol=_TIGHT[dtype], max_steps=max_steps)
    together, apart = (solve_batch(good, M, solver, m).value for m in ("vmap", "jit"))
    return good, M, together, apart
