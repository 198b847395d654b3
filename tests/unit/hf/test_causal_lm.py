"""HyenaDNAForCausalLM: the loss, what is saved and loaded again, and generation."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM

from hyena_dist import HyenaDNA, load_published
from hyena_dist.hf import HyenaDNAForCausalLM
from hyena_dist.models.published import check_finite
from hyena_dist.train.export import write_model
from tests.parity.test_golden import FOLDERS, GOLDEN, make_hf
from tests.unit.hf.small import build, config, ids

REMOTE = {"AutoConfig": "a.Config", "AutoModel": "b.Model", "AutoModelForCausalLM": "b.LM"}


@torch.no_grad()
@pytest.mark.parametrize("folder", FOLDERS)
def test_the_ports_folders_load_without_trust(folder: str, tmp_path: Path) -> None:
    """Golden values within 1e-5 through AutoModel; the port's code is neither there nor asked for."""
    path = make_hf(folder, tmp_path / "hf")
    fields = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(fields | {"auto_map": REMOTE}))
    expected = load_file(GOLDEN / folder / "expected.safetensors")
    model = AutoModelForCausalLM.from_pretrained(path)
    assert type(model) is HyenaDNAForCausalLM
    for loaded, name in ((model, "logits"), (AutoModel.from_pretrained(path), "hidden_states")):
        assert (loaded(expected["input_ids"])[0] - expected[name]).abs().max() <= 1e-5


@torch.no_grad()
def test_grids_that_a_folder_lacks_follow_the_formula(tmp_path: Path) -> None:
    path = make_hf("tiny", tmp_path / "hf", grids=False)
    model, report = AutoModelForCausalLM.from_pretrained(path, output_loading_info=True)
    assert {name.rpartition("pos_emb.")[2] for name in report["missing_keys"]} == {"z", "t"}
    assert (model(ids(1, 30)).logits - load_published(path)(ids(1, 30)).logits).abs().max() <= 1e-6


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shift", [0.0, 0.05])
def test_ours_to_theirs_and_back(shift: float, tied: bool, tmp_path: Path) -> None:
    """Ours -> a folder -> AutoModelForCausalLM -> save_pretrained -> load_published -> ours, the same bits."""
    torch.manual_seed(0)
    ours = HyenaDNA(config(tie_word_embeddings=tied, shift=shift).architecture).eval()
    (tmp_path / "ours").mkdir()
    write_model(tmp_path / "ours", ours)
    from hyena_dist.hf import export_hf

    export_hf(tmp_path / "ours", tmp_path / "hf")
    AutoModelForCausalLM.from_pretrained(tmp_path / "hf").save_pretrained(tmp_path / "again")
    back = load_published(tmp_path / "again")
    assert back.config == ours.config
    assert torch.equal(back(ids(2, 30)).logits, ours(ids(2, 30)).logits)
    check_finite(back, "what came back")


# The port's names of a layer's tensors, of which implicit_filter.3.freq and 5.freq are 1.freq once more.
WITH_BIAS = ("mixer.in_proj", "mixer.out_proj", "mixer.short_filter", "mlp.fc1", "mlp.fc2", "norm1", "norm2")
WITH_BIAS += tuple(f"mixer.filter_fn.implicit_filter.{i}" for i in (0, 2, 4))
LAYER = {f"{layer}.{what}" for layer in WITH_BIAS for what in ("weight", "bias")}
LAYER |= {"mixer.filter_fn.bias", "mixer.filter_fn.implicit_filter.1.freq", "mixer.filter_fn.implicit_filter.6.weight"}
LAYER |= {"mixer.filter_fn.modulation.deltas", "mixer.filter_fn.pos_emb.z", "mixer.filter_fn.pos_emb.t"}


@pytest.mark.parametrize("tied", [True, False])
def test_the_file_has_what_the_ports_code_looks_for(tied: bool, tmp_path: Path) -> None:
    """A head, which the port never ties; grids, which it would draw at random; the shared frequency once."""
    model = build(HyenaDNAForCausalLM, tie_word_embeddings=tied)
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert torch.equal(stored["lm_head.weight"], model.lm_head.weight)
    assert stored.keys() == {f"hyena.backbone.layers.{i}.{name}" for i in (0, 1) for name in LAYER} | {
        "hyena.backbone.embeddings.word_embeddings.weight",
        "hyena.backbone.ln_f.weight",
        "hyena.backbone.ln_f.bias",
        "lm_head.weight",
    }
    again = HyenaDNAForCausalLM.from_pretrained(tmp_path)
    assert (again.lm_head.weight is again.get_input_embeddings().weight) == tied
    assert torch.equal(again(ids(1, 9)).logits, model(ids(1, 9)).logits)


