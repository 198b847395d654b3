"""The commands on data, for `python -m data_prep` and for `hyena-dist data`.

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
  hyena-dist data build human=hg38.2bit mouse=mm39.fa.gz --out data/both --bed human=h.bed --bed mouse=m.bed
"""

_LENGTHS = "1024,32768,131072,262144,524288,1048576"

_DOWNLOAD_EXAMPLES = """examples:
  hyena-dist data download --list
  hyena-dist data download hg38 --out data/hg38
  hyena-dist data download species-5 --source /mnt/genomes --build
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands to `parser`.

    Each sets the default `handler`, a function of the parsed namespace that returns None or an exit code and raises
    UserError.
    """
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    build = _command(commands, "build", "build a store from FASTA or 2bit, or go on building it", _BUILD_EXAMPLES)
    build.add_argument(
        "inputs",
        nargs="+",
        metavar="[SPECIES=]FILE",
        help="FASTA (plain, gzip, bgzip) or UCSC 2bit; contigs of a labelled file are called SPECIES.name",
    )
    build.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the store")
    build.add_argument(
        "--bed",
        action="append",
        metavar="[SPECIES=]FILE",
        help="split by rows of contig, start, end, split; once for each species",
    )
    build.add_argument("--valid-contigs", metavar="A,B", help="split by contig: these validate")
    build.add_argument("--test-contigs", metavar="C,D", help="split by contig: these test, the rest train")
    build.add_argument(
        "--split-fractions", metavar="T,V[,T]", help="split each contig into train, valid, test (default 0.9,0.05,0.05)"
    )
    build.add_argument("--soft-mask", action="store_true", help="keep which bases are lower-case")
    build.add_argument(
        "--interval-length",
        type=int,
        default=2**17,
        metavar="N",
        help="bases in an interval, the unit of sampling, where no BED file says (default: %(default)s)",
    )
    build.add_argument(
        "--rename",
        metavar="RULE",
        help="other names for contigs: ucsc (chr20, chrM), ensembl (20, MT), or a file of old and new names",
    )
    build.add_argument(
        "--processes", type=int, metavar="N", help="how many files at a time (default: as many as cores)"
    )
    build.add_argument(
        "--overwrite", action="store_true", help="replace DIR if it is a store, and discard another unfinished build"
    )
    build.set_defaults(handler=_build)

    shards = _command(
        commands,
        "shards",
        "write a store as WebDataset tars, for object stores and streaming",
        "examples:\n  hyena-dist data shards data/hg38 --out data/hg38-shards\n"
        "then, wherever the folder is copied to, data.path may be any of:\n"
        "  data/hg38-shards    https://host/hg38-shards    'pipe:aws s3 cp s3://bucket/hg38-shards/{} -'\n",
    )
    shards.add_argument("store", type=Path, metavar="STORE", help="folder of the store")
    shards.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the shards")
    shards.add_argument(
        "--window", type=int, default=2**20 + 1, metavar="N", help="bases in a sample (default: %(default)s)"
    )
    shards.add_argument("--megabytes", type=int, default=256, metavar="N", help="size of a tar (default: %(default)s)")
    shards.add_argument("--processes", type=int, metavar="N", help="how many at a time (default: as many as cores)")
    shards.add_argument("--overwrite", action="store_true", help="replace DIR if it is a store or shards")
    shards.set_defaults(handler=_shards)

    download = _command(commands, "download", "fetch the files of a preset, checked and resumed", _DOWNLOAD_EXAMPLES)
    download.add_argument("preset", nargs="?", metavar="PRESET", help="name of a preset, or a YAML file like theirs")
    download.add_argument("--list", action="store_true", help="show the presets and their sizes")
    download.add_argument("--out", type=Path, metavar="DIR", help="folder for the files (default: data/PRESET)")
    download.add_argument(
        "--source", metavar="PLACE", help="folder, URL or pipe:COMMAND with {} that has the files under the same names"
    )
    download.add_argument("--build", action="store_true", help="then build the store, in DIR/store")
    download.set_defaults(handler=_download)

    verify = _command(
        commands,
        "verify",
        "check every file, contig and sample of a store or of shards",
        "examples:\n  hyena-dist data verify data/hg38\n"
        "  hyena-dist data verify data/hg38-shards --against data/hg38\n",
    )
    verify.add_argument("store", type=Path, metavar="DIR", help="folder of the store or the shards")
    verify.add_argument("--against", type=Path, metavar="STORE", help="the store whose tokens the shards must have")
    verify.add_argument("--processes", type=int, metavar="N", help="how many at a time (default: as many as cores)")
    verify.set_defaults(handler=_verify)

    stats = _command(
        commands,
        "stats",
        "show composition, masks, splits and k-mers of a store, and draw them along its contigs",
        "example:\n  hyena-dist data stats data/hg38 --csv hg38.csv --kmers 6 --plot hg38.png\n",
    )
    stats.add_argument("store", metavar="DIR", help="folder of the store or the shards")
    stats.add_argument("--csv", type=Path, metavar="FILE", help="also write the tables here and beside it")
    stats.add_argument("--kmers", type=int, metavar="K", help="also count the windows of K bases, 1 to 8")
    stats.add_argument(
        "--plot", type=Path, metavar="FILE", help="also draw GC, N, soft mask and splits (.png, .pdf, .svg)"
    )
    stats.set_defaults(handler=_stats)

    export = _command(
        commands,
        "export-fasta",
        "write a store's sequences as FASTA",
        "examples:\n  hyena-dist data export-fasta data/hg38 --out hg38.fa.gz\n"
        "  hyena-dist data export-fasta data/hg38 --region chr1:1000-2000\n",
    )
    export.add_argument("store", metavar="DIR", help="folder of the store or the shards")
    export.add_argument(
        "--out", type=Path, metavar="FILE", help="compressed if it ends in .gz (default: standard output)"
    )
    export.add_argument("--contigs", metavar="A,B", help="these alone")
    export.add_argument("--region", action="append", metavar="CONTIG:START-END", help="from 0, END not included")
    export.add_argument("--line-width", type=int, default=60, metavar="N", help="0 for one line (default: %(default)s)")
    export.set_defaults(handler=_export)

    leaks = _command(
        commands,
        "leaks",
        "show which windows training reads at each length, and that none holds validation or test bases",
        "example:\n  hyena-dist data leaks data/hg38 --lengths 1024,131072,1048576\n",
    )
    leaks.add_argument("store", metavar="DIR", help="folder of the store")
    leaks.add_argument("--lengths", default=_LENGTHS, metavar="N,N", help="context lengths (default: %(default)s)")
    leaks.add_argument(
        "--sampling", choices=("interval", "published", "uniform"), default="interval", help="default: %(default)s"
    )
    leaks.add_argument("--csv", type=Path, metavar="FILE", help="also write the table here")
    leaks.set_defaults(handler=_leaks)


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
        print("interrupted; what is finished is kept, the same command continues", file=sys.stderr)
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
    from data_prep.inputs import Rename

    rename = Rename(args.rename) if args.rename else None
    options = BuildOptions(_split_plan(args), args.soft_mask, args.interval_length, rename)
    build_store(
        args.inputs,
        args.out,
        options,
        overwrite=args.overwrite,
        processes=args.processes,
        command=_build_command(args),
    )


