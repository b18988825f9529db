"""Solvers that take the steps of another one and look on."""

from typing import Any

import diffrax as dfx
import equinox as eqx

# Attributes of solvers are properties here.
# pyright: reportIncompatibleVariableOverride=false


class AbstractTransparentSolver(
    dfx.AbstractAdaptiveSolver, dfx.AbstractImplicitSolver, dfx.AbstractWrappedSolver
):
    """Another solver, `inner`, with something added to its state.

    Everything that diffrax asks a solver about is handed on, through any number of
    wrappers. They are all marked as implicit: that is what makes diffrax hand its
    controller's tolerances to a solver's `root_finder`.
    """

    inner: eqx.AbstractVar[dfx.AbstractSolver]

    @property
    def solver(self) -> dfx.AbstractSolver:
        """The solver at the bottom: `isinstance` looks at this one."""
        return _innermost(self.inner)

    @property
    def term_structure(self) -> Any:
        """As of the inner solver."""
        return self.inner.term_structure

    @property
    def interpolation_cls(self) -> Any:
        """As of the inner solver."""
        return self.inner.interpolation_cls

    @property
    def term_compatible_contr_kwargs(self) -> Any:
        """As of the inner solver."""
        return self.inner.term_compatible_contr_kwargs

    @property
    def root_find_max_steps(self) -> int:
        """Of the inner solver; 0 if it is explicit."""
        return getattr(self.inner, "root_find_max_steps", 0)

    @property
    def scan_kind(self) -> Any:
        """Of the solver at the bottom: adjoints set it."""
        return self.solver.scan_kind  # pyright: ignore[reportAttributeAccessIssue]

    def order(self, terms):
        """As of the inner solver."""
        return self.inner.order(terms)

    def strong_order(self, terms):
        """As of the inner solver."""
        return self.inner.strong_order(terms)

    def error_order(self, terms):
        """As of the inner solver."""
        return self.inner.error_order(terms)

    def func(self, terms, t0, y0, args):
        """As of the inner solver."""
        return self.inner.func(terms, t0, y0, args)


def method_of(solver: dfx.AbstractSolver) -> dfx.AbstractSolver:
    """The solver without those around it that only look on."""
    while isinstance(solver, AbstractTransparentSolver):
        solver = solver.inner
    return solver


def differentiable_both_ways(solver: Any) -> Any:
    """A solver whose single step, called by hand, has forward and reverse modes."""
    bottom = _innermost(solver)
    if getattr(bottom, "scan_kind", "none") is not None:
        return solver
    return eqx.tree_at(
        lambda s: getattr(_innermost(s), "scan_kind"),  # noqa: B009
        solver,
        "bounded",
        is_leaf=lambda leaf: leaf is None,
    )


def _innermost(solver: Any) -> dfx.AbstractSolver:
    while isinstance(solver, dfx.AbstractWrappedSolver):
        solver = solver.solver
    return solver
