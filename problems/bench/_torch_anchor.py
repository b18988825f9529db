"""A program for an interpreter that has torch: torchdiffeq and torchode, timed.

It is run as a process of its own, see `_torch_peer`, and speaks JSON, a line at a time:

    ← {"layers": [[weight, bias], …], "y0": …, "rtol": …, "atol": …}
    → {"threads": …, "peers": {name: {"value", "gradient", "nfe", "num_steps", …}}}
    ← round
    → {name: {"forward": seconds, "gradient": seconds}}

With `--check` it only says what is installed. Nothing here is imported by the package,
and it imports nothing of it.
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

PACKAGES = ("torch", "torchdiffeq", "torchode")

# Of every setting, before the fastest is chosen.
_WARM_UP, _TRIALS = 3, 7


def main() -> None:
    """Answer until standard input ends."""
    # What libraries print must not get between the lines of the protocol.
    answers, sys.stdout = sys.stdout, sys.stderr
    warnings.simplefilter("ignore")

    def answer(value: Any) -> None:
        print(json.dumps(value), file=answers, flush=True)

    facts: dict[str, Any] = {"versions": {}, "missing": []}
    for name in PACKAGES:
        try:
            importlib.import_module(name)
            facts["versions"][name] = importlib.metadata.version(name)
        except ImportError as error:
            facts["missing"].append(f"{name} ({error})")
    if "--check" in sys.argv:
        answer(facts)
        return
    problem = json.loads(sys.stdin.readline())
    torch: Any = importlib.import_module("torch")
    if hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    threads = torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    parameters = _parameters(torch, problem["layers"])
    peers = {
        "torchdiffeq": _torchdiffeq(torch, parameters, problem),
        "torchode": _torchode(torch, parameters, problem),
    }
    fastest, described = {}, {}
    for name, peer in peers.items():
        fastest[name], described[name] = _choose(torch, parameters, peer, threads)
    answer({"threads": threads, "peers": described})
    settle = fastest["torchdiffeq"]["forward"]
    for line in sys.stdin:
        if line.strip() != "round":
            break
        # The caches hold what the other process did.
        settle()
        answer(
            {
                name: {kind: _seconds(call) for kind, call in calls.items()}
                for name, calls in fastest.items()
            }
        )


def _parameters(torch: Any, layers: list) -> list[tuple[Any, Any, Any]]:
    """Weights of y and of t, and the bias, of each layer; leaves, so nothing is cut."""
    parameters = []
    for weight, bias in layers:
        weight = torch.tensor(weight)
        parts = (weight[:, :-1], weight[:, -1], torch.tensor(bias))
        parameters.append(tuple(p.clone().requires_grad_() for p in parts))
    return parameters


def _field(torch: Any, parameters: list) -> Callable:
    """f(t, y) for a time, or one for each sample."""

    def field(t, y):
        t = t[:, None] if t.dim() else t
        for weight, of_time, bias in parameters:
            y = torch.tanh(torch.addmm(bias + t * of_time, y, weight.t()))
        return y

    return field


def _torchdiffeq(torch: Any, parameters: list, problem: dict) -> dict[str, Any]:
    """Dopri5 with one step for the batch, differentiated through its operations."""
    odeint = importlib.import_module("torchdiffeq").odeint
    field = _field(torch, parameters)
    y0 = torch.tensor(problem["y0"])
    times = torch.tensor([0.0, 1.0])
    tolerances = {"rtol": problem["rtol"], "atol": problem["atol"]}
    calls = 0

    def counted(t, y):
        nonlocal calls
        calls += 1
        return field(t, y)

    def solve(f):
        return lambda: odeint(f, y0, times, method="dopri5", **tolerances)[-1]

    with torch.no_grad():
        solve(counted)()
    return {
        "facts": {"steps": "of the batch", "nfe": calls, "num_steps": None},
        "settings": {
            "eager": lambda: solve(field),
            "torch.compile of f": lambda: solve(torch.compile(field)),
        },
    }


def _torchode(torch: Any, parameters: list, problem: dict) -> dict[str, Any]:
    """Dopri5 with a step for each sample, differentiated through its operations."""
    torchode = importlib.import_module("torchode")
    y0 = torch.tensor(problem["y0"])
    term = torchode.ODETerm(_field(torch, parameters))
    solver = torchode.AutoDiffAdjoint(
        torchode.Dopri5(term=term),
        torchode.IntegralController(
            atol=problem["atol"], rtol=problem["rtol"], term=term
        ),
        # (As in the others; and it is less to do.)
        backprop_through_step_size_control=False,
    )
    ends = torch.zeros(len(y0)), torch.ones(len(y0))
    ivp = torchode.InitialValueProblem(
        y0=y0, t_start=ends[0], t_end=ends[1], t_eval=ends[1][:, None]
    )

    def solve(run):
        return lambda: run(ivp).ys[:, -1]

    with torch.no_grad():
        stats = solver.solve(ivp).stats
    return {
        "facts": {
            "steps": "of each sample",
            "nfe": int(stats["n_f_evals"].max()),
            "num_steps": int(stats["n_steps"].max()),
        },
        "settings": {
            "eager": lambda: solve(solver.solve),
            "torch.compile of solve": lambda: solve(torch.compile(solver.solve)),
        },
    }


def _choose(
    torch: Any, parameters: list, peer: dict, threads: int
) -> tuple[dict, dict[str, Any]]:
    """The fastest setting's forward and backward calls, and what to say of them.

    Small matrices are not worth a second thread: one is a setting as well.
    """
    leaves = [leaf for layer in parameters for leaf in layer]
    calls: dict[str, dict[str, Callable]] = {"forward": {}, "gradient": {}}
    failed = {}
    variants = [
        (f"{name}, threads: {count}", make, count)
        for name, make in peer["settings"].items()
        for count in sorted({1, threads})
    ]
    for name, make, count in variants:
        try:
            torch.set_num_threads(count)
            forward, gradient = _programs(torch, leaves, make(), count)
            for _ in range(_WARM_UP):
                forward()
                gradient()
        except Exception as error:  # A setting that does not work here is no rival.
            failed[name] = f"{type(error).__name__}: {error}"[:200]
            continue
        calls["forward"][name], calls["gradient"][name] = forward, gradient
    if not calls["forward"]:
        raise RuntimeError(f"no setting works: {failed}")
    fastest, settings = {}, {}
    for kind, by_name in calls.items():
        times = {name: [] for name in by_name}
        for _ in range(_TRIALS):
            for name, call in by_name.items():
                times[name].append(_seconds(call))
        medians = {name: statistics.median(spent) for name, spent in times.items()}
        best = min(medians, key=lambda name: medians[name])
        fastest[kind] = by_name[best]
        settings[kind] = {"fastest": best, "medians": medians}
    value = fastest["forward"]()
    gradients = fastest["gradient"]()
    return fastest, {
        **peer["facts"],
        "settings": settings,
        "failed": failed,
        "value": value.tolist(),
        "gradient": [g.reshape(-1).tolist() for g in gradients],
    }


def _programs(
    torch: Any, leaves: list, solve: Callable, threads: int
) -> tuple[Callable, Callable]:
    def forward():
        torch.set_num_threads(threads)
        with torch.no_grad():
            return solve()

    def gradient():
        torch.set_num_threads(threads)
        return torch.autograd.grad(solve().sum(), leaves)

    return forward, gradient


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
