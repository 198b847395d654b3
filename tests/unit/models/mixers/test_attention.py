"""Attention against its formula, rotary positions against what they promise, and the choice of a back end."""

import math
import sys
import warnings
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hyena_dist.config.mixers.attention import attention_heads
from hyena_dist.config.model import ModelConfig
from hyena_dist.errors import UserError
from hyena_dist.models.mixers import attention
from hyena_dist.models.mixers.attention import (
    BACKENDS,
    AttentionMixer,
    attention_backend,
    causal_attention,
    head_size,
    rotary_table,
    rotate,
    usable_backends,
)
from hyena_dist.parallel.mesh import Mesh

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@pytest.fixture
def fresh_probes() -> Iterator[None]:
    attention._refusal.cache_clear()
    yield
    attention._refusal.cache_clear()


def make(heads: int, head_dim: int, **fields: object) -> tuple[AttentionMixer, ModelConfig]:
    config = ModelConfig(
        d_model=heads * head_dim, num_attention_heads=heads, layer_pattern="AA", initializer_range=0.5, **fields
    )
    torch.manual_seed(heads)
    mixer = AttentionMixer(config, Mesh())
    for p in mixer.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return mixer, config


def turn(position: int, head_dim: int, base: float) -> Tensor:
    """Return the rotation of each pair (i, i + E/2) by position * base^(-2i/E), [E, E]."""
    r, half = torch.zeros(head_dim, head_dim, dtype=torch.float64), head_dim // 2
    for i in range(half):
        angle = position * base ** (-2 * i / head_dim)
        r[i, i] = r[i + half, i + half] = math.cos(angle)
        r[i + half, i] = math.sin(angle)
        r[i, i + half] = -math.sin(angle)
    return r


def formula(x: Tensor, mixer: AttentionMixer, config: ModelConfig) -> Tensor:
    """Every head and position on its own, in float64, with the parameters rounded to the type of x."""
    p = {name: value.to(x.dtype).double() for name, value in mixer.named_parameters()}
    heads, e = attention_heads(config), head_size(config)
    projected = x.double() @ p["Wqkv.weight"].T + p["Wqkv.bias"]
    q, k, v = (part.unflatten(2, (heads, e)) for part in projected.chunk(3, dim=2))
    turns = torch.stack([turn(t, e, config.rotary_base) for t in range(len(x))])
    q, k = (torch.einsum("tij,tbhj->tbhi", turns, y) for y in (q, k))
    scores = torch.einsum("tbhi,sbhi->bhts", q, k) / math.sqrt(e)
    later = torch.ones(len(x), len(x)).triu(1).bool()
    weights = scores.masked_fill(later, -math.inf).softmax(dim=-1)
    y = torch.einsum("bhts,sbhi->tbhi", weights, v).flatten(2)
    return y @ p["out_proj.weight"].T + p["out_proj.bias"]


@settings(max_examples=40, deadline=None)
@given(
    heads=st.integers(1, 3),
    pairs=st.integers(1, 4),
    batch=st.integers(1, 3),
    length=st.integers(1, 20),
    dtype=st.sampled_from(sorted(TOLERANCE, key=str)),
)
def test_equals_the_formula(heads: int, pairs: int, batch: int, length: int, dtype: torch.dtype) -> None:
    mixer, config = make(heads, 2 * pairs, rotary_base=100.0)
    if dtype == torch.float64:
        mixer = mixer.double()
    x = torch.randn(length, batch, config.d_model, dtype=dtype, requires_grad=True)
    y = mixer(x)
    (dx,) = torch.autograd.grad(y, x, torch.ones_like(y))
    exact_x = x.detach().double().requires_grad_()
    exact = formula(exact_x, mixer, config) if dtype == torch.float64 else formula(x, mixer, config)
    assert y.dtype == dx.dtype == dtype
    assert (y - exact).abs().max() <= TOLERANCE[dtype] * exact.abs().max().clamp(min=1)
    if dtype == torch.float64:
        (exact_dx,) = torch.autograd.grad(exact, exact_x, torch.ones_like(exact))
        assert (dx - exact_dx).abs().max() <= 1e-11 * exact_dx.abs().max().clamp(min=1)


