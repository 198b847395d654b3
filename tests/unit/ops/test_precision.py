"""A slow bf16 is found so, and said; the real measurement is plausible."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from hyena_dist.ops import precision
from hyena_dist.ops.precision import DTYPES, bf16_speed, fast_precision, precision_warning

CPU = torch.device("cpu")


@pytest.fixture
def product_s(monkeypatch: pytest.MonkeyPatch) -> dict[torch.dtype, float]:
    """Seconds that a product seems to take, by type."""
    seconds = {torch.float32: 0.4e-3, torch.bfloat16: 0.1e-3}
    monkeypatch.setattr(precision, "_product_s", lambda dtype: seconds[dtype])
    monkeypatch.setattr(precision, "bf16_speed", bf16_speed.__wrapped__)
    return seconds


@pytest.mark.parametrize(
    ("bf16_s", "fast", "warned"),
    [(0.1e-3, "bf16", None), (0.6e-3, "fp32", None), (2.0e-3, "fp32", "5 times"), (33e-3, "fp32", "82 times")],
)
def test_bf16_is_chosen_where_it_is_faster_and_warned_of_where_it_is_slow(
    product_s: dict[torch.dtype, float], bf16_s: float, fast: str, warned: str | None
) -> None:
    product_s[torch.bfloat16] = bf16_s
    assert fast_precision(CPU) == fast
    assert precision_warning("fp32", CPU) is None
    warning = precision_warning("bf16", CPU)
    if warned is None:
        assert warning is None
    else:
        assert warning is not None
        assert warned in warning
        assert "choose precision fp32" in warning


def test_this_cpu_is_measured_in_a_moment_and_once() -> None:
    assert 1e-4 < bf16_speed() < 100
    assert bf16_speed() is bf16_speed()
    assert fast_precision(CPU) in DTYPES


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the variable speaks of x86 instructions")
def test_a_cpu_with_avx2_alone_is_found_slow() -> None:
    """The library that multiplies takes this variable as the CPU's word, so the slow loop is a real one."""
    code = "from hyena_dist.ops.precision import *; import torch; print(precision_warning('bf16', torch.device('cpu')))"
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("warning: this CPU has no fast bf16")
