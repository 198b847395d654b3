"""The arguments that verbs on sequences share."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hyena_dist.verbs import positive


def add_common_arguments(parser: argparse.ArgumentParser, out: str) -> None:
    """Add what verbs on sequences share: the sequences, the model, the output and how it is computed."""
    parser.add_argument("sequences", type=Path, metavar="SEQUENCES", help="FASTA, BED (with --genome), CSV or TSV")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=out)
    parser.add_argument("--genome", type=Path, metavar="FASTA", help="what the intervals of a BED file are of")
    add_model_arguments(parser)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which model computes, and how."""
    parser.add_argument("--model", type=Path, required=True, metavar="M", help="a run, checkpoint or published folder")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    parser.add_argument(
        "--dtype", choices=("fp32", "bf16"), default="fp32", help="of weights and activations (default: %(default)s)"
    )
    parser.add_argument(
        "--max-tokens-per-batch", type=positive, default=2**16, metavar="N", help="default: %(default)s"
    )
    parser.add_argument("--modulation-shift", type=float, metavar="X", help="for published models: 0.05 or 0.0")


def model_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return what `add_model_arguments` asked for, as the functions take it, but for the model itself."""
    from hyena_dist.ops.precision import DTYPES

    return {
        "device": args.device,
        "dtype": DTYPES[args.dtype],
        "max_tokens_per_batch": args.max_tokens_per_batch,
        "modulation_shift": args.modulation_shift,
    }


def say_written(outs: Iterable[Path]) -> None:
    """Say which files are there: all, unless other processes are at their share, the last of which says it."""
    for out in outs:
        if out.exists():
            print(f"wrote {out}")
