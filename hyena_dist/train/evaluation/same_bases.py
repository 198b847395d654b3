"""Perplexity by context length on the same bases: each length scores the same targets, with more bases before them.

Windows of a length end where those of the shortest end. Where a contig or region begins within a window, its context is
what there is, so that short contigs count at every length too. Shapes: W blocks, B batch, L length, R parts of a window
(see positions.py).
"""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from hyena_dist.data.batches import IGNORE_INDEX, inputs_and_targets
from hyena_dist.data.sampling.eval_windows import pieces
from hyena_dist.data.store import GenomeStore
from hyena_dist.data.store.manifest import Interval
from hyena_dist.data.tokenizer import N
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.transfer import to_device
from hyena_dist.train.evaluation.positions import WHOLE, Positions


def target_blocks(regions: Sequence[Interval], shortest: int, max_tokens: int) -> list[tuple[Interval, int]]:
    """Cut regions into blocks of at most `shortest` targets, side by side; every base but a region's first is in one.

    Args:
        regions: half-open ranges, such as those of the validation split.
        shortest: the shortest context length that is compared.
        max_tokens: how many targets to return at the most; of more blocks, evenly spaced ones are chosen.

    Returns:
        Blocks, each with one base before its targets as windows have, and the start of its region.
    """
    return pieces(regions, shortest, max(1, max_tokens // shortest), whole=False)


@torch.no_grad()
def block_sums(
    model: HyenaDNA,
    store: GenomeStore,
    blocks: Sequence[tuple[Interval, int]],
    length: int,
    mesh: Mesh,
    positions: Positions = WHOLE,
    *,
    micro_batch_tokens: int,
    report: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Sum the losses of blocks of targets, each by a window of at most `length` inputs that ends where the block ends.

    Windows in a batch are filled up behind their ends, where a causal model does not look.

    Args:
        model: left in the mode (train or eval) it came in.
        store: what the windows are read from.
        blocks: what `target_blocks` returned.
        length: the context length.
        mesh: the ranks that share the work, by data parallelism.
        positions: the parts of the windows that are summed beside the whole.
        micro_batch_tokens: bound for B * L.
        report: called with (blocks done, blocks in all) on this rank.

    Returns:
        The summed loss in nats and the number of targets that count, of each part of each block's window; float64
        [W, R, 2] on the CPU, the same on every rank.
    """
    size = max(1, micro_batch_tokens // length)
    sums = torch.zeros(len(blocks), positions.parts, 2, dtype=torch.float64)
    was_training = model.training
    model.eval()
    mine = range(mesh.data.rank(), len(blocks), mesh.data.size())
    for first in range(0, len(mine), size):
        batch = mine[first : first + size]
        chosen = [blocks[i] for i in batch]
        starts = [max(limit, block.end - 1 - length) for block, limit in chosen]
        sizes = torch.tensor([block.end - 1 - start for (block, _), start in zip(chosen, starts, strict=True)])
        tokens = torch.full((len(chosen), int(sizes.max()) + 1), N, dtype=torch.uint8)
        for row, ((block, _), start) in enumerate(zip(chosen, starts, strict=True)):
            # What lies before the block's targets is context, and N is no target.
            tokens[row, : block.end - start] = torch.from_numpy(store.read(block.contig, start, block.end))
        inputs, targets = inputs_and_targets(to_device(tokens, mesh.device))
        for row, ((block, _), start) in enumerate(zip(chosen, starts, strict=True)):
            targets[row, : block.start - start] = IGNORE_INDEX
        nll = model(inputs, targets, skip_logits=True).nll
        sums[list(batch)] = positions.sums(nll, targets, sizes)
        if report is not None:
            report(first + len(chosen), len(mine))
    model.train(was_training)
    if mesh.data.size() > 1:
        dist.all_reduce(sums, group=mesh.data)
    return sums
