"""The command line of the data tools, for `hyena-dist data` and for `python -m data_prep`.

A reader finds here what each command is called and which arguments it takes; handlers.py has what it does.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data_prep import handlers
from hyena_dist.errors import UserError
from hyena_dist.system.streams import lost, output_may_fail
from hyena_dist.verbs import output_file, positive

Commands = argparse._SubParsersAction
"""The action of a parser to which sub-commands are added; argparse has no public name for it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the commands on data to `parser`.

    Each command sets the default `handler`, a function of the parsed namespace that returns None or an exit code and
    raises UserError.
    """
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    build_parser = _add_build(commands)
    _add_convert(commands)
    _add_shards(commands)
    _add_download(commands, build_parser)
    _add_verify(commands)
    _add_stats(commands)
    _add_export(commands)
    _add_leaks(commands)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m data_prep`.

    Args:
        argv: the words after the program's name; None takes those of this process.

    Returns:
        The exit code: 0, or 2 after a mistake of the user, which is one sentence on stderr, or 130 after Ctrl-C.
    """
    parser = argparse.ArgumentParser(prog="python -m data_prep", description="From FASTA to a store for training.")
    add_arguments(parser)
    with output_may_fail() as output:
        try:
            args = parser.parse_args(argv)
            return args.handler(args) or lost(output)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted; what is finished is kept, the same command continues", file=sys.stderr)
            return 130


