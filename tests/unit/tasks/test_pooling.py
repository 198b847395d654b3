"""Pooling: what the head sees of a sequence."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hyena_dist.data.tokenizer import PAD, N, encode
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.tasks.pooling import pooled


def batch(texts: list[str], width: int) -> tuple[Tensor, Tensor]:
    tokens = np.full((len(texts), width), PAD, dtype=np.uint8)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text)] = encode(text)
    return torch.from_numpy(tokens), torch.tensor([len(text) for text in texts])


sequences = st.lists(st.text("ACGTN", min_size=1, max_size=12), min_size=1, max_size=4)


@given(sequences, st.integers(0, 5), st.sampled_from(["mean", "max", "first", "last"]))
def test_is_that_of_the_sequence_alone(texts: list[str], padding: int, pooling: str) -> None:
    """NumPy finds the same on each sequence without what is around it; there are zeros where there is no base."""
    tokens, lengths = batch(texts, 12 + padding)
    hidden = torch.randn(12 + padding, len(texts), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = pooled(hidden, tokens, lengths, pooling, Mesh())  # type: ignore[arg-type]
    for row, text in enumerate(texts):
        states = hidden[: len(text), row].numpy()
        bases = states[[letter != "N" for letter in text]]
        expected = {
            "first": states[0],
            "last": states[-1],
            "mean": bases.mean(0) if len(bases) else np.zeros(3),
            "max": bases.max(0) if len(bases) else np.zeros(3),
        }[pooling]
        np.testing.assert_allclose(found[row], expected, rtol=1e-12, atol=1e-12)


def test_equal_maxima_share_the_gradient() -> None:
    tokens, lengths = batch(["ACGT"], 6)
    hidden = torch.tensor([1.0, 5, 5, 2, 9, 9])[:, None, None].requires_grad_()
    pooled(hidden, tokens, lengths, "max", Mesh()).sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.flatten().tolist() == [0, 0.5, 0.5, 0, 0, 0]


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_an_n_counts_not(pooling: str) -> None:
    tokens, lengths = batch(["ANG"], 3)
    assert tokens[0, 1] == N
    hidden = torch.randn(3, 1, 2)
    moved = hidden.clone()
    moved[1] += 100
    one, other = (pooled(each, tokens, lengths, pooling, Mesh()) for each in (hidden, moved))  # type: ignore[arg-type]
    assert torch.equal(one, other)
