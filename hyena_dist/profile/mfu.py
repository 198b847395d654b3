"""Model FLOPs utilization: the share of the hardware's peak that the model's own arithmetic gets.

Chowdhery et al., PaLM, 2022, appendix B: MFU = FLOPs of forward and backward / (seconds x peak FLOP/s), without what is
computed again. FFT convolutions run in fp32 outside of tensor cores, so that a Hyena's bf16 MFU is far below that of a
Transformer which is as well tuned.
"""

import re
import time
from typing import Literal

import torch

from hyena_dist.tracking.environment import cpu_model

Precision = Literal["bf16", "fp32"]

_TERA = 1e12

# Dense peaks in TFLOP/s as (bf16, TF32, fp32), by the names that CUDA gives; the first pattern that is found counts.
# Sources are NVIDIA's data sheets, whose figures with sparsity are halved: Tesla V100, A10, A30, A100, L4, L40S, H100,
# H200, GH200, and HGX B200 (an eighth of eight GPUs). V100 has no bf16 and no TF32.
_PEAKS: tuple[tuple[str, tuple[float | None, float, float]], ...] = (
    (r"V100-SXM", (None, 15.7, 15.7)),
    (r"V100-PCIE", (None, 14.0, 14.0)),
    (r"A100", (312.0, 156.0, 19.5)),
    (r"A30\b", (165.0, 82.0, 10.3)),
    (r"A10\b", (125.0, 62.5, 31.2)),
    (r"L40S", (362.0, 183.0, 91.6)),
    (r"L4\b", (121.0, 60.0, 30.3)),
    (r"H100 PCIe", (756.0, 378.0, 51.0)),
    (r"H100 NVL", (835.0, 418.0, 60.0)),
    (r"H200 NVL", (835.0, 418.0, 60.0)),
    (r"GH200|H100|H200", (989.0, 495.0, 67.0)),
    (r"B200", (2250.0, 1125.0, 75.0)),
)


def peak_flops(device: torch.device, precision: Precision) -> float | None:
    """Return the peak FLOP/s of one rank's device in dense matrix products.

    A GPU's is that of its data sheet. A CPU's is measured by matrix products for some 50 ms, with as many threads as
    training has; ranks that share a machine must call this at the same time, as training shares it too.

    Args:
        device: what the rank computes on.
        precision: the precision of matrix products; fp32 is TF32 where torch is set to use that.

    Returns:
        FLOP/s, or None for a GPU that has no line in the table or no such precision.
    """
    if device.type == "cuda":
        return _data_sheet(torch.cuda.get_device_name(device), precision)
    return _measured(torch.bfloat16 if precision == "bf16" else torch.float32)


def mfu(step_flops: float, step_s: float, peak: float, ranks: int) -> float:
    """Return the model FLOPs utilization of a step, 0 to 1.

    Args:
        step_flops: FLOPs of a step's forward and backward passes over all ranks.
        step_s: seconds of the step.
        peak: FLOP/s of one rank, from `peak_flops`.
        ranks: how many ranks there are.
    """
    return step_flops / (max(1e-9, step_s) * peak * ranks)


def describe_peak(device: torch.device, precision: Precision, peak: float | None) -> str:
    """Return a line for people about what `throughput/mfu` is a share of."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_model()
    if peak is None:
        return f"throughput/mfu is left out: the peak FLOP/s of {name} in {precision} is not known"
    source = "of its data sheet" if device.type == "cuda" else "measured by matrix products"
    return f"throughput/mfu is a share of {peak / _TERA:.3g} TFLOP/s a rank in {precision}, {source} ({name})"


def _data_sheet(name: str, precision: Precision) -> float | None:
    if "MIG" in name:  # a slice of a GPU
        return None
    found = next((peaks for pattern, peaks in _PEAKS if re.search(pattern, name)), None)
    if found is None:
        return None
    bf16, tf32, fp32 = found
    tensor_cores = torch.get_float32_matmul_precision() != "highest"
    peak = bf16 if precision == "bf16" else tf32 if tensor_cores else fp32
    return None if peak is None else peak * _TERA


def _measured(dtype: torch.dtype, seconds: float = 0.05, size: int = 512) -> float:
    """Return the FLOP/s of the fastest of the square matrix products that fit into some time."""
    a = torch.rand(size, size).to(dtype)
    b = torch.rand(size, size).to(dtype)
    a @ b  # the first also chooses a kernel
    fastest = float("inf")
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        before = time.perf_counter()
        a @ b
        fastest = min(fastest, time.perf_counter() - before)
    return 2 * size**3 / fastest
