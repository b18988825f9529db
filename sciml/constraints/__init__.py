"""Constraints that hold exactly: projections, and quadratic programs."""

from ._linear_equality import LinearEquality as LinearEquality
