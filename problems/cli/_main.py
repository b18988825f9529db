"""Parse the command line, run a command, turn its end into an exit code."""

import importlib.metadata
import sys
from collections.abc import Sequence
from typing import Annotated, Any

from ._common import BadData, ExitCode, Usage, say


def main(argv: Sequence[str] | None = None) -> int:
    """Run `sciml` with the given arguments, those of the process by default.

    **Returns:** 0 done, 1 a run failed, 2 usage, 3 not converged, 4 bad data;
    130 where the user interrupted it.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        import tyro
    except ImportError:
        say("The command line needs more: pip install 'sciml-solvers[cli]'")
        return ExitCode.FAILED
    if arguments == ["--version"]:
        print(importlib.metadata.version("sciml-solvers"))
        return ExitCode.DONE
    if not arguments:
        arguments = ["--help"]
    commands, prog = _commands(), "sciml"
    if arguments[:2] == ["train", "preconditioner"]:
        # (`sciml train PROBLEM` takes any other word.)
        from ._train_preconditioner import TrainPreconditioner

        commands, prog = TrainPreconditioner, "sciml train preconditioner"
        arguments = arguments[2:] or ["--help"]
    elif arguments[:2] == ["train", "dgno"]:
        from ._train_dgno import TrainDGNO

        commands, prog, arguments = TrainDGNO, "sciml train dgno", arguments[2:]
    try:
        command: Any = tyro.cli(
            commands,
            prog=prog,
            args=arguments,
            description="Scientific-ML solvers you can train and trust.",
        )
    except SystemExit as stop:
        return int(stop.code or 0)
    return _run(command)


def _commands() -> Any:
    import tyro

    from ._demo import Demo
    from ._invert import Invert
    from ._list import List
    from ._predict import Predict
    from ._report import MakeReport
    from ._solve import Solve
    from ._train import Train
    from .bench import Bench

    union: Any = None
    for name, cls in {
        "list": List,
        "solve": Solve,
        "train": Train,
        "predict": Predict,
        "invert": Invert,
        "bench": Bench,
        "report": MakeReport,
        "demo": Demo,
    }.items():
        member: Any = Annotated[cls, tyro.conf.subcommand(name, prefix_name=False)]
        union = member if union is None else union | member
    return union


def _run(command: Any) -> int:
    from sciml import SerialisationError
    from sciml.data import DataError

    try:
        _use_float64()
        return int(command())
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except (BadData, DataError, SerialisationError) as error:
        say(f"bad data: {error}")
        return ExitCode.BAD_DATA
    except Usage as error:
        say(f"usage: {error}")
        return ExitCode.USAGE
    except BrokenPipeError:
        return ExitCode.DONE
    except Exception as error:  # A traceback helps nobody at a prompt.
        say(f"failed: {type(error).__name__}: {error}")
        return ExitCode.FAILED


def _use_float64() -> None:
    # The process is ours here; the library never touches this switch. Residuals of
    # 1e-8 need float64, networks are trained in float32 all the same.
    import jax

    jax.config.update("jax_enable_x64", True)
