"""The commands build, verify and stats, for `python -m data_prep` and for `hyena-dist data`.

The modules that do the work are imported by the handlers, so that --help answers at once.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hyena_dist.errors import UserError

if TYPE_CHECKING:
    from data_prep.splits import SplitPlan

_BUILD_EXAMPLES = """examples:
  hyena-dist data build hg38.fa.gz --out data/hg38 --bed sequences_human.bed
  hyena-dist data build genome.fa --out data/genome --valid-contigs chr20 --test-contigs chr14,chrX
  hyena-dist data build genome.fa --out data/genome --split-fractions 0.9,0.05,0.05
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands build, verify and stats to `parser`.

    Each sets the default `handler`, a function of the parsed namespace that returns None or an exit code and raises
    UserError.
    """
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    build = _command(commands, "build", "build a store (Zarr arrays and WebDataset shards) from FASTA", _BUILD_EXAMPLES)
    build.add_argument("fasta", nargs="+", type=Path, metavar="FASTA", help="plain, gzip or bgzip FASTA file")
    build.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the store")
    build.add_argument("--bed", type=Path, metavar="FILE", help="split by rows of contig, start, end, split")
    build.add_argument("--valid-contigs", metavar="A,B", help="split by contig: these validate")
    build.add_argument("--test-contigs", metavar="C,D", help="split by contig: these test, the rest train")
    build.add_argument(
        "--split-fractions", metavar="T,V[,T]", help="split each contig into train, valid, test (default 0.9,0.05,0.05)"
    )
    build.add_argument("--soft-mask", action="store_true", help="keep which bases are lower-case")
    build.add_argument(
        "--shard-window", type=int, default=2**16 + 1, metavar="N", help="bases in a WebDataset sample (%(default)s)"
    )
    build.add_argument(
        "--shard-megabytes", type=int, default=256, metavar="N", help="size of a WebDataset tar, about (%(default)s)"
    )
    build.add_argument("--overwrite", action="store_true", help="replace DIR if it is a store")
    build.set_defaults(handler=_build)

    verify = _command(
        commands, "verify", "check every file and sample of a store", "example:\n  hyena-dist data verify data/hg38\n"
    )
    verify.add_argument("store", type=Path, metavar="DIR", help="folder of the store")
    verify.set_defaults(handler=_verify)

    stats = _command(
        commands,
        "stats",
        "show composition, masks and splits of a store",
        "example:\n  hyena-dist data stats data/hg38 --csv hg38.csv\n",
    )
    stats.add_argument("store", type=Path, metavar="DIR", help="folder of the store")
    stats.add_argument("--csv", type=Path, metavar="FILE", help="also write the table here")
    stats.set_defaults(handler=_stats)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m data_prep`.

    Returns:
        The exit code: 0, or 2 after a mistake of the user, which is one sentence on stderr.
    """
    parser = argparse.ArgumentParser(prog="python -m data_prep", description="From FASTA to a store for training.")
    add_arguments(parser)
    args = parser.parse_args(argv)
    try:
        return args.handler(args) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; nothing was changed", file=sys.stderr)
        return 130


def _command(commands: "argparse._SubParsersAction", name: str, summary: str, epilog: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def _build(args: argparse.Namespace) -> None:
    from data_prep.build import BuildOptions, build_store

    options = BuildOptions(_split_plan(args), args.soft_mask, args.shard_window, args.shard_megabytes)
    build_store(args.fasta, args.out, options, overwrite=args.overwrite, command=_build_command(args))


def _verify(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from data_prep.verify import verify_store

    verify_store(args.store, say=tqdm.write)  # lines above the bar instead of through it


def _stats(args: argparse.Namespace) -> None:
    from data_prep.stats import print_stats

    print_stats(args.store, args.csv)


def _split_plan(args: argparse.Namespace) -> "SplitPlan":
    from data_prep.splits import BedSplits, BlockSplits, ContigSplits

    by_contig = args.valid_contigs or args.test_contigs
    ways = {"--bed": args.bed, "--valid-contigs/--test-contigs": by_contig, "--split-fractions": args.split_fractions}
    given = [way for way, value in ways.items() if value]
    if len(given) > 1:
        raise UserError(f"{given[0]} and {given[1]} are two ways to split, and a store has one; give one of them")
    if args.bed:
        return BedSplits(args.bed)
    if by_contig:
        return ContigSplits(_names(args.valid_contigs), _names(args.test_contigs))
    if args.split_fractions:
        try:
            return BlockSplits(tuple(float(share) for share in args.split_fractions.split(",")))
        except ValueError:
            raise UserError(
                f"--split-fractions {args.split_fractions} is not a list of numbers; try 0.9,0.05,0.05"
            ) from None
    return BlockSplits()


def _names(names: str | None) -> tuple[str, ...]:
    return tuple(name for name in (names or "").split(",") if name)


def _build_command(args: argparse.Namespace) -> str:
    """Return a command that builds the same store, for the manifest."""
    words = ["hyena-dist", "data", "build", *map(str, args.fasta), "--out", str(args.out)]
    for flag in ("bed", "valid_contigs", "test_contigs", "split_fractions", "shard_window", "shard_megabytes"):
        value = getattr(args, flag)
        if value is not None:
            words += [f"--{flag.replace('_', '-')}", str(value)]
    return shlex.join(words + ["--soft-mask"] * args.soft_mask)
