"""Heads of their own, and exports whose names, head and config are of one dialect; parity/ has the published values."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from hyena_dist import HyenaDNA, ModelConfig, UserError, from_published_config, load_published
from hyena_dist.models.published import check_finite, load_weights
from hyena_dist.train.export import export, write_model

IDS = torch.randint(7, 11, (2, 24), generator=torch.Generator().manual_seed(0))
FIELDS = {"d_model": 8, "n_layer": 2, "l_max": 40, "filter_order": 16, "modulation_shift": 0.05}
HF = {
    "model_type": "hyenadna",
    "auto_map": {"AutoConfig": "configuration_hyena.HyenaConfig"},
    "d_model": 8,
    "d_inner": 32,
    "n_layer": 2,
    "max_seq_len": 40,
    "emb_dim": 5,
    "num_inner_mlps": 2,
    "hyena_order": 2,
    "short_filter_order": 3,
    "filter_order": 16,
    "activation_freq": 10.0,
    "embed_dropout": 0.1,
    "layer_norm_epsilon": 1e-5,
    "initializer_range": 0.02,
    "vocab_size": 12,
    "pad_vocab_size_multiple": 8,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}


def hf_folder(folder: Path, tied: bool, **fields: object) -> tuple[HyenaDNA, dict[str, Tensor]]:
    """Write a folder as the -hf port has it, and return the model and the file's tensors."""
    torch.manual_seed(0)
    model = HyenaDNA(ModelConfig(**FIELDS, tie_embeddings=tied)).eval()
    state = dict(model.state_dict())
    head = state.pop("lm_head.weight", state["backbone.embeddings.word_embeddings.weight"]).clone()
    tensors = {f"hyena.{name}": value for name, value in state.items()} | {"lm_head.weight": head}
    for i, layer in enumerate(model.backbone.layers):
        z, t = layer.mixer.filter_fn.pos_emb.grid(0, 40, torch.float32, torch.device("cpu"))
        tensors |= {
            f"hyena.backbone.layers.{i}.mixer.filter_fn.pos_emb.{n}": g.clone() for n, g in (("z", z), ("t", t))
        }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(HF | fields))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return model, tensors


@pytest.mark.parametrize("tied", [True, False])
def test_an_hf_folder_stays_one(tied: bool, tmp_path: Path) -> None:
    """The export has the names, grids and head that the port's code loads, which draws at random what is missing."""
    model, tensors = hf_folder(tmp_path / "hf", tied)
    export(tmp_path / "hf", tmp_path / "out")
    written = load_file(tmp_path / "out/model.safetensors")
    assert written.keys() == tensors.keys()
    assert all(torch.equal(written[name], tensors[name]) for name in tensors)
    with safe_open(tmp_path / "out/model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config == HF | ({} if tied else {"tie_embeddings": False})
    for folder in ("hf", "out"):
        again = load_published(tmp_path / folder)
        assert (again.lm_head is None) == tied
        assert torch.equal(again(IDS).logits, model(IDS).logits)


def test_the_published_format_is_the_originals_dialect(tmp_path: Path) -> None:
    model, _ = hf_folder(tmp_path / "hf", tied=True)
    export(tmp_path / "hf", tmp_path / "out", "published")
    state = torch.load(tmp_path / "out/weights.ckpt", weights_only=True)["state_dict"]
    assert all(name.startswith("model.") for name in state)
    assert torch.equal(state["model.lm_head.weight"], state["model.backbone.embeddings.word_embeddings.weight"])
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["layer"]["l_max"] == 40
    assert not config.keys() & {"max_seq_len", "hyena_order", "auto_map", "tie_word_embeddings"}
    assert torch.equal(load_published(tmp_path / "out")(IDS).logits, model(IDS).logits)


def test_a_head_of_its_own_is_kept(tmp_path: Path) -> None:
    """An untied head is read, trained and written, and refused where a format or a file says that it is tied."""
    torch.manual_seed(0)
    model = HyenaDNA(ModelConfig(**FIELDS, tie_embeddings=False)).eval()
    assert model.lm_head is not None
    assert model.config.num_parameters == model.num_parameters()
    expected = model(IDS).hidden_states @ model.lm_head.weight.T
    torch.testing.assert_close(model(IDS).logits, expected)
    losses = torch.nn.functional.cross_entropy(expected[..., :12].flatten(0, 1), IDS.flatten(), reduction="sum")
    torch.testing.assert_close(model(IDS, IDS, skip_logits=True).nll_sum, losses)
    model(IDS, IDS, skip_logits=True).nll_sum.backward()
    assert model.lm_head.weight.grad is not None
    assert model.lm_head.weight.grad.abs().max() > 0
    write_model(tmp_path, model)
    again = load_published(tmp_path)
    assert torch.equal(again(IDS).logits, model(IDS).logits)
    assert from_published_config(tmp_path).lm_head is not None
    export(tmp_path, tmp_path / "out")
    assert torch.equal(load_published(tmp_path / "out")(IDS).logits, model(IDS).logits)
    for write in (
        lambda: again.save_published(tmp_path / "pub"),
        lambda: export(tmp_path, tmp_path / "pub", "published"),
    ):
        with pytest.raises(UserError, match=r"this model's head is its own, .*; write model\.safetensors"):
            write()
    assert not (tmp_path / "pub").exists()
    with pytest.raises(UserError, match=r"lm_head\.weight differs from the embedding; set model\.tie_embeddings=false"):
        load_weights(HyenaDNA(ModelConfig(**FIELDS)), dict(model.state_dict()), Path("file"))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_embeddings": True}))
    with pytest.raises(
        UserError, match=r"lm_head\.weight differs from the embedding, to which config\.json ties it; set"
    ):
        load_published(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["backbone.layers.1.mlp.fc2.weight", "backbone.layers.0.mixer.filter_fn.bias"])
def test_weights_that_are_not_finite_are_refused_by_name(name: str, value: float, tmp_path: Path) -> None:
    model = HyenaDNA(ModelConfig(**FIELDS))
    model.state_dict()[name].view(-1)[3] = value
    write_model(tmp_path, model)
    size = f"{model.state_dict()[name].numel():,}"
    for write in (lambda: export(tmp_path, tmp_path / "out"), lambda: model.save_published(tmp_path / "out")):
        with pytest.raises(
            UserError, match=rf": 1 of the {size} values of {name} are NaN or infinite; take a checkpoint"
        ):
            write()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    model.state_dict()[name].view(-1)[3] = 1.0
    check_finite(model, "the model")
