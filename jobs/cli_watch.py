"""The verbs under `hyena-dist jobs` that run, watch and end jobs. Each imports what it needs when it runs."""

import argparse
from pathlib import Path

from hyena_dist.verbs import not_negative, positive, seconds, verb


def add_arguments(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs to those of `hyena-dist jobs`."""
    status = verb(
        verbs,
        "status",
        "where runs stand, a line each",
        _status,
        "hyena-dist jobs status\n  hyena-dist jobs status runs/first --json",
    )
    status.add_argument("runs", nargs="*", type=Path, metavar="RUN_DIR", help="default: all below runs/")
    status.add_argument("--json", action="store_true", help="a list of objects")

    logs = verb(verbs, "logs", "what a rank has printed", _logs, "hyena-dist jobs logs runs/first --rank 3 --follow")
    logs.add_argument("run", type=Path, metavar="RUN_DIR")
    logs.add_argument("--rank", type=not_negative, metavar="R", help="default: 0")
    logs.add_argument("--supervisor", action="store_true", help="instead: starts, crashes, signals")
    logs.add_argument("--follow", action="store_true", help="go on as lines come, until Ctrl-C")
    logs.add_argument(
        "--lines", type=not_negative, default=40, metavar="N", help="last lines to show; default: %(default)s"
    )

    cancel = verb(verbs, "cancel", "let a run save and stop", _cancel, "hyena-dist jobs cancel runs/first")
    cancel.add_argument("run", type=Path, metavar="RUN_DIR")
    cancel.add_argument("--now", action="store_true", help="do not let it save; the newest checkpoint stays")

    supervise = verb(
        verbs,
        "supervise",
        "run a launcher until the run is done: what job scripts end in",
        _supervise,
        "hyena-dist jobs supervise runs/first -- torchrun --nproc_per_node 8 -m hyena_dist train runs/first/run.yaml",
    )
    supervise.add_argument("run", type=Path, metavar="RUN_DIR")
    supervise.add_argument(
        "--segment", type=not_negative, metavar="I", help="a job of a chain: ends where others go on"
    )
    supervise.add_argument("--segments", type=positive, metavar="N", help="how many jobs the chain has, for the log")
    supervise.add_argument("--last-stage", type=positive, metavar="K", help="of the segment, counted from 1")
    supervise.add_argument(
        "--slurm-steps", metavar="NAME", help="in a script for sbatch: it may queue its job again, and end these steps"
    )
    supervise.add_argument(
        "--max-restarts",
        type=not_negative,
        default=3,
        metavar="N",
        help="crashes without progress; default: %(default)s",
    )
    supervise.add_argument("--grace", type=seconds, default=300, metavar="S", help="to save in; default: %(default)s s")
    _add_command(supervise)

    spawn = verb(
        verbs,
        "spawn",
        "ranks as plain processes of this machine",
        _spawn,
        "hyena-dist jobs spawn --ranks 8 --logs runs/first/logs -- python -m hyena_dist train runs/first/run.yaml",
    )
    spawn.add_argument("--ranks", type=positive, required=True, metavar="N")
    spawn.add_argument("--logs", type=Path, required=True, metavar="DIR", help="rank-00000.log, ... are appended to")
    spawn.add_argument("--port", type=positive, metavar="P", help="default: $MASTER_PORT, or a free one")
    _add_command(spawn)

    relay = verb(
        verbs,
        "relay",
        "run a launcher and hand signals to its ranks: torchrun keeps SIGUSR1 from them",
        _relay,
        "srun --ntasks-per-node 1 hyena-dist jobs relay -- torchrun --nproc_per_node 8 -m hyena_dist train run.yaml",
    )
    _add_command(relay)


def _add_command(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="what to run, after --")


def _status(args: argparse.Namespace) -> None:
    from jobs.status import show

    show(args.runs, as_json=args.json)


def _logs(args: argparse.Namespace) -> None:
    from jobs.logs import show

    show(args.run, None if args.supervisor else args.rank or 0, lines=args.lines, follow=args.follow)


def _cancel(args: argparse.Namespace) -> None:
    from jobs.cancel import cancel

    cancel(args.run, now=args.now, say=print)


def _supervise(args: argparse.Namespace) -> int:
    from jobs.supervise import Supervision

    run = Supervision(
        args.run,
        args.command,
        segment=args.segment,
        segments=args.segments,
        last_stage=args.last_stage,
        slurm_steps=args.slurm_steps,
        max_restarts=args.max_restarts,
        grace_s=args.grace,
    )
    return run.run()


def _spawn(args: argparse.Namespace) -> int:
    from jobs.spawn import spawn

    return spawn(args.command, args.ranks, args.logs, args.port)


def _relay(args: argparse.Namespace) -> int:
    from jobs.spawn import relay

    return relay(args.command)