def test_no_position_sees_a_later_one() -> None:
    mixer, config = make(2, 4)
    mixer = mixer.double()
    x = torch.randn(9, 2, config.d_model, dtype=torch.float64, requires_grad=True)
    y = mixer(x)
    for t in range(9):
        (dx,) = torch.autograd.grad(y[t].sum(), x, retain_graph=True)
        assert not dx[t + 1 :].any()
        assert dx[: t + 1].abs().amax(dim=(1, 2)).min() > 0


def test_parameters_are_those_that_are_counted() -> None:
    mixer, config = make(3, 4)
    assert sum(p.numel() for p in mixer.parameters()) == 4 * config.d_model * (config.d_model + 1)


@settings(max_examples=40, deadline=None)
@given(
    pairs=st.integers(1, 8),
    first=st.integers(0, 50),
    shift=st.integers(0, 2**20),
    dtype=st.sampled_from([torch.float64, torch.float32]),
)
def test_scores_depend_on_distances_alone(pairs: int, first: int, shift: int, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(pairs)
    q, k = (torch.randn(6, 1, 1, 2 * pairs, generator=g, dtype=dtype) for _ in range(2))
    scores = []
    for start in (first, first + shift):
        table = rotary_table(start, 6, 2 * pairs, 10_000.0, dtype, q.device)
        a, b = rotate(q, *table)[:, 0, 0], rotate(k, *table)[:, 0, 0]
        scores.append(a @ b.T)
    tolerance = {torch.float64: 1e-8, torch.float32: 1e-5}[dtype]  # not 0.03: angles are never rounded to float32
    torch.testing.assert_close(scores[1], scores[0], rtol=0, atol=tolerance)


def test_a_chunk_has_its_part_of_the_table() -> None:
    whole = rotary_table(0, 12, 6, 10_000.0, torch.float64, torch.device("cpu"))
    chunk = rotary_table(5, 4, 6, 10_000.0, torch.float64, torch.device("cpu"))
    for a, b in zip(whole, chunk, strict=True):
        assert torch.equal(a[5:9], b)


@pytest.mark.usefixtures("fresh_probes")
def test_evaluation_first_training_after() -> None:
    mixer, config = make(2, 4)
    rotary_table.cache_clear()
    with torch.inference_mode():
        y = mixer(torch.ones(5, 1, config.d_model))
    x = torch.ones(5, 1, config.d_model, requires_grad=True)
    assert torch.equal(mixer(x), y)
    mixer(x).sum().backward()


@pytest.mark.usefixtures("fresh_probes")
def test_the_first_call_may_be_checkpointed() -> None:
    mixer, config = make(2, 4)
    x = torch.randn(5, 2, config.d_model, requires_grad=True)
    y = checkpoint(mixer, x, use_reentrant=False)
    (dx,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(dx, torch.autograd.grad(mixer(x).sum(), x)[0])


def test_keeps_no_projection_that_it_has_rotated() -> None:
    mixer, config = make(2, 8)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        mixer(torch.randn(64, 2, config.d_model))
    largest = max(t.untyped_storage().nbytes() for t in saved)
    assert largest <= 4 * max(64 * 2 * config.d_model, mixer.Wqkv.weight.numel())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [1, 37])
def test_back_ends_agree(device: str, dtype: torch.dtype, length: int) -> None:
    g = torch.Generator().manual_seed(length)
    # As the mixer passes them: [L, B, H, E] in memory.
    exact = [torch.randn(length, 2, 3, 16, generator=g, dtype=torch.float64).to(dtype) for _ in range(4)]
    *leaves, dy = (t.to(device).permute(1, 2, 0, 3).requires_grad_() for t in exact)
    names = [name for name in BACKENDS if attention._refusal(name, *attention._kind(leaves[0])) is None]
    assert "sdpa-math" in names
    expected: list[Tensor] = []
    for name in ["sdpa-math", None, *names]:
        y = causal_attention(*leaves, backend=name)
        results = [y.detach(), *torch.autograd.grad(y, leaves, dy.detach())]
        expected = expected or results
        for a, b in zip(results, expected, strict=True):
            assert a.dtype == dtype
            assert (a - b).abs().max() <= TOLERANCE[dtype] * b.abs().max().clamp(min=1)


def test_flash_attn_gets_the_layout_it_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    def flash_attn_func(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, deterministic: bool) -> Tensor:
        assert causal
        assert not deterministic
        assert q.shape == (2, 7, 3, 8)
        y = causal_attention(*(t.transpose(1, 2) for t in (q, k, v)), backend="sdpa-math")
        return y.transpose(1, 2)

    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_func=flash_attn_func))
    qkv = torch.randn(3, 2, 3, 7, 8)
    assert torch.equal(attention._run("flash-attn", *qkv), causal_attention(*qkv, backend="sdpa-math"))


