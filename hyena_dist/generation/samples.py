"""Continuations of a prompt, several at once, as a model and a seed determine them.

Shapes: P bases of the prompt, B continuations at once, L bases of each.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hyena_dist.data.tokenizer import BASES, A, Tokens
from hyena_dist.errors import UserError
from hyena_dist.generation.decoder import Decoder, memory_bytes
from hyena_dist.generation.limits import Limits
from hyena_dist.generation.sampling import Sampling, draw, uniforms
from hyena_dist.models.lm import HyenaDNA

MOST_AT_ONCE = 64
MEMORY = 2**30
"""Bytes that sequences generated at once take if nobody says how many they are to be."""


class Settings(NamedTuple):
    """The way in which sequences are generated."""

    length: int
    """Bases of a continuation, L."""
    sampling: Sampling = Sampling()
    max_run: int | None = None
    """How many times in a row a base may come."""
    no_repeat: int | None = None
    """Length of the n-grams that may not come twice."""
    seed: int = 0


def at_once(model: HyenaDNA, length: int) -> int:
    """Return how many sequences of so many steps fit into `MEMORY`, from 1 to `MOST_AT_ONCE`."""
    fitting = (n for n in range(MOST_AT_ONCE, 1, -1) if memory_bytes(model.config, n, length) <= MEMORY)
    return next(fitting, 1)


def continuations(
    model: HyenaDNA, prompt: Tokens, settings: Settings, numbers: Sequence[int], of: int = 0
) -> Iterator[Tokens]:
    """Yield the next token of each continuation of a prompt, uint8 [B], L times.

    Without a prompt, the first base is drawn evenly: the model says only what follows a base.

    Args:
        model: Hyena layers alone, in one process.
        prompt: its tokens, uint8 [P]; P + L is at most the model's l_max.
        settings: how the bases are drawn.
        numbers: the number of each continuation, which with the seed determines it.
        of: the number of the prompt, likewise.

    Raises:
        UserError: the model gives NaN.
    """
    batch, length = len(numbers), settings.length
    random = np.stack([uniforms(settings.seed, of, number, length) for number in numbers])
    limits = None
    if settings.max_run is not None or settings.no_repeat is not None:
        limits = [Limits(settings.max_run, settings.no_repeat) for _ in numbers]
        for limit in limits:
            limit.take(prompt.astype(np.int64) - A)
    decoder = Decoder(model, batch, max(1, len(prompt) + length - 1))
    device = model.backbone.ln_f.weight.device
    logits = np.zeros((1, len(BASES)))
    if len(prompt):
        logits = _of_bases(decoder.prefill(torch.from_numpy(prompt.copy())[None].to(device)))
    for step in range(length):
        allowed = None if limits is None else np.stack([limit.allowed() for limit in limits])
        p = settings.sampling.probabilities(np.broadcast_to(logits, (batch, len(BASES))), allowed)
        bases = draw(p, random[:, step])
        for limit, base in zip(limits or (), bases, strict=False):
            limit.take(base[None])
        tokens = (bases + A).astype(np.uint8)
        yield tokens
        if step + 1 < length:
            logits = _of_bases(decoder.step(torch.from_numpy(tokens).to(device)))


def _of_bases(logits: torch.Tensor) -> NDArray[np.float64]:
    """Return the logits of A, C, G and T, float64 [B, 4], of all, [B, V].

    Raises:
        UserError: there is one that is NaN or infinite.
    """
    found: NDArray[np.float64] = logits[:, A : A + len(BASES)].double().cpu().numpy()
    if not np.isfinite(found).all():
        raise UserError("the model gives NaN or infinite logits; take another checkpoint, or compute in fp32")
    return found
