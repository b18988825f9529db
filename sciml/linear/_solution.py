"""What a solve returns."""

from typing import Any

import equinox as eqx

from .._result import RESULTS


class Solution(eqx.Module):
    """Value, result and statistics of a solve.

    - `value`: the solution, or the last iterate where the solve failed.
    - `result`: an item of `sciml.RESULTS`; compare with `RESULTS.successful`.
    - `stats`: a dictionary; see the solver for its keys.
    """

    value: Any
    result: RESULTS
    stats: dict[str, Any]
