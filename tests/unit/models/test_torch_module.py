"""A model is a torch module like any other: it can be copied, pickled, averaged and cast."""

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hyena_dist import HyenaDNA, ModelConfig, UserError, load_published
from hyena_dist.data.tokenizer import encode

IDS = torch.randint(7, 11, (2, 24), generator=torch.Generator().manual_seed(0))


def model() -> HyenaDNA:
    torch.manual_seed(0)
    config = ModelConfig(d_model=8, l_max=64, filter_order=16, layer_pattern="HA", num_attention_heads=2)
    return HyenaDNA(config).eval()


def saved_and_loaded(model: HyenaDNA) -> Any:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: dict[str, Callable[[HyenaDNA], Any]] = {
    "copy.deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": saved_and_loaded,
    "EMA": lambda model: torch.optim.swa_utils.AveragedModel(model, use_buffers=True).module,
}


@pytest.mark.parametrize("made", COPIES.values(), ids=COPIES)
def test_a_copy_is_the_same_model_with_memory_of_its_own(made: Callable[[HyenaDNA], Any]) -> None:
    original = model()
    copied = made(original)
    expected = original(IDS).logits
    assert torch.equal(copied(IDS).logits, expected)
    copied(IDS, IDS).nll_sum.backward()
    with torch.no_grad():
        for parameter in copied.parameters():
            assert parameter.grad is not None
            parameter.zero_()
    assert torch.equal(original(IDS).logits, expected)
    assert all(parameter.grad is None for parameter in original.parameters())


@pytest.mark.filterwarnings("ignore:Dynamo detected a call:UserWarning")
def test_a_compiled_model_is_the_same_model() -> None:
    """By the fastest of torch's compilers, which traces as the default one does; that was tried by hand."""
    original = model()
    compiled = torch.compile(original, backend="aot_eager")
    assert (compiled(IDS).logits - original(IDS).logits).abs().max() <= 1e-5
    gradients = []
    for found in (original, compiled):
        original.zero_grad()
        found(IDS, IDS, skip_logits=True).nll_sum.backward()
        gradients.append([p.grad.clone() for p in original.parameters()])
    for a, b in zip(*gradients, strict=True):
        assert (a - b).abs().max() <= 1e-5 * a.abs().max()


DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]
# What is cast, the type it has then, and the coarsest type that it went through.
CASTS: dict[str, tuple[Callable[[HyenaDNA], HyenaDNA], torch.dtype, torch.dtype]] = {
    "bfloat16": (lambda model: model.bfloat16(), torch.bfloat16, torch.bfloat16),
    "half": (lambda model: model.half(), torch.float16, torch.float16),
    "to(bfloat16)": (lambda model: model.to(torch.bfloat16), torch.bfloat16, torch.bfloat16),
    "to(dtype=float64)": (lambda model: model.to(dtype=torch.float64), torch.float64, torch.float64),
    "double": (lambda model: model.double(), torch.float64, torch.float64),
    "double, float": (lambda model: model.double().float(), torch.float32, torch.float32),
    "half, float": (lambda model: model.half().float(), torch.float32, torch.float16),
    "bfloat16, double": (lambda model: model.bfloat16().double(), torch.float64, torch.bfloat16),
    "like a tensor": (lambda model: model.to(torch.ones(1, dtype=torch.float64)), torch.float64, torch.float64),
    "nothing": (lambda model: model.to("cpu"), torch.float32, torch.float32),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("cast", "dtype", "coarsest"), CASTS.values(), ids=CASTS)
def test_a_cast_model_computes_in_its_type(
    cast: Callable[[HyenaDNA], HyenaDNA], dtype: torch.dtype, coarsest: torch.dtype, device: str
) -> None:
    """Outputs have the type, and differ from exact ones by a few of its roundings; losses are fp32 or fp64."""
    exact = model().double()(IDS, IDS)
    found = cast(model()).to(device)
    ids = IDS.to(device)
    out = found(ids, ids)
    alone = found(ids, ids, skip_logits=True).nll
    assert out.logits.dtype == out.hidden_states.dtype == found.compute_dtype == dtype
    assert out.nll.dtype == alone.dtype == torch.promote_types(dtype, torch.float32)
    limit = 8 * torch.finfo(coarsest).eps
    for actual, wanted in ((out.logits, exact.logits), (out.hidden_states, exact.hidden_states)):
        assert (actual.cpu().double() - wanted).abs().max() <= limit * wanted.abs().max()
    for actual in (out.nll, alone):
        assert (actual.cpu().double() - exact.nll).abs().max() <= limit * exact.nll.abs().max()
    found.train()(ids, ids, skip_logits=True).nll_sum.backward()
    for name, parameter in found.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_filters_are_spared_by_casts_to_16_bits(dtype: torch.dtype) -> None:
    original, cast = model(), model().to(dtype)
    filters = {name: value for name, value in cast.state_dict().items() if ".filter_fn." in name}
    assert filters
    for name, value in filters.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, original.state_dict()[name])
    others = [value for name, value in cast.state_dict().items() if name not in filters]
    assert {value.dtype for value in others} == {dtype}
    kernels = [found.backbone.layers[0].mixer.filter_fn(24) for found in (original, cast)]
    assert torch.equal(*kernels)


def test_activations_in_bf16_outlast_a_move() -> None:
    """A cast changes the compute type; a move, or a cast to what the parameters are already, does not."""
    found = HyenaDNA(model().config, compute_dtype=torch.bfloat16)
    for moved in (found, found.to("cpu"), found.float(), copy.deepcopy(found)):
        assert moved.compute_dtype == moved.backbone.layers[0].norm1.compute_dtype == torch.bfloat16
    assert found(IDS).logits.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.complex64, torch.int8])
def test_casts_that_are_not_built_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(UserError, match=rf"a model cannot compute in {dtype}, .*; choose one of torch\.float64"):
        model().to(dtype)
    with pytest.raises(UserError, match=rf"a model cannot compute in {dtype}"):
        load_published("nowhere", dtype=dtype)


def test_a_published_model_in_another_type() -> None:
    folder = Path(__file__).parents[2] / "golden/tiny"
    for dtype in (None, torch.bfloat16, torch.float16, torch.float64):
        found = load_published(folder, dtype=dtype)
        assert found(IDS).logits.dtype == (dtype or torch.float32)
        assert not found.training
    exact = load_published(folder).double()(IDS).logits
    assert torch.equal(load_published(folder, dtype=torch.float64)(IDS).logits, exact)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_token_ids_of_any_integer_type(dtype: torch.dtype) -> None:
    found = model()
    wanted = found(IDS, IDS)
    out = found(IDS.to(dtype), IDS.to(dtype))
    assert torch.equal(out.logits, wanted.logits)
    assert torch.equal(out.nll, wanted.nll)
    alone = found(IDS.to(dtype), IDS.to(dtype), skip_logits=True).nll
    assert torch.equal(alone, found(IDS, IDS, skip_logits=True).nll)


def test_tokens_as_the_tokenizer_returns_them() -> None:
    tokens = torch.from_numpy(encode("ACGTNacgt"))[None]
    assert tokens.dtype == torch.uint8
    assert model()(tokens).logits.shape == (1, len("ACGTNacgt"), 16)
