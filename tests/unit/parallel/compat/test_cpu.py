"""The answers about the CPU that megatron-core gets, and nobody else."""

from typing import Any

import pytest
import torch

from hyena_dist.parallel.compat.cpu import enable_megatron_on_cpu

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU answers for itself")


def asked_from(module: str, question: str) -> Any:
    """The answer to a question of a function that lies in a module of that name."""
    scope: dict[str, Any] = {"__name__": module, "torch": torch}
    exec(f"def ask():\n    return {question}", scope)
    return scope["ask"]()


def test_megatron_alone_is_answered() -> None:
    for _ in range(2):  # as by every mesh of a process
        enable_megatron_on_cpu()
    assert asked_from("megatron.core.utils", "torch.cuda.current_device()") == torch.device("cpu")
    assert asked_from("megatron.core.utils", "torch.cuda.synchronize()") is None
    for module in ("deepspeed.runtime", "megatronish", "__main__"):
        for question in ("torch.cuda.current_device()", "torch.cuda.synchronize()"):
            with pytest.raises((AssertionError, RuntimeError), match=r"CUDA|NVIDIA"):
                asked_from(module, question)


def test_named_random_states() -> None:
    enable_megatron_on_cpu()
    from megatron.core.tensor_parallel import random

    states = random.CudaRNGStatesTracker()
    states.add("a", 1)
    states.add("b", 1)
    before = torch.get_rng_state()
    with states.fork("a"):
        first = torch.rand(3)
    with states.fork("a"):
        second = torch.rand(3)
    with states.fork("b"):
        assert torch.equal(torch.rand(3), first)
    assert not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
