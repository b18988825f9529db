"""Predator and prey: the equations, and the hares and lynxes of the Hudson Bay."""

import csv
import os
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from sciml import AbstractODE
from sciml.data import DataError

from ._data_folder import find_file
from ._ode_arguments import check_state, parameters

_FILE = "hudson-bay-lynx-hare.csv"
_COLUMNS = ["Year", "Lynx", "Hare"]


class LotkaVolterra(AbstractODE):
    """Hares u and lynxes v, prey and predators:

        u' = (α − β v) u,  v' = (−γ + δ u) v

    in thousands of pelts and years, 0 ≤ t ≤ 20. Populations stay positive and cycle:
    `first_integral` is constant along every solution. Not stiff; no reference value.

    The default parameters (α, β, γ, δ) = (0.55, 0.028, 0.80, 0.024) are the posterior
    means of the Stan case study for the series that `load_lynx_hare` reads, t = 0 being
    1900. The default y(0) = (33, 5.8) is fitted to that series with these parameters
    held (least squares of the logarithms, which leave a standard deviation of 0.22);
    the first observation, (30, 4), is itself uncertain by that much.

    **Arguments:**

    - `args`: (α, β, γ, δ), positive. The default as above.
    - `y0`: hares and lynxes at t = 0, positive. The default as above.

    `vector_field` takes the four as `args`, shape `(4,)`; None stands for the
    problem's own.

    **Raises:** `ValueError` for parameters or populations that are not as many, or,
    in the constructor, not positive.

    !!! example

        ```python
        import diffrax as dfx
        import jax
        import jax.numpy as jnp
        import problems

        ode = problems.LotkaVolterra()

        def hares(args):
            solution = dfx.diffeqsolve(
                ode.term(), dfx.Tsit5(), ode.t0, ode.t1, 0.1, ode.y0, args
            )
            return solution.ys[-1, 0]

        jax.grad(hares)(ode.args)
        ```

    !!! cite "Reference"

        A. J. Lotka, Elements of Physical Biology (1925). V. Volterra, Fluctuations in
        the abundance of a species considered mathematically, Nature 118 (1926),
        558–560. B. Carpenter, Predator-prey population dynamics: the Lotka–Volterra
        model in Stan (2018).
    """

    t0: float
    t1: float
    y0: Float[Array, " 2"]
    args: Float[Array, " 4"]
    reference: None

    def __init__(
        self,
        args: ArrayLike | Sequence[float] = (0.55, 0.028, 0.80, 0.024),
        y0: ArrayLike | Sequence[float] = (33.0, 5.8),
    ):
        self.t0, self.t1 = 0.0, 20.0
        self.args = _positive("args", args, 4)
        self.y0 = _positive("y0", y0, 2)
        self.reference = None

    def vector_field(
        self, t: Any, y: Float[Array, " n"], args: Any
    ) -> Float[Array, " n"]:
        """((α − β v) u, (−γ + δ u) v); `args` is (α, β, γ, δ)."""
        del t
        check_state(y, 2)
        alpha, beta, gamma, delta = parameters(args, self.args, y)
        hares, lynxes = y
        return jnp.stack(
            [(alpha - beta * lynxes) * hares, (-gamma + delta * hares) * lynxes]
        )

    def first_integral(self, y: Float[Array, " n"], args: Any = None) -> Array:
        """δ u − γ ln u + β v − α ln v, which no solution changes.

        **Arguments:**

        - `y`: one state, positive.
        - `args`: as for `vector_field`.
        """
        check_state(y, 2)
        alpha, beta, gamma, delta = parameters(args, self.args, y)
        hares, lynxes = y
        prey = delta * hares - gamma * jnp.log(hares)
        return prey + beta * lynxes - alpha * jnp.log(lynxes)


def load_lynx_hare(
    folder: str | os.PathLike | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Pelts of hares and lynxes that the Hudson's Bay Company traded, 1900 to 1920.

    A real series of two populations that cycle, one value a year. The package does not
    ship it: it is `hudson-bay-lynx-hare.csv` of Stan's example models (BSD licence).

    **Arguments:**

    - `folder`: where the file is. Default: the folder "time_series" of the one that the
        environment variable `SCIML_DATA` names.

    **Returns:** `(years, populations)`: shape `(21,)`, and `(21, 2)` in thousands of
    pelts, hares first, as the state of `LotkaVolterra`. NumPy arrays in JAX's
    default floating type.

    **Raises:** `FileNotFoundError` where there is no folder or no such file;
    `sciml.data.DataError` for a file that holds something else.

    !!! example

        ```python
        import os
        import problems

        if "SCIML_DATA" in os.environ:
            years, populations = problems.load_lynx_hare()
        ```

    !!! cite "Reference"

        C. G. Hewitt, The Conservation of the Wild Life of Canada (1921), for the
        pelts.
    """
    path = find_file(_FILE, folder, "time_series", "the pelts of lynxes and hares")
    text = path.read_text("utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    head, *rows = list(csv.reader(lines, skipinitialspace=True)) or [[]]
    if head != _COLUMNS:
        raise DataError(f"{path}: expected the columns {_COLUMNS}, got {head}.")
    try:
        table = np.array(rows, np.float64)
    except ValueError as error:
        raise DataError(f"{path}: not a table of numbers ({error}).") from error
    if table.ndim != 2 or table.shape[1] != 3 or not np.all(table > 0):
        raise DataError(
            f"{path}: expected three positive numbers in each row, got a table of "
            f"shape {table.shape}."
        )
    table = table.astype(jnp.result_type(float))
    return table[:, 0], table[:, [2, 1]]


def _positive(name: str, given: ArrayLike | Sequence[float], size: int) -> Array:
    found = np.asarray(given)
    if found.shape != (size,) or not np.all(found > 0):
        raise ValueError(
            f"{name}: expected {size} positive numbers, got {found.tolist()}."
        )
    return jnp.asarray(found, jnp.result_type(float))
