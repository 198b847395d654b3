"""A decoder gives, token by token, the logits of the whole forward pass in fp64."""

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyena_dist import HyenaDNA, ModelConfig, UserError, load_published
from hyena_dist.generation.decoder import Decoder, memory_bytes
from tests.tensor_memory import peak_of_tensors

GOLDEN = Path("tests/golden")


def made(order: int = 2, l_max: int = 300, d_model: int = 16, **fields: object) -> HyenaDNA:
    """Return a model whose weights are far from their small initial values, as those of a trained one are."""
    torch.manual_seed(order)
    config = ModelConfig(d_model=d_model, l_max=l_max, order=order, filter_order=16, modulation_shift=0.05, **fields)
    model = HyenaDNA(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and not name.endswith("freq"):
                parameter.normal_(std=parameter.shape[1] ** -0.5)
    return model


def bases(*shape: int) -> Tensor:
    return torch.randint(7, 11, shape, generator=torch.Generator().manual_seed(0))


def decoded(model: HyenaDNA, ids: Tensor, prompt: int) -> Tensor:
    """Return the logits from the prompt's last position on, [B, L - prompt + 1, V]; without a prompt all, [B, L, V]."""
    decoder = Decoder(model, *ids.shape)
    found = [decoder.prefill(ids[:, :prompt])] if prompt else []
    found += [decoder.step(ids[:, t]) for t in range(prompt, ids.shape[1])]
    return torch.stack(found, dim=1)


def error(model: HyenaDNA, ids: Tensor, prompt: int) -> float:
    """Return the largest difference from the forward pass in fp64, as a share of the largest logit."""
    with torch.no_grad():
        expected = copy.deepcopy(model).double()(ids).logits[:, max(0, prompt - 1) :]
    return float((decoded(model, ids, prompt).double() - expected).abs().max() / expected.abs().max())


@settings(max_examples=15, deadline=None)
@given(
    order=st.integers(2, 4),
    prompt=st.integers(0, 150),
    steps=st.integers(1, 150),
    batch=st.integers(1, 5),
    taps=st.integers(1, 4),
)
def test_equals_the_forward_pass_in_fp64(order: int, prompt: int, steps: int, batch: int, taps: int) -> None:
    model = made(order, short_filter_order=taps).double()
    assert error(model, bases(batch, prompt + steps), prompt) < 1e-12


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("prompt", [0, 1, 2, 700])
def test_fp32_is_within_1e_5_of_the_largest_logit(order: int, prompt: int) -> None:
    model = made(order, l_max=1000)
    assert error(model, bases(2, 1000), prompt) < 1e-5


@pytest.mark.parametrize("folder", ["tiny", "order3-checkpointed"])
def test_golden_models(folder: str) -> None:
    model = load_published(GOLDEN / folder)
    assert error(model, bases(2, model.config.l_max), 50) < 1e-5


def test_a_prompt_of_100_000_bases() -> None:
    model = made(3, l_max=100_064, d_model=4)
    assert error(model, bases(1, 100_064), 100_000) < 1e-5


def test_a_head_of_its_own_and_small_token_ids() -> None:
    model = made(tie_embeddings=False).double()
    ids = bases(2, 40)
    assert error(model, ids, 10) < 1e-12
    assert torch.equal(decoded(model, ids.to(torch.uint8), 10), decoded(model, ids, 10))


@pytest.mark.parametrize("cast", ["parameters", "activations"])
def test_bf16_is_as_close_as_its_own_forward_pass(cast: str) -> None:
    model = made()
    exact = copy.deepcopy(model).double()
    if cast == "parameters":
        model.bfloat16()
    else:
        state = model.state_dict()
        model = HyenaDNA(model.config, compute_dtype=torch.bfloat16).eval()
        model.load_state_dict(state)
    ids = bases(2, 200)
    with torch.no_grad():
        expected = exact(ids).logits[:, 99:]
        own = float((model(ids).logits[:, 99:] - expected).abs().mean())
    assert float((decoded(model, ids, 100) - expected).abs().mean()) < 1.2 * own


@pytest.mark.parametrize("prompt", [0, 60])
def test_rows_depend_neither_on_the_batch_nor_on_their_place(prompt: int) -> None:
    model = made()
    ids = bases(1, 200).repeat(9, 1)
    ids[:, prompt:] = bases(9, 200 - prompt)

    def rows(index: list[int]) -> Tensor:
        decoder = Decoder(model, len(index), 200)
        if prompt:
            decoder.prefill(ids[:1, :prompt])
        return torch.stack([decoder.step(ids[index, t]) for t in range(prompt, 200)])

    whole = rows(list(range(9)))
    for index in ([0], [8], [3, 1], [2, 7, 5], [8, 6, 4, 2, 0]):
        assert torch.equal(rows(index), whole[:, index]), index


def test_reordered_rows_go_on_as_those_they_were() -> None:
    model, ids, index = made(3).double(), bases(3, 120), torch.tensor([2, 0, 0])
    decoder = Decoder(model, 3, 120)
    decoder.prefill(ids[:, :20])
    for t in range(20, 70):
        decoder.step(ids[:, t])
    decoder.reorder(index)
    found = [decoder.step(ids[:, t]) for t in range(70, 120)]
    expected = decoded(model, torch.cat((ids[index, :70], ids[:, 70:]), dim=1), 69)
    torch.testing.assert_close(torch.stack(found, dim=1), expected[:, 2:], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("batch", "steps"), [(1, 500), (4, 200)])
def test_memory_is_within_a_tenth_of_the_formula(batch: int, steps: int) -> None:
    model = made(3, l_max=steps, d_model=64)

    def run() -> Decoder:
        decoder = Decoder(model, batch, steps)
        for _ in range(steps):
            decoder.step(bases(batch))
        return decoder

    assert peak_of_tensors(run) == pytest.approx(memory_bytes(model.config, batch, steps), rel=0.1)


def test_mistakes_are_one_sentence() -> None:
    model = made()
    with pytest.raises(UserError, match="max_length 301 is not from 1 to the model's l_max 300"):
        Decoder(model, 1, 301)
    with pytest.raises(UserError, match="a batch of 0 sequences"):
        Decoder(model, 0, 10)
    with pytest.raises(UserError, match="layers of kind A, and only Hyena layers"):
        Decoder(made(layer_pattern="HA", num_attention_heads=2), 1, 10)
    decoder = Decoder(model, 2, 10)
    with pytest.raises(UserError, match=r"a prompt of shape \(2, 0\)"):
        decoder.prefill(bases(2, 0))
    with pytest.raises(UserError, match="0 tokens and 11 more are beyond the 10"):
        decoder.prefill(bases(2, 11))
    with pytest.raises(UserError, match=r"tokens of shape \(3,\)"):
        decoder.step(bases(3))
    decoder.prefill(bases(2, 10))
    with pytest.raises(UserError, match="10 tokens and 1 more"):
        decoder.step(bases(2))
    with pytest.raises(RuntimeError, match="a prompt comes before all else"):
        decoder.prefill(bases(2, 1))
