"""Weights as other trainers name, wrap and split them give the model that was saved."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from hyena_dist import HyenaDNA, ModelConfig, UserError, from_published_config, load_published
from hyena_dist.models.published_config import write_fields
from hyena_dist.models.weights_files import read_tensors
from hyena_dist.train.evaluation.held_out import load_for_evaluation
from hyena_dist.train.export import export

IDS = torch.randint(7, 11, (2, 24), generator=torch.Generator().manual_seed(0))
CONFIG = ModelConfig(d_model=8, n_layer=2, l_max=40, filter_order=16, modulation_shift=0.05)


@pytest.fixture
def model(tmp_path: Path) -> HyenaDNA:
    torch.manual_seed(0)
    (tmp_path / "config.json").write_text(json.dumps(write_fields(CONFIG, None)))
    return HyenaDNA(CONFIG).eval()


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def with_head(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {"lm_head.weight": state["backbone.embeddings.word_embeddings.weight"]}


def stripped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("backbone."): value for name, value in state.items()}


def by_block(part: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as they are where each layer was wrapped on its own."""
    layers = [(f"layers.{i}.", f"layers.{i}.{part}.") for i in range(2)]
    for plain, wrapped in layers:
        state = {name.replace(plain, wrapped): value for name, value in state.items()}
    return state


WRAPPED = {
    "plain": lambda s: s,
    "Lightning": lambda s: {"state_dict": prefixed("model.", with_head(s)), "epoch": 3},
    "DistributedDataParallel": lambda s: prefixed("module.model.", with_head(s)),
    "torch.compile": lambda s: {"state_dict": prefixed("_orig_mod.model.", s)},
    "compiled inside": lambda s: {"state_dict": prefixed("model._orig_mod.", s)},
    "compiled blocks": lambda s: prefixed("model.", by_block("_orig_mod", s)),
    "FSDP": lambda s: prefixed("_fsdp_wrapped_module.", by_block("_checkpoint_wrapped_module", s)),
    "Fabric": lambda s: {"model": prefixed("_forward_module.module.", s)},
    "DeepSpeed": lambda s: {"module": s, "optimizer": {"state": {0: torch.ones(2)}}, "lr_scheduler": None},
    "DeepSpeed and Lightning": lambda s: {"module": prefixed("_forward_module.model.", s)},
    "model_state_dict": lambda s: {"model_state_dict": s, "optimizer_state_dict": {"state": {}}},
    "three deep": lambda s: {"checkpoint": {"weights": {"generator": s}}},
    "hyena": lambda s: prefixed("hyena.", s) | {"lm_head.weight": with_head(s)["lm_head.weight"]},
    "stripped": lambda s: stripped(s) | {"lm_head.weight": with_head(s)["lm_head.weight"]},
    "stripped and wrapped": lambda s: {"state_dict": prefixed("encoder.", stripped(s)) | {"head.bias": torch.ones(2)}},
    "beside a task's head": lambda s: prefixed("net.", s) | {"head.weight": torch.ones(2), "step": torch.tensor(1)},
    "beside an average": lambda s: prefixed("model.", s) | prefixed("ema.", {k: v + 1 for k, v in s.items()}),
    "an average of its own": lambda s: {"ema": {k: v + 1 for k, v in s.items()}, "model": s},
}  # fmt: skip


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("name", ["weights.ckpt", "pytorch_model.bin"])
def test_names_are_found_whatever_surrounds_them(wrap: Any, name: str, model: HyenaDNA, tmp_path: Path) -> None:
    torch.save(wrap(dict(model.state_dict())), tmp_path / name)
    loaded = load_published(tmp_path)
    assert loaded.lm_head is None
    assert torch.equal(loaded(IDS).logits, model(IDS).logits)


STRANGE = {
    "another model": (
        lambda s: {"state_dict": {"transformer.wte.weight": torch.ones(2), "transformer.ln.bias": torch.ones(2)}},
        r"has no embeddings\.word_embeddings\.weight under any prefix, but 2 tensors such as transformer\.wte\.weight",
    ),
    "two models": (
        lambda s: prefixed("student.", s) | prefixed("teacher.", s),
        r"holds several models \(student\.backbone\., teacher\.backbone\.\); save the one that is meant alone",
    ),
    "two mappings": (
        lambda s: {"student": s, "teacher": s},
        r"holds several models \(student, teacher\); save the one that is meant alone",
    ),
    "another part": (
        lambda s: prefixed("model.", {k.replace("norm1.bias", "norm_1.bias"): v for k, v in s.items()}),
        r"layers\.0\.norm1\.bias is missing in the checkpoint \(4 such names\); it has backbone\.\S+\.norm_1\.bias;",
    ),
    "a pickled model": (lambda s: HyenaDNA(CONFIG), r"is a pickled object, which is not run; save its state_dict\(\)"),
}  # fmt: skip


