"""The verb `hyena-dist finetune`, which imports what it needs when it runs."""

import argparse
from typing import TYPE_CHECKING, Any

from hyena_dist.errors import UserError
from hyena_dist.verbs import parse_resume, positive, verb

if TYPE_CHECKING:
    from hyena_dist.tasks.points.plan import PointsConfig

_ABOUT = """
TASK is a recipe (--list), labelled sequences (a CSV, TSV, Parquet or FASTA file, or a folder), or a task file: a run
file with a section `task`, the labelled data and how a model learns it (pooling, tune, patience, ...). model=PATH names
the pretrained model; model=scratch begins with none. Epochs become steps when the run begins.
Seeds, folds and sweeps make points: runs in the folder of the task, which finished points are not repeated in.
"""


def add_arguments(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    finetune = verb(
        verbs,
        "finetune",
        "teach a pretrained model the labels of sequences",
        _finetune,
        "hyena-dist finetune my.csv model=runs/first\n"
        "  hyena-dist finetune task.yaml model=runs/first task.tune=lora --seeds 3 --points-at-once 2\n"
        "  hyena-dist finetune nt-h3 model=M --sweep optimizer.lr=1e-4,3e-4 --sweep task.pooling=mean,last\n"
        "  torchrun --nproc_per_node 8 -m hyena_dist finetune task.yaml model=runs/first\n"
        "  hyena-dist finetune task.yaml model=scratch --dry-run > run.yaml && hyena-dist jobs submit run.yaml\n"
        + _ABOUT,
    )
    finetune.add_argument("task", nargs="?", metavar="TASK", help="a task file, a recipe or labelled sequences")
    finetune.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as model=runs/first task.epochs=5")
    finetune.add_argument("--list", action="store_true", help="show the recipes, with the paper's figures, and stop")
    finetune.add_argument(
        "--resume",
        type=parse_resume,
        default="auto",
        metavar="auto|never|STEP",
        help="as for train (default: auto)",
    )
    finetune.add_argument("--dry-run", action="store_true", help="show the complete run and its stages, then stop")
    finetune.add_argument("--world-size", type=positive, default=1, metavar="N", help="ranks that --dry-run plans for")
    points = finetune.add_argument_group("points", "the section `points` of a task file says the same")
    points.add_argument("--seeds", type=positive, metavar="N", help="so many seeds, from 0 on")
    points.add_argument(
        "--folds", type=positive, metavar="N", help="cross-validation: each of N parts is held out once"
    )
    points.add_argument(
        "--sweep", action="append", default=[], metavar="KEY=V,V", help="values to try; all combinations of several"
    )
    points.add_argument("--points-at-once", type=positive, metavar="N", help="runs side by side (default: 1)")


def _finetune(args: argparse.Namespace) -> None:
    from hyena_dist.tasks.recipe_table import describe_recipes

    if args.list:
        print("\n".join(describe_recipes()))
        return
    if args.task is None:
        raise UserError("finetune needs a task file, a recipe or labelled sequences; --list shows the recipes")
    from hyena_dist.tasks.task_files import read_task

    if "=" in args.task:
        raise UserError(
            f"name a task file, a recipe or labelled sequences before {args.task}; --list shows the recipes"
        )
    tree = read_task(args.task, args.overrides)
    section = tree.pop("points", None) or {}
    points = _points(args, section)
    if points is not None and not args.dry_run:
        _run_points(tree, points)
        return
    from hyena_dist.train.launched import ignore_early_stops, train_launched
    from hyena_dist.train.outcome import told_to_supervisor

    ignore_early_stops()
    with told_to_supervisor():
        from hyena_dist.tasks.objectives import objective_of
        from hyena_dist.tasks.points.plan import plan_points
        from hyena_dist.tasks.resolve import complete

        config = complete(tree, args.task)
        if args.dry_run:
            from hyena_dist.plan.fit import fit
            from hyena_dist.plan.show import show

            show(fit(config, args.world_size), args.world_size)
            for point in plan_points(points) if points else ():
                print(f"# point {point.name}")
            return
        if config.task is not None and config.task.in_context and config.task.in_context.method == "few_shot":
            from hyena_dist.tasks.in_context.few_shot import evaluate_launched

            evaluate_launched(config)
            return
        train_launched(config, objective_of(config), args.resume)


def _points(args: argparse.Namespace, section: dict[str, Any]) -> "PointsConfig | None":
    """Return the points that options and file ask for; None if there is one run."""
    from hyena_dist.tasks.points.plan import parse_points, parse_sweep

    options = {"seeds": args.seeds, "folds": args.folds, "at_once": args.points_at_once}
    asked = {**section, **{key: value for key, value in options.items() if value is not None}}
    if args.sweep:
        asked["sweep"] = parse_sweep(args.sweep)
    config = parse_points(asked, args.task)
    return config if config.seeds or config.folds or config.sweep else None


def _run_points(tree: dict[str, Any], points: "PointsConfig") -> None:
    """Run all points in the folder of the task, and say what they found."""
    from pathlib import Path

    from hyena_dist.tasks.points.run import run_points
    from hyena_dist.tasks.points.summary import write_summary

    folder = Path(tree.get("output_dir", "runs")) / tree["name"]
    done = run_points(tree, folder, points)
    print("\n".join(write_summary(folder, done, tree["task"].get("best_by"))))
    print(f"wrote {folder}/points.csv, summary.csv and points.md; each point has its folder in {folder}")
