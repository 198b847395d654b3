"""The loss of the tied head.

Shapes: D d_model, V padded vocabulary.
"""

import torch
from torch import Tensor

from hyena_dist.ops.records import NormInput
from hyena_dist.ops.reference.norm import layer_norm


def head_nll(x: Tensor, norm: NormInput, weight: Tensor, targets: Tensor, vocab_size: int) -> Tensor:
    """Return -log softmax(weight @ norm(x))[target] over the first vocab_size columns; 0 where the target is negative.

    x is [..., D], weight [V, D], targets [...]; the result is [...].
    """
    logits = (layer_norm(x, norm) @ weight.t())[..., :vocab_size]
    log_probability = logits - torch.log(torch.exp(logits).sum(-1, keepdim=True))
    of_target = log_probability.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return torch.where(targets < 0, 0.0, -of_target)
