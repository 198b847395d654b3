"""The command line. Each verb imports what it needs when it runs, so that --help is instant."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from data_prep.cli import add_arguments as add_data_arguments
from hyena_dist.bench.cli import add_arguments as add_bench_arguments
from hyena_dist.errors import TEMPORARY, TemporaryError, UserError
from hyena_dist.inference.embed_cli import add_arguments as add_embed_arguments
from hyena_dist.inference.generate_cli import add_arguments as add_generate_arguments
from hyena_dist.inference.score_cli import add_arguments as add_score_arguments
from hyena_dist.inference.variants_cli import add_arguments as add_variants_arguments
from hyena_dist.system.launch import launch_environment
from hyena_dist.system.streams import LossyStream, lost, output_may_fail
from hyena_dist.tasks.embeddings.probe_cli import add_arguments as add_probe_arguments
from hyena_dist.tasks.finetune_cli import add_arguments as add_finetune_arguments
from hyena_dist.tasks.in_context_cli import add_arguments as add_in_context_arguments
from hyena_dist.tasks.predict_cli import add_arguments as add_predict_arguments
from hyena_dist.train.checkpoint.cli import add_arguments as add_checkpoint_arguments
from hyena_dist.train.continue_cli import add_arguments as add_continue_arguments
from hyena_dist.train.evaluation.cli import add_arguments as add_evaluate_arguments
from hyena_dist.train.track_cli import add_arguments as add_track_arguments
from hyena_dist.verbs import output_folder, parse_profile, parse_resume, parse_steps, verb
from jobs.cli import add_arguments as add_job_arguments

_EPILOG = """examples:
  hyena-dist demo                                     the main job on an embedded corpus
  hyena-dist data build genome.fa.gz --out data/genome
  hyena-dist train run.yaml optimizer.lr=3e-4
  hyena-dist evaluate runs/demo --data runs/demo-data
Each verb has a --help of its own with an example.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit code: that of the verb, 0 unless it says otherwise; 2 for a mistake of the user; TEMPORARY where
        another attempt may succeed; 130 after Ctrl-C.
    """
    with output_may_fail() as output:
        return _run(argv, output)


_LOGGED = {"train", "continue", "finetune", "demo", "jobs"}
"""Verbs whose output is news of a run, which its folder has too: they succeed without anybody who reads it."""


def _run(argv: Sequence[str] | None, output: LossyStream) -> int:
    if "LOCAL_RANK" in os.environ:
        from hyena_dist.parallel.launcher_watch import end_with_launcher

        end_with_launcher()
    try:
        args, rest = _parser().parse_known_args(argv)
        _take_overrides(args, rest)
        code: int = args.handler(args) or 0
        news = args.verb in _LOGGED and not getattr(args, "dry_run", False)
        return code if news else code or lost(output)
    except (UserError, TemporaryError) as error:
        # Under a launcher the ranks mostly come to the same sentence: the others give rank 0 time to say it, after
        # which the launcher ends them.
        if rank := _rank():
            time.sleep(3)
        print(f"error on rank {rank}: {error}" if rank else f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else TEMPORARY
    except KeyboardInterrupt:
        print("interrupted; what was saved is kept, the same command continues", file=sys.stderr)
        return 130


def _rank() -> int:
    """Return this process's rank, 0 where no launcher has said one that makes sense."""
    try:
        return launch_environment().rank
    except UserError:
        return 0


