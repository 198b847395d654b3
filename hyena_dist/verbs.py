"""Helpers that the verbs of the command line share."""

import argparse
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from hyena_dist.errors import UserError
from hyena_dist.system.urls import check_local


def verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    summary: str,
    handler: Callable[[argparse.Namespace], int | None],
    example: str,
) -> argparse.ArgumentParser:
    """Add a verb with a summary, an example and its handler, which returns the exit code or None for 0."""
    parser = verbs.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(handler=handler)
    return parser


def positive(text: str) -> int:
    """Return a whole number from 1 on, for options that count.

    Raises:
        ArgumentTypeError: The text is another one.
    """
    return _whole(text, 1)


def not_negative(text: str) -> int:
    """Return a whole number from 0 on.

    Raises:
        ArgumentTypeError: The text is another one.
    """
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from {least} on")
    return int(text)


def seconds(text: str) -> float:
    """Return a number of seconds from 0 on.

    Raises:
        ArgumentTypeError: The text is no such number.
    """
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds from 0 on")
    return found


def output_file(text: str) -> Path:
    """Return the path of a file that a verb will write, once it is known that it can be: before the work.

    Raises:
        UserError: The path is a folder or a URL, or there is no folder that it could be written to.
    """
    path = Path(text)
    check_local(path)
    if path.is_dir():
        raise UserError(f"{path} cannot be written, since it is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UserError(f"{path} cannot be written, since there is no folder {path.parent}; make it, or name another")
    if not path.exists():
        _check_writable(path.parent, path)
    elif not os.access(path, os.W_OK):
        raise UserError(f"{path} is read-only; name another file")
    return path


def output_folder(text: str) -> Path:
    """Return the path of a folder that a verb will write, once it is known that it can be: before the work.

    Raises:
        UserError: The path is a file or a URL, or lies where nothing can be written.
    """
    path = Path(text)
    check_local(path)
    there = next(p for p in (path, *path.absolute().parents) if p.exists() or p.is_symlink())
    if not there.is_dir():
        raise UserError(f"{path} cannot be a folder, since {there} is a file; name another")
    _check_writable(there, path)
    return path


def _check_writable(folder: Path, path: Path) -> None:
    try:
        tempfile.TemporaryFile(dir=folder).close()  # the rights alone say nothing of a file system that is read-only
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}; name another place") from error


def numbers(option: str, example: str) -> Callable[[str], list[int]]:
    """Return a function that reads an option's list of whole numbers from 1 on, such as 256,1024.

    Raises:
        UserError: The text that the function is given is no such list; it names the option and shows the example.
    """

    def parse(text: str) -> list[int]:
        found = text.split(",")
        if not all(n.isdecimal() and int(n) > 0 for n in found):
            raise UserError(f"{option} {text} is not a list of numbers; try {example}")
        return [int(n) for n in found]

    return parse


parse_lengths = numbers("--lengths", "256,1024,4096")
"""The function that reads context lengths."""


def parse_resume(text: str) -> str | int:
    """Return auto, never, or the number of the step to go back to.

    Raises:
        UserError: another word.
    """
    if text in ("auto", "never"):
        return text
    if not text.isdecimal():
        raise UserError(
            f"--resume {text} is neither auto nor never nor a step; `hyena-dist checkpoints RUN` lists them"
        )
    return int(text)


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
