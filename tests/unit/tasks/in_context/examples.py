"""Small labelled sets and models for these tests."""

import numpy as np
import torch

from hyena_dist.config.model import ModelConfig
from hyena_dist.data.tokenizer import Tokens
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.tasks.labelled import Examples, LabelledData


def labelled(count: int = 12, classes: int = 2, shortest: int = 3, longest: int = 9, seed: int = 0) -> LabelledData:
    """A set of random sequences in three equal splits, whose classes take turns."""
    random = np.random.default_rng(seed)
    names = tuple(f"class{i}" for i in range(classes))
    splits = {}
    for split in ("train", "valid", "test"):
        lengths = random.integers(shortest, longest + 1, count)
        lengths[0] = longest
        sequences = [random.integers(7, 11, n).astype(np.uint8) for n in lengths]

        def read(index: int, of: list[Tokens] = sequences) -> Tokens:
            return of[index]

        labels = np.arange(count) % classes
        splits[split] = Examples([f"{split}{i}" for i in range(count)], lengths, labels, read)
    return LabelledData("single_label", names, splits, f"random {count} {classes} {seed}")


def tiny_model(l_max: int = 64, seed: int = 0, **fields: object) -> HyenaDNA:
    """A model whose every part matters, with dropout that would show."""
    torch.manual_seed(seed)
    sizes = {"d_model": 8, "n_layer": 2, "l_max": l_max, "filter_order": 8, "emb_dim": 5, "embed_dropout": 0.2}
    model = HyenaDNA(ModelConfig(**{**sizes, **fields}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.7)
    return model
