"""Scores of variants: how much more or less likely the model finds the alternative in its surroundings."""

import itertools
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dist.data.text.contigs import Contigs, read_contigs
from hyena_dist.errors import UserError
from hyena_dist.inference.likelihoods import log_likelihoods, scored_bases
from hyena_dist.inference.load import Model, load_here, model_hash
from hyena_dist.inference.parts import PartFolder, check_output, describe_job, is_made_already
from hyena_dist.inference.sequences import encoded
from hyena_dist.inference.variant_check import REF_MISMATCH, Survey, describe, reasons, ref_agrees, survey
from hyena_dist.inference.variant_files import SUFFIXES, Scored, deltas, write_variants
from hyena_dist.inference.variant_windows import VariantWindow, WindowShape, windows_around
from hyena_dist.inference.vcf import Record, Variants, VariantSource, as_variants
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.parallel.world import launch_environment
from hyena_dist.system.files import replace_atomically, sync

STRANDS = {"one": 1, "both": 2}
WINDOW = 1024
"""Bases of a window if nothing else is asked for and the model reads as many."""
BLOCK = 64
"""Records of a part: what a killed job does again, and what processes share out."""


class VariantScores(NamedTuple):
    """The scores of A alternatives, record after record in the order of the input. Logarithms are natural."""

    chrom: list[str]
    pos: NDArray[np.int64]
    """Of the first base of REF, from 1, [A]."""
    ref: list[str]
    alt: list[str]
    delta: NDArray[np.float64]
    """Log-likelihood of the window with ALT minus that with REF, strands averaged; NaN if not scored; [A]."""
    delta_mean: NDArray[np.float64]
    """The same of the means over scored bases, [A]."""
    by_strand: NDArray[np.float64]
    """Delta of each strand, [A, 1 or 2]; the other strand comes second."""
    skipped: list[str]
    """Why an alternative was not scored; "" where it was."""


