"""The verbs under `hyena-dist bench`. Each imports what it needs when it runs."""

import argparse
from pathlib import Path

from hyena_dist.bench.task_cli import add_task_benches
from hyena_dist.bench.use_cli import add_use_benches
from hyena_dist.verbs import not_negative, output_folder, parse_lengths, positive, seconds, verb


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands to `parser`."""
    benches = parser.add_subparsers(title="what", metavar="WHAT", required=True)
    operator = verb(
        benches,
        "operator",
        "a model with our Hyena layers, with the published computation of them, and with attention",
        _bench_operator,
        "hyena-dist bench operator --lengths 1024,8192,131072 --out jobs/results",
    )
    operator.add_argument(
        "--lengths", default="1024,8192,32768,131072,1048576", type=parse_lengths, metavar="N,N", help="%(default)s"
    )
    operator.add_argument(
        "--tokens",
        type=positive,
        metavar="N",
        help="of a batch, in whole sequences; one sequence if not given",
    )
    operator.add_argument("--dtypes", default="fp32,bf16", metavar="T,T", help="default: %(default)s")
    operator.add_argument("--d-model", type=positive, default=128, metavar="N", help="default: %(default)s")
    operator.add_argument("--n-layer", type=positive, default=2, metavar="N", help="default: %(default)s")
    operator.add_argument("--repeats", type=positive, default=3, metavar="N", help="default: %(default)s")
    operator.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    operator.add_argument("--limit-s", type=seconds, default=120.0, metavar="S", help="per case; default: %(default)s")
    operator.add_argument(
        "--self-check", action="store_true", help="only compare what DEVICE computes with float64; exit code 1 if wrong"
    )
    step = verb(
        benches,
        "step",
        "time and memory of whole training steps: forward, backward and AdamW",
        _bench_step,
        "hyena-dist bench step --lengths 16384,1048576 --n-layer 2 --d-model 128",
    )
    step.add_argument(
        "--lengths", default="16384,131072,1048576", type=parse_lengths, metavar="N,N", help="%(default)s"
    )
    step.add_argument("--dtype", default="fp32", metavar="T", help="fp32 or bf16; default: %(default)s")
    step.add_argument("--d-model", type=positive, default=128, metavar="N", help="default: %(default)s")
    step.add_argument("--n-layer", type=positive, default=2, metavar="N", help="default: %(default)s")
    step.add_argument("--activation-checkpointing", action="store_true", help="keep each layer's input alone")
    step.add_argument(
        "--repeats",
        type=not_negative,
        default=1,
        metavar="N",
        help="steps after the first; 0 times the first (%(default)s)",
    )
    step.add_argument("--plain-malloc", action="store_true", help="do not ask glibc to keep freed memory")
    step.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    parts = verb(
        benches,
        "parts",
        "where the time of one Hyena layer goes: MLP, projections, operator, filter",
        _bench_parts,
        "hyena-dist bench parts --length 131072 --out jobs/results",
    )
    parts.add_argument("--length", type=positive, default=131_072, metavar="N", help="default: %(default)s")
    parts.add_argument("--d-model", type=positive, default=128, metavar="N", help="default: %(default)s")
    parts.add_argument("--dtype", default="fp32", metavar="T", help="fp32 or bf16; default: %(default)s")
    parts.add_argument("--repeats", type=positive, default=5, metavar="N", help="default: %(default)s")
    parts.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    context = verb(
        benches,
        "context",
        "how context ranks best share their work, on the ranks it is started on",
        _bench_context,
        "torchrun --nproc_per_node 4 -m hyena_dist bench context --out jobs/results",
    )
    context.add_argument("--d-model", type=positive, default=256, metavar="N", help="default: %(default)s")
    context.add_argument("--length", type=positive, default=65_536, metavar="N", help="default: %(default)s")
    context.add_argument("--repeats", type=positive, default=5, metavar="N", help="default: %(default)s")
    data = verb(
        benches,
        "data",
        "tokens/s of the loader into batches, beside the published way from FASTA",
        _bench_data,
        "hyena-dist bench data data/genome --lengths 1024,32768,1048576 --out jobs/results",
    )
    data.add_argument("store", nargs="?", metavar="STORE", help="a store or shards; the embedded corpus if not given")
    data.add_argument("--fasta", type=Path, metavar="FILE", help="the same as plain FASTA; else written from STORE")
    data.add_argument("--lengths", default="1024,32768,1048576", type=parse_lengths, metavar="N,N", help="%(default)s")
    data.add_argument(
        "--workers", type=not_negative, default=0, metavar="N", help="processes that read; default: %(default)s"
    )
    data.add_argument("--repeats", type=positive, default=5, metavar="N", help="default: %(default)s")
    ingest = verb(
        benches,
        "ingest",
        "from FASTA to a verified store, by the time that gzip takes for the same files",
        _bench_ingest,
        "hyena-dist bench ingest chr20.fa.gz --copies 10 --out jobs/results",
    )
    ingest.add_argument("fasta", type=Path, metavar="FILE", help="FASTA in gzip or bgzip")
    ingest.add_argument("--copies", type=positive, default=10, metavar="N", help="default: %(default)s")
    ingest.add_argument("--repeats", type=positive, default=5, metavar="N", help="default: %(default)s")
    store = verb(
        benches,
        "store",
        "stores of a million contigs and of one long contig: build, verify, open and read at 256 file descriptors",
        _bench_store,
        "hyena-dist bench store --contigs 1000000 --bases 20000000000 --out jobs/results",
    )
    store.add_argument("--contigs", type=positive, default=100_000, metavar="N", help="default: %(default)s")
    store.add_argument(
        "--bases", type=positive, default=2**28, metavar="N", help="of the one long contig (default: %(default)s)"
    )
    store.add_argument("--repeats", type=positive, default=1, metavar="N", help="default: %(default)s")
    stages = verb(
        benches,
        "stages",
        "what a change of the curriculum's stage costs inside a run, in steps",
        _bench_stages,
        "hyena-dist bench stages --lengths 1024,4096,16384",
    )
    stages.add_argument(
        "--lengths", default="1024,4096,16384,65536", type=parse_lengths, metavar="N,N", help="%(default)s"
    )
    stages.add_argument("--d-model", type=positive, default=128, metavar="N", help="default: %(default)s")
    stages.add_argument("--n-layer", type=positive, default=2, metavar="N", help="default: %(default)s")
    stages.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="default: %(default)s")
    stages.add_argument("--steps", type=positive, default=12, metavar="N", help="in each stage; default: %(default)s")
    stages.add_argument(
        "--global-batch-tokens", type=positive, default=65_536, metavar="N", help="default: %(default)s"
    )
    stages.add_argument("--repeats", type=positive, default=3, metavar="N", help="runs; default: %(default)s")
    checkpoint = verb(
        benches,
        "checkpoint",
        "for how long a save stops training, waiting for it and going on",
        _bench_checkpoint,
        "hyena-dist bench checkpoint --d-model 512 --n-layer 8 --ranks 2",
    )
    checkpoint.add_argument("--d-model", type=positive, default=512, metavar="N", help="default: %(default)s")
    checkpoint.add_argument("--n-layer", type=positive, default=8, metavar="N", help="default: %(default)s")
    checkpoint.add_argument("--seq-length", type=positive, default=1024, metavar="N", help="default: %(default)s")
    checkpoint.add_argument("--ranks", type=positive, default=2, metavar="N", help="processes; default: %(default)s")
    checkpoint.add_argument("--zero", default="zero1", metavar="PRESET", help="default: %(default)s")
    checkpoint.add_argument("--repeats", type=positive, default=5, metavar="N", help="default: %(default)s")
    checkpoint.add_argument(
        "--folder", type=output_folder, metavar="DIR", help="on the disk to write to; else a temporary one"
    )
    launches = verb(
        benches,
        "launches",
        "kernels that a step launches on a GPU and bytes that they move, counted without one",
        _bench_launches,
        "hyena-dist bench launches --write",
    )
    launches.add_argument(
        "--lengths", default="1024,32768,1048576", type=parse_lengths, metavar="N,N", help="%(default)s"
    )
    launches.add_argument("--write", action="store_true", help="put the table into hyena_dist/ops/README.md too")
    of_models = (*add_use_benches(benches), *add_task_benches(benches))
    for each in (checkpoint, stages, operator, step, parts, context, data, ingest, store, *of_models):
        each.add_argument("--out", type=output_folder, metavar="DIR", help="write the table and the environment here")


def _bench_operator(args: argparse.Namespace) -> int:
    from hyena_dist.bench.operator import bench_operator
    from hyena_dist.bench.self_check import self_check

    if args.self_check:
        return 0 if self_check(args.device) else 1
    bench_operator(
        args.lengths,
        tokens=args.tokens,
        dtypes=args.dtypes.split(","),
        d_model=args.d_model,
        n_layer=args.n_layer,
        repeats=args.repeats,
        device=args.device,
        limit_s=args.limit_s,
        out=args.out,
    )
    return 0


def _bench_step(args: argparse.Namespace) -> None:
    from hyena_dist.bench.step import StepCase, bench_step

    case = StepCase(
        args.d_model,
        args.n_layer,
        args.dtype,
        args.activation_checkpointing,
        args.device,
        max(0, args.repeats),
        args.plain_malloc,
    )
    bench_step(args.lengths, case, args.out)


def _bench_parts(args: argparse.Namespace) -> None:
    from hyena_dist.bench.parts import PartsCase, bench_parts

    bench_parts(PartsCase(args.length, args.d_model, args.dtype, args.device, max(1, args.repeats)), args.out)


def _bench_context(args: argparse.Namespace) -> None:
    from hyena_dist.bench.context import bench_context

    bench_context(args.d_model, args.length, args.repeats, args.out)


def _bench_data(args: argparse.Namespace) -> None:
    from hyena_dist.bench.data import bench_data

    bench_data(args.store, args.fasta, args.lengths, args.workers, args.repeats, args.out)


def _bench_ingest(args: argparse.Namespace) -> None:
    from hyena_dist.bench.ingest import bench_ingest

    bench_ingest(args.fasta, args.copies, args.repeats, args.out)


def _bench_store(args: argparse.Namespace) -> None:
    from hyena_dist.bench.store import bench_store

    bench_store(args.contigs, args.bases, args.repeats, args.out)


def _bench_stages(args: argparse.Namespace) -> None:
    from hyena_dist.bench.stages import StagesCase, bench_stages

    case = StagesCase(
        tuple(args.lengths), args.d_model, args.n_layer, args.precision, args.steps, args.global_batch_tokens
    )
    bench_stages(case, args.repeats, args.out)


def _bench_checkpoint(args: argparse.Namespace) -> None:
    from hyena_dist.bench.checkpoint import CheckpointCase, bench_checkpoint

    case = CheckpointCase(args.d_model, args.n_layer, args.seq_length, args.ranks, args.zero, args.repeats)
    bench_checkpoint(case, args.folder, args.out)


def _bench_launches(args: argparse.Namespace) -> None:
    from hyena_dist.bench.launches import bench_launches

    bench_launches(args.lengths, args.write)
