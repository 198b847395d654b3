"""The work on variants in parts: blocks of records, which are read as they come and never all at once."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.text.contigs import Contigs
from hyena_dist.errors import UserError
from hyena_dist.inference.likelihoods import scored_bases
from hyena_dist.inference.load import evaluating
from hyena_dist.inference.parts import PartFolder
from hyena_dist.inference.variant_check import Survey, describe, reasons, ref_agrees
from hyena_dist.inference.variant_files import write_variants
from hyena_dist.inference.variant_scores import Scored
from hyena_dist.inference.variant_windows import VariantWindow, windows_around
from hyena_dist.inference.vcf import Record, Variants
from hyena_dist.inference.window_likelihoods import WindowLikelihoods
from hyena_dist.system.files import replace_atomically, sync

BLOCK = 64
"""Records of a part: what a killed job does again, and what processes share out."""


class VariantWork(NamedTuple):
    """The variants that are to be scored, and the way in which they are."""

    given: Variants
    genome: Contigs
    likelihoods: WindowLikelihoods
    strands: int

    def compute(self, folder: PartFolder, found: Survey, rank: int, world_size: int) -> None:
        """Do this process's share of the parts that are not there."""
        blocks = enumerate(self._blocks())

        def part(number: int, path: Path) -> None:
            # Numbers ascend, so that records are read once.
            records = next(block for at, block in blocks if at == number)
            with path.open("wb") as file:
                np.save(file, self._score(records))

        sizes = [windows * self.likelihoods.shape.length * self.strands for windows in found.sizes]
        with evaluating(self.likelihoods.model):
            folder.compute("variants", sizes, part, rank, world_size)

    def read(self, folder: PartFolder) -> Iterator[Scored]:
        """Yield the records with what all parts say of them."""
        for number, block in enumerate(self._blocks()):
            rows = np.load(folder.path(number))
            for record in block:
                numbers, rows = rows[: len(record.alts)], rows[len(record.alts) :]
                scored = set(np.flatnonzero(np.isfinite(numbers).all((1, 2))).tolist())
                yield Scored(record, numbers, reasons(record, self.genome, scored))

    def write(
        self,
        folder: PartFolder,
        merged: Path,
        outs: Sequence[Path],
        job: Mapping[str, Any],
        say: Callable[[str], object],
    ) -> None:
        """Write all files but for the first's last step, and say a line about them."""
        counts: Counter[str] = Counter()

        def counted() -> Iterator[Scored]:
            for scored in self.read(folder):
                counts.update(scored.skipped)
                yield scored

        paths = {outs[0]: merged} | {path: folder.folder / f"other-{path.name}" for path in outs[1:]}
        write_variants(paths, self.given.header, counted(), job, int(self.genome.lengths.max()))
        for path in outs[1:]:
            sync(paths[path])
            replace_atomically(paths[path], path)
        say(describe(counts, self.likelihoods.shape))

    def _blocks(self) -> Iterator[list[Record]]:
        records = self.given.records()
        while block := list(itertools.islice(records, BLOCK)):
            yield block

    def _score(self, records: Sequence[Record]) -> NDArray[np.float64]:
        """Return log-likelihoods and scored bases of the alternatives of records, [A, strands, 4], NaN if not scored.

        Raises:
            UserError: the model gives NaN or infinite numbers.
        """
        windows: list[VariantWindow] = []
        places: list[tuple[Record, int, int]] = []  # of each, its record and the first row of that, and the strand
        rows = 0
        for record in records:
            contig = self.genome.tokens(self.genome.number_of(record.chrom))
            for strand in range(self.strands if ref_agrees(record, self.genome) else 0):
                for window in windows_around(record, contig, self.likelihoods.shape, turned=strand == 1):
                    windows.append(window)
                    places.append((record, rows, strand))
            rows += len(record.alts)
        numbers = np.full((rows, self.strands, 4), np.nan)
        sums = self.likelihoods(windows)
        for window, (record, first, strand), found in zip(windows, places, sums, strict=True):
            if not np.isfinite(found).all():
                raise UserError(
                    f"the model gives NaN or infinite log-likelihoods around {record.place}; take another checkpoint, "
                    f"or compute in fp32"
                )
            bases = scored_bases(window.tokens)
            for row, alt in enumerate(window.alts, 1):
                if bases[0] and bases[row]:
                    numbers[first + alt, strand] = found[0], found[row], bases[0], bases[row]
        numbers[np.isnan(numbers).any((1, 2))] = np.nan  # one that has a window on one strand alone is in none
        return numbers
