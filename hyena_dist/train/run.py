"""A run from outside: its folder is taken, it trains as far as these processes can, and it says how it ended."""

from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import Any

from hyena_dist.config.run import RunConfig
from hyena_dist.errors import TemporaryError, UserError
from hyena_dist.parallel.world import World
from hyena_dist.plan.fit import fit
from hyena_dist.profile.memory import describe_out_of_memory
from hyena_dist.profile.watchdog import describe_collective_failure
from hyena_dist.train import outcome
from hyena_dist.train.lock import run_lock
from hyena_dist.train.loop import Loop
from hyena_dist.train.objective import Objective
from hyena_dist.train.outcome import Ending, Outcome
from hyena_dist.train.pretraining import Pretraining
from hyena_dist.train.resume import Resume, find_resume_point
from hyena_dist.train.stop import InterruptedRun, StopSignal


def train(
    config: RunConfig,
    world: World,
    resume: Resume = "auto",
    profile: Collection[str] = (),
    profile_steps: tuple[int, int] = (3, 5),
    last_stage: int | None = None,
    objective: Callable[[RunConfig], Objective[Any]] = Pretraining,
) -> Outcome:
    """Train until the run is done, the next stage needs other processes, or a signal asks to stop; all ranks call this.

    What happens at a step is a function of (config, step): samples, learning rate, dropout. A run that was stopped,
    however rudely, therefore continues as if it had not been.

    Args:
        config: the run; what is `auto` is planned for these ranks.
        world: from join_world.
        resume: "auto" continues from the newest intact checkpoint of the run's folder, "never" refuses a folder that
            has one, and a number goes back to the checkpoint of that step; newer ones are set aside.
        profile: "comm" prints what each logged step sent and keeps it in communication.csv; "trace" records the
            operators of some steps.
        profile_steps: first and last step of a trace, counted from where these processes enter each stage.
        last_stage: the stage, counted from 1, after which to stop; the last if not given.
        objective: makes what the run optimises from its planned configuration.

    Returns:
        How it ended; outcome.json in the run's folder says the same.

    Raises:
        UserError: a configuration, data or checkpoint that cannot be used, a full disk, too little memory, or a loss
            that is no number.
        InterruptedRun: Ctrl-C, after which all was saved.
        TemporaryError: another rank or the storage is gone or stuck, or the run goes back to its last checkpoint.
    """
    asked = config
    config = fit(config, world.size)
    optimised = objective(config)
    loop: Loop | None = None
    claimed = False

    def tell(error: UserError | TemporaryError) -> None:
        """Leave word of an error, unless another rank has, or other processes have the folder: theirs came first."""
        if claimed and outcome.read(config.run_dir) is None:
            ending: Ending = "failed" if isinstance(error, UserError) else "fault"
            step = loop.step if loop else 0
            done = loop.point.stages_done(step) if loop else 0
            stages = len(config.train.curriculum)
            outcome.write(config.run_dir, Outcome(ending, step, done, stages, str(error)))

    with ExitStack() as stack:
        stop = stack.enter_context(StopSignal())
        try:
            world.on_main(lambda: _claim_run_dir(config, stack))
            claimed = True
            point = find_resume_point(config, asked, optimised.fingerprint, world, resume, last_stage)
            loop = Loop(config, optimised, point, world, profile, profile_steps)
            result = loop.to_the_end(stop, on_hang=lambda message: tell(TemporaryError(message)))
            if result.outcome == "stopped" and stop.name == "SIGINT":
                raise InterruptedRun
            return result
        except (UserError, TemporaryError) as error:
            tell(error)
            raise
        except (RuntimeError, MemoryError) as error:
            step, place, _ = loop.phases.where() if loop else (0, "start", 0.0)
            failure: UserError | TemporaryError | None = describe_out_of_memory(
                error, f"rank {world.rank} at step {step:,} ({place})"
            )
            if failure is None and isinstance(error, RuntimeError):
                failure = describe_collective_failure(error)
            if failure is None:
                raise
            tell(failure)
            raise failure from error


def _claim_run_dir(config: RunConfig, stack: ExitStack) -> None:
    """Hold the run's folder, which is made if need be, until the stack closes; on the main process."""
    stack.enter_context(run_lock(config.run_dir))
    outcome.clear(config.run_dir)
