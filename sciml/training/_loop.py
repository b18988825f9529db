"""The one training loop."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax

from ._history import NonFiniteLossError
from ._interrupt import DeferredSignals
from ._processes import Processes
from ._progress import AbstractListener, Report
from ._run import Run

# How long steps are issued before their losses are read back, which drains the
# device's queue: often enough to stop early after a failure, seldom enough not to
# matter.
_READ_STEPS = 64
_READ_SECONDS = 0.5
# About how long a signal that one of several processes got waits for the others.
_AGREE_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is done beside the steps.

    **Attributes:**

    - `num_steps`: steps in all.
    - `checkpoints`: where to save, or None.
    - `checkpoint_every`: steps between checkpoints.
    - `listeners`: who is told.
    - `processes`: who takes part.
    """

    num_steps: int
    checkpoints: Any
    checkpoint_every: int
    listeners: list[AbstractListener]
    processes: Processes


def train(run: Run, step: Any, data: Callable[[], tuple], plan: Plan) -> None:
    """Take a run from wherever it is to its last step.

    **Arguments:**

    - `run`: changed in place.
    - `step`: a jitted `step(state, data) -> (state, (record, finite))`.
    - `data`: returns its second argument.
    - `plan`: what else is to be done.
    """
    try:
        if run.done < plan.num_steps and not run.stopped_early:
            _train(run, step, data(), plan)
    finally:
        for listener in plan.listeners:
            listener.close()


def _train(run: Run, step: Any, data: tuple, plan: Plan) -> None:
    checkpoints = plan.checkpoints
    with DeferredSignals(checkpoints is not None) as signals:
        compiled = _compiled(run, step, data)
        clock, validator = _Clock(run), run.validator
        agreement = _Agreement(plan, run.done)
        while run.done < plan.num_steps and not run.stopped_early:
            run.state, outcome = compiled(run.state, data)
            run.pending.append(outcome)
            done = run.done
            last = done == plan.num_steps
            judge = validator is not None and validator.is_due(done)
            stop = agreement.reached(done, bool(signals.pending), clock)
            save = checkpoints is not None and (
                last or stop or done % plan.checkpoint_every == 0
            )
            # Several processes have to fail at the same step, not at the same time.
            late = clock.is_late() and not plan.processes.several
            read = late or len(run.pending) >= _READ_STEPS
            if not (last or judge or save or read):
                continue
            records, finite = run.read_back()
            validation = None
            if validator is not None and judge and finite:
                validation = validator.judge(done, run.state[0])
                save = save or (checkpoints is not None and run.stopped_early)
            if last or save or not finite:
                jax.block_until_ready(run.state)
            clock.read(run)
            best = None if validator is None else validator.best
            report = Report(
                run.done,
                plan.num_steps,
                records,
                validation,
                best,
                run.training_time,
                clock.steps_per_second(run.done),
            )
            for listener in plan.listeners:
                listener.update(report)
            if not finite:
                raise NonFiniteLossError(run.done, run.model(), run.history())
            if checkpoints is not None and save:
                checkpoints.save(run.done, run.arrays(), run.numbers())
            if stop:
                signals.deliver()
                if plan.processes.several:
                    raise KeyboardInterrupt("a process of this run was interrupted")
    clock.read(run)


def _compiled(run: Run, step: Any, data: tuple) -> Any:
    started = time.perf_counter()
    compiled = step.lower(run.state, data).compile()
    if run.validator is not None:
        run.validator.compile(run.state[0])
    # Issued only now: restored arrays may still be on their way to the device.
    jax.block_until_ready((run.state, data))
    run.compile_time += time.perf_counter() - started
    return compiled


class _Clock:
    """The time that a run takes, this session's and all before it."""

    def __init__(self, run: Run):
        self.before, self.first = run.training_time, run.done
        self.started = self.latest = time.perf_counter()

    def read(self, run: Run) -> None:
        self.latest = time.perf_counter()
        run.training_time = self.before + self.latest - self.started

    def is_late(self) -> bool:
        return time.perf_counter() - self.latest > _READ_SECONDS

    def steps_per_second(self, done: int) -> float:
        seconds = time.perf_counter() - self.started
        return (done - self.first) / max(seconds, 1e-9)


class _Agreement:
    """Whether to stop after a step because of a signal, decided by all processes.

    Asking the others waits for all of their devices, so it is done once in about a
    second. When, has to be agreed on as well: each time they settle how many steps to
    wait for the next time.
    """

    def __init__(self, plan: Plan, done: int):
        self.processes, self.active = plan.processes, plan.checkpoints is not None
        self.next = done + 1

    def reached(self, done: int, wanted: bool, clock: _Clock) -> bool:
        if not self.processes.several:
            return wanted
        if not self.active or done < self.next:
            return False
        wait = max(1, int(_AGREE_SECONDS * clock.steps_per_second(done)))
        stop, wait = self.processes.agree(wanted, wait)
        self.next = done + wait
        return stop
