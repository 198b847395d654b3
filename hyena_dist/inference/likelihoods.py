"""Log-likelihoods of windows, each by a forward pass over all of it.

Shapes: A alternatives, R windows of one length, W bases of a window.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyena_dist.data.batches import IGNORE_INDEX, is_base
from hyena_dist.data.tokenizer import Tokens
from hyena_dist.inference.variant_windows import VariantWindow
from hyena_dist.models.lm import HyenaDNA


def log_likelihoods(model: HyenaDNA, windows: Sequence[VariantWindow], max_tokens: int) -> list[NDArray[np.float64]]:
    """Return the sums of the log-likelihoods of each window's scored bases, in nats, float64 [1 + A] each.

    The first base has no prediction, and what is no A, C, G or T is not scored.

    Args:
        model: in evaluation mode and in one process.
        windows: those of variants, of any lengths.
        max_tokens: bound for windows times bases of a batch of several.
    """
    sums: list[NDArray[np.float64]] = [np.empty(0)] * len(windows)
    lengths = np.array([window.tokens.shape[1] for window in windows])
    for length in np.unique(lengths):
        of_length = np.flatnonzero(lengths == length).tolist()
        rows = np.concatenate([windows[i].tokens for i in of_length])
        size = max(1, max_tokens // int(length))
        found = np.concatenate([_of_batch(model, rows[i : i + size]) for i in range(0, len(rows), size)])
        ends = np.cumsum([len(windows[i].tokens) for i in of_length])
        for i, part in zip(of_length, np.split(found, ends[:-1]), strict=True):
            sums[i] = part
    return sums


@torch.no_grad()
def _of_batch(model: HyenaDNA, rows: Tokens) -> NDArray[np.float64]:
    """Return the log-likelihoods of windows uint8 [R, W], float64 [R]."""
    tokens = torch.from_numpy(rows).to(model.backbone.ln_f.weight.device)
    nll = model(tokens, next_bases(tokens), skip_logits=True).nll
    found: NDArray[np.float64] = -nll.double().sum(1).cpu().numpy()
    return found


def next_bases(tokens: Tensor) -> Tensor:
    """Return the base to be predicted at each position, int64 [R, W] of uint8 [R, W]: -100 for what is not scored.

    That is the last position, which has none behind it, and what is no A, C, G or T.
    """
    following = tokens[:, 1:].long().masked_fill(~is_base(tokens[:, 1:]), IGNORE_INDEX)
    return torch.nn.functional.pad(following, (0, 1), value=IGNORE_INDEX)


def scored_bases(tokens: Tokens) -> NDArray[np.int64]:
    """Return how many bases of each window are scored, int64 [R] of uint8 [R, W]."""
    counts: NDArray[np.int64] = is_base(tokens[:, 1:]).sum(1)
    return counts