def score_variants(
    model: Model,
    variants: VariantSource,
    genome: str | Path | Mapping[str, str],
    *,
    out: str | Path | Sequence[str | Path] | None = None,
    window: int | None = None,
    position: float = 0.5,
    strands: str = "both",
    region: str | None = None,
    ref_mismatch: str = "refuse",
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    max_tokens_per_batch: int = 2**16,
    modulation_shift: float | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> VariantScores | None:
    """Compute for each alternative the log-likelihood of its window minus that of the genome's.

    >>> import hyena_dist
    >>> found = hyena_dist.score_variants("tests/golden/tiny", [("a", 3, "G", "T,GA")], {"a": "ACGTTGCAACGT"})
    >>> found.alt, found.delta.shape, found.skipped
    (['T', 'GA'], (2,), ['', ''])

    Under torchrun or srun, each process does a share and one of them writes the files. A job that was killed goes on
    where it was when it is started again, on any number of processes.

    Args:
        model: a model, or what `load` takes.
        variants: a VCF file, plain, gzip or bgzip, or tuples (contig, position from 1, REF, ALT).
        genome: the FASTA file that they are of, or a dict from names to text.
        out: x.vcf, x.vcf.gz (which gets an index) or x.parquet, or several of them; if not given, the result is
            returned.
        window: bases of a window; 1,024 or what the model reads, if that is less.
        position: the share of a window that is before the variant, in the direction of reading.
        strands: `both`, averaged, or `one`, the given one.
        region: contig:start-end, the records of an indexed VCF that touch it and no others.
        ref_mismatch: `refuse` variants whose REF is not the genome's, or `skip` them.
        device: where a model is loaded to. A model that is given stays where it is.
        dtype: the type a model is cast to when it is loaded.
        max_tokens_per_batch: bound for windows times bases of a batch of several.
        modulation_shift: for published models; see `load_published`.
        say: called with a line about what was scored, by the process that writes.

    Returns:
        The scores, or None with `out`.

    Raises:
        UserError: a mistake in any of these, before the work begins, or a model that gives NaN.
    """
    _check_options(window, position, strands, ref_mismatch)
    outs = [Path(path) for path in ((out,) if isinstance(out, str | Path) else out or ())]
    for path in outs:
        check_output(path, SUFFIXES)
    given = as_variants(variants, region)
    contigs = encoded("the given genome", genome.items()) if isinstance(genome, Mapping) else read_contigs(Path(genome))
    found = survey(given, contigs, ref_mismatch, BLOCK)
    if not found.is_sorted and any(path.suffix in (".gz", ".bgz") for path in outs):
        raise UserError(
            f"{given.source} is not sorted, so that {outs[0]} could have no index; sort it, or write a .vcf"
        )
    loaded = load_here(model, device, dtype, modulation_shift)
    shape = WindowShape(_window(window, loaded.config.l_max), position)
    work = _Work(given, contigs, loaded, shape, STRANDS[strands], max_tokens_per_batch)
    options = {
        "genome": contigs.fingerprint,
        "window": shape.length,
        "position": position,
        "strands": strands,
        "max_tokens_per_batch": max_tokens_per_batch,
    }
    job = describe_job("variants", found.fingerprint, model_hash(loaded), options)
    if not outs:
        with tempfile.TemporaryDirectory() as scratch:
            folder = PartFolder(Path(scratch, "scores"), job)
            work.compute(folder, found, 0, 1)
            return _gather(list(work.read(folder)), STRANDS[strands])
    if not _are_made_already(outs):
        folder, launch = PartFolder(outs[0], job), launch_environment()
        work.compute(folder, found, launch.rank, launch.world_size)
        folder.merge(len(found.sizes), lambda merged: work.write(folder, merged, outs, job, say))
    return None


class _Work(NamedTuple):
    """What is to be scored, and how."""

    given: Variants
    genome: Contigs
    model: HyenaDNA
    shape: WindowShape
    strands: int
    max_tokens: int

    def compute(self, folder: PartFolder, found: Survey, rank: int, world_size: int) -> None:
        """Do this process's share of the parts that are not there."""
        blocks = enumerate(self._blocks())

        def part(number: int, path: Path) -> None:
            # Numbers ascend, so that records are read once.
            records = next(block for at, block in blocks if at == number)
            with path.open("wb") as file:
                np.save(file, self._score(records))

        sizes = [windows * self.shape.length * self.strands for windows in found.sizes]
        folder.compute("variants", sizes, part, rank, world_size)

    def read(self, folder: PartFolder) -> Iterator[Scored]:
        """Yield the records with what all parts say of them."""
        for number, block in enumerate(self._blocks()):
            rows = np.load(folder.path(number))
            for record in block:
                numbers, rows = rows[: len(record.alts)], rows[len(record.alts) :]
                scored = set(np.flatnonzero(np.isfinite(numbers[:, 0, 0])).tolist())
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
        say(describe(counts, self.shape))

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
        places: list[tuple[int, int]] = []  # of each, the first row of its record, and the strand
        rows = 0
        for record in records:
            contig = self.genome.tokens(self.genome.number_of(record.chrom))
            for strand in range(self.strands if ref_agrees(record, self.genome) else 0):
                for window in windows_around(record, contig, self.shape, turned=strand == 1):
                    windows.append(window)
                    places.append((rows, strand))
            rows += len(record.alts)
        numbers = np.full((rows, self.strands, 4), np.nan)
        sums = log_likelihoods(self.model, windows, self.max_tokens)
        for window, (first, strand), found in zip(windows, places, sums, strict=True):
            if not np.isfinite(found).all():
                raise UserError(
                    "the model gives NaN or infinite log-likelihoods; take another checkpoint, or compute in fp32"
                )
            bases = scored_bases(window.tokens)
            for row, alt in enumerate(window.alts, 1):
                numbers[first + alt, strand] = found[0], found[row], bases[0], bases[row]
        return numbers


def _gather(found: Sequence[Scored], strands: int) -> VariantScores:
    """Return the scores of all records together."""
    numbers = np.concatenate([scored.numbers for scored in found])
    by_strand, mean = deltas(numbers)
    records = [scored.record for scored in found for _ in scored.skipped]
    return VariantScores(
        [record.chrom for record in records],
        np.array([record.position + 1 for record in records], np.int64),
        [record.ref for record in records],
        [alt for scored in found for alt in scored.record.alts],
        by_strand.mean(1),
        mean.mean(1),
        by_strand,
        [why for scored in found for why in scored.skipped],
    )


def _check_options(window: int | None, position: float, strands: str, ref_mismatch: str) -> None:
    if window is not None and window < 2:
        raise UserError(f"a window of {window} bases has nothing to score; choose 2 or more")
    if not 0 <= position <= 1:
        raise UserError(f"position {position} is no share of a window; choose from 0 (all behind the variant) to 1")
    for option, value, known in (("strands", strands, STRANDS), ("ref_mismatch", ref_mismatch, REF_MISMATCH)):
        if value not in known:
            raise UserError(f"{option} {value!r} is not built; choose of {', '.join(known)}")


def _window(window: int | None, l_max: int) -> int:
    if window is not None and window > l_max:
        raise UserError(
            f"a window of {window:,} bases is longer than the {l_max:,} (l_max) that the model reads; shorten it"
        )
    return window or min(WINDOW, l_max)


def _are_made_already(outs: Sequence[Path]) -> bool:
    """Return whether other processes have ended the job since this one started.

    Raises:
        UserError: an output was there before; but for one that a killed job has left before its first.
    """
    going_on = outs[0].with_name(f"{outs[0].name}.partial").is_dir()
    return all([is_made_already(path) for path in (outs[:1] if going_on else outs)])
