"""Scores of variants: how much more or less likely the model finds the alternative in its surroundings."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from hyena_dist.data.text.contigs import read_contigs
from hyena_dist.errors import UserError
from hyena_dist.inference.load import Model, load_here, model_hash
from hyena_dist.inference.parts import PartFolder, check_output, describe_job, is_made_already
from hyena_dist.inference.sequences import encoded
from hyena_dist.inference.variant_check import REF_MISMATCH, survey
from hyena_dist.inference.variant_files import SUFFIXES
from hyena_dist.inference.variant_scores import VariantScores, gather
from hyena_dist.inference.variant_windows import WindowShape
from hyena_dist.inference.variant_work import BLOCK, VariantWork
from hyena_dist.inference.vcf import VariantSource, as_variants
from hyena_dist.inference.window_likelihoods import WindowLikelihoods
from hyena_dist.system.launch import launch_environment

STRANDS = {"one": 1, "both": 2}
WINDOW = 1024
"""Bases of a window if nothing else is asked for and the model reads as many."""


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
        modulation_shift: the shift of published models' filters; see `load_published`.
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
    likelihoods = WindowLikelihoods(loaded, shape, max_tokens_per_batch)
    work = VariantWork(given, contigs, likelihoods, STRANDS[strands])
    options = {
        "genome": contigs.fingerprint,
        "window": shape.length,
        "position": position,
        "strands": strands,
        "shared_prefix": likelihoods.shared is not None,
        "max_tokens_per_batch": max_tokens_per_batch,
    }
    job = describe_job("variants", found.fingerprint, model_hash(loaded), options)
    if not outs:
        with tempfile.TemporaryDirectory() as scratch:
            folder = PartFolder(Path(scratch, "scores"), job)
            work.compute(folder, found, 0, 1)
            return gather(list(work.read(folder)))
    if not PartFolder.is_open(outs[0]):  # else others may be left of a job that was killed before its first
        for path in outs[1:]:
            is_made_already(path)
    unfinished = PartFolder.of_unfinished(outs[0], job)
    if unfinished is not None:
        launch = launch_environment()
        work.compute(unfinished, found, launch.rank, launch.world_size)
        unfinished.merge(len(found.sizes), lambda merged: work.write(unfinished, merged, outs, job, say))
    return None


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
