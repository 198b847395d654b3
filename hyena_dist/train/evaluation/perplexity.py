"""Held-out perplexity over A, C, G, T by context length, with confidence intervals and the Markov baselines.

Shapes: W windows, B batch, L length.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from tqdm import tqdm

from hyena_dist.data.batches import inputs_and_targets, is_base
from hyena_dist.data.sampling.coverage import Coverage, target_coverage
from hyena_dist.data.sampling.eval_windows import tile
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.manifest import Interval
from hyena_dist.errors import UserError
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.published import load_published
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.transfer import to_device
from hyena_dist.train.checkpoint.format import model_folder
from hyena_dist.train.evaluation.markov import MarkovChains
from hyena_dist.train.evaluation.same_bases import perplexity_at, target_blocks
from hyena_dist.train.evaluation.scores import NOTHING_SCORED, Perplexity, summarize

MARKOV_FIT_TOKENS = 64_000_000
"""Training bases that the Markov chains are fitted on at most."""


@torch.no_grad()
def perplexity(
    model: HyenaDNA,
    store: GenomeStore,
    windows: Sequence[Interval],
    mesh: Mesh,
    *,
    micro_batch_tokens: int,
    report: Callable[[int, int], None] | None = None,
) -> Perplexity:
    """Score windows of one length, spread over the data- and context-parallel ranks; every rank gets the result.

    The softmax runs over the whole vocabulary and only targets that are A, C, G or T count.

    Args:
        model: left in the mode (train or eval) it came in.
        store: what the windows are read from.
        windows: windows of one size.
        mesh: the ranks that share the work.
        micro_batch_tokens: bound for B * L.
        report: called with (windows done, windows in all) on this rank.

    Raises:
        UserError: no window holds a base that counts, or the model's loss is not finite.
    """
    length = windows[0].end - windows[0].start - 1
    size = max(1, micro_batch_tokens // length)
    rank = mesh.data.rank()
    ranks = mesh.data.size()
    part = length // mesh.context.size()
    # Every rank runs the same number of batches, as ZeRO-3 demands: short ranks repeat window 0 and do not count it.
    per_rank = -(-len(windows) // ranks)
    mine = [i for i in range(rank, per_rank * ranks, ranks)]
    sums = torch.zeros(len(windows), 2, dtype=torch.float64)
    was_training = model.training
    model.eval()
    for first in range(0, per_rank, size):
        chosen = mine[first : first + size]
        read = [windows[i if i < len(windows) else 0] for i in chosen]
        starts = [w.start + mesh.context.rank() * part for w in read]
        tokens = torch.from_numpy(store.read_many([w.contig for w in read], starts, part + 1))
        inputs, targets = inputs_and_targets(to_device(tokens, mesh.device))
        nll = model(inputs, targets, skip_logits=True).nll.double().sum(1).cpu()
        counts = (targets >= 0).sum(1).cpu()
        for row, i in enumerate(chosen):
            if i < len(windows):
                sums[i] = torch.stack((nll[row], counts[row].double()))
        if report is not None:
            report(min(first + size, per_rank), per_rank)
    model.train(was_training)
    if mesh.data_context.size() > 1:
        dist.all_reduce(sums, group=mesh.data_context)
    return summarize(model, windows, sums)


class HeldOut(NamedTuple):
    """The perplexities of a model by context length, and those of Markov chains by order.

    Attributes:
        coverage: what the windows of each length reach of the held-out bases.
    """

    by_length: dict[int, Perplexity]
    markov: dict[int, float]
    coverage: dict[int, Coverage]


def evaluation_windows(store: GenomeStore, split: str, length: int, max_tokens: int) -> list[Interval]:
    """Return held-out windows of one length, each target once, at most `max_tokens` targets.

    Raises:
        UserError: the store has no such split, or no region of it is long enough.
    """
    regions = store.splits.get(split, [])
    if not regions:
        raise UserError(f"{store.path} has no '{split}' split; build it with held-out sequence or name another split")
    if length < 1:
        raise UserError(f"length {length} is not a context length; choose 1 or more")
    windows = tile(regions, length, max(1, max_tokens // length))
    if not windows:
        longest = max(r.end - r.start for r in regions)
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
    train: list[Interval] = store.splits["train"]
    return MarkovChains(max_order).fit(store, train, MARKOV_FIT_TOKENS).perplexity(store, windows)


def evaluate(
    model: HyenaDNA,
    store: GenomeStore,
    mesh: Mesh,
    *,
    split: str,
    lengths: Sequence[int],
    max_tokens: int,
    micro_batch_tokens: int,
    note: Callable[[str], None],
    same_bases: bool = False,
) -> HeldOut:
    """Return the perplexity at every length, and the Markov baselines on the windows of the longest.

    With `same_bases`, every length scores the same targets; otherwise, windows of a length lie side by side.
    """
    windows = {n: evaluation_windows(store, split, n, max_tokens) for n in sorted(lengths)}
    blocks = target_blocks(store.splits[split], min(lengths), max_tokens) if same_bases else []
    by_length = {}
    reached = {}
    for length in windows:
        if same_bases:
            windows[length] = [block for block, _ in blocks]
        chosen = windows[length]
        with tqdm(
            total=len(chosen),
            desc=f"context {length:,}",
            unit=" windows",
            leave=False,
            disable=None if mesh.world.is_main else True,
        ) as bar:

            def report(done: int, _: int, bar: Any = bar) -> None:
                bar.update(done - bar.n)

            bound = micro_batch_tokens
            if same_bases:
                found = perplexity_at(model, store, blocks, length, mesh, micro_batch_tokens=bound, report=report)
            else:
                found = perplexity(model, store, chosen, mesh, micro_batch_tokens=bound, report=report)
        by_length[length] = found
        reached[length] = target_coverage(store, chosen, split)
        note(f"context {length:>9,}: perplexity {found}, scored on {reached[length]}")
    markov = markov_perplexity(store, windows[max(windows)]) if mesh.world.is_main else {}
    return HeldOut(by_length, markov, reached)


def load_for_evaluation(
    path: Path, lengths: Sequence[int], modulation_shift: float | None, device: torch.device
) -> HyenaDNA:
    """Load the model of a checkpoint, a run's newest checkpoint or a published folder onto a device.

    Raises:
        UserError: nothing to load there, damaged files, or a length beyond the model's l_max.
    """
    model = load_published(model_folder(path), modulation_shift)
    if max(lengths) > model.config.l_max:
        raise UserError(f"length {max(lengths)} is longer than the model's l_max {model.config.l_max}; choose less")
    return model.to(device)
