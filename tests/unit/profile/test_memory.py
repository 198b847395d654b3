"""The memory that a process says it has taken."""

import torch

from hyena_dist.bench.process import in_a_process
from hyena_dist.profile.memory import peak_bytes

CPU = torch.device("cpu")


def test_a_large_parent_does_not_count() -> None:
    filled = bytearray(b"x") * 2**30
    assert peak_bytes(CPU) > len(filled)
    assert 2**26 < in_a_process(peak_bytes, CPU) < len(filled)


def test_what_is_freed_counts() -> None:
    before = peak_bytes(CPU)
    bytearray(b"x") * (before + 2**28)
    assert peak_bytes(CPU) > before + 2**27
