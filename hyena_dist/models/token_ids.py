"""Token ids that a model can take."""

import torch
from torch import Tensor

from hyena_dist.errors import UserError


def check_some(inputs: Tensor, what: str) -> None:
    """Refuse an empty batch and empty sequences, [0, ...] and [B, 0, ...], by a name for what they hold.

    Raises:
        UserError: there is no token.
    """
    if inputs.numel() == 0:
        raise UserError(f"{what} of shape {tuple(inputs.shape)} hold no token; give at least one sequence of one token")


def check_ids(input_ids: Tensor, vocab_size: int) -> None:
    """Refuse token ids that a model has no embedding for; on GPUs the device itself stops at them, with no wait here.

    Args:
        input_ids: integers of any type, [B, S].
        vocab_size: V.

    Raises:
        UserError: an empty batch, empty sequences, or ids below 0 or from V on.
    """
    check_some(input_ids, "token ids")
    if input_ids.device.type == "cpu" and not torch.compiler.is_compiling():
        low, high = (int(limit) for limit in torch.aminmax(input_ids))
        if low < 0 or high >= vocab_size:
            raise UserError(
                f"token id {low if low < 0 else high} is not in the model's vocabulary of {vocab_size}; "
                f"was the text encoded by another tokenizer?"
            )
