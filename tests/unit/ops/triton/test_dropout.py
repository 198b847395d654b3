"""The dropout kernel drops, to the bit, what numpy's generator drops on a CPU."""

import subprocess
import sys

import pytest
import torch

from hyena_dist.models.dropout import Mask
from tests.interpreter import DEVICE, RUNNABLE, in_interpreter

pytest.importorskip("triton", reason="triton is not installed: the GPU kernels cannot be checked")

COMPILING = """
import sys
import torch
from hyena_dist.bench.kernels import aim_at, compiled
from hyena_dist.ops.triton.dropout import dropout

def step():
    seeds = torch.empty(2, dtype=torch.int64, device="meta")
    for dtype in (torch.bfloat16, torch.float32):
        for length, features in ((1024, 128), (1_000_003, 256)):
            x = torch.empty(length, 2, features, dtype=dtype, device="meta")
            dropout(x, seeds, 0, 0, 0.1, dtype)
            dropout(x, seeds, 3, length, 0.1, torch.float32, torch.empty_like(x, dtype=torch.float32))

aim_at(sys.argv[1])
for kernel in compiled(step):
    assert kernel.stack <= 8, kernel
    assert kernel.registers <= 128, kernel
    assert kernel.compile_s <= 60, kernel
    print(kernel)
"""

if RUNNABLE:
    from hyena_dist.ops.triton.dropout import dropout


test_in_the_interpreter = in_interpreter(__file__)


@pytest.mark.skipif(RUNNABLE, reason="the interpreter is on, which compiles nothing")
@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_compiles_within_limits(target: str) -> None:
    run = subprocess.run([sys.executable, "-c", COMPILING, target], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "dropout" in run.stdout


class TestKernel:
    __test__ = RUNNABLE

    @pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
    @pytest.mark.parametrize(("length", "features"), [(1, 1), (7, 3), (33, 128), (5, 100), (3, 264)])
    def test_drops_what_numpy_drops(self, length: int, features: int, p: float) -> None:
        x = torch.randn(length, 2, features) + 10
        for site, first, seeds in ((0, 0, [7, 8]), (5, 3 * length, [2**63 - 1, 0]), (1, 2**33, [1, 1])):
            exact = Mask(p, site, first, seeds).apply(x, x.dtype)
            found = dropout(x.to(DEVICE), torch.tensor(seeds, device=DEVICE), site, first, p, x.dtype).cpu()
            assert torch.equal(found == 0, exact == 0)
            torch.testing.assert_close(found, exact, rtol=1e-6, atol=0)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
    def test_adds_the_residual(self, dtype: torch.dtype) -> None:
        x = torch.randn(3, 40, 16).transpose(0, 1).to(dtype)
        residual = torch.randn(40, 3, 17)[..., 1:].to(torch.promote_types(dtype, torch.float32))
        seeds = [1, 2, 3]
        exact = Mask(0.3, 2, 40, seeds).apply(x.double(), torch.float64, residual.double())
        on_device = x.to(DEVICE), torch.tensor(seeds, device=DEVICE)
        found = dropout(*on_device, 2, 40, 0.3, residual.dtype, residual.to(DEVICE)).cpu()
        assert found.dtype == residual.dtype
        torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=1e-6)

    def test_an_expanded_gradient(self) -> None:
        dy = torch.ones((), device=DEVICE).expand(20, 2, 8)
        seeds = torch.tensor([4, 5], device=DEVICE)
        assert torch.equal(dropout(dy, seeds, 1, 0, 0.5, dy.dtype), dropout(dy.clone(), seeds, 1, 0, 0.5, dy.dtype))
