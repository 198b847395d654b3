"""The published model code's values, and published files in both directions."""

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import hyena_dist
from hyena_dist import HyenaDNA, ModelConfig, UserError
from hyena_dist.models.published_config import model_config

GOLDEN = Path(__file__).parents[1] / "golden"
FOLDERS = sorted(folder.name for folder in GOLDEN.iterdir() if folder.is_dir())
# (absolute, relative to the largest gradient). Measured: float32 2.2e-6 and 1.6e-6; float64 3.2e-7 and 6.2e-8.
LIMITS = {torch.float32: (1e-5, 1e-4), torch.float64: (5e-7, 1.5e-7)}


def state(path: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return tensors


def same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        assert torch.equal(a[name], b[name]), name


def assert_same_model(a: HyenaDNA, b: HyenaDNA, folder: str = "tiny") -> None:
    ids = load_file(GOLDEN / folder / "expected.safetensors")["input_ids"]
    with torch.no_grad():
        assert torch.equal(a(ids).logits, b(ids).logits)


def test_the_folders_are_here() -> None:
    assert FOLDERS == ["order3-checkpointed", "tiny"]


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("folder", FOLDERS)
def test_golden_values(folder: str, dtype: torch.dtype) -> None:
    expected = load_file(GOLDEN / folder / "expected.safetensors")
    model = hyena_dist.load_published(GOLDEN / folder)
    assert not model.training
    model = model.double() if dtype == torch.float64 else model
    out = model(expected["input_ids"])
    absolute, relative = LIMITS[dtype]
    for actual, name in ((out.hidden_states, "hidden_states"), (out.logits, "logits")):
        assert actual.dtype == dtype
        assert actual.shape == expected[name].shape
        assert (actual - expected[name]).abs().max() <= absolute, name
    # All 16 columns, as the published loss has it.
    loss = torch.nn.functional.cross_entropy(out.logits[:, :-1].flatten(0, 1), expected["input_ids"][:, 1:].flatten())
    assert (loss - expected["loss"]).abs() <= absolute
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert gradients.keys() == {name.removeprefix("grad.") for name in expected if name.startswith("grad.")}
    for name, gradient in gradients.items():
        exact = expected[f"grad.{name}"]
        assert gradient.shape == exact.shape
        assert (gradient - exact).abs().max() <= relative * exact.abs().max(), name


@torch.no_grad()
@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_left_in_float64_is_the_published_rounding(folder: str) -> None:
    # The published block adds to the residual stream rounded to float32 (residual_in_fp32). With that repeated here,
    # what is left is the storage of the expected values as float32: half a unit in the last place, 2**-23 from 2 to 4.
    expected = load_file(GOLDEN / folder / "expected.safetensors")
    backbone = hyena_dist.load_published(GOLDEN / folder).double().backbone
    x = backbone.embeddings.word_embeddings(expected["input_ids"])
    for layer in backbone.layers:
        x = layer.mixer(x, layer.norm1) + x.float()
        x = layer.mlp(x, layer.norm2) + x.float()
    hidden = backbone.ln_f(x).transpose(0, 1)
    assert 2 < hidden.abs().max() < 4
    assert (hidden - expected["hidden_states"]).abs().max() <= 2**-23 + 1e-12


@pytest.mark.parametrize("folder", FOLDERS)
def test_round_trip_is_bit_exact(folder: str, tmp_path: Path) -> None:
    hyena_dist.load_published(GOLDEN / folder).save_published(tmp_path / "out")
    same_bits(state(tmp_path / "out/weights.ckpt"), state(GOLDEN / folder / "weights.ckpt"))
    before, after = (json.loads((p / "config.json").read_text()) for p in (GOLDEN / folder, tmp_path / "out"))
    assert before == after
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["config.json", "weights.ckpt"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_with_and_without_the_infix(folder: str, tmp_path: Path) -> None:
    shutil.copy(GOLDEN / folder / "config.json", tmp_path)
    tensors = state(GOLDEN / folder / "weights.ckpt")
    if any(".layer." in name for name in tensors):
        tensors = {name.replace(".layer.", "."): value for name, value in tensors.items()}
    else:
        tensors = {re.sub(r"\.(mixer|mlp)\.", r".\1.layer.", name): value for name, value in tensors.items()}
    torch.save({"state_dict": tensors}, tmp_path / "weights.ckpt")
    assert_same_model(hyena_dist.load_published(tmp_path), hyena_dist.load_published(GOLDEN / folder), folder)


def make_hf(folder: str, out: Path, grids: bool = True) -> Path:
    """A folder as the -hf port names things: flat config, prefix "hyena.", shared frequency once, head as a copy."""
    source = json.loads((GOLDEN / folder / "config.json").read_text())
    layer = source["layer"]
    config: dict[str, Any] = {
        "architectures": ["HyenaDNAForCausalLM"],
        "model_type": "hyenadna",
        "d_model": source["d_model"],
        "d_inner": source["d_inner"],
        "use_bias": True,
        "train_freq": True,
        "max_seq_len": layer["l_max"],
        "emb_dim": layer["emb_dim"],
        "n_layer": source["n_layer"],
        "num_inner_mlps": 2,
        "hyena_order": layer["order"],
        "short_filter_order": layer["short_filter_order"],
        "filter_order": layer["filter_order"],
        "activation_freq": layer["w"],
        "embed_dropout": 0.1,
        "hyena_filter_dropout": 0.0,
        "hyena_dropout": 0.0,
        "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02,
        "vocab_size": source["vocab_size"],
        "pad_vocab_size_multiple": source["pad_vocab_size_multiple"],
        "pad_token_id": 4,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
    }
    out.mkdir()
    (out / "config.json").write_text(json.dumps(config))
    tensors = {}
    for name, value in state(GOLDEN / folder / "weights.ckpt").items():
        name = name.replace(".layer.", ".")
        if not re.search(r"\.(3|5)\.freq$" if grids else r"\.(3|5)\.freq$|pos_emb\.[zt]$", name):
            name = name.replace("model.backbone", "hyena.backbone").replace("model.lm_head", "lm_head")
            tensors[name] = value.clone()
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    return out


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_hf_port_gives_the_same_outputs(folder: str, tmp_path: Path) -> None:
    model = hyena_dist.load_published(make_hf(folder, tmp_path / "hf"))
    original = hyena_dist.load_published(GOLDEN / folder)
    assert_same_model(model, original, folder)
    fields = ModelConfig.model_fields.keys() - {"d_inner"}
    assert all(getattr(model.config, f) == getattr(original.config, f) for f in fields)


def without_grids(folder: str) -> HyenaDNA:
    model = hyena_dist.load_published(GOLDEN / folder)
    for layer in model.backbone.layers:
        layer.mixer.filter_fn.pos_emb.z = layer.mixer.filter_fn.pos_emb.t = None
    return model


@pytest.mark.parametrize("folder", FOLDERS)
def test_missing_grids_follow_the_formula(folder: str, tmp_path: Path) -> None:
    model = hyena_dist.load_published(make_hf(folder, tmp_path / "hf", grids=False))
    assert_same_model(model, without_grids(folder), folder)


@pytest.mark.parametrize("shift", [None, 0.0])
def test_an_hf_model_saved_and_loaded_again(shift: float | None, tmp_path: Path) -> None:
    folder = make_hf("tiny", tmp_path / "hf")
    model = hyena_dist.load_published(folder, modulation_shift=shift)
    model.save_published(tmp_path / "out")
    again = hyena_dist.load_published(tmp_path / "out")
    assert again.config == model.config
    assert_same_model(again, model)
    # Names and config are of one dialect, the original's, though the source was in the other.
    fields, written = (json.loads((p / "config.json").read_text()) for p in (GOLDEN / "tiny", tmp_path / "out"))
    assert not written.keys() - fields.keys()
    assert written["layer"].get("shift") == shift
    assert state(tmp_path / "out/weights.ckpt").keys() == state(GOLDEN / "tiny/weights.ckpt").keys()


def test_the_modulation_shift_is_a_choice(tmp_path: Path) -> None:
    chosen = hyena_dist.load_published(GOLDEN / "tiny", modulation_shift=0.0)
    standard = hyena_dist.load_published(GOLDEN / "tiny")
    assert (standard.config.modulation_shift, chosen.config.modulation_shift) == (0.05, 0.0)
    with pytest.raises(AssertionError):
        assert_same_model(chosen, standard)
    chosen.save_published(tmp_path)
    assert_same_model(hyena_dist.load_published(tmp_path), chosen)


FRESH = {
    "all defaults": {},
    "nothing default": {
        "d_model": 8, "n_layer": 1, "d_inner": 20, "l_max": 50, "order": 3, "short_filter_order": 4,
        "filter_order": 12, "num_inner_mlps": 1, "emb_dim": 7, "activation_freq": 3.5, "modulation_shift": 0.01,
        "vocab_size": 13, "pad_vocab_size_multiple": 4, "embed_dropout": 0.3, "resid_dropout": 0.2,
        "layer_norm_epsilon": 1e-6, "initializer_range": 0.03,
    },
    "published defaults": {"emb_dim": 3, "activation_freq": 1.0, "modulation_shift": 0.05,
                           "pad_vocab_size_multiple": 1},
}  # fmt: skip


@pytest.mark.parametrize("fields", FRESH.values(), ids=FRESH)
def test_a_fresh_model_saved_and_loaded_again(fields: dict[str, Any], tmp_path: Path) -> None:
    model = HyenaDNA(ModelConfig(**fields))
    model.save_published(tmp_path)
    again = hyena_dist.load_published(tmp_path)
    same_bits(again.state_dict(), model.state_dict())
    assert again.config == model.config.model_copy(update={"d_inner": model.config.inner_size})
    # What the published code has no default for, or another one, is stated.
    config = json.loads((tmp_path / "config.json").read_text())
    assert {"d_model", "n_layer", "d_inner", "vocab_size"} <= config.keys()
    assert "l_max" in config["layer"]
    assert config.get("pad_vocab_size_multiple", 1) == model.config.pad_vocab_size_multiple


def test_a_fresh_model_has_the_published_keys(tmp_path: Path) -> None:
    golden = hyena_dist.load_published(GOLDEN / "tiny")
    HyenaDNA(golden.config).save_published(tmp_path)
    ours, theirs = state(tmp_path / "weights.ckpt"), state(GOLDEN / "tiny/weights.ckpt")
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_from_the_real_config_alone() -> None:
    path = GOLDEN / "hyenadna-tiny-1k-seqlen.config.json"
    model = hyena_dist.from_published_config(path)
    assert model.num_parameters() == 436_096
    c = model.config
    assert (c.d_model, c.n_layer, c.inner_size, c.l_max, c.order) == (128, 2, 512, 1026, 2)
    assert (c.emb_dim, c.filter_order, c.activation_freq, c.short_filter_order) == (5, 64, 10.0, 3)
    assert (c.modulation_shift, c.padded_vocab_size, c.embed_dropout) == (0.05, 16, 0.1)
    assert hyena_dist.from_published_config(path, modulation_shift=0.0).config.modulation_shift == 0.0


def test_the_real_config_comes_back_unchanged(tmp_path: Path) -> None:
    path = GOLDEN / "hyenadna-tiny-1k-seqlen.config.json"
    hyena_dist.from_published_config(path).save_published(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == json.loads(path.read_text())


TINY = json.loads((GOLDEN / "tiny/config.json").read_text())
BAD_CONFIGS = {
    "text": ("nonsense", "is not valid JSON"),
    "list": ("[]", "is not a JSON object"),
    "layer null": (TINY | {"layer": None}, "is not a JSON object with an object 'layer'"),
    "no width": ({k: v for k, v in TINY.items() if k != "d_model"}, "has no d_model"),
    "no l_max": (TINY | {"layer": {"emb_dim": 5}}, "has no l_max or max_seq_len"),
    "attention": (TINY | {"layer": TINY["layer"] | {"_name_": "mha"}}, "_name_ = 'mha' is not built; .* 'hyena'"),
    "bidirectional": (TINY | {"layer": TINY["layer"] | {"bidirectional": True}}, "bidirectional = True is not built"),
    "learned grid": (TINY | {"layer": TINY["layer"] | {"lr_pos_emb": 1e-5}}, "lr_pos_emb = 1e-05 is not built"),
    "width of text": (TINY | {"d_model": "wide"}, "d_model = 'wide': .*integer"),
    "even features": (TINY | {"layer": TINY["layer"] | {"emb_dim": 4}}, "emb_dim 4 must be odd"),
    "other l_max": (TINY | {"layer": TINY["layer"] | {"l_max": 512}}, r"grid of shape \(1, 258, 5\) where .*512"),
    "other width": (TINY | {"d_inner": 128}, r"fc1\.weight has shape \(256, 64\) where the config says \(128, 64\)"),
    "deeper": (TINY | {"n_layer": 3}, r"layers\.2\.\S+ is missing in the checkpoint"),
    "shallower": (TINY | {"n_layer": 1}, r"layers\.1\.\S+ is unknown to the architecture"),
}


@pytest.mark.parametrize(("config", "message"), BAD_CONFIGS.values(), ids=BAD_CONFIGS)
def test_configs_that_do_not_fit(config: Any, message: str, tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "tiny/weights.ckpt", tmp_path)
    (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(UserError, match=message) as caught:
        hyena_dist.load_published(tmp_path)
    assert "\n" not in str(caught.value)


def test_local_order_says_nothing() -> None:
    # The published operator reads short_filter_order only (3 if absent); "local_order" stands beside it in every file.
    layer = TINY["layer"] | {"local_order": 7}
    del layer["short_filter_order"]
    for fields, expected in ((layer, 3), (layer | {"short_filter_order": 5}, 5)):
        assert _config_of(TINY | {"layer": fields}).short_filter_order == expected


def _config_of(fields: dict[str, Any]) -> ModelConfig:
    return model_config(copy.deepcopy(fields))


def test_copies_of_a_frequency_that_differ_are_refused(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "tiny/config.json", tmp_path)
    tensors = state(GOLDEN / "tiny/weights.ckpt")
    name = "model.backbone.layers.1.mixer.filter_fn.implicit_filter.3.freq"
    tensors[name] = tensors[name] + 1
    torch.save({"state_dict": tensors}, tmp_path / "weights.ckpt")
    with pytest.raises(UserError, match="differs from"):
        hyena_dist.load_published(tmp_path)


def test_a_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*config\.json"):
        hyena_dist.load_published(tmp_path)
    shutil.copy(GOLDEN / "tiny/config.json", tmp_path)
    with pytest.raises(UserError, match=r"has neither model\.safetensors, .*weights\.ckpt"):
        hyena_dist.load_published(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0not json at all")
    with pytest.raises(UserError, match="is not a readable safetensors file"):
        hyena_dist.load_published(tmp_path)


def test_half_precision_weights_load(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "tiny/config.json", tmp_path)
    tensors = {k: v.bfloat16() for k, v in state(GOLDEN / "tiny/weights.ckpt").items() if "pos_emb" not in k}
    torch.save({"state_dict": tensors}, tmp_path / "weights.ckpt")
    model = hyena_dist.load_published(tmp_path)
    name = "backbone.layers.0.mlp.fc1.weight"
    assert torch.equal(model.state_dict()[name], tensors[f"model.{name}"].float())