@pytest.mark.parametrize("use", ["1", "3", "5"])
def test_the_frequency_under_any_of_its_names(use: str, tmp_path: Path) -> None:
    model = build(HyenaDNAForCausalLM)
    state = {name: v for name, v in model.state_dict().items() if ".freq" not in name or f".{use}.freq" in name}
    model.save_pretrained(tmp_path, state_dict=state)
    again, report = HyenaDNAForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert torch.equal(again(ids(1, 9)).logits, model(ids(1, 9)).logits)
    network = again.hyena.backbone.layers[0].mixer.filter_fn.implicit_filter
    assert len({id(getattr(network, number).freq) for number in "135"}) == 1


def test_shards_and_torch_files(tmp_path: Path) -> None:
    """Both load through AutoModel and load_published; torch's file has the frequency under all its names."""
    model = build(HyenaDNAForCausalLM)
    model.save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    (tmp_path / "bin").mkdir()
    torch.save(model.state_dict(), tmp_path / "bin/pytorch_model.bin")
    model.config.save_pretrained(tmp_path / "bin")
    for folder in ("shards", "bin"):
        for load in (AutoModelForCausalLM.from_pretrained, load_published):
            assert (load(tmp_path / folder)(ids(1, 9)).logits - model(ids(1, 9)).logits).abs().max() <= 1e-6


def test_the_loss_is_that_of_the_shifted_tokens() -> None:
    model = build(HyenaDNAForCausalLM).double()
    tokens = ids(3, 20)
    labels = tokens.clone()
    labels[:, 5:9] = -100
    out = model(tokens, labels=labels)
    rows = out.logits[:, :-1, :12].flatten(0, 1)  # columns from 12 on belong to no token
    wanted = F.cross_entropy(rows, labels[:, 1:].flatten())
    assert (out.loss - wanted).abs() <= 1e-12
    total = model(tokens, labels=labels, num_items_in_batch=torch.tensor(7)).loss
    assert (total - wanted * (labels[:, 1:] != -100).sum() / 7).abs() <= 1e-12
    last = model(tokens, labels=labels, logits_to_keep=2)
    assert torch.equal(last.loss, out.loss)
    assert torch.equal(last.logits, out.logits[:, -2:])


def test_the_loss_does_not_feel_padding() -> None:
    model = build(HyenaDNAForCausalLM).double()
    tokens = ids(1, 20)
    wanted = model(tokens, labels=tokens).loss
    pad = torch.full((1, 5), 4)
    for ends in ((pad, tokens), (tokens, pad), (pad, tokens, pad)):
        batch = torch.cat(ends, 1)
        mask = batch != 4
        for labels in (batch, batch.masked_fill(~mask, -100)):
            assert (model(batch, mask, labels=labels).loss - wanted).abs() <= 1e-10


GENERATIONS: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "sampling": {"do_sample": True, "top_k": 3, "temperature": 0.7},
    "beams": {"num_beams": 3, "do_sample": False},
    "several of each": {"do_sample": True, "num_return_sequences": 2},
}


def generate(model: HyenaDNAForCausalLM, prompt: Any, **how: Any) -> Any:
    torch.manual_seed(0)
    return model.generate(prompt, max_new_tokens=12, **how)


@pytest.mark.parametrize("how", GENERATIONS.values(), ids=GENERATIONS)
def test_generate(how: dict[str, Any]) -> None:
    model = build(HyenaDNAForCausalLM)
    found = generate(model, ids(2, 9), **how)
    assert found.shape == (2 * how.get("num_return_sequences", 1), 9 + 12)
    assert found.max() < 12  # the padded columns are never chosen
    assert torch.equal(found[:: how.get("num_return_sequences", 1), :9], ids(2, 9))
    assert torch.equal(generate(model, ids(2, 9), use_cache=False, **how), found)


def test_greedy_generation_takes_the_likeliest_token() -> None:
    model = build(HyenaDNAForCausalLM)
    tokens = ids(1, 9)
    for _ in range(12):
        tokens = torch.cat((tokens, model(tokens).logits[:, -1:, :12].argmax(-1)), 1)
    assert torch.equal(generate(model, ids(1, 9), do_sample=False), tokens)


def test_generation_does_not_feel_padding() -> None:
    model = build(HyenaDNAForCausalLM)
    prompt = ids(1, 9)
    batch = torch.cat((torch.full((1, 4), 4), prompt), 1)
    wanted = generate(model, prompt, do_sample=False)[:, 9:]
    batch, mask = torch.cat((batch, ids(1, 13))), torch.cat((batch != 4, ids(1, 13) > 0))
    found = generate(model, batch, attention_mask=mask, do_sample=False)
    assert torch.equal(found[:1, 13:], wanted)
    embeds = model.get_input_embeddings()(batch)
    assert torch.equal(generate(model, None, inputs_embeds=embeds, attention_mask=mask, do_sample=False)[:1], wanted)
