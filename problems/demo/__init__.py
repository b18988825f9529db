"""The demonstration: generate, train, solve, and one page that shows all of it."""

from ._run import DemoSettings as DemoSettings, run_demo as run_demo
