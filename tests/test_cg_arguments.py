"""Conjugate gradients with arguments that do not fit: errors name what and why."""

# Wrong arguments are the point here.
# pyright: reportArgumentType=false

import jax.numpy as jnp
import numpy as np
import pytest
from linear_cases import matrix_operator, spd_matrix

import sciml
from sciml.linear import linear_solve
from sciml.linear._builder import build_preconditioner

N = 24


def test_arguments():
    for arguments, message in (
        (dict(rtol=-1.0), "rtol: expected a finite number ≥ 0, got -1.0"),
        (dict(atol=float("nan")), "atol: expected a finite number"),
        (dict(max_steps=0), "max_steps: expected an integer ≥ 1, got 0"),
        (dict(history_length=-1), "history_length: expected an integer"),
    ):
        with pytest.raises(ValueError, match=message):
            sciml.CG(**arguments)
    A = matrix_operator(spd_matrix(N))
    with pytest.raises(ValueError, match=r"vector: expected shape \(24,\).* \(25,\)"):
        linear_solve(A, jnp.ones(N + 1))
    with pytest.raises(ValueError, match="vector: expected dtype float64.* float32"):
        linear_solve(A, jnp.ones(N, jnp.float32))
    with pytest.raises(ValueError, match="x0: expected shape"):
        linear_solve(A, jnp.ones(N), x0=jnp.ones(3))
    with pytest.raises(ValueError, match="vector: expected the structure"):
        linear_solve(A, {"b": jnp.ones(N)})
    with pytest.raises(ValueError, match="preconditioner: its input structure"):
        linear_solve(A, jnp.ones(N), preconditioner=matrix_operator(np.eye(3)))
    with pytest.raises(TypeError, match="preconditioner"):
        build_preconditioner(lambda r: r, A)  # pyright: ignore[reportArgumentType]
