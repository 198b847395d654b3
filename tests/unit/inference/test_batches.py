"""Batches hold each sequence once, like lengths together, and no more than their bound."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hyena_dist.data.tokenizer import PAD, decode, encode
from hyena_dist.inference.batches import batches_by_length, pad_right


@given(lengths=st.lists(st.integers(1, 50), max_size=40), bound=st.integers(1, 200))
def test_each_sequence_once_in_bounded_batches(lengths: list[int], bound: int) -> None:
    batches = batches_by_length(np.array(lengths, np.int64), bound)
    numbers = [number for batch in batches for number in batch.tolist()]
    assert sorted(numbers) == list(range(len(lengths)))
    assert [lengths[n] for n in numbers] == sorted(lengths, reverse=True)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[n] for n in batch.tolist()) <= bound


def test_padding_is_on_the_right() -> None:
    padded, lengths = pad_right([encode("ACG"), encode("TTTNA"), encode("C")])
    assert lengths.tolist() == [3, 5, 1]
    assert [decode(row[:n].numpy()) for row, n in zip(padded, lengths, strict=True)] == ["ACG", "TTTNA", "C"]
    assert (padded[[0, 0, 2], [3, 4, 1]] == PAD).all()
