"""The outputs of a SequenceModel for all examples of a split, spread over the ranks.

Shapes: N examples, C classes or targets, W positions of padded sequences.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.transfer import to_device
from hyena_dist.tasks.labelled import Examples, Kind
from hyena_dist.tasks.labelled_batches import pack, width_for
from hyena_dist.tasks.model import SequenceModel


@torch.no_grad()
def outputs_of(
    model: SequenceModel,
    examples: Examples,
    kind: Kind,
    *,
    most: int,
    batch_tokens: int,
    both_strands: bool,
    report: Callable[[int], object] = lambda _: None,
) -> Tensor:
    """Return what the head gives for each example, fp32 on the CPU and the same on every rank: [N, C].

    Of per_base they are those of all bases behind each other, [bases, C].

    Args:
        model: left in the mode that it came in; every rank of its mesh calls this.
        examples: a split, of which every rank has all.
        kind: what the labels say.
        most: W of the widest batch, which no sequence exceeds.
        batch_tokens: bound for positions of a batch.
        both_strands: whether to return the mean of what the head gives for both strands.
        report: called after each of this rank's batches with its number of positions.
    """
    mesh = model.mesh
    batches = list(_batches(examples.lengths, most, mesh.residual_shard[1], batch_tokens))
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    found: dict[int, NDArray[np.float32]] = {}
    ranks = mesh.data.size()
    for first in range(0, len(batches), ranks):
        # Every rank runs the same number of batches, as ZeRO-3 demands: the last may be one that another rank has.
        number = min(first + mesh.data.rank(), len(batches) - 1)
        found[number] = _forward(model, examples, batches[number], most, kind, both_strands)
        report(int(examples.lengths[batches[number]].sum()))
    for module, training in modes:
        module.training = training
    whole = _together(found, mesh)
    rows: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(examples)
    for number, batch in enumerate(batches):
        for place, index in enumerate(batch.tolist()):
            forward, *turned = whole[number][:, place]
            if kind == "per_base":
                length = examples.lengths[index]
                forward, turned = forward[:length], [each[:length][::-1] for each in turned]
            rows[index] = (forward + turned[0]) / 2 if turned else forward
    return torch.from_numpy(np.concatenate(rows) if kind == "per_base" else np.stack(rows))


def _batches(lengths: NDArray[np.int64], most: int, unit: int, batch_tokens: int) -> Iterator[NDArray[np.int64]]:
    """Yield indices of examples, the longest first, so many that a batch has no more than its tokens."""
    order = np.argsort(-lengths, kind="stable")
    first = 0
    while first < len(order):
        size = max(1, batch_tokens // width_for(lengths[order[first : first + 1]], most, unit))
        yield order[first : first + size]
        first += size


def _forward(
    model: SequenceModel, examples: Examples, indices: NDArray[np.int64], most: int, kind: Kind, both_strands: bool
) -> NDArray[np.float32]:
    """Return the outputs for a batch by strand, [1 or 2, B, C], or for this context rank's positions of it.

    The latter are [1 or 2, B, S, C].
    """
    mesh, device = model.mesh, model.head.weight.device
    width = width_for(examples.lengths[indices], most, mesh.residual_shard[1])
    strands = []
    for turned in (False, True)[: 1 + both_strands]:
        batch = pack(examples, indices, np.full(len(indices), turned), width, kind, mesh)
        outputs = model(to_device(batch.tokens, device), to_device(batch.lengths, device))
        strands.append(outputs.float().cpu().numpy())
    return np.stack(strands)


def _together(found: dict[int, NDArray[np.float32]], mesh: Mesh) -> dict[int, NDArray[np.float32]]:
    """Return the outputs of all batches, by their numbers, on every rank; chunks of positions are joined."""
    parts = mesh.world.gather_objects((mesh.context.rank(), found if mesh.tensor.rank() == 0 else {}))
    chunks: dict[int, dict[int, NDArray[np.float32]]] = {}
    for context_rank, held in parts:
        for number, values in held.items():
            chunks.setdefault(number, {})[context_rank] = values
    whole = {}
    for number, by_rank in chunks.items():
        in_order = [by_rank[rank] for rank in sorted(by_rank)]
        whole[number] = np.concatenate(in_order, axis=2) if in_order[0].ndim == 4 else in_order[0]
    return whole
