"""Export of a store's sequences to FASTA, with the letters that it was built from."""

import gzip
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data_prep.splits import find_contig
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.manifest import Interval
from hyena_dist.data.tokenizer import LETTERS
from hyena_dist.errors import UserError
from hyena_dist.system.files import replace_atomically
from hyena_dist.system.urls import check_local
from hyena_dist.tracking.work_progress import WorkProgress

_BLOCK = 2**22
"""About how many bases are in memory at once."""
_LOWER_CASE = np.uint8(0x20)
"""The bit that makes an ASCII letter lower-case."""


class _Sink(Protocol):
    """Anything that takes bytes, such as a file, a compressed file or stdout."""

    def write(self, data: bytes, /) -> int:
        """Write all of `data`, and return its length."""
        ...


def export_fasta(
    path: str | Path,
    out: Path | None = None,
    *,
    contigs: Sequence[str] = (),
    regions: Sequence[str] = (),
    line_width: int = 60,
) -> None:
    """Write the sequences of a store as FASTA.

    A contig's header is its name, a region's `contig:start-end` (from 0, end not included, as `bedtools getfasta`).
    The letters are those that the store was built from, except that IUPAC codes, X, '-' and '.' have become N and U
    has become T, and that all are upper-case unless the store has a soft mask. The work takes a few MB of memory.

    Args:
        path: folder of a store, or of its shards.
        out: file to write, compressed if its name ends in .gz; it appears, or is replaced, when it is complete. The
            same sequences give the same bytes. None writes to stdout.
        contigs: names of the contigs to write, where a missing or extra leading "chr" is accepted; empty for all.
        regions: regions to write instead of contigs, each `contig:start-end`.
        line_width: letters in a line; 0 writes each sequence as one line.

    Raises:
        UserError: There is no store, a contig is unknown, a range leaves its contig, a file of the store is missing or
            damaged, or `out` cannot be written.
    """
    if line_width < 0:
        raise UserError(f"--line-width {line_width} is negative; use 60, or 0 for one line per sequence")
    if contigs and regions:
        raise UserError(
            f"--contigs {','.join(contigs)} and --region {regions[0]} are two choices of what to write; give one"
        )
    if out:
        check_local(out)
    store = GenomeStore.open(path)
    wanted = [_whole(store, find_contig(name, store.contigs, "--contigs")) for name in contigs]
    wanted += [_region(text, store) for text in regions]
    bases = sum(region.end - region.start for region in wanted) if wanted else int(store.contigs.offset[-1])
    with _output(out) as stream, WorkProgress("writing FASTA", bases) as progress:
        for region in wanted or map(partial(_whole, store), store.contigs):
            stream.write(f">{region if regions else region.contig}\n".encode())
            for block in _lines(store, region, line_width, progress.advance):
                stream.write(block)


def _whole(store: GenomeStore, contig: str) -> Interval:
    """Return all of a contig."""
    return Interval(contig, 0, store.contigs[contig])


def _lines(store: GenomeStore, region: Interval, width: int, on_bases: Callable[[int], object]) -> Iterator[bytes]:
    """Yield a region's text in blocks of whole lines of `width` letters, or of a single line if `width` is 0."""
    contig, start, end = region
    block = max(1, _BLOCK // width) * width if width else _BLOCK
    for at in range(start, end, block):
        stop = min(end, at + block)
        letters = LETTERS[store.read(contig, at, stop)]
        if store.has_soft_mask:
            letters |= store.soft_mask(contig, at, stop) * _LOWER_CASE
        yield _broken(letters, width)
        on_bases(stop - at)
    if not width:
        yield b"\n"


def _broken(letters: NDArray[np.uint8], width: int) -> bytes:
    """Return letters, uint8 [n], with a line feed after each `width` of them and after the last; width 0 adds none."""
    if not width:
        return letters.tobytes()
    full = letters.size // width
    lines = np.full((full, width + 1), ord("\n"), dtype=np.uint8)
    lines[:, :width] = letters[: full * width].reshape(full, width)
    rest = letters[full * width :].tobytes()
    return lines.tobytes() + (rest + b"\n" if rest else b"")


def _region(text: str, store: GenomeStore) -> Interval:
    """Parse a region as the user wrote it."""
    name, _, span = text.rpartition(":")  # the last colon, since a name may hold one
    start, _, end = span.replace(",", "").partition("-")
    if not (name and start.isdecimal() and end.isdecimal()):
        raise UserError(f"--region {text} is not contig:start-end; write one such as chr1:1000-2000")
    contig = find_contig(name, store.contigs, "--region")
    length = store.contigs[contig]
    if not int(start) < int(end) <= length:
        raise UserError(
            f"--region {text} is not inside contig {contig!r} of {length} bases; keep 0 <= start < end <= {length}"
        )
    return Interval(contig, int(start), int(end))


@contextmanager
def _output(out: Path | None) -> Iterator[_Sink]:
    """Open what the text goes to: stdout, or a file that is put in its place if nothing failed."""
    if out is None:
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except BrokenPipeError:  # the reader, such as `head`, has all it wants
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush when Python ends
        return
    partial = out.with_name(f"{out.name}.partial-{os.getpid()}")
    try:
        if out.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        with partial.open("wb") as raw:
            if out.suffix == ".gz":
                # Neither a time nor a name in the header, so that the same sequences give the same bytes.
                # Level 4 is 25 times as fast as 9 on nucleotides, and the file 6 % larger than at level 6.
                with gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=raw, mtime=0) as stream:
                    yield stream
            else:
                yield raw
        replace_atomically(partial, out)
    except OSError as error:
        raise UserError(
            f"{out} cannot be written ({error.strerror or error}); free some space or choose another path with --out"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