def _command(commands: Commands, name: str, summary: str, epilog: str) -> argparse.ArgumentParser:
    """Add a command whose help shows its summary and, as written, its examples."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def _add_processes(parser: argparse.ArgumentParser, unit: str = "") -> None:
    """Add the option that limits how many processes work at a time."""
    parser.add_argument(
        "--processes", type=positive, metavar="N", help=f"how many {unit}at a time (default: as many as cores)"
    )


def _add_build(commands: Commands) -> argparse.ArgumentParser:
    """Add `data build`, and return its parser."""
    parser = _command(
        commands,
        "build",
        "build a store from FASTA or 2bit, or go on building it",
        "examples:\n"
        "  hyena-dist data build hg38.fa.gz --out data/hg38 --bed sequences_human.bed\n"
        "  hyena-dist data build genome.fa --out data/genome --valid-contigs chr20 --test-contigs chr14,chrX\n"
        "  hyena-dist data build genome.fa --out data/genome --split-fractions 0.9,0.05,0.05\n"
        "  hyena-dist data build human=hg38.2bit mouse=mm39.fa.gz --out data/both "
        "--bed human=h.bed --bed mouse=m.bed\n",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="[SPECIES=]FILE",
        help="FASTA (plain, gzip, bgzip) or UCSC 2bit; contigs of a labelled file are called SPECIES.name",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the store")
    parser.add_argument(
        "--bed",
        action="append",
        metavar="[SPECIES=]FILE",
        help="split by rows of contig, start, end, split; once for each species",
    )
    parser.add_argument("--valid-contigs", metavar="A,B", help="split by contig: these validate")
    parser.add_argument("--test-contigs", metavar="C,D", help="split by contig: these test, the rest train")
    parser.add_argument(
        "--split-fractions", metavar="T,V[,T]", help="split each contig into train, valid, test (default 0.9,0.05,0.05)"
    )
    parser.add_argument("--soft-mask", action="store_true", help="keep which bases are lower-case")
    parser.add_argument(
        "--interval-length",
        type=int,
        default=2**17,
        metavar="N",
        help="bases in an interval, the unit of sampling, where no BED file says (default: %(default)s)",
    )
    parser.add_argument(
        "--rename",
        metavar="RULE",
        help="other names for contigs: ucsc (chr20, chrM), ensembl (20, MT), or a file of old and new names",
    )
    parser.add_argument(
        "--codec",
        choices=("packed", "none"),
        default="packed",
        help="how bases are stored: 2 bits each, or a byte each, which any Zarr reader knows (default: %(default)s)",
    )
    _add_processes(parser, "files ")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace DIR if it is a store, and discard another unfinished build"
    )
    parser.set_defaults(handler=handlers.build)
    return parser


def _add_convert(commands: Commands) -> None:
    """Add `data convert`."""
    parser = _command(
        commands,
        "convert",
        "bring a store of format 2 into the present format",
        "example:\n  hyena-dist data convert data/hg38 --out data/hg38-new\n"
        "sequences, splits and fingerprint stay the same, so that runs go on with the new store\n",
    )
    parser.add_argument("store", type=Path, metavar="OLD", help="folder of the store, which stays as it is")
    parser.add_argument("--out", required=True, type=Path, metavar="NEW", help="folder of the new store")
    _add_processes(parser)
    parser.set_defaults(handler=handlers.convert)


def _add_shards(commands: Commands) -> None:
    """Add `data shards`."""
    parser = _command(
        commands,
        "shards",
        "write a store as WebDataset tars, for object stores and streaming",
        "examples:\n  hyena-dist data shards data/hg38 --out data/hg38-shards\n"
        "then, wherever the folder is copied to, data.path may be any of:\n"
        "  data/hg38-shards    https://host/hg38-shards    'pipe:aws s3 cp s3://bucket/hg38-shards/{} -'\n",
    )
    parser.add_argument("store", type=Path, metavar="STORE", help="folder of the store")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the shards")
    parser.add_argument(
        "--window", type=int, default=2**20 + 1, metavar="N", help="bases in a sample (default: %(default)s)"
    )
    parser.add_argument("--megabytes", type=int, default=256, metavar="N", help="size of a tar (default: %(default)s)")
    _add_processes(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace DIR if it is a store or shards")
    parser.set_defaults(handler=handlers.shards)


def _add_download(commands: Commands, build_parser: argparse.ArgumentParser) -> None:
    """Add `data download`, which can go on with the command of `build_parser`."""
    parser = _command(
        commands,
        "download",
        "fetch the files of a preset, checked and resumed",
        "examples:\n"
        "  hyena-dist data download --list\n"
        "  hyena-dist data download hg38 --out data/hg38\n"
        "  hyena-dist data download species-5 --source /mnt/genomes --build\n",
    )
    parser.add_argument("preset", nargs="?", metavar="PRESET", help="name of a preset, or a YAML file like theirs")
    parser.add_argument("--list", action="store_true", help="show the presets and their sizes")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the files (default: data/PRESET)")
    parser.add_argument(
        "--source", metavar="PLACE", help="folder, URL or pipe:COMMAND with {} that has the files under the same names"
    )
    parser.add_argument("--build", action="store_true", help="then build the store, in DIR/store")
    parser.set_defaults(handler=handlers.download, build_parser=build_parser)


def _add_verify(commands: Commands) -> None:
    """Add `data verify`."""
    parser = _command(
        commands,
        "verify",
        "check every file, contig and sample of a store or of shards",
        "examples:\n  hyena-dist data verify data/hg38\n"
        "  hyena-dist data verify data/hg38-shards --against data/hg38\n",
    )
    parser.add_argument("store", type=Path, metavar="DIR", help="folder of the store or the shards")
    parser.add_argument("--against", type=Path, metavar="STORE", help="the store whose tokens the shards must have")
    _add_processes(parser)
    parser.set_defaults(handler=handlers.verify)


def _add_stats(commands: Commands) -> None:
    """Add `data stats`."""
    parser = _command(
        commands,
        "stats",
        "show composition, masks, splits and k-mers of a store, and draw them along its contigs",
        "example:\n  hyena-dist data stats data/hg38 --csv hg38.csv --kmers 6 --plot hg38.png\n",
    )
    parser.add_argument("store", metavar="DIR", help="folder of the store or the shards")
    parser.add_argument("--csv", type=output_file, metavar="FILE", help="also write the tables here and beside it")
    parser.add_argument("--kmers", type=int, metavar="K", help="also count the windows of K bases, 1 to 8")
    parser.add_argument(
        "--plot", type=output_file, metavar="FILE", help="also draw GC, N, soft mask and splits (.png, .pdf, .svg)"
    )
    parser.set_defaults(handler=handlers.stats)


def _add_export(commands: Commands) -> None:
    """Add `data export-fasta`."""
    parser = _command(
        commands,
        "export-fasta",
        "write a store's sequences as FASTA",
        "examples:\n  hyena-dist data export-fasta data/hg38 --out hg38.fa.gz\n"
        "  hyena-dist data export-fasta data/hg38 --region chr1:1000-2000\n",
    )
    parser.add_argument("store", metavar="DIR", help="folder of the store or the shards")
    parser.add_argument(
        "--out", type=output_file, metavar="FILE", help="compressed if it ends in .gz (default: standard output)"
    )
    parser.add_argument("--contigs", metavar="A,B", help="these alone")
    parser.add_argument("--region", action="append", metavar="CONTIG:START-END", help="from 0, END not included")
    parser.add_argument("--line-width", type=int, default=60, metavar="N", help="0 for one line (default: %(default)s)")
    parser.set_defaults(handler=handlers.export)


def _add_leaks(commands: Commands) -> None:
    """Add `data leaks`."""
    parser = _command(
        commands,
        "leaks",
        "show which windows training reads at each length, and that none holds validation or test bases",
        "example:\n  hyena-dist data leaks data/hg38 --lengths 1024,131072,1048576\n",
    )
    parser.add_argument("store", metavar="DIR", help="folder of the store")
    parser.add_argument(
        "--lengths", default=handlers.LENGTHS, metavar="N,N", help="context lengths (default: %(default)s)"
    )
    parser.add_argument(
        "--sampling", choices=("interval", "published", "uniform"), default="interval", help="default: %(default)s"
    )
    parser.add_argument("--csv", type=output_file, metavar="FILE", help="also write the table here")
    parser.set_defaults(handler=handlers.leaks)
