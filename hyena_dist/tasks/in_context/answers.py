"""The model's answers: probabilities of the classes' letters at the position after a query."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hyena_dist.parallel.linear import vocab_parallel_nll
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.transfer import to_device
from hyena_dist.tasks.in_context.context_batches import chunks
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
    queries: int,
    *,
    classes: int,
    vocab_size: int,
    mesh: Mesh,
    batch_tokens: int,
    alive: Callable[[], object] = lambda: None,
) -> Tensor:
    """Return the log-likelihood in nats of each class's letter, for each query; every rank gets all.

    Args:
        model: a HyenaDNA or SoftPrompt, left in the mode (train or eval) it came in.
        context: returns the context of a query by its number; all have one length.
        queries: how many there are, N.
        classes: C.
        vocab_size: the number of tokens.
        mesh: the ranks that share the work.
        batch_tokens: bound for the positions of a batch.
        alive: called after each batch.

    Returns:
        fp32 on the CPU, [N, C].
    """
    size = max(1, batch_tokens // len(context(0).inputs))
    rank, ranks = mesh.data.rank(), mesh.data.size()
    # Every rank runs the same number of batches, as ZeRO-3 demands: short ranks repeat query 0 and do not count it.
    per_rank = -(-queries // ranks)
    mine = range(rank, per_rank * ranks, ranks)
    found = torch.zeros(queries, classes)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    for first in range(0, per_rank, size):
        rows = mine[first : first + size]
        contexts = [context(row if row < queries else 0) for row in rows]
        inputs = to_device(chunks(contexts, mesh)[0], mesh.device)
        answers = to_device(torch.tensor([each.answer for each in contexts]), mesh.device)
        values = letter_log_likelihoods(model, inputs, answers, classes, vocab_size, mesh).cpu()
        for row, value in zip(rows, values, strict=True):
            if row < queries:
                found[row] = value
        alive()
    for module, training in modes:
        module.training = training
    if mesh.data_context.size() > 1:
        dist.all_reduce(found, group=mesh.data_context)
    return found
