"""Strict JAX settings, keys that can be reproduced, one compilation cache."""

import os
import pathlib
import random

import equinox as eqx
import jax
import jax.random as jr
import pytest

os.environ.setdefault("MPLBACKEND", "Agg")
# Compiling dominates the suite's run time, and most of that is optimising programs that
# run once. XLA reads this when its backend starts, which is later; so do the processes
# that tests start. (The flag that goes back to XLA's older way to fuse loops compiles
# in two thirds of the time, but then some products of numbers in double precision that
# were converted from single precision are rounded to the latter.)
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# A second run finds the programs again.
jax.config.update(
    "jax_compilation_cache_dir",
    str(pathlib.Path(__file__).parents[1] / ".cache" / "jax"),
)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


# Files that take long, so that no worker is left alone with one at the end.
LONG = (
    "bench",
    "docs",
    "cli_reports",
    "multigrid",
    "examples",
    "implicit",
    "gradients",
    "data_parallel",
)


# First, as it is by then that marks choose.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_what_is_not_sampled(items)
    place = {f"test_{name}": k for k, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))


def mark_what_is_not_sampled(items: list[pytest.Item]) -> None:
    """Of a test with the mark `sampled(count)` so many variants are not slow.

    They are evenly spaced from the first to the last one (a single one is the first),
    so that of every parameter several values are seen; the same ones in each run.
    """
    variants: dict[tuple[pathlib.Path, str, int], list[pytest.Item]] = {}
    for item in items:
        mark = item.get_closest_marker("sampled")
        if mark is not None and item.get_closest_marker("slow") is None:
            name = item.name.partition("[")[0]
            variants.setdefault((item.path, name, *mark.args), []).append(item)
    for (_, _, count), group in variants.items():
        last = len(group) - 1
        kept = {k * last // max(count - 1, 1) for k in range(count)}
        for k, item in enumerate(group):
            if k not in kept:
                item.add_marker(pytest.mark.slow)


class GetKey:
    """Fresh keys from one seed; the seed is in the repr, so a failure can be rerun."""

    def __init__(self, seed: int):
        self.seed = seed
        self._count = 0

    def __call__(self):
        self._count += 1
        return jr.fold_in(jr.key(self.seed), self._count)

    def __repr__(self):
        return f"GetKey(seed={self.seed})"


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """Compiled programs take address space, in the end more than there is.

    XLA maps each into the process several times, fifty thousand maps in a thousand
    tests; where the system allows no more (65,530 on Linux as it comes) it crashes.
    """
    yield
    eqx.clear_caches()
    jax.clear_caches()


@pytest.fixture
def getkey(request: pytest.FixtureRequest) -> GetKey:
    # The same for the same test in every run and order.
    return GetKey(random.Random(request.node.nodeid).randint(0, 2**31 - 1))


@pytest.fixture
def data_folder() -> pathlib.Path:
    """The folder of real data sets, named by the environment variable SCIML_DATA."""
    folder = os.environ.get("SCIML_DATA")
    if not folder or not pathlib.Path(folder).is_dir():
        pytest.skip("SCIML_DATA does not name the folder of real data sets")
    return pathlib.Path(folder)
