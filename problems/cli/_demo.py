"""`sciml demo`."""

import dataclasses
import pathlib

from ._common import ExitCode, print_json, say


@dataclasses.dataclass
class Demo:
    """Generate, train and solve, and show it all on one page (about 4 minutes)."""

    output: str = "runs/demo"
    """The folder of the page, its pictures, the figures and the model."""
    smoke: bool = False
    """Everything as small as it goes, to see that it runs; the figures mean nothing."""
    json: bool = False
    """Print the results as JSON."""

    def __call__(self) -> ExitCode:
        """Run the three acts."""
        from ..demo import DemoSettings, run_demo

        settings = DemoSettings.smoke() if self.smoke else DemoSettings()
        results = run_demo(self.output, settings)
        if self.json:
            print_json(results)
        page = pathlib.Path(self.output) / "report.html"
        say(f"done in {results['time']:.0f} s; open {page}")
        ours = [r for r in results["large"] if r["method"] == "sciml CG + Multigrid"]
        solved = all(r["status"] == "successful" for r in ours)
        return ExitCode.DONE if solved else ExitCode.NOT_CONVERGED
