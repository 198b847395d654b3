"""The model's answers: probabilities of the classes' letters at the position after a query."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from hyena_dist.parallel.linear import vocab_parallel_nll
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.transfer import to_device
from hyena_dist.tasks.in_context.contexts import LETTERS, Context


def letter_log_likelihoods(
    model: Callable[..., Any], inputs: Tensor, answers: Tensor, classes: int, vocab_size: int, mesh: Mesh
) -> Tensor:
    """Return the log-likelihood in nats of each class's letter after the answer positions.

    Args:
        model: calls the language model, perhaps behind a soft prompt.
        inputs: this context rank's chunk of contexts, [B, S].
        answers: the position in the whole context after which the letter comes, int64 [B].
        classes: C.
        vocab_size: the number of tokens.
        mesh: this rank's groups.

    Returns:
        fp32 [B, C]; zeros where another context rank has the position.
    """
    logits = model(inputs).logits
    place = answers - mesh.context.rank() * inputs.shape[1]
    here = (place >= 0) & (place < inputs.shape[1])
    rows = torch.arange(len(place), device=place.device)
    last = logits[rows, place.clamp(0, inputs.shape[1] - 1)].float()
    found = [
        -vocab_parallel_nll(last, torch.full_like(answers, letter), vocab_size, mesh) for letter in LETTERS[:classes]
    ]
    return torch.stack(found, dim=1) * here[:, None]


@torch.no_grad()
def answer(
    model: nn.Module,
    context: Callable[[int], Context],
    queries: Sequence[int],
    *,
    classes: int,
    vocab_size: int,
    mesh: Mesh,
    micro_batch_tokens: int,
    alive: Callable[[], None] = lambda: None,
) -> NDArray[np.float32]:
    """Return the probabilities of classes, those of their letters among each other; every rank gets all.

    Args:
        model: a HyenaDNA or SoftPrompt, left in the mode (train or eval) it came in.
        context: returns the context of a query; all have one length.
        queries: N numbers of queries.
        classes: C.
        vocab_size: the number of tokens.
        mesh: the ranks that share the work.
        micro_batch_tokens: bound for the tokens of a forward pass.
        alive: called after each forward pass.

    Returns:
        [N, C].
    """
    length = len(context(queries[0]).inputs)
    size = max(1, micro_batch_tokens // length)
    rank, ranks = mesh.data.rank(), mesh.data.size()
    # Every rank runs the same number of batches, as ZeRO-3 demands: short ranks repeat query 0 and do not count it.
    per_rank = -(-len(queries) // ranks)
    mine = range(rank, per_rank * ranks, ranks)
    part = length // mesh.context.size()
    chunk = slice(mesh.context.rank() * part, (mesh.context.rank() + 1) * part)
    scores = torch.zeros(len(queries), classes, dtype=torch.float64)
    was_training = model.training
    model.eval()
    for first in range(0, per_rank, size):
        rows = mine[first : first + size]
        contexts = [context(queries[row if row < len(queries) else 0]) for row in rows]
        inputs = to_device(torch.from_numpy(np.stack([c.inputs[chunk] for c in contexts])), mesh.device)
        answers = to_device(torch.tensor([c.answer for c in contexts]), mesh.device)
        found = letter_log_likelihoods(model, inputs, answers, classes, vocab_size, mesh).double().cpu()
        kept = [i for i, row in enumerate(rows) if row < len(queries)]
        scores[[rows[i] for i in kept]] = found[kept]
        alive()
    model.train(was_training)
    if mesh.data_context.size() > 1:
        dist.all_reduce(scores, group=mesh.data_context)
    return scores.softmax(1).float().numpy()
