"""The fused mixer against its plain reference in float64, and what it keeps."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyena_dist.ops.fused import mixer
from hyena_dist.ops.record_op import flatten
from tests.sizes import set_sizes
from tests.unit.ops.fused.cases import EXACT, MIXER, assert_equal, mixer_shapes, random


@settings(max_examples=40, deadline=None)
@given(
    order=st.integers(2, 4), channels=st.integers(1, 6), d=st.integers(4, 8), batch=st.integers(1, 3),
    length=st.integers(1, 30), group=st.integers(1, 6), tile=st.integers(1, 40), residual=st.booleans(),
    keep=st.booleans(), dtype=st.sampled_from(EXACT),
)  # fmt: skip
def test_equals_the_reference(
    order: int, channels: int, d: int, batch: int, length: int, group: int, tile: int, residual: bool, keep: bool,
    dtype: torch.dtype,
) -> None:  # fmt: skip
    tensors = random(mixer_shapes(order, channels, d, batch, length), seed=length)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixer, "SMALLEST_GROUP", group)
        set_sizes(patch, projections=1, norm=tile * d, recomputed_from=keep * 2**20)
        assert_equal(MIXER, tensors, dtype, residual)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("order", [2, 3, 4])
def test_in_16_bits(order: int, residual: bool, keep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is wide enough for a norm; that of a handful of numbers magnifies what rounding does to them."""
    set_sizes(monkeypatch, recomputed_from=keep * 2**20)
    tensors = random(mixer_shapes(order, 48, 48, 2, 130), seed=order)
    for i in (3, 5, 9):
        tensors[i] /= tensors[i].shape[-1] ** 0.5
    assert_equal(MIXER, tensors, torch.bfloat16, residual)


def test_gaps_between_rows_are_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory used again has them too: a bf16 product on AMX reads past a row's end, and NaN times zero is NaN."""
    monkeypatch.setattr(mixer, "new_empty", lambda like, shape, dtype: like.new_full(shape, torch.nan))
    rows = mixer._new_rows(torch.empty(130, 2, 8), 3, torch.float32)
    assert rows.isnan().all()
    gaps = rows.as_strided((3, rows.stride(0) - rows.shape[1]), rows.stride(), rows.shape[1])
    assert gaps.numel()
    assert (gaps == 0).all()


def test_only_one_kept_tensor_is_not_an_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """The residual stream, parameters and kernels are there anyway; what the last gate meets is not."""
    set_sizes(monkeypatch, recomputed_from=0)
    tensors = [t.requires_grad_() for t in random(MIXER.shapes, seed=0)]
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        MIXER.op(*MIXER.arguments(tensors, torch.float64, True))
    inputs = {t.data_ptr() for t in tensors}
    assert [t.shape for t in kept if t.data_ptr() not in inputs] == [(4, 1, 32)]


@pytest.mark.parametrize("sequences_together", [False, True])
def test_results_lie_in_memory_as_the_stream_does(sequences_together: bool) -> None:
    x, *parameters = random(mixer_shapes(2, 4, 8, 3, 16), seed=0)
    x = x.transpose(0, 1).contiguous().transpose(0, 1) if sequences_together else x
    tensors = [t.requires_grad_() for t in (x, *parameters)]
    y = MIXER.op(*MIXER.arguments(tensors, torch.float64, True))
    d_x, *_ = torch.autograd.grad(y, tensors, torch.ones_like(y))
    assert y.stride() == d_x.stride() == x.stride() == ((8, 128, 1) if sequences_together else (24, 8, 1))
    torch.testing.assert_close(y, MIXER.reference(*MIXER.arguments(tensors, torch.float64, True)))
    arguments = (*flatten(mixer.Inputs(*MIXER.arguments(tensors, torch.float64, True))), True)
    torch.library.opcheck(torch.ops.hyena_dist.mixer.default, arguments, test_utils="test_faketensor")
