"""`sciml list`."""

import dataclasses

from ._common import ExitCode, print_json


@dataclasses.dataclass
class List:
    """What there is: problems, solvers, preconditioners, models, benchmarks."""

    json: bool = False
    """Print JSON instead of a table."""

    def __call__(self) -> ExitCode:
        """Print the catalogue."""
        from sciml import linear, neural_operators, preconditioners

        from .. import evolution_names, ode_names, problem_names, system_names
        from ._train_task import MODELS, TRAINED_ONLY
        from .bench import BENCHMARKS

        def builders(namespace, base):
            return {
                name: _first_line(item)
                for name, item in vars(namespace).items()
                if isinstance(item, type)
                and issubclass(item, base)
                and not name.startswith("Abstract")
            }

        catalogue = {
            "problems": problem_names() | system_names() | TRAINED_ONLY,
            "time-dependent problems": evolution_names(),
            "initial-value problems": ode_names(),
            "solvers": builders(linear, linear.AbstractKrylov),
            "preconditioners": builders(preconditioners, linear.AbstractPreconditioner),
            "models": {
                name: _first_line(getattr(neural_operators, cls))
                for name, cls in MODELS.items()
            },
            "benchmarks": BENCHMARKS,
        }
        if self.json:
            print_json(catalogue)
            return ExitCode.DONE
        for title, entries in catalogue.items():
            print(title)
            width = max(map(len, entries))
            for name, text in entries.items():
                print(f"  {name:<{width}}  {text}")
        return ExitCode.DONE


def _first_line(item) -> str:
    return (item.__doc__ or "").strip().splitlines()[0]
