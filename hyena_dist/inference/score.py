"""Log-likelihoods of sequences: of each as a whole or of every base, on one strand or both.

A base is predicted from those before it. The first has none before it and is not scored, nor is what is no A, C, G or
T; both are context for what follows. The softmax runs over the whole vocabulary, as in evaluation.

Shapes: N sequences, W windows of one strand, L length of a sequence.
"""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dist.data.batches import IGNORE_INDEX, inputs_and_targets
from hyena_dist.data.tokenizer import Tokens, reverse_complement
from hyena_dist.errors import UserError
from hyena_dist.inference.batches import batches_by_length, pad_right
from hyena_dist.inference.load import Model, evaluating, load_here, model_hash
from hyena_dist.inference.parts import PartFolder, check_output, describe_job
from hyena_dist.inference.score_files import SUFFIXES, write_scores
from hyena_dist.inference.sequences import Sequences, Source, as_sequences
from hyena_dist.inference.windows import Window, windows_of
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.system.launch import launch_environment

STRANDS = {"one": 1, "both": 2}


class Scores(NamedTuple):
    """The scores of N sequences, in the order of the input. Logarithms are natural."""

    names: list[str]
    lengths: NDArray[np.int64]
    """Bases of each sequence, [N]."""
    scored: NDArray[np.int64]
    """Bases that were scored on each strand, [N, 1 or 2]; the other strand comes second."""
    log_likelihood: NDArray[np.float64]
    """Sum over the scored bases of each strand, [N, 1 or 2]."""
    per_base: list[NDArray[np.float32]] | None
    """Log-likelihood of each base, [1 or 2, L], at its place in the given strand; NaN where it was not scored."""

    @property
    def total(self) -> NDArray[np.float64]:
        """The log-likelihood of each sequence, the mean of its strands', [N]."""
        return self.log_likelihood.mean(1)

    @property
    def mean(self) -> NDArray[np.float64]:
        """The log-likelihood of a scored base, [N]; NaN for a sequence without any, such as one of N alone."""
        scored = self.scored.sum(1)
        return np.divide(self.log_likelihood.sum(1), scored, out=np.full(len(scored), math.nan), where=scored > 0)

    @property
    def perplexity(self) -> NDArray[np.float64]:
        """The exponential of minus the mean, [N]: 4 for a model that knows nothing."""
        return np.exp(-self.mean)

    @property
    def bits_per_base(self) -> NDArray[np.float64]:
        """Minus the mean in bits, [N]: 2 for a model that knows nothing."""
        return -self.mean / math.log(2)


def score(
    model: Model,
    sequences: Source,
    *,
    out: str | Path | None = None,
    genome: str | Path | None = None,
    strands: str = "one",
    per_base: bool = False,
    overlap: int | None = None,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    max_tokens_per_batch: int = 2**16,
    modulation_shift: float | None = None,
) -> Scores | None:
    """Compute the log-likelihood of sequences.

    >>> import hyena_dist
    >>> found = hyena_dist.score("tests/golden/tiny", {"a": "ACGTTGCA", "b": "TTG"}, strands="both")
    >>> found.names, found.log_likelihood.shape
    (['a', 'b'], (2, 2))

    Under torchrun or srun, each process does a share and one of them writes the file. A job that was killed goes on
    where it was when it is started again, on any number of processes.

    Args:
        model: a model, or what `load` takes.
        sequences: a FASTA, BED, CSV or TSV file, a dict from names to text, or texts.
        out: x.csv, x.tsv or x.parquet; if not given, the result is returned.
        genome: FASTA file that the intervals of a BED file are of.
        strands: `one`, the given one, or `both`.
        per_base: score every base as well.
        overlap: bases that the windows of longer sequences share; None refuses sequences longer than the model reads.
        device: where a model is loaded to. A model that is given stays where it is.
        dtype: the type a model is cast to when it is loaded.
        max_tokens_per_batch: bound for sequences times positions of a batch of several.
        modulation_shift: shift of the filters' decay, which published files do not store; see `load_published`.

    Returns:
        The scores, or None with `out`.

    Raises:
        UserError: a mistake in any of these, before the work begins, or a model that gives NaN.
    """
    if strands not in STRANDS:
        raise UserError(f"strands {strands!r} is not built; choose of {', '.join(STRANDS)}")
    path = None if out is None else Path(out)
    if path is not None:
        check_output(path, SUFFIXES)
        if per_base and path.suffix != ".parquet":
            raise UserError(f"{path} cannot have the scores of every base; write them as .parquet")
    given = as_sequences(sequences, genome)
    loaded = load_here(model, device, dtype, modulation_shift)
    work = _Work.of(given, loaded.config.l_max, overlap, STRANDS[strands], per_base, max_tokens_per_batch)
    options = {
        "strands": strands,
        "per_base": per_base,
        "overlap": overlap,
        "max_tokens_per_batch": max_tokens_per_batch,
    }
    job = describe_job("score", given.fingerprint, model_hash(loaded), options)

    def part(number: int, to: Path) -> None:
        with evaluating(loaded):
            work.write(to, loaded, number)

    if path is None:
        with tempfile.TemporaryDirectory() as scratch:
            folder = PartFolder(Path(scratch, "scores"), job)
            folder.compute("scoring", work.sizes, part, rank=0, world_size=1)
            return work.gather(folder)
    unfinished = PartFolder.of_unfinished(path, job)
    if unfinished is not None:
        launch = launch_environment()
        unfinished.compute("scoring", work.sizes, part, launch.rank, launch.world_size)
        unfinished.merge(len(work.batches), lambda merged: write_scores(merged, work.gather(unfinished)))
    return None


