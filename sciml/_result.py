"""Every way in which a solve can end, with what to try next."""

import diffrax as dfx


class RESULTS(dfx.RESULTS):  # pyright: ignore[reportGeneralTypeIssues]
    """How a solve ended; compare with `RESULTS.successful`.

    Extends `diffrax.RESULTS` (and so optimistix's and lineax's), so that every result
    that the ecosystem can return can be promoted to ours. `successful` means, for the
    solvers of this library, that the residual *recomputed from the operator* meets the
    tolerance that was asked for. `max_steps_reached` and `nonfinite` are inherited.

    !!! example

        ```python
        if solution.result != sciml.RESULTS.successful:
            print(sciml.RESULTS[solution.result])
        ```
    """

    indefinite_operator = (
        "The operator is not positive definite: a search direction p with p^T A p <= 0 "
        "was found. Check its tag; if it is symmetric but indefinite use "
        "`sciml.linear.MINRES`."
    )
    indefinite_preconditioner = (
        "The preconditioner is not positive definite: a residual r with r^T M r <= 0 "
        "was found. Remember that M approximates the inverse of A. Try "
        "`sciml.preconditioners.Jacobi()`, or a preconditioner that is positive "
        "definite by construction."
    )
    stagnated = (
        "The residual stopped falling before it met the tolerance. The tolerance may "
        "lie below what this floating-point precision can reach for this operator: "
        "raise `rtol`, use float64, or use a better preconditioner."
    )
    diverged = (
        "The residual grew far beyond its initial size. The operator is probably not "
        "symmetric positive definite, or the preconditioner is not symmetric."
    )
    infeasible = (
        "No solution exists: the operator is singular and the right-hand side is not "
        "in its range, or constraints contradict each other. For pure Neumann or "
        "periodic problems subtract the mean of the right-hand side (weighted by cell "
        "volume)."
    )
    unbounded = (
        "The objective falls without bound along a direction that the constraints "
        "allow. Add bounds, or a positive definite term to the objective."
    )
    nonconvex = (
        "The quadratic term of the objective has a negative eigenvalue, so that a "
        "point that satisfies the optimality conditions need not be a minimum. Make P "
        "positive semidefinite."
    )
    unstable_rollout = (
        "A model that was applied to its own output gave NaN or infinite values. The "
        "statistics `num_finite` and `rms` say when, and how it grew. Train it on its "
        "own outputs (`sciml.training.Pushforward`, `sciml.training.Curriculum`), or "
        "let it give several states at once (`sciml.neural_operators.TemporalBundle`)."
    )
