"""Evaluation of a trained model on held-out sequence: at every context length, in every breakdown."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from hyena_dist.data.sampling.coverage import target_coverage
from hyena_dist.data.store import GenomeStore
from hyena_dist.errors import UserError
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.published import load_published
from hyena_dist.ops.precision import DTYPES
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.world import World
from hyena_dist.tracking.work_progress import WorkProgress
from hyena_dist.train.checkpoint.format import model_folder
from hyena_dist.train.evaluation.perplexity import check_targets, evaluation_windows, markov_perplexity, window_sums
from hyena_dist.train.evaluation.positions import Positions
from hyena_dist.train.evaluation.results import AtLength, Unscored, break_down, gains
from hyena_dist.train.evaluation.same_bases import block_sums, target_blocks
from hyena_dist.train.evaluation.scores import summarize

MICRO_BATCH_TOKENS = 65_536
"""The most tokens in a forward pass where nothing else is asked for; a longer window is one of its own."""


class HeldOut(NamedTuple):
    """The findings of an evaluation: the model by context length; Markov chains by order, on the main process alone."""

    by_length: dict[int, AtLength]
    markov: dict[int, float]


def evaluate(
    model: HyenaDNA,
    data: str | Path | GenomeStore,
    *,
    split: str = "valid",
    lengths: Sequence[int] = (1024,),
    last: Sequence[int] = (),
    max_tokens: int = 1_000_000,
    same_bases: bool = False,
    mesh: Mesh | None = None,
    micro_batch_tokens: int = MICRO_BATCH_TOKENS,
    note: Callable[[str], object] = lambda _: None,
) -> HeldOut:
    """Measure the perplexity over A, C, G, T on held-out sequence, at every context length, beside Markov chains.

    >>> import hyena_dist
    >>> model = hyena_dist.load("tests/golden/tiny")
    >>> found = hyena_dist.evaluate(model, "data/genome", lengths=[32, 128], last=[16])
    >>> found.by_length[32].whole.tokens, found.by_length[128].last[16].tokens
    (7968, 992)

    Args:
        model: left in the mode (train or eval) it came in.
        data: a store or shards, or where they are.
        split: "valid" or "test".
        lengths: context lengths.
        last: numbers of bases; the perplexity of so many at the end of every window is measured too.
        max_tokens: the most targets at each length.
        same_bases: whether every length scores the same targets, with more bases before them, so that lengths can be
            compared; otherwise windows of a length lie side by side.
        mesh: the ranks that share the work; this process alone if not given.
        micro_batch_tokens: bound for the tokens in a forward pass.
        note: called with a line of text as soon as a length is done.

    Raises:
        UserError: no such split, a length that neither model nor data has, no base that counts, or a loss that is NaN.
    """
    store = data if isinstance(data, GenomeStore) else GenomeStore.open(data)
    mesh = mesh or Mesh(World(device=next(model.parameters()).device))
    lengths = sorted(set(lengths))
    check_lengths(model, lengths, last)
    windows = {n: evaluation_windows(store, split, n, max_tokens) for n in lengths}
    blocks = target_blocks(store.splits[split], lengths[0], max_tokens)
    if same_bases:
        windows = {n: [block for block, _ in blocks] for n in lengths}
    for chosen in windows.values():
        check_targets(store, chosen)
    by_length: dict[int, AtLength] = {}
    shortest: Tensor | None = None
    for length, chosen in windows.items():
        positions = Positions.of(length, tuple(last))
        with WorkProgress(f"context {length:,}", len(chosen) * length, enabled=mesh.world.is_main) as progress:
            report = _reporter(progress, length, len(chosen), mesh)
            bound = micro_batch_tokens
            if same_bases:
                sums = block_sums(
                    model, store, blocks, length, mesh, positions, micro_batch_tokens=bound, report=report
                )
            else:
                sums = window_sums(model, store, chosen, mesh, positions, micro_batch_tokens=bound, report=report)
        whole = summarize(model, chosen, sums[:, 0])
        coverage = target_coverage(store, chosen, split)
        targets = store.splits[split].ranges.size - 1
        fit = int((targets if same_bases else targets // length * length).sum())
        by_length[length] = AtLength(
            whole,
            **break_down(sums, chosen, positions, store),
            coverage=coverage,
            unscored=Unscored(coverage.bases - whole.tokens, fit - coverage.bases, coverage.all_bases - fit),
            gain=None if shortest is None else gains(sums, shortest, last),
        )
        if same_bases and shortest is None:
            shortest = sums
        note(f"context {length:>9,}: perplexity {whole}, scored on {coverage}; {by_length[length].unscored}")
    markov = markov_perplexity(store, windows[lengths[-1]]) if mesh.world.is_main else {}
    return HeldOut(by_length, markov)


def check_lengths(model: HyenaDNA, lengths: Sequence[int], last: Sequence[int] = ()) -> None:
    """Refuse context lengths that a model does not have, and more last bases than the shortest window has.

    Raises:
        UserError: which of them, and what to choose.
    """
    if max(lengths) > model.config.l_max:
        raise UserError(f"length {max(lengths)} is longer than the model's l_max {model.config.l_max}; choose less")
    if last and not 1 <= min(last) <= max(last) <= min(lengths):
        wrong = max(last) if min(last) >= 1 else min(last)
        raise UserError(f"windows of context {min(lengths)} have no last {wrong} bases; choose 1 to {min(lengths)}")


def load_for_evaluation(
    path: Path,
    lengths: Sequence[int],
    modulation_shift: float | None,
    device: torch.device,
    precision: str = "fp32",
    last: Sequence[int] = (),
) -> HyenaDNA:
    """Load the model of a checkpoint, a run's newest checkpoint or a published folder onto a device.

    Args:
        path: where it is.
        lengths: the context lengths that are going to be evaluated.
        modulation_shift: the shift of the filters' decay of a published model.
        device: where it goes.
        precision: "fp32" or "bf16": of activations and products, as in training.
        last: numbers of bases at the end of a window that are going to be evaluated.

    Raises:
        UserError: nothing to load there, damaged files, or a length beyond the model's l_max.
    """
    model = load_published(model_folder(path), modulation_shift, compute_dtype=DTYPES[precision])
    check_lengths(model, lengths, last)
    return model.to(device)


def _reporter(progress: WorkProgress, length: int, windows: int, mesh: Mesh) -> Callable[[int, int], None]:
    """Return a function that turns windows done on this rank into bases done on all."""
    shown = 0

    def report(done: int, _: int) -> None:
        nonlocal shown
        now = min(done * mesh.data.size(), windows) * length
        progress.advance(now - shown)
        shown = now

    return report
