"""`--profile trace`: what every operator of some steps took, in files that Perfetto and Chrome show."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from hyena_dist.config.schedule import StagePlan
from hyena_dist.errors import UserError
from hyena_dist.profile.phases import PHASES, Phase, Phases

_TOP = 10
"""Operators that the table for people shows."""

FILE_NAME = "step-{step:06}-rank-{rank}.json.gz"
"""The name of a trace, by its first step."""


def choose_steps(window: tuple[int, int], stages: Sequence[StagePlan], done: int) -> list[range]:
    """Return the steps to trace in each stage, counted from 1 over the run.

    Args:
        window: the first and the last step of each stage that are traced, counted from 1 where these processes enter
            the stage: the first steps of a stage are slower, because sizes are new.
        stages: the stages that these processes train.
        done: steps that were done before.
    """
    first, last = window
    entered = [(max(stage.first_step, done), stage.end_step) for stage in stages]
    chosen = [range(begin + first, min(begin + last, end) + 1) for begin, end in entered]
    return [steps for steps in chosen if steps]


class Trace:
    """Records chosen steps of this rank, each stretch of steps into a file; a context manager around training.

    Phases are spans of the file. Recording slows the steps down, and starting and writing are in the phase "other", so
    that the metrics of these steps are not those of others.

    Args:
        folder: where files go.
        phases: what this rank enters phases of.
        steps: the stretches of steps to record.
        rank: the number of this rank, for the file's name.
        device: what the rank computes on.
        note: takes lines for people, on the rank that prints.

    Raises:
        UserError: the folder cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        phases: Phases,
        steps: Sequence[range],
        *,
        rank: int,
        device: torch.device,
        note: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._phases = phases
        self._stretches = steps
        self._rank = rank
        self._cuda = device.type == "cuda"
        self._note = note
        self._recorded = range(0)
        self._profiler: Any = None
        self._span: Any = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write traces to {folder} ({error.strerror}); train without --profile") from error

    def __enter__(self) -> "Trace":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._profiler is not None:
            self._finish()

    def before(self, step: int) -> None:
        """Start or end a recording where `step` asks for it; to be called before the step's first phase."""
        if self._profiler is not None and step not in self._recorded:
            self._finish()
        if self._profiler is None:
            found = next((steps for steps in self._stretches if steps.start == step), None)
            if found is not None:
                self._begin(found)

    def _begin(self, steps: range) -> None:
        self._phases.enter("other", detail="starting a trace")
        self._recorded = steps
        activities = [torch.profiler.ProfilerActivity.CPU]
        if self._cuda:
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        self._profiler = torch.profiler.profile(activities=activities)
        self._profiler.start()
        self._switch("other")
        self._phases.on_switch = self._switch

    def _switch(self, phase: Phase) -> None:
        """End the span of one phase and begin that of the next."""
        self._end_span()
        self._span = torch.profiler.record_function(phase)
        self._span.__enter__()

    def _end_span(self) -> None:
        if self._span is not None:
            self._span.__exit__(None, None, None)
            self._span = None

    def _finish(self) -> None:
        first = self._recorded.start
        last = min(self._recorded[-1], self._phases.where().step)  # training may have ended before
        self._phases.on_switch = None
        self._phases.enter("other", detail="writing a trace")
        self._end_span()
        profiler = self._profiler
        self._profiler = None
        profiler.stop()
        path = self._folder / FILE_NAME.format(step=first, rank=self._rank)
        try:
            profiler.export_chrome_trace(str(path))
        except (OSError, RuntimeError) as error:  # a lost trace is no reason to end training
            self._note(f"the trace of steps {first:,} to {last:,} cannot be written to {path}: {error}")
            return
        self._note(f"trace of steps {first:,} to {last:,}: {path}; open it at https://ui.perfetto.dev")
        for line in top_operators(profiler.key_averages(), last - first + 1, self._cuda):
            self._note(line)


def top_operators(averages: Sequence[Any], steps: int, cuda: bool) -> list[str]:
    """Return a table of the operators with the most self time, which is that without the operators they call.

    Args:
        averages: torch.profiler's `key_averages`.
        steps: how many steps they cover.
        cuda: whether the GPU's time counts, and not the CPU's.
    """

    def self_ms(event: Any) -> float:
        us = event.self_device_time_total if cuda else event.self_cpu_time_total
        return float(us) / 1e3 / steps

    spans: set[str] = set(PHASES)
    if cuda:  # on a GPU, the spans of phases repeat the time of the kernels in them
        averages = [event for event in averages if event.key not in spans]
    total = sum(self_ms(event) for event in averages) or 1.0
    lines = [f"  {'self ms/step':>12} {'share':>6} {'calls/step':>10}  operator"]
    for event in itertools.islice(sorted(averages, key=self_ms, reverse=True), _TOP):
        name = f"{event.key}, outside of operators" if event.key in spans else event.key
        share = f"{self_ms(event) / total:.1%}"
        lines.append(f"  {self_ms(event):>12.2f} {share:>6} {event.count / steps:>10,.1f}  {name[:90]}")
    return lines
