"""The needs of a run on a CPU: answers that megatron-core expects of torch.cuda, and advice to the allocator."""

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from hyena_dist.errors import UserError

# Options of mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4

MOST_KEPT = 128 * 2**20
"""Bytes of an activation up to which glibc keeps memory of any size."""


def enable_megatron_on_cpu() -> None:
    """Let the CPU answer what megatron-core asks of torch.cuda, whatever its input: the device and the random state.

    Its seeding (model_parallel_cuda_manual_seed), dropout, recomputation and distributed checkpoints then work as they
    do on a GPU; its optimizers and pipeline schedules do not.
    """
    if torch.cuda.is_available():
        return
    answer_device()
    answer_synchronize()
    answer_random_states()


def answer_device() -> None:
    """Answer megatron-core that the current device is the CPU, where torch.cuda.current_device raises.

    Without it, seeding raises "AssertionError: Torch not compiled with CUDA enabled" (compat.measure answer_device).
    It asks for the device of buffers: of mappings between tensor ranks, sequence parallelism, seeds and checkpoints.
    """
    torch.cuda.current_device = _for_megatron(lambda: torch.device("cpu"), torch.cuda.current_device)


def answer_synchronize() -> None:
    """Let megatron-core's distributed checkpoints wait for nothing, where torch.cuda.synchronize raises.

    Without it, saving one raises "AssertionError: Torch not compiled with CUDA enabled" (compat.measure
    answer_synchronize).
    """
    torch.cuda.synchronize = _for_megatron(lambda device=None: None, torch.cuda.synchronize)


def answer_random_states() -> None:
    """Let megatron-core's named random states be those of the CPU's generator; nothing outside of it is changed.

    Without it, seeding raises "AssertionError: Torch not compiled with CUDA enabled" (compat.measure
    answer_random_states).
    """
    from megatron.core.tensor_parallel import random  # not when this module loads: the import takes seconds

    random.CudaRNGStatesTracker = _CpuRandomStates
    random._get_cuda_rng_state = lambda *_, **__: torch.get_rng_state()
    random._set_cuda_rng_state = lambda state, *_, **__: torch.set_rng_state(state)


def _for_megatron(answer: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    """A function that answers callers in megatron-core, and leaves all others to `original`."""
    if hasattr(original, "for_megatron"):
        return original

    def call(*args: Any, **kwargs: Any) -> Any:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        return (answer if caller.startswith("megatron.") else original)(*args, **kwargs)

    call.for_megatron = True  # type: ignore[attr-defined]
    return call


def keep_freed_memory(largest: int = 0) -> None:
    """Let glibc keep freed memory for the next allocation instead of returning it to the system.

    A page that the system hands out anew costs several times what it takes to compute its contents, and every operation
    on a long sequence allocates megabytes. Measured on 2 cores of a busy Xeon (2 layers, d_model 128, fp32, one thread,
    medians of 5 steps): 32,768 tokens take 2.80 s of CPU time with 7 page faults a step, where they take 3.38 s with
    50,129 without this; 2,048 tokens take 0.17 s either way. `hyena-dist bench step --lengths 2048,32768 --repeats 5`
    compares them, with and without --plain-malloc.

    Memory of whole activations is kept by ops/fused/buffer_pool.py, without the gaps that glibc leaves between tensors
    of very different sizes; the few large tensors that torch itself allocates come and go where such gaps would be
    gigabytes.

    Args:
        largest: bytes of an activation over the whole sequence.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return
    if largest > MOST_KEPT:
        mallopt(_M_MMAP_MAX, 2**16)
        mallopt(_M_MMAP_THRESHOLD, 2**25)  # the most that glibc takes
    else:
        mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 64 * 2**20)


class _CpuRandomStates:
    """Named states of the CPU's random generator, with the interface of megatron-core's CudaRNGStatesTracker."""

    def __init__(self, **_: Any) -> None:
        self.reset()

    def reset(self) -> None:
        self.states_: dict[str, Tensor] = {}

    def is_initialized(self) -> bool:
        return bool(self.states_)

    def get_states(self) -> dict[str, Tensor]:
        return dict(self.states_)

    def set_states(self, states: dict[str, Tensor]) -> None:
        self.states_ = states

    def add(self, name: str, seed: int) -> None:
        self.states_[name] = torch.Generator().manual_seed(seed).get_state()

    @contextmanager
    def fork(self, name: str = "model-parallel-rng") -> Iterator[None]:
        if name not in self.states_:
            raise UserError(
                f"megatron-core has no random state {name!r}; call "
                f"megatron.core.tensor_parallel.model_parallel_cuda_manual_seed(seed) after initialize"
            )
        outer = torch.get_rng_state()
        torch.set_rng_state(self.states_[name])
        try:
            yield
        finally:
            self.states_[name] = torch.get_rng_state()
            torch.set_rng_state(outer)
