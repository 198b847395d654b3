"""The choice of the next base among A, C, G and T.

A sequence has a stream of random numbers of its own, which its seed and its number determine, so that it is the same
whatever is generated beside it.

Shapes: B sequences, K steps.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hyena_dist.data.tokenizer import BASES
from hyena_dist.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """The way in which a base is drawn from a model's logits.

    Raises:
        UserError: a number out of its range.
    """

    temperature: float = 1.0
    """What logits are divided by; 0 takes the likeliest base."""
    top_k: int = len(BASES)
    """How many of the likeliest bases are drawn from, 1 to 4."""
    top_p: float = 1.0
    """The least probability that the bases drawn from have together, over 0 and at most 1, at the given temperature."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise UserError(f"temperature {self.temperature} is not a number from 0 on; try 1, or 0 for the likeliest")
        if not 1 <= self.top_k <= len(BASES):
            raise UserError(f"top_k {self.top_k} is not one of 1 to {len(BASES)}, as there are {len(BASES)} bases")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p {self.top_p} is not over 0 and at most 1; 1 draws from all bases")

    def probabilities(
        self, logits: NDArray[np.float64], allowed: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """Return what each base is drawn with, float64 [B, 4].

        Args:
            logits: those of A, C, G and T, [B, 4].
            allowed: which of them may follow, [B, 4], at least one in each row; all if None.
        """
        if allowed is not None:
            logits = np.where(allowed, logits, -np.inf)
        scaled = logits - logits.max(1, keepdims=True)
        if self.temperature == 0:
            scaled = np.where(np.arange(len(BASES)) == scaled.argmax(1)[:, None], 0.0, -np.inf)
        else:
            with np.errstate(over="ignore"):  # a temperature near 0 makes -inf, whose probability is 0
                scaled = scaled / self.temperature
        p = np.exp(scaled)
        p /= p.sum(1, keepdims=True)
        if self.top_k < len(BASES) or self.top_p < 1:
            order = np.argsort(-p, axis=1, kind="stable")
            ranked = np.take_along_axis(p, order, 1)
            kept = (ranked.cumsum(1) - ranked < self.top_p) & (np.arange(len(BASES)) < self.top_k)
            np.put_along_axis(p, order, np.where(kept, ranked, 0.0), 1)
            p /= p.sum(1, keepdims=True)
        return p


def draw(probabilities: NDArray[np.float64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the base that each number from [0, 1) falls on, 0 to 3 for A, C, G, T: [B, 4] and [B] -> [B]."""
    reached = probabilities.cumsum(1)
    # Against the sum, which may be a rounding below 1; a base of probability 0 is never reached.
    chosen: NDArray[np.int64] = (reached <= uniform[:, None] * reached[:, -1:]).sum(1)
    return chosen


def uniforms(seed: int, prompt: int, number: int, steps: int) -> NDArray[np.float64]:
    """Return the random numbers of continuation `number` of a prompt under a seed, float64 [K] from [0, 1)."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, prompt, number)))).random(steps)
