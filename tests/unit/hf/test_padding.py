"""Packing moves tokens and labels, and all that comes of them, back and forth, whatever the mask."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyena_dist import UserError
from hyena_dist.hf.padding import next_tokens, packing

MASKS = st.integers(1, 6).flatmap(lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=1))


@given(MASKS)
def test_there_and_back_keeps_the_tokens_and_their_order(rows: list[list[bool]]) -> None:
    mask = torch.tensor(rows)
    x = torch.arange(1, mask.numel() + 1).view(mask.shape)
    packed = packing(mask, mask.shape)
    if packed is None:
        assert mask.all()
        return
    for row, kept, source in zip(packed.pack(x), mask, x, strict=True):
        assert row[: kept.sum()].tolist() == source[kept].tolist()
    assert torch.equal(packed.unpack(packed.pack(x)), x * mask)
    wide = x[..., None] * torch.tensor([1.0, -1.0])
    assert torch.equal(packed.unpack(packed.pack(wide), fill=7), torch.where(mask[..., None], wide, 7.0))


@given(MASKS)
def test_each_token_predicts_the_next_one_whatever_lies_between(rows: list[list[bool]]) -> None:
    mask = torch.tensor(rows)
    labels = torch.arange(mask.numel()).view(mask.shape)
    targets = next_tokens(labels, packing(mask, mask.shape))
    for found, kept, row in zip(targets, mask, labels, strict=True):
        tokens = row[kept].tolist()
        assert found[kept].tolist() == [*tokens[1:], -100][: len(tokens)]
        assert (found[~kept] == -100).all()


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(UserError, match=r"attention_mask has shape \(2, 3\) where the tokens have \(2, 4\)"):
        packing(torch.ones(2, 3), torch.Size((2, 4)))
