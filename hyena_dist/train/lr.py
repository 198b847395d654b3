"""The learning rate: a linear warm-up, then a cosine, over tokens."""

import math

from hyena_dist.config.optimizer import OptimizerConfig


def learning_rate(config: OptimizerConfig, tokens: int, total_tokens: int) -> float:
    """Return the learning rate: a linear warm-up, then a cosine to min_lr.

    Both are over tokens, so that length and batch may change on the way.

    Args:
        config: lr, min_lr and lr_warmup_tokens.
        tokens: tokens seen after the step that uses this rate.
        total_tokens: tokens of the whole run.
    """
    if tokens < config.lr_warmup_tokens:
        return config.lr * tokens / config.lr_warmup_tokens
    progress = (tokens - config.lr_warmup_tokens) / max(1, total_tokens - config.lr_warmup_tokens)
    return config.min_lr + 0.5 * (config.lr - config.min_lr) * (1 + math.cos(math.pi * min(1.0, progress)))
