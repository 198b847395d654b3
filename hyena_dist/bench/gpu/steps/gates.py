"""The gates' kernels by the positions and the warps of a program, in bytes per second, which are at most a copy's."""

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch

from hyena_dist.bench.gpu.measuring import milliseconds, setting
from hyena_dist.bench.gpu.plan import Case, LeftOut, Sizes

TAPS = 3
BLOCKS, WARPS = (512, 1024, 2048), (4, 8)
FUNCTIONS = ("product", "product_backward")


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
    kernels = _kernels()
    with setting(kernels, BLOCK=block, WARPS=warps, BACKWARD_WARPS=warps):
        _call(kernels, what, sizes, torch.device("meta"))[0]()


def _measure(what: str, block: int, warps: int, sizes: Sizes) -> dict[str, float]:
    kernels = _kernels()
    with setting(kernels, BLOCK=block, WARPS=warps, BACKWARD_WARPS=warps):
        call, moved = _call(kernels, what, sizes, torch.device(sizes.device))
        ms = milliseconds(call, sizes)
    return {"ms": ms, "gb_per_s": moved / ms / 1e6}


def _kernels() -> Any:
    try:
        return importlib.import_module("hyena_dist.ops.triton.product")
    except ImportError as error:
        raise LeftOut(str(error)) from error


def _call(kernels: Any, what: str, sizes: Sizes, device: torch.device) -> tuple[Callable[[], object], int]:
    """Return a call of a function on pairs of filtered rows, and the bytes that it moves."""
    channels = sizes.channels
    shape = (channels, 1, sizes.gate_length)
    x, x2, dx, dx2, y = (torch.randn(shape, dtype=torch.bfloat16, device=device) for _ in range(5))
    filters = [(torch.randn(channels, TAPS, device=device), torch.randn(channels, device=device)) for _ in range(2)]
    a, b = (kernels.Rows(rows, *of_rows) for rows, of_rows in zip((x, x2), filters, strict=True))
    if what == "product":
        return partial(kernels.product, (a, b), y), 3 * y.numel() * y.element_size()
    sums = kernels.empty_sums(y, 2 * channels, TAPS).split(channels, dim=1)
    moved = 5 * y.numel() * y.element_size() + sum(part.numel() * part.element_size() for part in sums)
    return partial(kernels.product_backward, y, a, b, dx, dx2, *sums), moved
