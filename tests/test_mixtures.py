"""Random elliptic systems of several kinds, and the benchmark on them."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import problems
from problems._mixtures import KINDS
from problems.bench import bench_learned_multigrid
from sciml.preconditioners import ByStrength


def test_kinds():
    mixture = problems.EllipticMixture((17, 17), KINDS)
    delays = {}
    for index, key in enumerate(jr.split(jr.key(0), 10)):
        kind, A = mixture.sample(index, key)
        assert kind == KINDS[index % 5] and A.grid == mixture.grid
        matrix = np.asarray(A.as_matrix())
        assert np.linalg.eigvalsh(matrix).min() > 0
        delays.setdefault(kind, []).append(max(ByStrength().spacing(A)))
        diagonal = A.stencil.diagonal
        contrast = float(jnp.max(diagonal) / jnp.min(diagonal))
        one = (1.0, 1.0)
        bounds = {"mild": (1.0, 10.0), "aligned": one, "turned": one}
        low, high = bounds.get(kind, (300.0, 1e4))
        assert low * (1 - 1e-6) <= contrast <= high * (1 + 1e-6)
        # The same key is the same system.
        again = mixture.sample(index, key)[1]
        np.testing.assert_array_equal(again.as_matrix(), matrix)
    # Only anisotropy along an axis asks for other axes; the rest does not, on average.
    assert min(delays["aligned"]) >= 2 and set(delays["two-phase"]) == {1.0}
    assert mixture.vector(jr.key(0)).shape == (17, 17)
    with pytest.raises(ValueError, match="kinds: expected some of two-phase"):
        problems.EllipticMixture((9, 9), ("wavy",))


@pytest.mark.slow
def test_the_benchmark():
    rows = bench_learned_multigrid(
        15, kinds=("aligned", "mild"), count=2, repeats=1, every=False
    )
    found = {(row["kind"], row["method"]): row for row in rows}
    assert len(found) == 4
    for row in rows:
        assert row["converged"] == row["systems"] == 1
        assert row["setup_time"] > 0 and row["solve_time"] > 0 and row["products"] > 1
        assert row["best_untrained"] == "untrained, Multigrid()"
    plain = found["aligned", "untrained, Multigrid()"]
    assert (
        plain["speedup"] == 1
        and plain["median"] > found["aligned", "learned"]["median"]
    )
