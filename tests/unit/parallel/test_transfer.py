"""Tensors go to a GPU without a wait, and stay where they are on a CPU."""

from typing import Any

import pytest
import torch
from torch import Tensor

from hyena_dist.parallel.transfer import to_device


def test_a_cpu_takes_a_tensor_as_it_is() -> None:
    x = torch.ones(3)
    assert to_device(x, torch.device("cpu")) is x


def test_to_a_gpu_by_pinned_memory_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda x: calls.append("pinned") or x)
    monkeypatch.setattr(Tensor, "to", lambda x, device, **how: calls.append((device, how)) or x)
    gpu = torch.device("cuda", 1)
    to_device(torch.ones(3), gpu)
    assert calls == ["pinned", (gpu, {"non_blocking": True})]
