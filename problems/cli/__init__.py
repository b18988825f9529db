"""The command line `sciml`."""

from ._main import main as main
