"""Trainer and peft: steps that change what they should, whatever operators are fused."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

from hyena_dist.hf import HyenaDNAForCausalLM, HyenaDNATokenizer
from tests.unit.hf.small import build, ids

TARGETS = ["in_proj", "out_proj", "fc1", "fc2"]


def train(model: Any, folder: Path, **arguments: Any) -> list[float]:
    """Three steps on mixed lengths; the loss of each."""
    arguments |= {"output_dir": str(folder), "max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-2}
    quiet = {"use_cpu": True, "report_to": [], "logging_steps": 1, "disable_tqdm": True, "log_level": "error"}
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**arguments, **quiet),
        train_dataset=[{"input_ids": ids(20 + i % 5, seed=i).tolist()} for i in range(12)],
        data_collator=DataCollatorForLanguageModeling(HyenaDNATokenizer(), mlm=False),
    )
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def with_adapters(model: HyenaDNAForCausalLM) -> Any:
    torch.manual_seed(0)
    return get_peft_model(model, LoraConfig(r=4, target_modules=TARGETS, task_type="CAUSAL_LM"))


WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "recomputed": {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}},
    "bf16": {"bf16": True},
}


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_three_steps_of_trainer(way: dict[str, Any], tmp_path: Path) -> None:
    model = build(HyenaDNAForCausalLM)
    before = copy.deepcopy(model.state_dict())
    losses = train(model, tmp_path, **way)
    assert losses == sorted(losses, reverse=True)
    assert len(losses) == 3
    fixed = (".deltas", ".z", ".t")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.endswith(fixed), name
    again = HyenaDNAForCausalLM.from_pretrained(tmp_path / "checkpoint-3")
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_three_steps_of_lora(way: dict[str, Any], tmp_path: Path) -> None:
    base = build(HyenaDNAForCausalLM)
    before = base(ids(2, 20)).logits
    model = with_adapters(base)
    train(model, tmp_path, **way)
    model.eval()
    adapters = {name: p for name, p in model.named_parameters() if "lora_B" in name}
    assert len(adapters) == 2 * len(TARGETS)
    for name, adapter in adapters.items():
        assert adapter.abs().max() > 0, name  # zero before the first gradient
    after = model(input_ids=ids(2, 20)).logits.float()
    assert (after - before).abs().max() > 1e-2
    with model.disable_adapter():
        assert (model(input_ids=ids(2, 20)).logits.float() - before).abs().max() <= (2e-2 if "bf16" in way else 1e-5)
    merged = model.merge_and_unload()
    assert type(merged) is HyenaDNAForCausalLM
    assert (merged(ids(2, 20)).logits - after).abs().max() <= (2e-2 if "bf16" in way else 1e-5)


def adapter_gradients(recompute: bool) -> list[Tensor]:
    model = with_adapters(build(HyenaDNAForCausalLM, embed_dropout=0.0)).double().train()
    if recompute:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
        assert model.is_gradient_checkpointing
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(len(name)))
    model(input_ids=ids(2, 20), labels=ids(2, 20)).loss.backward()
    return [p.grad for p in model.parameters() if p.requires_grad]


def test_recomputed_activations_lose_no_gradient_of_adapters() -> None:
    """Reentrant checkpoints of a frozen model would, in silence; ours are of the other kind whatever is asked for."""
    for kept, recomputed in zip(adapter_gradients(False), adapter_gradients(True), strict=True):
        assert kept.abs().max() > 0
        assert (kept - recomputed).abs().max() <= 1e-12 * kept.abs().max()
