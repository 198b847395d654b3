"""Memory of large tensors is used again, and never while anyone can still see it."""

import pytest
import torch

from hyena_dist.ops.fused import buffer_pool
from hyena_dist.ops.fused.buffer_pool import new_empty

LIKE = torch.empty(1)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer_pool, "KEPT_FROM", 2**12)
    monkeypatch.setattr(buffer_pool, "_kept", [])


def test_freed_memory_is_used_again() -> None:
    a = new_empty(LIKE, (64, 64))
    address = a.data_ptr()
    del a
    assert new_empty(LIKE, (32, 128), torch.float32).data_ptr() == address
    assert new_empty(LIKE, (64, 64), torch.bfloat16).dtype == torch.bfloat16


def test_memory_in_use_is_not() -> None:
    a = new_empty(LIKE, (64, 64)).fill_(1)
    view = a[3:]
    address = a.data_ptr()
    del a
    b = new_empty(LIKE, (64, 64)).fill_(2)
    assert b.data_ptr() != address
    assert (view == 1).all()


def test_a_little_larger_is_the_same_size() -> None:
    a = new_empty(LIKE, (64, 66))[:, :64]
    address = a.data_ptr()
    del a
    assert new_empty(LIKE, (64, 64)).data_ptr() == address


def test_small_tensors_are_left_to_torch() -> None:
    assert new_empty(LIKE, (3,)).shape == (3,)
    assert buffer_pool._kept == []


def test_free_memory_of_another_size_goes_away() -> None:
    a = new_empty(LIKE, (2**20,))
    del a
    new_empty(LIKE, (2**22,))
    assert len(buffer_pool._kept) == 1
