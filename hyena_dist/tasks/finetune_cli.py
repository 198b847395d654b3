"""The verb `hyena-dist finetune`, which imports what it needs when it runs."""

import argparse
from pathlib import Path

from hyena_dist.verbs import parse_resume, positive, verb

_ABOUT = """
A task file is a run file with a section `task`: the labelled data, and how a model learns it (pooling, tune, patience,
...). model=PATH names the pretrained model; model=scratch begins with none. Epochs become steps when the run begins.
"""


def add_arguments(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    finetune = verb(
        verbs,
        "finetune",
        "teach a pretrained model the labels of sequences",
        _finetune,
        "hyena-dist finetune task.yaml model=runs/first task.tune=lora\n"
        "  torchrun --nproc_per_node 8 -m hyena_dist finetune task.yaml model=runs/first\n"
        "  hyena-dist finetune task.yaml model=scratch --dry-run > run.yaml && hyena-dist jobs submit run.yaml\n"
        + _ABOUT,
    )
    finetune.add_argument("task", type=Path, metavar="TASK.yaml", help="a task file, or the run.yaml of a run")
    finetune.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as model=runs/first task.epochs=5")
    finetune.add_argument(
        "--resume",
        type=parse_resume,
        default="auto",
        metavar="auto|never|STEP",
        help="as for train (default: auto)",
    )
    finetune.add_argument("--dry-run", action="store_true", help="show the complete run and its stages, then stop")
    finetune.add_argument("--world-size", type=positive, default=1, metavar="N", help="ranks that --dry-run plans for")


def _finetune(args: argparse.Namespace) -> None:
    from hyena_dist.train.launched import ignore_early_stops, train_launched
    from hyena_dist.train.outcome import told_to_supervisor

    ignore_early_stops()
    with told_to_supervisor():
        from hyena_dist.tasks.objectives import objective_of
        from hyena_dist.tasks.resolve import load_task

        config = load_task(args.task, args.overrides)
        if args.dry_run:
            from hyena_dist.plan.fit import fit
            from hyena_dist.plan.show import show

            show(fit(config, args.world_size), args.world_size)
            return
        if config.task is not None and config.task.in_context and config.task.in_context.method == "few_shot":
            from hyena_dist.tasks.in_context.few_shot import evaluate_launched

            evaluate_launched(config)
            return
        train_launched(config, objective_of(config), args.resume)