def test_the_cpu_has_two() -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert usable_backends(torch.device("cpu"), dtype, 64) == ["sdpa-flash", "sdpa-math"]
        assert attention_backend(torch.empty(1, 1, 5, 64, dtype=dtype)) == "sdpa-flash"


@pytest.mark.parametrize(
    ("capability", "first"),
    [((8, 0), "sdpa-flash"), ((8, 9), "sdpa-flash"), ((9, 0), "sdpa-cudnn"), ((10, 0), "sdpa-cudnn")],
)
def test_the_order_on_gpus(capability: tuple[int, int], first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    names = attention._order(torch.device("cuda", 0))
    assert sorted(names) == sorted(BACKENDS)
    assert names[:2] == ("flash-attn", first)
    assert names[3:] == ("sdpa-efficient", "sdpa-math")


@pytest.mark.usefixtures("fresh_probes")
def test_what_refuses_is_passed_over_and_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, run = [], attention._run

    def refuse(name: str, *qkv: Tensor) -> Tensor:
        asked.append(name)
        if name == "sdpa-flash":
            raise RuntimeError("No available kernel. Aborting execution.")
        return run(name, *qkv)

    monkeypatch.setattr(attention, "_run", refuse)
    q = torch.randn(1, 2, 5, 4)
    assert [attention_backend(q) for _ in range(3)] == ["sdpa-math"] * 3
    assert asked == ["sdpa-flash", "sdpa-math"]
    assert attention_backend(q.double()) == "sdpa-math"
    assert len(asked) == 4


@pytest.mark.usefixtures("fresh_probes")
def test_any_other_failure_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, *qkv: Tensor) -> Tensor:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(attention, "_run", fail)
    with pytest.raises(RuntimeError, match="device-side assert"):
        attention_backend(torch.randn(1, 2, 5, 4))


@pytest.mark.usefixtures("fresh_probes")
def test_a_probe_neither_leaves_nor_sees_traces(
    recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    types, run = [], attention._run

    def noisy(name: str, *qkv: Tensor) -> Tensor:
        warnings.warn("Flash attention kernel not used because: ...", stacklevel=1)
        y = run(name, *qkv)
        types.append((y.dtype, y.requires_grad))
        return y

    monkeypatch.setattr(attention, "_run", noisy)
    state = torch.get_rng_state()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert usable_backends(torch.device("cpu"), torch.float32, 8) == ["sdpa-flash", "sdpa-math"]
    assert types == [(torch.float32, True)] * 2
    assert torch.equal(torch.get_rng_state(), state)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("flash", "attention backend 'flash' does not exist; choose one of flash-attn, sdpa-cudnn, .*sdpa-math$"),
        ("sdpa-cudnn", "'sdpa-cudnn' cannot take torch.float32 heads of size 8 on cpu: .*; use 'sdpa-flash'$"),
        ("sdpa-efficient", "'sdpa-efficient' cannot take .*: torch has no such kernel .*; use 'sdpa-flash'$"),
        ("flash-attn", "'flash-attn' cannot take .*: it takes float16 and bfloat16.*; use 'sdpa-flash'$"),
    ],
)
def test_a_back_end_that_cannot_be_had(backend: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        causal_attention(*torch.zeros(3, 1, 1, 2, 8), backend=backend)
