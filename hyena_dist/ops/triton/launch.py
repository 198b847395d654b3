# mypy: allow-untyped-defs, allow-incomplete-defs
"""The one way in which a kernel starts, so that kernels can be counted and compiled where there is no GPU.

On meta tensors nothing runs: whoever observes sees the launch that a GPU would get.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # today's default, of which Triton 3.9 would warn

import torch
import triton
import triton.language as tl
from torch import Tensor


class Launch(NamedTuple):
    """A kernel with everything that its launch takes."""

    kernel: Any
    """The function that triton.jit made."""
    grid: tuple[int, ...]
    """The number of programs in each of up to three dimensions."""
    arguments: Sequence[Any]
    """The kernel's arguments in their order, without the constants."""
    options: dict[str, Any]
    """The kernel's constants (tl.constexpr), and num_warps and num_stages."""
    moved: int
    """The bytes of the operands, each read or written once."""

    @property
    def name(self) -> str:
        """The kernel's name."""
        return str(self.kernel.__name__).lstrip("_")


Observer = Callable[[Launch], None]

_observers: list[Observer] = []


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Tell the observer of every launch within the block."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


def launch(
    kernel: Any,
    grid: Sequence[int],
    arguments: Sequence[Any],
    *,
    reads: Sequence[Tensor],
    writes: Sequence[Tensor],
    **options: Any,
) -> None:
    """Run a kernel on the device of what it writes; on meta tensors tell the observers alone.

    Args:
        kernel: a function that triton.jit made.
        grid: the number of programs in each dimension; the second and third end at 65,535.
        arguments: its arguments in their order, without the constants.
        reads: the tensors or views that it reads.
        writes: the tensors or views that it writes, at least one.
        options: its constants (tl.constexpr) by name, and num_warps and num_stages.
    """
    if _observers:
        moved = sum(t.numel() * t.element_size() for t in (*reads, *writes))
        for observer in _observers:
            observer(Launch(kernel, tuple(grid), arguments, options, moved))
    if writes[0].device.type == "meta":
        return
    with torch.cuda.device_of(writes[0]):
        kernel[tuple(grid)](*arguments, **options)


@triton.jit
def _add_one(x, BLOCK: tl.constexpr):
    t = tl.arange(0, BLOCK)
    tl.store(x + t, tl.load(x + t) + 1)


def try_out() -> None:
    """Build and run a small kernel on the current GPU.

    Raises:
        RuntimeError: its result is wrong. What the compiler or the driver raises passes through.
    """
    x = torch.zeros(16, device="cuda")
    launch(_add_one, (1,), (x,), reads=(x,), writes=(x,), BLOCK=16)
    if not bool((x == 1).all()):
        raise RuntimeError("a kernel that adds 1 to zeros gave something else")
