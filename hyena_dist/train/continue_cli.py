"""The verb continue: more training for a trained model. It imports what it needs when it runs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyena_dist.errors import UserError
from hyena_dist.verbs import parse_resume, positive, verb

if TYPE_CHECKING:
    from hyena_dist.config.run import RunConfig


def add_arguments(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = verb(
        verbs,
        "continue",
        "train a trained model further: a new run from it, or the same run with a longer curriculum",
        _continue,
        "hyena-dist continue runs/first run.yaml name=second data.path=data/other\n"
        "  hyena-dist continue tests/golden/tiny run.yaml\n"
        "  hyena-dist continue runs/first name=second optimizer.lr=1e-4 --optimizer keep\n"
        "  hyena-dist continue runs/first --add-stage '{seq_length: 2048, tokens: 5e6}'",
    )
    parser.description = (
        "With another name than MODEL's, a new run: steps, samples and the learning rate's warm-up and cosine begin "
        "anew, the weights are MODEL's, and so is the architecture, which the run file need not say. It is recorded as "
        "`init` in run.yaml; killed, the same command goes on from the run's own checkpoints. With the name of MODEL's "
        "own run, that run goes on: its curriculum may be longer, and the learning rate then follows the cosine of "
        "the longer one, so that it rises again."
    )
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help="a run, a checkpoint, a published or -hf folder, or a file of weights"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="[RUN.yaml] KEY=VALUE",
        help="the run (that of MODEL if not given), and what differs",
    )
    parser.add_argument(
        "--optimizer",
        choices=("fresh", "keep"),
        help="of a new run: AdamW anew, or with the moments of a checkpoint of ours (default: fresh)",
    )
    parser.add_argument("--add-stage", metavar="STAGE", help="one more stage at the end of the curriculum")
    parser.add_argument(
        "--resume", type=parse_resume, default="auto", metavar="auto|never|STEP", help="as for train (default: auto)"
    )
    parser.add_argument("--dry-run", action="store_true", help="show the complete run and its stages, then stop")
    parser.add_argument("--world-size", type=positive, default=1, metavar="N", help="ranks that --dry-run plans for")


def _continue(args: argparse.Namespace) -> None:
    from hyena_dist.train.launched import ignore_early_stops, train_launched
    from hyena_dist.train.outcome import told_to_supervisor

    ignore_early_stops()
    with told_to_supervisor():
        config = _load(args)
        if args.dry_run:
            from hyena_dist.plan.fit import fit
            from hyena_dist.plan.show import show

            show(fit(config, args.world_size), args.world_size)
            return
        from hyena_dist.train.pretraining import Pretraining

        train_launched(config, Pretraining, args.resume)


def _load(args: argparse.Namespace) -> "RunConfig":
    from hyena_dist.config.file import load_tree, parse_config
    from hyena_dist.train.init import complete

    words = list(args.overrides)
    file = Path(words.pop(0)) if words and "=" not in words[0] else _run_file(args.model)
    tree = load_tree(file, words)
    if args.add_stage is not None:
        stages = (tree.get("train") or {}).get("curriculum") or []
        tree = load_tree(file, [*words, f"train.curriculum.{len(stages)}={args.add_stage}"])
    if _is_own(args.model, tree):
        if args.optimizer is not None:
            raise UserError(
                f"--optimizer {args.optimizer} is for new runs, and {args.model} itself goes on as it is; name the "
                f"new run by name=..."
            )
        return parse_config(tree, str(file))
    tree["init"] = {"model": str(args.model), "optimizer": args.optimizer or "fresh"}
    return complete(tree, str(file))


def _run_file(model: Path) -> Path:
    """Return the run.yaml of a run or checkpoint.

    Raises:
        UserError: There is none.
    """
    if not (model / "run.yaml").is_file():
        raise UserError(f"{model} has no run.yaml; name a run file after it: continue {model} run.yaml")
    return model / "run.yaml"


def _is_own(model: Path, tree: dict[str, Any]) -> bool:
    """Return whether the run in a tree is the very run that a model is of.

    Raises:
        UserError: The model is a checkpoint of that run, which goes on from its newest one.
    """
    run_dir = (Path(str(tree.get("output_dir", "runs"))) / str(tree.get("name", "run"))).resolve()
    path = model.resolve()
    if run_dir == path.parent.parent and path.parent.name == "checkpoints":
        raise UserError(
            f"{model} is a checkpoint of the run {run_dir.name} itself; a new run from it needs another name=..., and "
            f"`train --resume STEP` goes back to it"
        )
    return run_dir == path
