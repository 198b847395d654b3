"""What the verbs of the command line share."""

import argparse
from collections.abc import Callable

from hyena_dist.errors import UserError


def verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    summary: str,
    handler: Callable[[argparse.Namespace], int | None],
    example: str,
) -> argparse.ArgumentParser:
    """Add a verb with a summary, an example and the function that does it (None or its exit code)."""
    parser = verbs.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(handler=handler)
    return parser


def parse_lengths(text: str) -> list[int]:
    """The numbers of 256,1024 as a list.

    Raises:
        UserError: anything else.
    """
    try:
        return [int(n) for n in text.split(",")]
    except ValueError:
        raise UserError(f"--lengths {text} is not a list of numbers; try 256,1024,4096") from None


def parse_profile(text: str) -> frozenset[str]:
    """Return the kinds of profile that comm, trace or comm,trace asks for.

    Raises:
        UserError: another word.
    """
    kinds = frozenset(text.split(","))
    if unknown := kinds - {"comm", "trace"}:
        raise UserError(f"--profile {text}: {min(unknown)!r} is no profile; give comm, trace or comm,trace")
    return kinds


def parse_steps(text: str) -> tuple[int, int]:
    """Return the first and last step of 3-5, or of 3 alone.

    Raises:
        UserError: anything else, or steps that are not counted from 1 or run backwards.
    """
    first, dash, last = text.partition("-")
    last = last if dash else first
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise UserError(f"--profile-steps {text} is no range of steps counted from 1; try 3-5")
    return int(first), int(last)
