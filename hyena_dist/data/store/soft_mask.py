"""The soft mask of a store: which bases were lower-case in the FASTA file, which marks repeats by convention."""

import numpy as np
from numpy.typing import NDArray

MASK = "soft_mask"
"""The array of the index that holds the lower-case ranges of all contigs end to end: start, end, start, end, ..."""


def soft_mask(edges: NDArray[np.integer], start: int, end: int) -> NDArray[np.bool_]:
    """Return which positions of a range are lower-case, bool [end - start].

    Args:
        edges: where lower case begins and ends, ascending; [2 * ranges].
        start: first position, on all contigs end to end.
        end: position after the last.
    """
    # Lower case begins at edges 0, 2, 4 ..., so base p is lower-case if an odd number of edges is <= p.
    # The positions get the type of the edges, of which a search would make a copy otherwise.
    first, last = edges.searchsorted(np.array([start, end], edges.dtype), "right").tolist()
    borders = np.empty(last - first + 2, dtype=np.int64)
    borders[0] = start
    borders[1:-1] = edges[first:last]
    borders[-1] = end
    return (np.arange(first, last + 1) & 1).astype(np.bool_).repeat(borders[1:] - borders[:-1])
