"""A program for an interpreter that has torch: MgNO and neuraloperator's FNO, timed.

It is run as a process of its own, see `_torch_peer`, and speaks JSON, a line at a time:

    ← {"points", "batch", "mgno": {"width", "depth", "levels", "weights"},
       "fno": {"width", "depth", "modes"}, "inputs": …}
    → {"threads": …, "peers": {name: {"value", "parameters", "settings", …}}}
    ← round
    → {name: {"forward": seconds, "gradient": seconds}}

MgNO is written down here from its published description, with zero padding as in the
published code, and takes our weights, so that its output can be compared with ours.
With `--check` the program only says what is installed. Nothing here is imported by the
package, and it imports nothing of it.
"""

import importlib
import importlib.metadata
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

_DISTRIBUTIONS = {"torch": "torch", "neuralop": "neuraloperator"}

# Of every setting, before the fastest is chosen.
_WARM_UP, _TRIALS = 2, 5


def main() -> None:
    """Answer until standard input ends."""
    # What libraries print must not get between the lines of the protocol.
    answers, sys.stdout = sys.stdout, sys.stderr
    warnings.simplefilter("ignore")

    def answer(value: Any) -> None:
        print(json.dumps(value), file=answers, flush=True)

    facts: dict[str, Any] = {"versions": {}, "missing": []}
    for module, distribution in _DISTRIBUTIONS.items():
        try:
            importlib.import_module(module)
            facts["versions"][module] = importlib.metadata.version(distribution)
        except ImportError as error:
            facts["missing"].append(f"{distribution} ({error})")
    if "--check" in sys.argv:
        answer(facts)
        return
    problem = json.loads(sys.stdin.readline())
    torch: Any = importlib.import_module("torch")
    if hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    threads = torch.get_num_threads()
    inputs = torch.tensor(problem["inputs"])
    peers = {"mgno": _mgno(torch, problem["mgno"]), "fno": _fno(torch, problem["fno"])}
    fastest, described = {}, {}
    for name, model in peers.items():
        fastest[name], described[name] = _choose(torch, model, inputs)
    answer({"threads": threads, "peers": described})
    for line in sys.stdin:
        if line.strip() != "round":
            break
        # The caches hold what the other process did.
        fastest["mgno"]["forward"]()
        answer(
            {
                name: {kind: _seconds(call) for kind, call in calls.items()}
                for name, calls in fastest.items()
            }
        )


def _mgno(torch: Any, given: dict[str, Any]) -> Any:
    """The network for Darcy flow; `weights` in the order in which they are used."""
    nn = torch.nn
    functional = nn.functional

    class Cycle(nn.Module):
        """One pre-smoothing step per level, two on the coarsest, nothing else."""

        def __init__(self, of_f: int, of_u: int, levels: int):
            super().__init__()
            conv = lambda i, o, stride=1: nn.Conv2d(i, o, 3, stride, 1, bias=False)
            last = levels - 1
            steps = [1] * last + [2]
            # The very first step starts from u = 0 and has no A.
            self.A = nn.ModuleList(
                nn.ModuleList(conv(of_u, of_f) for _ in range(n - (l == 0)))
                for l, n in enumerate(steps)
            )
            self.S = nn.ModuleList(
                nn.ModuleList(conv(of_f, of_u) for _ in range(n)) for n in steps
            )
            self.Pi = nn.ModuleList(conv(of_u, of_u, 2) for _ in range(last))
            self.R = nn.ModuleList(conv(of_f, of_f, 2) for _ in range(last))
            self.P = nn.ModuleList(
                nn.ConvTranspose2d(of_u, of_u, 4, 2, 1, bias=False) for _ in range(last)
            )

        def forward(self, f):
            u = self.S[0][0](f)
            fine = [u]
            for l in range(1, len(self.S)):
                u, f = self.Pi[l - 1](u), self.R[l - 1](f)
                for A, S in zip(self.A[l], self.S[l], strict=True):
                    u = u + S(f - A(u))
                fine.append(u)
            for l in range(len(self.S) - 2, -1, -1):
                u = fine[l] + self.P[l](u)
            return u

    class MgNO(nn.Module):
        def __init__(self, width: int, depth: int, levels: int):
            super().__init__()
            channels = [1] + [width] * depth
            self.cycles = nn.ModuleList(
                Cycle(channels[k], width, levels) for k in range(depth)
            )
            self.pointwise = nn.ModuleList(
                nn.Conv2d(channels[k], width, 1) for k in range(depth)
            )
            self.output = nn.Conv2d(width, 1, 1, bias=False)

        def forward(self, u):
            for cycle, pointwise in zip(self.cycles, self.pointwise, strict=True):
                u = functional.gelu(cycle(u) + pointwise(u), approximate="tanh")
            return self.output(u)

    model = MgNO(given["width"], given["depth"], given["levels"])
    weights = {name: torch.tensor(value) for name, value in given["weights"].items()}
    model.load_state_dict(weights)
    return model


def _fno(torch: Any, given: dict[str, Any]) -> Any:
    """neuraloperator's, without the multilayer perceptrons that ours does not have."""
    del torch
    fno = importlib.import_module("neuralop.models").FNO
    modes = given["modes"]
    # Theirs counts both signs: 2 modes − 1 frequencies, and half of them on the last.
    return fno(
        n_modes=(2 * modes - 1,) * 2,
        hidden_channels=given["width"],
        in_channels=1,
        out_channels=1,
        n_layers=given["depth"],
        lifting_channel_ratio=0,
        projection_channel_ratio=4,
        use_channel_mlp=False,
    )


def _choose(torch: Any, model: Any, inputs: Any) -> tuple[dict, dict[str, Any]]:
    """The fastest setting's forward and backward calls, and what to say of them."""
    last = torch.channels_last
    settings = {
        "as it is": lambda: (model, inputs),
        "channels last": lambda: (
            model.to(memory_format=last),
            inputs.to(memory_format=last),
        ),
        "torch.compile": lambda: (torch.compile(model), inputs),
    }
    with torch.no_grad():
        value = model(inputs)
    calls: dict[str, dict[str, Callable]] = {"forward": {}, "gradient": {}}
    medians: dict[str, dict[str, float]] = {"forward": {}, "gradient": {}}
    failed = {}
    for name, make in settings.items():
        try:
            run, x = make()
            programs = _programs(torch, model, run, x)
            for kind, call in programs.items():
                for _ in range(_WARM_UP):
                    call()
                times = [_seconds(call) for _ in range(_TRIALS)]
                calls[kind][name], medians[kind][name] = call, statistics.median(times)
        except Exception as error:  # A setting that does not work here is no rival.
            failed[name] = f"{type(error).__name__}: {error}"[:200]
    fastest, chosen = {}, {}
    for kind, found in medians.items():
        best = min(found, key=lambda name: found[name])
        fastest[kind] = calls[kind][best]
        chosen[kind] = {"fastest": best, "medians": found}
    return fastest, {
        "value": value.reshape(-1).tolist(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "settings": chosen,
        "failed": failed,
    }


def _programs(torch: Any, model: Any, run: Callable, x: Any) -> dict[str, Callable]:
    leaves = list(model.parameters())

    def forward():
        with torch.no_grad():
            return run(x)

    def gradient():
        return torch.autograd.grad((run(x) ** 2).mean(), leaves)

    return {"forward": forward, "gradient": gradient}


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
