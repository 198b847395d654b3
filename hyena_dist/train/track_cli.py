"""The verbs under `hyena-dist track`. Each imports what it needs when it runs."""

import argparse
from pathlib import Path

from hyena_dist.verbs import verb


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands to `parser`."""
    tracks = parser.add_subparsers(title="what", metavar="WHAT", required=True)
    sync = verb(
        tracks, "sync", "send MLflow what it lacks of a run that has ended", _sync, "hyena-dist track sync runs/first"
    )
    sync.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    sync.add_argument("--uri", metavar="URI", help="of an MLflow store (default: tracking.uri of the run)")


def _sync(args: argparse.Namespace) -> None:
    from hyena_dist.train.track import sync

    tracker = sync(args.run, args.uri)
    print(f"sent as MLflow run {tracker.run_id}: {tracker.ui_command}")