class _Work(NamedTuple):
    """The windows of a job, in batches of similar length."""

    given: Sequences
    windows: Sequence[Window]
    """The windows of one strand; the other has the same places of the turned sequence."""
    batches: Sequence[NDArray[np.int64]]
    """Numbers of the windows of each batch."""
    strands: int
    per_base: bool

    @classmethod
    def of(
        cls, given: Sequences, l_max: int, overlap: int | None, strands: int, per_base: bool, max_tokens: int
    ) -> "_Work":
        """Cut sequences into windows and these into batches.

        Raises:
            UserError: an overlap as long as a window, or a sequence that is too long.
        """
        if overlap is not None and not 1 <= overlap < l_max:
            raise UserError(f"overlap {overlap} is not from 1 to {l_max - 1:,}, below what the model reads; change it")
        windows: list[Window] = []
        for number, name in enumerate(given.names):
            windows += windows_of(number, name, int(given.lengths[number]), l_max, overlap)
        lengths = np.array([window.end - window.start - 1 for window in windows], np.int64)
        return cls(given, windows, batches_by_length(lengths, max_tokens), strands, per_base)

    @property
    def sizes(self) -> list[int]:
        """Bases that the model reads for each batch, on all strands."""
        lengths = np.array([window.end - window.start - 1 for window in self.windows])
        return [int(lengths[batch].sum()) * self.strands for batch in self.batches]

    @torch.no_grad()
    def write(self, path: Path, model: HyenaDNA, number: int) -> None:
        """Score a batch and write sums and counts, float64 [strands, windows, 2], then its bases one after the other.

        Raises:
            UserError: the model gives NaN or infinite numbers.
        """
        windows = [self.windows[i] for i in self.batches[number].tolist()]
        device = model.backbone.ln_f.weight.device
        context = torch.tensor([window.first - window.start - 1 for window in windows], device=device)
        sums = np.empty((self.strands, len(windows), 2))
        bases: list[NDArray[np.float32]] = []
        for strand in range(self.strands):
            tokens, lengths = pad_right([self._tokens(window, strand) for window in windows])
            inputs, targets = inputs_and_targets(tokens.to(device))
            targets[torch.arange(targets.shape[1], device=device) < context[:, None]] = IGNORE_INDEX
            nll = model(inputs, targets, skip_logits=True).nll
            scored = targets >= 0
            sums[strand] = torch.stack((-nll.double().sum(1), scored.sum(1).double()), 1).cpu()
            if self.per_base:
                values = (-nll.float()).masked_fill(~scored, math.nan).cpu().numpy()
                ends = (lengths - 1).tolist()
                bases += [row[start:end] for row, start, end in zip(values, context.tolist(), ends, strict=True)]
        wrong = ~np.isfinite(sums).all((0, 2))
        if wrong.any():
            name = self.given.names[windows[int(wrong.argmax())].sequence]
            raise UserError(
                f"the model gives NaN or infinite log-likelihoods for {name!r}; take another checkpoint, or compute in "
                f"fp32"
            )
        with path.open("wb") as file:
            sums.tofile(file)
            for values in bases:
                values.tofile(file)

    def _tokens(self, window: Window, strand: int) -> Tokens:
        whole = self.given.tokens(window.sequence)
        if strand == 0:
            return whole[window.start : window.end]
        return reverse_complement(whole[len(whole) - window.end : len(whole) - window.start])

    def gather(self, folder: PartFolder) -> Scores:
        """Return the scores of all parts, windows added up."""
        count = len(self.given.names)
        sums = np.zeros((count, self.strands, 2))
        per_base = None
        if self.per_base:
            per_base = [np.full((self.strands, n), math.nan, np.float32) for n in self.given.lengths.tolist()]
        for number, batch in enumerate(self.batches):
            windows = [self.windows[i] for i in batch.tolist()]
            with folder.path(number).open("rb") as file:
                found = np.fromfile(file, np.float64, self.strands * len(windows) * 2)
                np.add.at(sums, [w.sequence for w in windows], found.reshape(self.strands, -1, 2).swapaxes(0, 1))
                for strand in range(self.strands) if per_base is not None else ():
                    for window in windows:
                        values = np.fromfile(file, np.float32, window.end - window.first)
                        row = per_base[window.sequence][strand]  # type: ignore[index]
                        where = slice(window.first, window.end)
                        (row if strand == 0 else row[::-1])[where] = values
        lengths = self.given.lengths
        return Scores(self.given.names, lengths, sums[..., 1].astype(np.int64), sums[..., 0], per_base)
