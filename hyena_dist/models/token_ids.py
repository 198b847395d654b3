"""Token ids that a model can take, looked up in its embedding."""

from collections.abc import Callable
from typing import Any

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


def look_up(embedding: Callable[[Tensor], Any], input_ids: Tensor) -> Tensor:
    """Return the embeddings of token ids, integers of any type, [B, S].

    Ids that there are not cost nothing to find: the look-up itself fails. On a GPU it does so without these words,
    since nobody waits for it there.

    Raises:
        UserError: an empty batch, empty sequences, or ids that the embedding does not have.
    """
    check_some(input_ids, "token ids")
    try:
        found: Tensor = embedding(input_ids)
    except IndexError:
        size = embedding.num_embeddings  # type: ignore[attr-defined]
        low, high = (int(limit) for limit in torch.aminmax(input_ids))
        raise UserError(
            f"token id {low if low < 0 else high} is not in the model's vocabulary of {size}; was the text encoded by "
            f"another tokenizer?"
        ) from None
    return found
