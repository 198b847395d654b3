"""The share of the hardware's peak that a model gets."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyena_dist.profile.mfu import Precision, _data_sheet, describe_peak, mfu, peak_flops

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "bf16", "fp32"),
    [
        ("Tesla V100-SXM2-32GB", None, 15.7),
        ("NVIDIA A100-SXM4-80GB", 312, 19.5),
        ("NVIDIA A100 80GB PCIe", 312, 19.5),
        ("NVIDIA A10", 125, 31.2),
        ("NVIDIA A30", 165, 10.3),
        ("NVIDIA L4", 121, 30.3),
        ("NVIDIA L40S", 362, 91.6),
        ("NVIDIA H100 80GB HBM3", 989, 67),
        ("NVIDIA H100 PCIe", 756, 51),
        ("NVIDIA H100 NVL", 835, 60),
        ("NVIDIA H200", 989, 67),
        ("NVIDIA GH200 480GB", 989, 67),
        ("NVIDIA B200", 2250, 75),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None, None),
        ("NVIDIA GeForce GTX 1080", None, None),
        ("NVIDIA L40", None, None),
    ],
)
def test_data_sheets(name: str, bf16: float | None, fp32: float | None) -> None:
    """The names are those that CUDA gives; each finds its own line."""
    found = _data_sheet(name, "bf16"), _data_sheet(name, "fp32")
    assert [f and f / 1e12 for f in found] == [bf16, fp32]


def test_fp32_with_tensor_cores_is_tf32() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        assert _data_sheet("NVIDIA A100-SXM4-80GB", "fp32") == 156e12
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_cpu_is_measured(precision: Precision) -> None:
    peak = peak_flops(CPU, precision)
    assert peak is not None
    assert 1e8 < peak < 1e14
    assert "measured by matrix products" in describe_peak(CPU, precision, peak)


def test_an_unknown_peak_is_said() -> None:
    assert describe_peak(CPU, "bf16", None).startswith("throughput/mfu is left out: the peak FLOP/s of ")


@given(st.floats(1e3, 1e20), st.floats(1e9, 1e16), st.integers(1, 10_000))
def test_ranks_that_work_at_their_peak_use_all_of_it(flops: float, peak: float, ranks: int) -> None:
    seconds = flops / peak / ranks
    assert mfu(flops, max(1e-9, seconds), peak, ranks) == pytest.approx(min(1.0, seconds / 1e-9))
