"""The verb train, and what it shares with other verbs that train. Each imports what it needs when it runs."""

import argparse
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyena_dist.errors import UserError
from hyena_dist.system.launch import launch_environment
from hyena_dist.system.stop_signals import stop_signals
from hyena_dist.verbs import parse_profile, parse_resume, parse_steps, verb

if TYPE_CHECKING:
    from hyena_dist.config.run import RunConfig
    from hyena_dist.train.objective import Objective


def add_arguments(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    train = verb(
        verbs,
        "train",
        "pretrain as a run file says",
        _train,
        "hyena-dist train run.yaml optimizer.lr=3e-4\n"
        "  deepspeed --num_gpus 8 --module hyena_dist train run.yaml\n"
        "  torchrun --nproc_per_node 8 -m hyena_dist train run.yaml\n"
        "  srun --ntasks-per-node 8 --gpus-per-node 8 python -m hyena_dist train run.yaml",
    )
    train.add_argument("run", type=Path, metavar="RUN.yaml", help="the run (jobs/recipes has examples)")
    add_training_options(train)


def add_training_options(
    parser: argparse.ArgumentParser,
    metavar: str = "KEY=VALUE",
    overrides: str = "for example train.micro_batch_size=4",
) -> None:
    """Add KEY=VALUE overrides, with their help, and the options that `run_training` reads."""
    parser.add_argument("overrides", nargs="*", metavar=metavar, help=overrides)
    parser.add_argument(
        "--resume",
        type=parse_resume,
        default="auto",
        metavar="auto|never|STEP",
        help="auto: from the newest intact checkpoint; never: refuse a folder that has one; STEP: back to the "
        "checkpoint of that step, with newer ones set aside (default: auto)",
    )
    parser.add_argument(
        "--profile",
        type=parse_profile,
        default=frozenset(),
        metavar="WHAT",
        help="comm: bytes and calls sent per step, beside the formulas; trace: operators of some steps, for Perfetto; "
        "comm,trace: both",
    )
    parser.add_argument(
        "--profile-steps",
        type=parse_steps,
        default=(3, 5),
        metavar="FIRST-LAST",
        help="steps that a trace holds, counted from where these processes enter each stage (default: 3-5)",
    )
    parser.add_argument("--last-stage", type=int, metavar="K", help="save and stop after stage K (counted from 1)")
    parser.add_argument("--dry-run", action="store_true", help="show the resolved run and its stages, then stop")
    parser.add_argument("--world-size", type=int, default=1, metavar="N", help="ranks that --dry-run plans for")


def _train(args: argparse.Namespace) -> None:
    def load() -> "RunConfig":
        from hyena_dist.train.init import load_run

        return load_run(args.run, args.overrides)

    run_training(args, load)


def run_training(
    args: argparse.Namespace,
    load: Callable[[], "RunConfig"],
    objective: "Callable[[RunConfig], Objective[Any]] | None" = None,
) -> None:
    """Train as the options of `add_training_options` say, on the ranks that the launcher gave.

    Args:
        args: the parsed command line.
        load: reads the run, once errors can be told to a job's supervisor.
        objective: makes what the run optimises, as in `train`; pretraining if not given.

    Raises:
        UserError: a reason of `load` or `train`.
    """
    # They ask training to save and stop: one that comes while torch is imported, or once training has ended, kills.
    for number in stop_signals():
        signal.signal(number, signal.SIG_IGN)
    if "trace" in args.profile:
        # Torch's profiler says on standard error that it starts and stops, unless this is set before torch is imported.
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from hyena_dist.train.outcome import told_to_supervisor

    with told_to_supervisor():
        _run(args, load(), objective)


def _run(
    args: argparse.Namespace, config: "RunConfig", objective: "Callable[[RunConfig], Objective[Any]] | None"
) -> None:
    from hyena_dist.plan.fit import fit

    if args.last_stage is not None and not 1 <= args.last_stage <= len(config.train.curriculum):
        raise UserError(
            f"--last-stage {args.last_stage} is none of the {len(config.train.curriculum)} stages of the run"
        )
    if args.dry_run:
        _show(fit(config, args.world_size), args.world_size)
        return
    from hyena_dist.parallel.world import join_world, shutdown

    world_size = launch_environment().world_size
    fit(config, world_size).segments(world_size)  # an impossible layout is refused before ranks wait for each other
    from hyena_dist.train.pretraining import Pretraining
    from hyena_dist.train.resume import Resume
    from hyena_dist.train.run import train
    from hyena_dist.train.stop import InterruptedRun

    # The watchdog, which names the stuck rank, speaks before the collectives give up.
    world = join_world(timeout_s=config.train.timeout_s + 60)
    try:
        # Ranks that their launcher starts again, as torchrun can, neither go back once more nor refuse what they saved.
        again = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
        resume: Resume = "auto" if again else args.resume
        train(config, world, resume, args.profile, args.profile_steps, args.last_stage, objective or Pretraining)
    except (UserError, InterruptedRun):
        shutdown()  # gloo's threads, alive at the end, can turn exit code 2 into an abort
        raise
    shutdown()


def _show(config: "RunConfig", world_size: int) -> None:
    """Print the resolved run as YAML and what follows from it as comments; works on login nodes, without torch."""
    from hyena_dist.config.deepspeed import compose, read_preset
    from hyena_dist.config.file import dump_config
    from hyena_dist.plan.memory import step_memory

    segments = config.segments(world_size)
    print(dump_config(config), end="")
    print(f"# {config.model.num_parameters:,} parameters, {world_size} ranks, run folder {config.run_dir}")
    for segment in segments:
        parallel, first = segment[0].parallel, segment[0]
        deepspeed = compose(
            read_preset(parallel.zero),
            micro_batch_size=first.micro_batch_size,
            data_context_size=first.data_parallel_size * parallel.context_parallel_size,
            clip_grad=config.optimizer.clip_grad,
        )
        print(f"# {config.layout_of(segment).describe(world_size)}")
        for stage in segment:
            print(f"# {stage.describe()}")
            print(f"#   {step_memory(config, stage).describe()}")
        print(f"# DeepSpeed: {json.dumps(deepspeed)}")
