"""The speed at which this machine trains a model: real steps at each length, in as many processes as will train."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from threading import BrokenBarrierError
from typing import NamedTuple

from hyena_dist.config.run import RunConfig, StagePlan
from hyena_dist.errors import TemporaryError

MEASURE_S = 2.0
"""Seconds of steps at each length, after one step that does not count."""
_PATIENCE_S = 300.0


class Speed(NamedTuple):
    """Times by the wall clock, which include whatever else runs on the machine."""

    step_s: tuple[float, ...]
    """Seconds of an optimizer step in each stage."""
    start_s: float
    """Seconds from starting the processes until all of them had loaded torch and built the model."""


def measure_speed(config: RunConfig, ranks: int) -> Speed:
    """Train the run's model on random tokens for a few seconds, on CPUs and without exchanging gradients.

    Args:
        config: The run; its model, precision and batches are used, not its data.
        ranks: Number of processes. They wait for each other after every step, as data-parallel ones do.

    Raises:
        TemporaryError: A process ended early.
    """
    context = multiprocessing.get_context("spawn")
    stages = config.stages(ranks)
    # One more than there are stages: all meet once before the first.
    barriers = [context.Barrier(ranks) for _ in range(len(stages) + 1)]
    pipes = [context.Pipe(duplex=False) for _ in range(ranks)]
    begin = time.monotonic()
    processes = [
        context.Process(target=_measure, args=(config, stages, barriers, send), daemon=True) for _, send in pipes
    ]
    try:
        for process, (_, send) in zip(processes, pipes, strict=True):
            process.start()
            send.close()
        found = [receive.recv() for receive, _ in pipes]
    except EOFError:
        raise TemporaryError("a process that measures this machine ended early; is there enough memory?") from None
    finally:
        for process in processes:
            process.kill()
            process.join()
    ready = max(ready for ready, _ in found)
    return Speed(tuple(map(max, zip(*(step_s for _, step_s in found), strict=True))), ready - begin)


def _measure(config: RunConfig, stages: Sequence[StagePlan], barriers: Sequence[Barrier], send: Connection) -> None:
    """Send when this process was ready, by the system's clock, and the mean seconds of a step of each stage."""
    import torch  # here, so that the process that waits need not load it

    from hyena_dist.models.lm import HyenaDNA
    from hyena_dist.ops.precision import DTYPES
    from hyena_dist.parallel.compat.cpu import keep_freed_memory

    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    keep_freed_memory(4 * max(s.micro_batch_size * s.seq_length for s in stages) * config.model.d_model)
    model = HyenaDNA(config.model, compute_dtype=DTYPES[config.precision])
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.optimizer.lr)

    def step(stage: StagePlan) -> None:
        for _ in range(stage.gradient_accumulation_steps):
            inputs, targets = torch.randint(7, 11, (2, stage.micro_batch_size, stage.seq_length))
            loss = model(inputs, targets, skip_logits=True).nll_sum
            assert loss is not None
            (loss / stage.tokens_per_step).backward()
        optimizer.step()
        optimizer.zero_grad()

    barriers[0].wait(_PATIENCE_S)
    ready = time.monotonic()
    step_s = []
    for stage, barrier in zip(stages, barriers[1:], strict=True):
        step(stage)
        barrier.wait(_PATIENCE_S)
        step_s.append(_mean_seconds(lambda stage=stage: step(stage), barrier))  # type: ignore[misc]
    send.send((ready, step_s))


def _mean_seconds(step: Callable[[], None], barrier: Barrier) -> float:
    """Return the mean seconds of steps after which all processes meet, over about `MEASURE_S`."""
    steps = 0
    begin = time.monotonic()
    while time.monotonic() - begin < MEASURE_S:
        step()
        steps += 1
        try:
            barrier.wait(_PATIENCE_S)
        except BrokenBarrierError:  # another process has ended its measuring
            break
    barrier.abort()
    return (time.monotonic() - begin) / steps