def _shards(args: argparse.Namespace) -> None:
    from data_prep.shards import ShardOptions, write_shards

    words = ["hyena-dist", "data", "shards", args.store, "--out", args.out]
    words += ["--window", args.window, "--megabytes", args.megabytes]
    command = shlex.join(map(str, words))
    options = ShardOptions(args.window, args.megabytes)
    write_shards(args.store, args.out, options, overwrite=args.overwrite, processes=args.processes, command=command)


def _download(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from data_prep.download import download, list_presets

    if args.list or not args.preset:
        list_presets()
        return
    words = download(args.preset, args.out, args.source, say=tqdm.write)  # lines above the bar instead of through it
    if not args.build:
        print(f"now build the store with\n  {shlex.join(words)}")
        return
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    build = parser.parse_args(words[2:])
    build.handler(build)


def _verify(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from data_prep.verify import verify_store

    # tqdm writes its lines above the bar instead of through it.
    verify_store(args.store, against=args.against, processes=args.processes, say=tqdm.write)


def _stats(args: argparse.Namespace) -> None:
    from data_prep.stats import print_stats

    print_stats(args.store, args.csv, args.kmers, args.plot)


def _export(args: argparse.Namespace) -> None:
    from data_prep.export_fasta import export_fasta

    contigs = _names(args.contigs)
    export_fasta(args.store, args.out, contigs=contigs, regions=args.region or (), line_width=args.line_width)


def _leaks(args: argparse.Namespace) -> None:
    from data_prep.leaks import print_leaks

    try:
        lengths = [int(length) for length in args.lengths.split(",")]
    except ValueError:
        raise UserError(f"--lengths {args.lengths} is not a list of numbers; try {_LENGTHS}") from None
    print_leaks(args.store, lengths, args.sampling, args.csv)


def _split_plan(args: argparse.Namespace) -> "SplitPlan":
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
    return shlex.join(words + ["--soft-mask"] * args.soft_mask)
