"""Long sequences in windows that overlap, so that every base is predicted once with some bases before it."""

from collections.abc import Iterator
from typing import NamedTuple

from hyena_dist.errors import UserError


class Window(NamedTuple):
    """The bases of a sequence that are scored together, and those before them that the model sees as well."""

    sequence: int
    """Number of the sequence."""
    start: int
    """The first base that the model sees."""
    first: int
    """The first base that is scored, after `start`."""
    end: int
    """The base after the last one that is scored."""


def windows_of(sequence: int, name: str, length: int, l_max: int, overlap: int | None) -> Iterator[Window]:
    """Yield the windows in which each base of a sequence but its first is scored exactly once.

    The model reads at most l_max bases and predicts the one after each, so that l_max + 1 bases fit into a window.

    Args:
        sequence: number of the sequence.
        name: name of the sequence, for errors.
        length: bases of the sequence.
        l_max: bases that the model can read at once.
        overlap: bases before the scored ones that every window but the first reads at least, less than l_max; None
            refuses sequences that do not fit into one window.

    Raises:
        UserError: The sequence is too long and no overlap is given.
    """
    if length > l_max + 1 and overlap is None:
        raise UserError(
            f"sequence {name!r} has {length:,} bases and the model reads {l_max:,} (l_max); cut it into windows with "
            f"an overlap, as by --overlap {l_max // 2}, or take a model of longer context"
        )
    start, first = 0, 1
    while first < length:
        end = min(length, start + l_max + 1)
        yield Window(sequence, start, first, end)
        start, first = end - max(1, overlap or 1), end
