"""Held-out perplexity over A, C, G, T, with its confidence interval, and what Markov chains make of the same windows.

Shapes: W windows, B batch, L length, R parts of a window (see positions.py).
"""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from hyena_dist.data.batches import inputs_and_targets, is_base
from hyena_dist.data.sampling.eval_windows import tile
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.manifest import Interval
from hyena_dist.errors import UserError
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.transfer import to_device
from hyena_dist.train.evaluation.markov import MarkovChains
from hyena_dist.train.evaluation.positions import WHOLE, Positions
from hyena_dist.train.evaluation.scores import NOTHING_SCORED, Perplexity, summarize

MARKOV_FIT_TOKENS = 64_000_000
"""Training bases that the Markov chains are fitted on at most."""


def perplexity(
    model: HyenaDNA,
    store: GenomeStore,
    windows: Sequence[Interval],
    mesh: Mesh,
    *,
    micro_batch_tokens: int,
    report: Callable[[int, int], None] | None = None,
) -> Perplexity:
    """Score windows of one length as `window_sums` does; every rank gets the result.

    Raises:
        UserError: no window holds a base that counts, or the model's loss is not finite.
    """
    sums = window_sums(model, store, windows, mesh, micro_batch_tokens=micro_batch_tokens, report=report)
    return summarize(model, windows, sums[:, 0])


@torch.no_grad()
def window_sums(
    model: HyenaDNA,
    store: GenomeStore,
    windows: Sequence[Interval],
    mesh: Mesh,
    positions: Positions = WHOLE,
    *,
    micro_batch_tokens: int,
    report: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Sum the losses of windows of one length, spread over the data- and context-parallel ranks.

    The softmax runs over the whole vocabulary and only targets that are A, C, G or T count.

    Args:
        model: left in the mode (train or eval) it came in.
        store: what the windows are read from.
        windows: windows of one size.
        mesh: the ranks that share the work.
        positions: the parts of the windows that are summed beside the whole.
        micro_batch_tokens: bound for B * L.
        report: called with (windows done, windows in all) on this rank.

    Returns:
        The summed loss in nats and the number of targets that count, of each part of each window; float64 [W, R, 2] on
        the CPU, the same on every rank.
    """
    length = windows[0].end - windows[0].start - 1
    size = max(1, micro_batch_tokens // length)
    rank = mesh.data.rank()
    ranks = mesh.data.size()
    part = length // mesh.context.size()
    # Every rank runs the same number of batches, as ZeRO-3 demands: short ranks repeat window 0 and do not count it.
    per_rank = -(-len(windows) // ranks)
    mine = [i for i in range(rank, per_rank * ranks, ranks)]
    sums = torch.zeros(len(windows), positions.parts, 2, dtype=torch.float64)
    was_training = model.training
    model.eval()
    for first in range(0, per_rank, size):
        chosen = mine[first : first + size]
        read = [windows[i if i < len(windows) else 0] for i in chosen]
        starts = [w.start + mesh.context.rank() * part for w in read]
        tokens = torch.from_numpy(store.read_many([w.contig for w in read], starts, part + 1))
        inputs, targets = inputs_and_targets(to_device(tokens, mesh.device))
        nll = model(inputs, targets, skip_logits=True).nll
        found = positions.sums(nll, targets, torch.full((len(chosen),), length), mesh.context.rank() * part)
        for row, i in enumerate(chosen):
            if i < len(windows):
                sums[i] = found[row]
        if report is not None:
            report(min(first + size, per_rank), per_rank)
    model.train(was_training)
    if mesh.data_context.size() > 1:
        dist.all_reduce(sums, group=mesh.data_context)
    return sums


def evaluation_windows(store: GenomeStore, split: str, length: int, max_tokens: int) -> list[Interval]:
    """Return held-out windows of one length, each target once, at most `max_tokens` targets.

    Raises:
        UserError: the store has no such split, or no region of it is long enough.
    """
    regions = store.splits.get(split)
    if not regions:
        raise UserError(f"{store.path} has no '{split}' split; build it with held-out sequence or name another split")
    if length < 1:
        raise UserError(f"length {length} is not a context length; choose 1 or more")
    windows = tile(regions, length, max(1, max_tokens // length))
    if not windows:
        longest = int(regions.ranges.size.max())
        raise UserError(f"length {length} does not fit: the longest '{split}' region has {longest} bases; choose less")
    return windows


def check_targets(store: GenomeStore, windows: Sequence[Interval]) -> None:
    """Refuse windows without a target that counts, which a run would learn of at its first evaluation.

    Raises:
        UserError: no target is A, C, G or T.
    """
    if not any(is_base(store.read(w.contig, w.start + 1, w.end)).any() for w in windows):
        raise UserError(NOTHING_SCORED)


def markov_perplexity(store: GenomeStore, windows: Sequence[Interval], max_order: int = 8) -> dict[int, float]:
    """Return the perplexity by order of Markov chains, fitted on the training split, on the windows' targets."""
    return MarkovChains(max_order).fit(store, store.splits["train"], MARKOV_FIT_TOKENS).perplexity(store, windows)