@pytest.mark.parametrize(("wrap", "sentence"), STRANGE.values(), ids=STRANGE)
def test_what_is_no_such_model_is_told_by_what_the_file_has(
    wrap: Any, sentence: str, model: HyenaDNA, tmp_path: Path
) -> None:
    torch.save(wrap(dict(model.state_dict())), tmp_path / "weights.ckpt")
    with pytest.raises(UserError, match=sentence) as caught:
        load_published(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_parts_with_an_index(name: str, model: HyenaDNA, tmp_path: Path) -> None:
    state = prefixed("hyena.", dict(model.state_dict()))
    stem, ending = name.split(".")
    files = [f"{stem}-0000{i}-of-00002.{ending}" for i in (1, 2)]
    where = {key: files[i % 2] for i, key in enumerate(state)}
    for file in files:
        part = {key: state[key] for key in state if where[key] == file}
        save_file(part, tmp_path / file) if ending == "safetensors" else torch.save(part, tmp_path / file)
    index = tmp_path / f"{name}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))
    for path in (tmp_path, index):
        assert torch.equal(load_published(path)(IDS).logits, model(IDS).logits)
    (tmp_path / files[1]).unlink()
    with pytest.raises(UserError, match=rf"index\.json names {files[1]}, which is not beside it; download all 2 parts"):
        load_published(tmp_path)
    for bad in (
        "[]",
        "{}",
        "{",
        json.dumps({"weight_map": {"a": "/etc/passwd"}}),
        json.dumps({"weight_map": {"a": 1}}),
    ):
        index.write_text(bad)
        with pytest.raises(UserError, match=r"is not an index with a weight_map of file names; download it again"):
            load_published(tmp_path)


def test_a_file_of_weights_in_place_of_a_folder(model: HyenaDNA, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": prefixed("model.", dict(model.state_dict()))}, path)
    assert torch.equal(load_for_evaluation(path, [24], None, torch.device("cpu"))(IDS).logits, model(IDS).logits)
    export(path, tmp_path / "out")
    assert torch.equal(load_published(tmp_path / "out")(IDS).logits, model(IDS).logits)
    with pytest.raises(UserError, match=r"is where the model is read from"):
        export(path, tmp_path)
    with pytest.raises(
        UserError, match=r"has neither model\.safetensors, .*; name a file itself, such as .*/last\.ckpt$"
    ):
        load_published(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=r"last\.ckpt has no config\.json beside it, which says what the model is; put"):
        load_for_evaluation(path, [24], None, torch.device("cpu"))


def test_a_state_dict_with_a_grid_of_its_own_goes_into_any_model(model: HyenaDNA, tmp_path: Path) -> None:
    """The original's grid differs from the formula by one unit in the last place; every bit of it is kept."""
    state = dict(model.state_dict())
    for layer in range(2):
        name = f"backbone.layers.{layer}.mixer.filter_fn.pos_emb"
        z, t = model.get_submodule(name).grid(0, 40, torch.float32, torch.device("cpu"))
        z[0, 7, 2] = torch.nextafter(z[0, 7, 2], torch.tensor(2.0))
        state |= {f"{name}.z": z, f"{name}.t": t}
    torch.save(state, tmp_path / "weights.ckpt")
    original = load_published(tmp_path)
    assert original.state_dict().keys() == state.keys()
    fresh = from_published_config(tmp_path).eval()
    without = fresh.state_dict()
    fresh.load_state_dict(original.state_dict())
    assert all(torch.equal(value, state[name]) for name, value in fresh.state_dict().items())
    assert torch.equal(fresh(IDS).logits, original(IDS).logits)
    fresh.load_state_dict(without)
    assert fresh.state_dict().keys() == without.keys(), "the formula's grid, where the state dict has none"
    with pytest.raises(UserError, match=r"pos_emb has a grid of shape \(1, 39, 5\) where"):
        fresh.load_state_dict(state | {name + ".z": z[:, :39]})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_grid_that_was_rounded_to_16_bits_is_the_formulas(
    dtype: torch.dtype, model: HyenaDNA, tmp_path: Path
) -> None:
    """A filter over a grid in bf16 would be stairs: the whole file was cast, and its grid is known exactly."""
    model.save_published(tmp_path)
    state = torch.load(tmp_path / "weights.ckpt", weights_only=True)["state_dict"]
    torch.save({name: value.to(dtype) for name, value in state.items()}, tmp_path / "weights.ckpt")
    loaded = load_published(tmp_path)
    assert not [name for name in loaded.state_dict() if ".pos_emb." in name]
    assert next(loaded.parameters()).dtype == torch.float32
    other = {name: value.to(dtype) * (2 if name.endswith("pos_emb.z") else 1) for name, value in state.items()}
    torch.save(other, tmp_path / "weights.ckpt")
    assert [name for name in load_published(tmp_path).state_dict() if ".pos_emb." in name], "another grid is kept"


def test_read_tensors_gives_our_names(model: HyenaDNA, tmp_path: Path) -> None:
    torch.save(prefixed("module.", dict(model.state_dict())), tmp_path / "x.pt")
    assert read_tensors(tmp_path / "x.pt").keys() == model.state_dict().keys()
