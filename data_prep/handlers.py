"""The handlers of `hyena-dist data`: each takes the parsed arguments of a command and calls what does the work.

The modules that do the work are imported inside the functions, so that the command line answers --help at once. Every
function raises UserError where the arguments or the data are at fault.
"""

import argparse
import shlex
from typing import TYPE_CHECKING

from hyena_dist.errors import UserError

if TYPE_CHECKING:
    from data_prep.splits import SplitPlan

LENGTHS = "1024,32768,131072,262144,524288,1048576"
"""Context lengths that `data leaks` shows if none are named."""


def build(args: argparse.Namespace) -> None:
    """Build a store."""
    from data_prep.build import BuildOptions, build_store
    from data_prep.inputs import Rename

    rename = Rename(args.rename) if args.rename else None
    options = BuildOptions(_split_plan(args), args.soft_mask, args.interval_length, rename, args.codec)
    build_store(
        args.inputs,
        args.out,
        options,
        overwrite=args.overwrite,
        processes=args.processes,
        command=_build_command(args),
    )


def convert(args: argparse.Namespace) -> None:
    """Convert a store of an older format."""
    from data_prep.convert import convert_store

    convert_store(args.store, args.out, processes=args.processes)


def shards(args: argparse.Namespace) -> None:
    """Write the shards of a store."""
    from data_prep.shards import ShardOptions, write_shards

    words = ["hyena-dist", "data", "shards", args.store, "--out", args.out]
    words += ["--window", args.window, "--megabytes", args.megabytes]
    command = shlex.join(map(str, words))
    options = ShardOptions(args.window, args.megabytes)
    write_shards(args.store, args.out, options, overwrite=args.overwrite, processes=args.processes, command=command)


def download(args: argparse.Namespace) -> None:
    """List the presets, or bring the files of one and, if asked, build its store."""
    from tqdm import tqdm

    from data_prep.download import download, list_presets

    if args.list or not args.preset:
        list_presets()
        return
    # tqdm.write puts its lines above the progress bar instead of through it.
    words = download(args.preset, args.out, args.source, say=tqdm.write)
    if not words:
        print("these are read as they are; `hyena-dist finetune --list` shows the recipes that do")
    elif not args.build:
        print(f"now build the store with\n  {shlex.join(words)}")
    else:
        build(args.build_parser.parse_args(words[3:]))  # the words after `hyena-dist data build`


def verify(args: argparse.Namespace) -> None:
    """Verify a store or a folder of shards."""
    from tqdm import tqdm

    from data_prep.verify import verify_store

    # tqdm.write puts its lines above the progress bar instead of through it.
    verify_store(args.store, against=args.against, processes=args.processes, say=tqdm.write)


def stats(args: argparse.Namespace) -> None:
    """Show the statistics of a store."""
    from data_prep.stats import print_stats

    print_stats(args.store, args.csv, args.kmers, args.plot)


def export(args: argparse.Namespace) -> None:
    """Write the sequences of a store as FASTA."""
    from data_prep.export_fasta import export_fasta

    contigs = _names(args.contigs)
    export_fasta(args.store, args.out, contigs=contigs, regions=args.region or (), line_width=args.line_width)


def leaks(args: argparse.Namespace) -> None:
    """Show which windows training reads at each length."""
    from data_prep.leaks import print_leaks

    try:
        lengths = [int(length) for length in args.lengths.split(",")]
    except ValueError:
        raise UserError(f"--lengths {args.lengths} is not a list of numbers; try {LENGTHS}") from None
    print_leaks(args.store, lengths, args.sampling, args.csv)


def _split_plan(args: argparse.Namespace) -> "SplitPlan":
    """Return the one way to split that the arguments of `data build` ask for."""
    from data_prep.splits import BedSplits, BlockSplits, ContigSplits

    by_contig = args.valid_contigs or args.test_contigs
    ways = {"--bed": args.bed, "--valid-contigs/--test-contigs": by_contig, "--split-fractions": args.split_fractions}
    given = [way for way, value in ways.items() if value]
    if len(given) > 1:
        raise UserError(f"{given[0]} and {given[1]} are two ways to split, and a store has one; give one of them")
    if args.bed:
        return BedSplits(*args.bed)
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
    """Return the names in a list with commas between them."""
    return tuple(name for name in (names or "").split(",") if name)


def _build_command(args: argparse.Namespace) -> str:
    """Return a command that builds the same store, for the manifest."""
    words = ["hyena-dist", "data", "build", *args.inputs, "--out", str(args.out)]
    for file in args.bed or ():
        words += ["--bed", file]
    for flag in ("valid_contigs", "test_contigs", "split_fractions", "interval_length", "rename"):
        value = getattr(args, flag)
        if value is not None:
            words += [f"--{flag.replace('_', '-')}", str(value)]
    if args.soft_mask:
        words.append("--soft-mask")
    if args.codec != "packed":
        words += ["--codec", args.codec]
    return shlex.join(words)
