"""The gate kernels by the positions and the warps of a program, in bytes per second, which are at most a copy's."""

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch

from hyena_dist.bench.gpu.measuring import milliseconds, setting
from hyena_dist.bench.gpu.plan import Case, LeftOut, Sizes

TAPS = 3
BLOCKS, WARPS = (1024, 2048, 4096), (4, 8)
FUNCTIONS = ("gate_pair", "gate_backward")


def cases(sizes: Sizes) -> Iterator[Case]:
    """Give both functions at every block size and number of warps; a dry run has one of these."""
    for what, block, warps in _variants(sizes):
        yield {"what": what, "block": block, "warps": warps}, partial(_measure, what, block, warps, sizes)


def on_meta(sizes: Sizes) -> Iterator[Callable[[], object]]:
    """Give the calls whose kernels shall be compiled."""
    for what, block, warps in _variants(sizes):
        yield partial(_on_meta, what, block, warps, sizes)


def _variants(sizes: Sizes) -> Iterator[tuple[str, int, int]]:
    return product(FUNCTIONS, BLOCKS[: 1 if sizes.dry else None], WARPS[: 1 if sizes.dry else None])


def _on_meta(what: str, block: int, warps: int, sizes: Sizes) -> None:
    gates = _gates()
    with setting(gates, BLOCK=block, WARPS=warps):
        _call(gates, what, sizes, torch.device("meta"))()


def _measure(what: str, block: int, warps: int, sizes: Sizes) -> dict[str, float]:
    gates = _gates()
    with setting(gates, BLOCK=block, WARPS=warps):
        call = _call(gates, what, sizes, torch.device(sizes.device))
        results = call()
        ms = milliseconds(call, sizes)
    operands = [*call.args, *(results if isinstance(results, tuple) else [results])]
    return {"ms": ms, "gb_per_s": sum(t.numel() * t.element_size() for t in operands) / ms / 1e6}


def _gates() -> Any:
    try:
        return importlib.import_module("hyena_dist.ops.triton.gates")
    except ImportError as error:
        raise LeftOut(str(error)) from error


def _call(gates: Any, what: str, sizes: Sizes, device: torch.device) -> partial[Any]:
    """Return a call of a function of the gates, whose arguments are all that it reads, and dx."""
    channels = sizes.channels
    shape = (channels, 1, sizes.gate_length)
    x, x2, dx = (torch.randn(shape, dtype=torch.bfloat16, device=device) for _ in range(3))
    weight, weight2 = (torch.randn(channels, TAPS, device=device) for _ in range(2))
    bias, bias2 = (torch.randn(channels, device=device) for _ in range(2))
    if what == "gate_pair":
        return partial(gates.gate_pair, x, weight, bias, x2, weight2, bias2)
    m, dy = (torch.randn(shape, device=device) for _ in range(2))
    return partial(gates.gate_backward, dy, x, weight, bias, m, dx)
