"""Training in the processes of a launcher, for the verbs that train."""

import os
import signal
from collections.abc import Callable, Collection
from typing import Any

from hyena_dist.config.run import RunConfig
from hyena_dist.errors import UserError
from hyena_dist.plan.fit import fit
from hyena_dist.system.launch import launch_environment
from hyena_dist.system.stop_signals import stop_signals


def ignore_early_stops() -> None:
    """Let signals that ask training to save and stop pass while torch is imported, or once training has ended."""
    for number in stop_signals():
        signal.signal(number, signal.SIG_IGN)


def train_launched(
    config: RunConfig,
    objective: Callable[[RunConfig], Any],
    resume: Any = "auto",
    profile: Collection[str] = (),
    profile_steps: tuple[int, int] = (3, 5),
    last_stage: int | None = None,
) -> None:
    """Join the other processes of the launcher and train, as `train.run.train` does.

    Raises:
        UserError, TemporaryError, InterruptedRun: as there.
    """
    world_size = launch_environment().world_size
    fit(config, world_size).segments(world_size)  # an impossible layout is refused before ranks wait for each other
    from hyena_dist.parallel.world import join_world, shutdown
    from hyena_dist.train.run import train
    from hyena_dist.train.stop import InterruptedRun

    # The watchdog, which names the stuck rank, speaks before the collectives give up.
    world = join_world(timeout_s=config.train.timeout_s + 60)
    try:
        # Ranks that their launcher starts again, as torchrun can, neither go back once more nor refuse what they saved.
        again = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
        train(config, world, "auto" if again else resume, profile, profile_steps, last_stage, objective)
    except (UserError, InterruptedRun):
        shutdown()  # gloo's threads, alive at the end, can turn exit code 2 into an abort
        raise
    shutdown()
