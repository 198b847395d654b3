"""The verbs under `hyena-dist jobs`. Each imports what it needs when it runs."""

import argparse
from pathlib import Path

from hyena_dist.errors import UserError
from hyena_dist.verbs import positive, verb
from jobs.cli_watch import add_arguments as add_watch_arguments
from jobs.launchers import LAUNCHERS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands to `parser`."""
    verbs = parser.add_subparsers(title="what", metavar="WHAT", required=True)
    submit = verb(
        verbs,
        "submit",
        "write a run's folder and start it, or go on with it",
        _submit,
        "hyena-dist jobs submit run.yaml --launcher slurm --nodes 4 --cluster a100 --dry-run",
    )
    submit.add_argument("run", type=Path, metavar="RUN.yaml", help="the run (jobs/recipes has examples)")
    submit.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for example train.micro_batch_size=4")
    submit.add_argument("--launcher", choices=LAUNCHERS, default="local", help="default: %(default)s")
    submit.add_argument("--nodes", default="1", metavar="N", help="or N,N,...: of each layout, or each stage (slurm)")
    submit.add_argument(
        "--ranks-per-node", type=positive, metavar="N", help="default: one for each GPU, or one on CPUs"
    )
    submit.add_argument("--cluster", metavar="FILE", help="a YAML of your cluster's facts, or local, a100, example")
    submit.add_argument("--templates", type=Path, metavar="DIR", help="templates of yours, from `jobs templates DIR`")
    submit.add_argument(
        "--array", type=positive, metavar="N", help="N tasks that take turns, where jobs may not be requeued"
    )
    submit.add_argument("--background", action="store_true", help="do not wait for the end (slurm never does)")
    submit.add_argument("--dry-run", action="store_true", help="print all that would be written and run, then stop")

    templates = verb(
        verbs,
        "templates",
        "write the templates of job scripts, to edit",
        _templates,
        "hyena-dist jobs templates my-templates\n"
        "  hyena-dist jobs submit run.yaml --launcher slurm --templates my-templates",
    )
    templates.add_argument("out", type=Path, metavar="DIR", help="a folder without templates")

    rank = verb(
        verbs,
        "rank",
        "become a command whose output goes to the log of $RANK; rank 0's is shown too",
        _rank,
        "torchrun --no-python hyena-dist jobs rank runs/first/logs python -m hyena_dist train run.yaml",
    )
    # No options of its own: torchrun would take them for its own.
    rank.add_argument("logs", type=Path, metavar="DIR", help="rank-00000.log, ... are appended to")
    rank.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="what to run")
    add_watch_arguments(verbs)


def _submit(args: argparse.Namespace) -> int:
    from hyena_dist.train.init import load_run
    from jobs.cluster import load_cluster
    from jobs.job import make_job
    from jobs.submission import preview, submit

    if args.templates is not None and not args.templates.is_dir():
        raise UserError(f"--templates {args.templates} is no folder; `hyena-dist jobs templates DIR` writes one")
    config, cluster = load_run(args.run, args.overrides), load_cluster(args.cluster)
    job = make_job(config, cluster, _numbers(args.nodes), args.ranks_per_node, args.array)
    if args.dry_run:
        print(preview(job, args.launcher, args.templates), end="")
        return 0
    return submit(job, args.launcher, args.templates, args.background)


def _numbers(text: str) -> list[int]:
    try:
        return [int(n) for n in text.split(",")]
    except ValueError:
        raise UserError(f"--nodes {text} is not a number or a list of them; try 4, or 1,4,16") from None


def _templates(args: argparse.Namespace) -> None:
    from jobs.scripts import copy_templates

    print(*copy_templates(args.out), sep="\n")


def _rank(args: argparse.Namespace) -> None:
    from jobs.rank_log import run_logged

    run_logged(args.command, args.logs)
