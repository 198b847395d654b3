"""The memory that a process says it has taken."""

import pytest
import torch

from hyena_dist.bench.process import in_a_process
from hyena_dist.profile.memory import describe_out_of_memory, peak_bytes

CPU = torch.device("cpu")


def test_a_large_parent_does_not_count() -> None:
    filled = bytearray(b"x") * 2**30
    assert peak_bytes(CPU) > len(filled)
    assert 2**26 < in_a_process(peak_bytes, CPU) < len(filled)


def test_what_is_freed_counts() -> None:
    before = peak_bytes(CPU)
    bytearray(b"x") * (before + 2**28)
    assert peak_bytes(CPU) > before + 2**27


@pytest.mark.parametrize(
    ("error", "amount"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total"), "2.00 GiB"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you "
                      "tried to allocate 4096 bytes. Error code 12 (Cannot allocate memory)"), "4096 bytes"),
        (RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"), None),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), None),
        (MemoryError(), None),
    ],
)  # fmt: skip
def test_memory_that_there_is_not(error: RuntimeError | MemoryError, amount: str | None) -> None:
    found = describe_out_of_memory(error, "rank 3 at step 7 (forward)")
    assert found is not None
    more = f", asking for {amount} more" if amount else ""
    assert str(found).startswith(f"rank 3 at step 7 (forward) is out of memory{more}; lower train.micro_batch_size")


def test_other_errors_are_not_of_memory() -> None:
    assert describe_out_of_memory(RuntimeError("Connection closed by peer"), "rank 0") is None
