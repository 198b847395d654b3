"""The verb `hyena-dist in-context`, which imports what it needs when it runs."""

import argparse
from pathlib import Path

from hyena_dist.errors import UserError
from hyena_dist.verbs import numbers, output_folder, verb

_ABOUT = """
Each point is a run in the folder: soft_prompt-N tunes N embeddings before the frozen model, instruction-K all weights
on contexts of K demonstrations, few_shot-K nothing. What they have in common is in the task file's task.in_context; to
tune a single one, give finetune that section. The same command continues after a kill, and keeps finished points.
"""


def add_arguments(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to the command line."""
    in_context = verb(
        verbs,
        "in-context",
        "accuracy by length of a soft prompt and by demonstrations, without a head",
        _in_context,
        "hyena-dist in-context task.yaml model=runs/first --prompts 2,32,512 --shots 0,1,2 --out in-context\n" + _ABOUT,
    )
    in_context.add_argument("task", type=Path, metavar="TASK.yaml", help="a task file, see finetune")
    in_context.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as model=runs/first task.epochs=5")
    in_context.add_argument("--prompts", metavar="N,N", help="numbers of soft tokens, such as 2,32,512")
    in_context.add_argument("--shots", metavar="K,K", help="numbers of demonstrations, such as 0,1,2")
    in_context.add_argument("--out", type=output_folder, required=True, metavar="FOLDER", help="of all points")


def _in_context(args: argparse.Namespace) -> None:
    prompts = numbers("--prompts", "2,32,512")(args.prompts) if args.prompts else []
    shots = _counts(args.shots) if args.shots else []
    if not prompts and not shots:
        raise UserError("in-context needs --prompts or --shots, which say what to measure; try --prompts 2,32,512")
    from hyena_dist.config.file import load_tree
    from hyena_dist.train.launched import ignore_early_stops

    tree = load_tree(args.task, args.overrides)
    ignore_early_stops()
    from hyena_dist.parallel.world import join_world, shutdown
    from hyena_dist.tasks.in_context.curve import measure_curve

    try:
        world = join_world()
        if measure_curve(tree, prompts, shots, args.out, world) is not None and world.is_main:
            print(f"wrote {args.out}/in_context.png and in_context.csv; each point has its folder in {args.out}")
    finally:
        shutdown()


def _counts(text: str) -> list[int]:
    """Return whole numbers from 0 on.

    Raises:
        UserError: the text is no such list.
    """
    found = text.split(",")
    if not all(n.isdecimal() for n in found):
        raise UserError(f"--shots {text} is not a list of numbers; try 0,1,2")
    return [int(n) for n in found]
