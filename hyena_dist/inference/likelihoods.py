"""Log-likelihoods of windows of one length, each by a forward pass over all of it.

Shapes: R windows, W bases of a window.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyena_dist.data.batches import IGNORE_INDEX, is_base
from hyena_dist.data.tokenizer import Tokens
from hyena_dist.models.lm import HyenaDNA


def next_bases(tokens: Tensor) -> Tensor:
    """Return the base to be predicted at each position, int64 [R, W] of uint8 [R, W]: -100 for what is not scored.

    That is the last position, which has none behind it, and what is no A, C, G or T.
    """
    following = tokens[:, 1:].long().masked_fill(~is_base(tokens[:, 1:]), IGNORE_INDEX)
    return torch.nn.functional.pad(following, (0, 1), value=IGNORE_INDEX)


@torch.no_grad()
def log_likelihoods(model: HyenaDNA, windows: Tokens, max_tokens: int) -> NDArray[np.float64]:
    """Return the sum of the log-likelihoods of each window's scored bases, in nats, float64 [R].

    The first base has no prediction, and what is no A, C, G or T is not scored.

    Args:
        model: in evaluation mode and in one process.
        windows: uint8 [R, W].
        max_tokens: bound for windows times bases of a batch of several.
    """
    device = model.backbone.ln_f.weight.device
    rows = max(1, max_tokens // windows.shape[1])
    sums = []
    for first in range(0, len(windows), rows):
        tokens = torch.from_numpy(windows[first : first + rows]).to(device)
        nll = model(tokens, next_bases(tokens), skip_logits=True).nll
        sums.append(-nll.double().sum(1).cpu())
    found: NDArray[np.float64] = torch.cat(sums).numpy()
    return found


def scored_bases(windows: Tokens) -> NDArray[np.int64]:
    """Return how many bases of each window are scored, int64 [R] of uint8 [R, W]."""
    counts: NDArray[np.int64] = is_base(windows[:, 1:]).sum(1)
    return counts
