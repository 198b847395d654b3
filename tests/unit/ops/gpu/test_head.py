"""The head from GPU kernels against its plain reference in float64: on a GPU if there is one, else interpreted."""

import pytest
import torch

from hyena_dist.ops import head_nll, reference
from tests.interpreter import DEVICE, RUNNABLE, in_interpreter
from tests.unit.ops.triton.dense import GRADIENTS, VALUES, Operands, exactly, near

pytest.importorskip("triton", reason="triton is not installed: the GPU kernels cannot be checked")

if RUNNABLE:
    from hyena_dist.ops.gpu import head

SIZES = [(37, 3, 64, 12, 16), (150, 1, 100, 16, 16), (1, 1, 128, 9, 40), (33, 2, 300, 64, 64)]
TYPES = [torch.float32, torch.bfloat16, torch.float16]


test_in_the_interpreter = in_interpreter(__file__)


class TestOperator:
    __test__ = RUNNABLE

    @pytest.mark.parametrize("dtype", TYPES)
    @pytest.mark.parametrize(("s", "b", "d", "vocab", "padded"), SIZES)
    def test_equals_the_reference(
        self, s: int, b: int, d: int, vocab: int, padded: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HYENA_DIST_BACKEND", "triton")
        o = Operands(s)
        x, norm, weight = o.random(s, b, d), o.norm(d, dtype), o.weight(padded, d)
        targets = torch.randint(0, vocab, (s, b), generator=torch.Generator().manual_seed(1)).to(DEVICE)
        targets[3:6] = -100
        assert head.takes(head.Inputs(x, norm, weight, targets, vocab))
        given = [t.requires_grad_() for t in (x, norm.weight, norm.bias, weight)]
        exact = [t.detach().double().requires_grad_() for t in given]
        nll = head_nll(x, norm, weight, targets, vocab)
        exact_norm = exactly(norm)._replace(weight=exact[1], bias=exact[2])
        expected = reference.head_nll(exact[0], exact_norm, exact[3], targets, vocab)
        assert nll.dtype == torch.float32
        near(nll, expected, VALUES[dtype])
        d_nll = torch.rand(nll.shape, generator=torch.Generator().manual_seed(0)).to(DEVICE)
        found, wanted = torch.autograd.grad(nll, given, d_nll), torch.autograd.grad(expected, exact, d_nll.double())
        for gradient, value in zip(found, wanted, strict=True):
            near(gradient, value, GRADIENTS[dtype])

    def test_a_sum_is_differentiated(self) -> None:
        """The gradient of a sum is one number in memory, whatever its shape."""
        o = Operands(0)
        x, norm, weight = o.random(20, 2, 64).requires_grad_(), o.norm(64, torch.float32), o.weight(16, 64)
        targets = torch.zeros(20, 2, dtype=torch.int64, device=DEVICE)
        (dx,) = torch.autograd.grad(head_nll(x, norm, weight, targets, 12).sum(), x)
        exact = x.detach().double().requires_grad_()
        expected = reference.head_nll(exact, exactly(norm), weight.double(), targets, 12).sum()
        near(dx, torch.autograd.grad(expected, exact)[0], GRADIENTS[torch.float32])

    def test_takes_what_the_kernels_can_do(self) -> None:
        o = Operands(0)
        targets = torch.zeros(3, 2, dtype=torch.int64, device=DEVICE)
        inputs = head.Inputs(o.random(3, 2, 64), o.norm(64, torch.bfloat16), o.weight(16, 64), targets, 12)
        assert head.takes(inputs)
        assert not head.takes(inputs._replace(x=inputs.x.double()))
        assert not head.takes(inputs._replace(weight=o.weight(65, 64)))
