"""The verbs under `hyena-dist bench` that measure what models learn of labelled sequences."""

import argparse
from pathlib import Path

from hyena_dist.inference.embed_cli import parse_layers
from hyena_dist.verbs import output_folder, positive, verb


def add_task_benches(benches: "argparse._SubParsersAction[argparse.ArgumentParser]") -> list[argparse.ArgumentParser]:
    """Add the sub-commands, and return those that can write a table."""
    probe = verb(
        benches,
        "probe",
        "AUC of frozen embeddings on labelled sets, beside k-mers and published figures",
        _bench_probe,
        "hyena-dist bench probe --model runs/first --data labelled --work probed --out jobs/results",
    )
    probe.add_argument("--model", type=Path, required=True, metavar="M", help="a run, checkpoint or published folder")
    probe.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder of the labelled sets")
    probe.add_argument("--work", type=output_folder, required=True, metavar="DIR", help="where each set's report goes")
    probe.add_argument("--sets", default="", metavar="S,S", help="all if not given")
    probe.add_argument(
        "--layers", type=parse_layers, default="-1", metavar="N,N", help="or all (default: -1, the last)"
    )
    probe.add_argument("--pools", default="mean", metavar="P,P", help="mean (default) or mean,std")
    probe.add_argument("--strands", choices=("one", "both", "concat"), default="one", help="default: %(default)s")
    probe.add_argument("--classifiers", default="logistic", metavar="C,C", help="and trees; default: %(default)s")
    probe.add_argument("--modulation-shift", type=float, metavar="X", help="for published models: 0.05 or 0.0")
    finetune = verb(
        benches,
        "finetune",
        "a pretrained model and the same one from scratch on sets of labelled sequences, beside simple methods",
        _bench_finetune,
        "hyena-dist bench finetune --model runs/chr20 --data labelled --out jobs/results\n"
        "  hyena-dist bench finetune --model runs/chr20 --data labelled --sets gue_tf_0 --search",
    )
    finetune.add_argument(
        "--model", type=Path, required=True, metavar="M", help="a run, checkpoint or published folder"
    )
    finetune.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder of the sets of sets.yaml")
    finetune.add_argument("--sets", default="", metavar="NAME,NAME", help="all of sets.yaml if not given")
    finetune.add_argument("--seeds", type=positive, default=3, metavar="N", help="of each model; default: %(default)s")
    finetune.add_argument("--runs", type=output_folder, default="runs/finetune", metavar="DIR", help="%(default)s")
    finetune.add_argument("--at-once", type=positive, default=2, metavar="N", help="runs; default: %(default)s")
    finetune.add_argument("--quick", action="store_true", help="two small sets and few steps, to see that it works")
    finetune.add_argument("--search", action="store_true", help="try the settings of `search` by valid instead")
    reached = verb(
        benches,
        "reached",
        "steps, tokens and seconds until runs, with length warm-up or without, were as good as each other",
        _bench_reached,
        "hyena-dist bench reached runs/warm-up runs/none --metric valid/accuracy --out jobs/results",
    )
    reached.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="the folder of a run")
    reached.add_argument("--metric", default="valid/accuracy", metavar="NAME", help="default: %(default)s")
    return [probe, finetune, reached]


def _bench_probe(args: argparse.Namespace) -> None:
    from hyena_dist.bench.probe import ProbeCase, bench_probe
    from hyena_dist.tasks.embeddings.run import Probe

    options = Probe(args.layers, args.pools.split(","), args.strands, classifiers=args.classifiers.split(","))
    sets = tuple(filter(None, args.sets.split(",")))
    bench_probe(ProbeCase(args.model, args.data, args.work, sets, options, args.modulation_shift), args.out)


def _bench_finetune(args: argparse.Namespace) -> None:
    from hyena_dist.bench.finetune.search import search_settings
    from hyena_dist.bench.finetune.sets import FinetuneCase
    from hyena_dist.bench.finetune.table import bench_finetune

    names = tuple(filter(None, args.sets.split(",")))
    case = FinetuneCase(args.model, args.data, args.runs, names, args.seeds, args.at_once, args.quick)
    (search_settings if args.search else bench_finetune)(case, args.out)


def _bench_reached(args: argparse.Namespace) -> None:
    from hyena_dist.bench.reached import bench_reached

    bench_reached(args.runs, args.metric, args.out)
