"""The command line: `python -m hyena_dist.bench.gpu --out DIR` measures, `... tables` puts the figures into READMEs."""

import argparse
import sys
from pathlib import Path

from hyena_dist.bench.gpu.plan import TOY, Sizes
from hyena_dist.bench.gpu.run import measure
from hyena_dist.bench.gpu.tables import write_tables
from hyena_dist.errors import UserError
from hyena_dist.verbs import output_folder, seconds

_PATIENCE = 60.0
"""Minutes that a dry run may take on a busy machine, where its figures do not count anyway."""


def main() -> int:
    """Return the number of steps that failed, or 2 after a mistake of the user."""
    parser = argparse.ArgumentParser(prog="python -m hyena_dist.bench.gpu", description="Measure this machine's GPU.")
    parser.add_argument("verb", nargs="?", choices=("run", "tables"), default="run", help="default: %(default)s")
    parser.add_argument("--minutes", type=seconds, default=12.0, metavar="M", help="in all; default: %(default)s")
    parser.add_argument("--out", type=output_folder, default="runs/gpu", metavar="DIR", help="default: %(default)s")
    parser.add_argument("--dry-run", action="store_true", help="do every step on a CPU, at toy sizes")
    try:
        args = parser.parse_args()
        if args.verb == "tables":
            write_tables(Path.cwd())
            return 0
        if not args.dry_run:
            return measure(Sizes(target=_target()), args.minutes, args.out)
        return measure(TOY, max(args.minutes, _PATIENCE), args.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _target() -> str:
    """Return the name by which compilers know the GPU.

    Raises:
        UserError: there is none.
    """
    import torch

    if not torch.cuda.is_available():
        raise UserError("torch finds no GPU here; run this where there is one, or with --dry-run")
    major, minor = torch.cuda.get_device_capability()
    return f"sm_{major}{minor}"


if __name__ == "__main__":
    sys.exit(main())
