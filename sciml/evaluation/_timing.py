"""Timing that keeps compilation apart and does not mistake dispatch for work."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax


@dataclasses.dataclass(frozen=True)
class Timing:
    """How long a function took, in seconds of wall-clock time.

    **Attributes:**

    - `cold_time`: the first call, with whatever it traced and compiled. Of a function
        that had been compiled before, just another call.
    - `times`: the timed calls after it, in the order in which they ran.
    - `value`: what the last call returned.
    """

    cold_time: float
    times: tuple[float, ...]
    value: Any = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def run_time(self) -> float:
        """The median of `times`: what a warm call takes."""
        return statistics.median(self.times)

    @property
    def minimum(self) -> float:
        """The fastest of `times`."""
        return min(self.times)

    @property
    def maximum(self) -> float:
        """The slowest of `times`."""
        return max(self.times)

    @property
    def repeats(self) -> int:
        """Number of timed calls."""
        return len(self.times)

    @property
    def compile_time(self) -> float:
        """What the first call took longer than a warm one; never negative."""
        return max(self.cold_time - self.run_time, 0.0)

    def as_dict(self) -> dict[str, float | int]:
        """The numbers, in seconds, for a `Record` or a table's row."""
        names = ("compile_time", "cold_time", "run_time", "minimum", "maximum")
        return {name: getattr(self, name) for name in names} | {"repeats": self.repeats}


@dataclasses.dataclass(frozen=True)
class PairedTiming:
    """Timings of several candidates that took turns.

    **Attributes:**

    - `timings`: one `Timing` per candidate, by name. Entry k of every `times` comes
        from the same round.
    """

    timings: dict[str, Timing]

    def ratio(self, name: str, baseline: str) -> float:
        """Median time of one candidate over the median time of another.

        **Arguments:**

        - `name`: whose time is divided; 8.0 says it takes eight times as long.
        - `baseline`: whose time divides.
        """
        return self[name].run_time / self[baseline].run_time

    def ratio_range(self, name: str, baseline: str) -> tuple[float, float]:
        """The smallest and the largest ratio of the two within one round."""
        pairs = zip(self[name].times, self[baseline].times, strict=True)
        ratios = [a / b for a, b in pairs]
        return min(ratios), max(ratios)

    def __getitem__(self, name: str) -> Timing:
        if name not in self.timings:
            raise KeyError(f"{name!r} was not timed; there is {sorted(self.timings)}.")
        return self.timings[name]


def timed(
    function: Callable[..., Any], *args: Any, repeats: int = 5, warmup: int = 1
) -> Timing:
    """Call a function several times and say how long it took.

    JAX returns before the work is done: every call is timed until all the arrays it
    returned are there (`jax.block_until_ready`), and the first call, which compiles, is
    kept apart.

    **Arguments:**

    - `function`: what to time. Work on the host, such as setting up a hierarchy, is
        timed like any other.
    - `*args`: its arguments; they are computed to the end before the clock starts.
    - `repeats`: timed calls. Default 5, the fewest of which a median means something.
    - `warmup`: calls between the first and the timed ones, not timed. Default 1: the
        second call still finds cold caches and memory pools.

    **Returns:** a `Timing`.

    **Raises:** `ValueError` if `repeats` < 1 or `warmup` < 0.

    !!! example

        ```python
        import jax, jax.numpy as jnp
        from sciml.evaluation import timed

        timing = timed(jax.jit(jnp.cumsum), jnp.ones(1_000), repeats=7)
        timing.compile_time, timing.run_time, timing.maximum
        ```
    """
    return paired({"": lambda: function(*args)}, args, repeats, warmup)[""]


def paired(
    candidates: Mapping[str, Callable[[], Any]],
    inputs: Any = (),
    repeats: int = 5,
    warmup: int = 1,
) -> PairedTiming:
    """Time several candidates in turns: A B C, A B C, ….

    A machine that others use, or that grows hot, changes its speed within a run.
    Candidates that take turns meet the same conditions, so that their ratio is steadier
    than the times themselves.

    **Arguments:**

    - `candidates`: functions without arguments, by name.
    - `inputs`: arrays to be computed to the end before the clock starts.
    - `repeats`: timed rounds. Default 5.
    - `warmup`: rounds between the first calls and the timed ones, not timed. Default 1.

    **Returns:** a `PairedTiming`; `.ratio(name, baseline)` compares.

    **Raises:** `ValueError` if there is no candidate, `repeats` < 1 or `warmup` < 0.

    !!! example

        ```python
        import numpy as np
        from sciml.evaluation import paired

        x = np.ones(100_000)
        times = paired({"sum": x.sum, "cumsum": x.cumsum})
        times.ratio("cumsum", "sum"), times.ratio_range("cumsum", "sum")
        ```
    """
    if not candidates:
        raise ValueError("candidates: expected at least one function, got none.")
    if repeats < 1:
        raise ValueError(f"repeats: expected at least 1, got {repeats}.")
    if warmup < 0:
        raise ValueError(f"warmup: expected at least 0, got {warmup}.")
    jax.block_until_ready(inputs)
    cold = {name: _clock(function)[0] for name, function in candidates.items()}
    times: dict[str, list[float]] = {name: [] for name in candidates}
    values: dict[str, Any] = {}
    for turn in range(warmup + repeats):
        for name, function in candidates.items():
            # Dropped before the clock starts: freeing it is not the candidate's work.
            values.pop(name, None)
            seconds, values[name] = _clock(function)
            if turn >= warmup:
                times[name].append(seconds)
    return PairedTiming(
        {
            name: Timing(cold[name], tuple(times[name]), values[name])
            for name in candidates
        }
    )


def _clock(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    value = jax.block_until_ready(function())
    return time.perf_counter() - start, value