def _take_overrides(args: argparse.Namespace, rest: list[str]) -> None:
    """Move KEY=VALUE words, which argparse takes before the options only, to the overrides wherever people write them.

    Raises:
        UserError: another word that the verb does not take.
    """
    wrong = [word for word in rest if not hasattr(args, "overrides") or word.startswith("-") or "=" not in word]
    if wrong:
        raise UserError(f"unrecognized arguments: {' '.join(wrong)}; add --help to the verb to see what it takes")
    if rest:
        args.overrides += rest


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hyena-dist",
        description="HyenaDNA trained the way large models are trained.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--local_rank", help=argparse.SUPPRESS)  # the deepspeed launcher passes it
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True, dest="verb")

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
    train.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for example train.micro_batch_size=4")
    train.add_argument(
        "--resume",
        type=parse_resume,
        default="auto",
        metavar="auto|never|STEP",
        help="auto: from the newest intact checkpoint; never: refuse a folder that has one; STEP: back to the "
        "checkpoint of that step, with newer ones set aside (default: auto)",
    )
    train.add_argument(
        "--profile",
        type=parse_profile,
        default=frozenset(),
        metavar="WHAT",
        help="comm: bytes and calls sent per step, beside the formulas; trace: operators of some steps, for Perfetto; "
        "comm,trace: both",
    )
    train.add_argument(
        "--profile-steps",
        type=parse_steps,
        default=(3, 5),
        metavar="FIRST-LAST",
        help="steps that a trace holds, counted from where these processes enter each stage (default: 3-5)",
    )
    train.add_argument("--last-stage", type=int, metavar="K", help="save and stop after stage K (counted from 1)")
    train.add_argument("--dry-run", action="store_true", help="show the resolved run and its stages, then stop")
    train.add_argument("--world-size", type=int, default=1, metavar="N", help="ranks that --dry-run plans for")

    add_continue_arguments(verbs)
    add_finetune_arguments(verbs)
    add_in_context_arguments(verbs)
    add_predict_arguments(verbs)
    add_evaluate_arguments(verbs)

    export = verb(
        verbs,
        "export",
        "a model alone: config.json and weights, for load_published and others' code",
        _export,
        "hyena-dist export runs/demo exported\n  hyena-dist export runs/demo exported --format hf",
    )
    export.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="a run, checkpoint, published folder or file"
    )
    export.add_argument("out", type=output_folder, metavar="OUT", help="a new folder, or an earlier export to replace")
    export.add_argument(
        "--format",
        choices=("safetensors", "published", "hf"),
        default="safetensors",
        help="model.safetensors (-hf folders as they were); weights.ckpt as first published; or what AutoModel and "
        "AutoTokenizer load, with a model card (default: %(default)s)",
    )

    add_score_arguments(verbs)
    add_variants_arguments(verbs)
    add_embed_arguments(verbs)
    add_probe_arguments(verbs)
    add_generate_arguments(verbs)

    add_data_arguments(
        verbs.add_parser("data", help="build, verify and describe data", description="From FASTA to a store.")
    )

    demo = verb(verbs, "demo", "the main job on an embedded corpus, in minutes on a CPU", _demo, "hyena-dist demo")
    demo.add_argument("--output-dir", type=output_folder, default="runs", metavar="DIR", help="default: runs")
    demo.add_argument("--fresh", action="store_true", help="forget an earlier demo instead of continuing it")
    demo.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for train")

    add_track_arguments(verbs.add_parser("track", help="runs and MLflow", description="Records of runs elsewhere."))
    add_checkpoint_arguments(verbs)
    add_job_arguments(verbs.add_parser("jobs", help="start, watch and end runs", description="Runs that last."))
    add_bench_arguments(verbs.add_parser("bench", help="time and memory beside others'", description="Measure."))
    verb(verbs, "doctor", "versions, devices, back ends, and what is missing for what", _doctor, "hyena-dist doctor")
    return parser


def _train(args: argparse.Namespace) -> None:
    from hyena_dist.train.launched import ignore_early_stops

    ignore_early_stops()
    if "trace" in args.profile:
        # Torch's profiler says on standard error that it starts and stops, unless this is set before torch is imported.
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from hyena_dist.train.outcome import told_to_supervisor

    with told_to_supervisor():
        _train_as_told(args)


def _train_as_told(args: argparse.Namespace) -> None:
    from hyena_dist.plan.fit import fit
    from hyena_dist.train.init import load_run

    config = load_run(args.run, args.overrides)
    if args.last_stage is not None and not 1 <= args.last_stage <= len(config.train.curriculum):
        raise UserError(
            f"--last-stage {args.last_stage} is none of the {len(config.train.curriculum)} stages of the run"
        )
    if args.dry_run:
        from hyena_dist.plan.show import show

        show(fit(config, args.world_size), args.world_size)
        return
    from hyena_dist.tasks.objectives import objective_of
    from hyena_dist.train.launched import train_launched

    objective = objective_of(config)
    train_launched(config, objective, args.resume, args.profile, args.profile_steps, args.last_stage)


def _export(args: argparse.Namespace) -> None:
    if args.format == "hf":
        from hyena_dist.hf.quiet import keep_transformers_quiet

        keep_transformers_quiet()
        from hyena_dist.hf.export import export_hf

        export_hf(args.checkpoint, args.out)
    else:
        from hyena_dist.train.export import export

        export(args.checkpoint, args.out, args.format)
    print(f"wrote {args.out}: {', '.join(sorted(p.name for p in args.out.iterdir()))}")


def _demo(args: argparse.Namespace) -> int:
    from hyena_dist.demo.run import run_demo

    return run_demo(args.output_dir, args.fresh, args.overrides)


def _doctor(args: argparse.Namespace) -> int:
    from hyena_dist.doctor.report import doctor

    return doctor()
