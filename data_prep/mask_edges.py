"""Writing of a soft mask, block by block: where lower case begins and where it ends, in positions end to end."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class EdgeWriter:
    """Writes the edges of lower-case ranges to a file of int64; a range does not go on over the end of a contig.

    Args:
        path: the file to write.
    """

    def __init__(self, path: Path) -> None:
        self._stream = path.open("wb")
        self._bases = 0
        self._is_lower = False  # whether the last base was lower-case

    def write(self, size: int, lower_case: NDArray[np.bool_] | None) -> None:
        """Append some more bases.

        Args:
            size: how many there are.
            lower_case: which are lower-case, bool [size]; None if none is.
        """
        if lower_case is None:
            self.end_contig()
        elif size:
            edges = np.flatnonzero(lower_case[1:] != lower_case[:-1]) + 1
            if bool(lower_case[0]) != self._is_lower:
                edges = np.concatenate([[0], edges])
            self._is_lower = bool(lower_case[-1])
            self._stream.write((edges + self._bases).astype("<i8").data)
        self._bases += size

    def end_contig(self) -> None:
        """End the range that the last base is in, if it is in one."""
        if self._is_lower:
            self._stream.write(np.array(self._bases, "<i8").tobytes())
        self._is_lower = False

    def close(self) -> None:
        """Finish the file."""
        self._stream.close()
