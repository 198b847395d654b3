"""The verb `hyena-dist checkpoints`. It imports what it needs when it runs."""

import argparse
from pathlib import Path

from hyena_dist.verbs import not_negative, verb


def add_arguments(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the others."""
    checkpoints = verb(
        verbs,
        "checkpoints",
        "the checkpoints of a run, a line each; pin those that must stay",
        _checkpoints,
        "hyena-dist checkpoints runs/first\n"
        "  hyena-dist checkpoints runs/first --pin 1000\n"
        "  hyena-dist checkpoints runs/first --back-to 1000",
    )
    checkpoints.add_argument("run", type=Path, metavar="RUN_DIR")
    checkpoints.add_argument("--pin", type=not_negative, metavar="STEP", help="let the checkpoint of this step stay")
    checkpoints.add_argument("--unpin", type=not_negative, metavar="STEP", help="let it go when it is old")
    checkpoints.add_argument(
        "--back-to",
        type=not_negative,
        metavar="STEP",
        help="set newer ones aside, so that `train` and `jobs submit` go on from this one, as train --resume STEP does",
    )
    checkpoints.add_argument(
        "--verify", action="store_true", help="compare the hashes of all files, and not sizes alone"
    )


def _checkpoints(args: argparse.Namespace) -> int:
    from hyena_dist.train.checkpoint.keep import find_step, go_back, pin
    from hyena_dist.train.checkpoint.listing import show

    directory = args.run / "checkpoints"
    # Both are looked for before anything is changed.
    changes = [
        (find_step(directory, step), keep) for step, keep in ((args.pin, True), (args.unpin, False)) if step is not None
    ]
    for checkpoint, keep in changes:
        pin(checkpoint, keep)
    if args.back_to is not None:
        go_back(args.run, args.back_to, print)
    return show(args.run, verify=args.verify)
