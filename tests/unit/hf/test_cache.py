"""Generation step by step: that it is used where it is exact, gives what forward passes do, and is left where not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hyena_dist import UserError
from hyena_dist.generation.decoder import Decoder
from hyena_dist.hf import HyenaDNAForCausalLM
from hyena_dist.hf.cache import can_step
from tests.unit.hf.small import LENGTH, build, ids
from tests.unit.hf.test_training import with_adapters


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batches of all steps that decoders take."""
    taken: list[int] = []
    step = Decoder.step

    def counted(self: Decoder, tokens: Tensor) -> Tensor:
        taken.append(len(tokens))
        return step(self, tokens)

    monkeypatch.setattr(Decoder, "step", counted)
    return taken


def greedy(model: Any, prompt: Tensor, **how: Any) -> Any:
    return model.generate(input_ids=prompt, max_new_tokens=8, do_sample=False, **how)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("order", [2, 3])
def test_each_token_costs_one_step_and_has_the_logits_of_a_forward_pass(
    order: int, dtype: torch.dtype, steps: list[int]
) -> None:
    model = build(HyenaDNAForCausalLM, hyena_order=order).to(dtype)
    found = greedy(model, ids(2, 9), return_dict_in_generate=True, output_logits=True)
    assert steps == [2] * 7  # the first token comes from the prompt
    wanted = model.double()(found.sequences).logits[:, 8:-1]
    limit = 1e-5 if dtype == torch.float32 else 1e-6  # generate rounds logits to fp32
    assert (torch.stack(found.logits, 1) - wanted).abs().max() <= limit * wanted.abs().max()


def test_all_positions_of_the_model_can_be_used() -> None:
    model = build(HyenaDNAForCausalLM)
    found = model.generate(ids(1, 9), max_length=LENGTH + 1, do_sample=False)
    assert found.shape == (1, LENGTH + 1)
    for use_cache in (True, False):
        with pytest.raises(UserError, match=f"would be {LENGTH + 2} tokens, and the model's max_seq_len {LENGTH}"):
            model.generate(ids(1, 9), max_length=LENGTH + 2, use_cache=use_cache)


def hooked(model: HyenaDNAForCausalLM, name: str) -> HyenaDNAForCausalLM:
    model.get_submodule(name).register_forward_hook(lambda *call: None)
    return model


FALLBACKS: dict[str, Callable[[], Any]] = {
    "attention": lambda: build(HyenaDNAForCausalLM, layer_pattern="HA", num_attention_heads=2),
    "adapters": lambda: with_adapters(build(HyenaDNAForCausalLM)).eval(),
    "training": lambda: build(HyenaDNAForCausalLM, embed_dropout=0.0).train(),
    "a hook on a block": lambda: hooked(build(HyenaDNAForCausalLM), "hyena.backbone.layers.1"),
    "a hook on the head": lambda: hooked(build(HyenaDNAForCausalLM), "lm_head"),
}


@pytest.mark.parametrize("make", FALLBACKS.values(), ids=FALLBACKS)
def test_other_models_take_forward_passes(make: Callable[[], Any], steps: list[int]) -> None:
    model = make()
    assert not can_step(getattr(model, "base_model", model).model if hasattr(model, "peft_config") else model)
    assert torch.equal(greedy(model, ids(2, 9)), greedy(model, ids(2, 9), use_cache=False))
    assert not steps


def test_padding_and_hidden_states_take_forward_passes(steps: list[int]) -> None:
    model = build(HyenaDNAForCausalLM)
    mask = torch.ones(2, 9, dtype=torch.long)
    greedy(model, ids(2, 9), attention_mask=mask)
    assert len(steps) == 7
    mask[0, :3] = 0
    greedy(model, ids(2, 9), attention_mask=mask)
    greedy(model, ids(2, 9), return_dict_in_generate=True, output_hidden_states=True)
    assert len(steps) == 7


def test_merged_adapters_are_in_each_step(steps: list[int]) -> None:
    model = with_adapters(build(HyenaDNAForCausalLM))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
    wanted = greedy(model.eval(), ids(2, 9))
    assert not steps
    assert torch.equal(greedy(model.merge_and_unload(), ids(2, 9)), wanted)
    assert len(steps) == 7
