"""The number formats that products run in, and whether a device multiplies bf16 in hardware."""

import functools
import time
from typing import Literal

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""RunConfig.precision -> type of activations and matrix products."""

_SLOW = 0.5  # bf16 that takes twice as long as fp32 is worth a warning
_SIZE = 256
_REPEATS = 5
_MEASURE_S = 0.02


def fast_precision(device: torch.device) -> Literal["fp32", "bf16"]:
    """Return the precision in which a device multiplies faster; GPUs have bf16 from compute capability 8.0 on."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    return "bf16" if bf16_speed() > 1 else "fp32"


def precision_warning(precision: str, device: torch.device) -> str | None:
    """Return a sentence with the measured ratio and the fix if a device is a CPU that multiplies `precision` slowly."""
    if precision != "bf16" or device.type != "cpu" or bf16_speed() >= _SLOW:
        return None
    return (
        f"warning: this CPU has no fast bf16: a product takes {1 / bf16_speed():.0f} times as long as in fp32; choose "
        f"precision fp32, unless a run that began in bf16 is to go on in it"
    )


@functools.cache
def bf16_speed() -> float:
    """Return how many times as fast as in fp32 this CPU multiplies in bf16.

    It is measured once a process, in some tens of milliseconds, because the flags of a CPU do not tell: with AVX2 alone
    torch multiplies bf16 in a scalar loop, at 1 GFLOP/s where fp32 reaches 80; with AVX-512 but no bf16, oneDNN
    converts, at a fifth of the speed of fp32; and AVX-512 with bf16 but without AMX may be faster or slower.
    """
    fp32, bf16 = (_product_s(dtype) for dtype in DTYPES.values())
    return fp32 / bf16


def _product_s(dtype: torch.dtype) -> float:
    """Return the seconds of a product of two square matrices: the least of a few, which other load disturbs least."""
    a = torch.ones(_SIZE, _SIZE, dtype=dtype)
    a @ a  # the first one compiles
    seconds: list[float] = []
    while len(seconds) < _REPEATS and sum(seconds) < _MEASURE_S:
        begin = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - begin)
    return min(seconds)
