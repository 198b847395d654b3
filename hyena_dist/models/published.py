"""Published HyenaDNA folders: config.json + weights.ckpt (Lightning) or model.safetensors (the -hf port), both ways.

The module tree has the published names, so that only four things differ: the prefix ("model." or "hyena."), the
".layer." infix of models trained with activation checkpointing, the shared frequency stored once per use, and the
tied head.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor

from hyena_dist.config.model import ModelConfig
from hyena_dist.errors import UserError
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.mixers.filter import PositionalFeatures
from hyena_dist.models.weights_reader import read_state_dict
from hyena_dist.parallel.tensor_shards import part_of, partitions
from hyena_dist.system.files import replace_atomically

PUBLISHED_SHIFT = 0.05
"""The decay's shift in the published standalone model and the -hf port. The training repository used 0.0; no file
says which, so compare perplexities when it matters."""

_EMBEDDING = "backbone.embeddings.word_embeddings.weight"
_FREQ = re.compile(r"(.*\.implicit_filter\.)(\d+)(\.freq)")

# ModelConfig field -> names in a config.json: top level and "layer" of the original, top level of the -hf port.
_FIELDS = {
    "d_model": ("d_model",),
    "n_layer": ("n_layer",),
    "d_inner": ("d_inner",),
    "vocab_size": ("vocab_size",),
    "pad_vocab_size_multiple": ("pad_vocab_size_multiple",),
    "embed_dropout": ("embed_dropout",),
    "resid_dropout": ("resid_dropout",),
    "layer_norm_epsilon": ("layer_norm_epsilon",),
    "initializer_range": ("initializer_range",),
    "l_max": ("l_max", "max_seq_len"),
    "order": ("order", "hyena_order"),
    "short_filter_order": ("short_filter_order",),  # "local_order" is in every file and read by nothing
    "filter_order": ("filter_order",),
    "num_inner_mlps": ("num_inner_mlps",),
    "emb_dim": ("emb_dim",),
    "activation_freq": ("w", "activation_freq"),
    "modulation_shift": ("shift",),
    "layer_pattern": ("layer_pattern",),
    "num_attention_heads": ("num_attention_heads",),
    "rotary_base": ("rotary_base",),
}
_TOP = {"d_model", "n_layer", "d_inner", "vocab_size", "pad_vocab_size_multiple"}
_TOP |= {"embed_dropout", "resid_dropout", "layer_norm_epsilon", "initializer_range"}
_TOP |= {"layer_pattern", "num_attention_heads", "rotary_base"}  # ours: published models are Hyena throughout
# What the published code's own defaults are where a config.json is silent. Sizes in _STATED have none there.
_DEFAULTS = {"emb_dim": 3, "activation_freq": 1.0, "modulation_shift": PUBLISHED_SHIFT, "pad_vocab_size_multiple": 1}
_STATED = ("d_model", "n_layer", "d_inner", "vocab_size", "l_max")
# Options of the published code that no published model uses; only these values are built here.
_ONLY = {
    "_name_": ("hyena", "lm"),
    "modulate": (True,),
    "normalized": (False,),
    "bidirectional": (False,),
    "num_heads": (1,),
    "num_blocks": (1,),
    "outer_mixing": (False,),
    "post_order_ffn": (False,),
    "activation": ("id",),
    "lr_pos_emb": (0.0,),
    "use_bias": (True,),
    "tie_embeddings": (True,),
}


def from_published_config(path: str | Path, modulation_shift: float | None = None) -> HyenaDNA:
    """Build a model with fresh weights from a published config.json alone.

    Args:
        path: the file, or the folder that holds it.
        modulation_shift: shift of the filters' decay; if not given, chosen as in load_published.
    """
    return _build(_read_config(Path(path)), modulation_shift)


def load_published(directory: str | Path, modulation_shift: float | None = None) -> HyenaDNA:
    """Load a published model, in evaluation mode, in one process.

    Args:
        directory: holds config.json and weights.ckpt or model.safetensors. Nothing that a pickle carries is executed.
        modulation_shift: shift of the filters' decay, which published files do not store. If not given: the config's
            "shift" if it has one, else 0.05 as in the published standalone model.

    Raises:
        UserError: a missing or unreadable file, an option that is not built, or weights that do not fit the config.
    """
    directory = Path(directory)
    model = _build(_read_config(directory), modulation_shift)
    candidates = [directory / "model.safetensors", directory / "weights.ckpt"]
    path = next((p for p in candidates if p.is_file()), None)
    if path is None:
        raise UserError(f"{directory} has neither model.safetensors nor weights.ckpt; name a published model's folder")
    load_weights(model, read_tensors(path), source=path)
    return model.eval()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors or torch file; they get our names."""
    try:
        stored = load_file(path) if path.suffix == ".safetensors" else read_state_dict(path)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path} is not a readable safetensors file ({error}); download it again") from error
    tensors: dict[str, Tensor] = {}
    for stored_name, value in stored.items():
        name = _our_name(stored_name)
        if name in tensors and not torch.equal(tensors[name], value):
            raise UserError(f"{path}: {stored_name} differs from its other copies; only shared frequencies are built")
        tensors[name] = value
    return tensors


def load_weights(model: HyenaDNA, tensors: dict[str, Tensor], source: Path) -> None:
    """Copy whole tensors under our names into a model; a model with tensor ranks takes its part of each.

    Position grids that equal the formula are dropped, others are kept. The frequency of the sine is one parameter
    however often it is stored.
    """
    tensors = dict(tensors)
    dtype = model.backbone.ln_f.weight.dtype
    for name, module in model.named_modules():
        if isinstance(module, PositionalFeatures):
            stored = tensors.get(f"{name}.z"), tensors.get(f"{name}.t")
            tensors.pop(f"{name}.z", None)
            tensors.pop(f"{name}.t", None)
            if stored[0] is not None and stored[1] is not None:
                _keep_grid(module, stored[0], stored[1], dtype, source)
    head = tensors.pop("lm_head.weight", None)
    if head is not None and _EMBEDDING in tensors and not torch.equal(head, tensors[_EMBEDDING]):
        raise UserError(f"{source}: lm_head.weight differs from the embedding; only tied heads are built, tie them")
    expected = {k for k in model.state_dict() if not k.endswith((".pos_emb.z", ".pos_emb.t"))}
    tensors = {k: v for k, v in tensors.items() if k.startswith("backbone.")}
    wrong = sorted(expected ^ tensors.keys())
    if wrong:
        where = "missing in" if wrong[0] in expected else "unknown to the architecture of"
        raise UserError(f"{source}: {wrong[0]} is {where} the checkpoint ({len(wrong)} such names); check its config")
    parts = partitions(model)
    for name, value in model.state_dict().items():
        if name in tensors:
            part = parts.get(name)
            shape = tuple(value.shape)
            shape = part.whole_shape(shape, model.mesh.tensor.size()) if part else shape
            if tensors[name].shape != shape:
                raise UserError(
                    f"{source}: {name} has shape {tuple(tensors[name].shape)} where the config says {shape}; "
                    f"check that config and weights belong together"
                )
            value.copy_(part_of(tensors[name], part, model.mesh))


def save_published(model: HyenaDNA, directory: str | Path) -> None:
    """Write config.json and weights.ckpt as published models have them; load_published reads back the same bits."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    config = published_config(model)
    state = {_published_name(k, config): v.detach().cpu() for k, v in _published_tensors(model).items()}
    torch.save({"state_dict": state}, directory / "weights.ckpt.tmp")
    replace_atomically(directory / "weights.ckpt.tmp", directory / "weights.ckpt")
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def published_config(model: HyenaDNA) -> dict[str, Any]:
    """Return the fields of a published config.json; those a loaded model came with are kept as they were."""
    c = model.config
    config: dict[str, Any] = dict(model.published_fields or {"_name_": "lm"})
    layer = config  # the -hf port has no layer
    if not _is_hf(config):
        layer = config["layer"] = dict(config.get("layer", {"_name_": "hyena", "modulate": True, "lr_pos_emb": 0.0}))
    for field, names in _FIELDS.items():
        target = config if field in _TOP else layer
        value = c.inner_size if field == "d_inner" else getattr(c, field)
        known = next((n for n in names if target.get(n) is not None), None)
        stays = value == target[known] if known else value == _default(field) and field not in _STATED
        if not stays:
            target[known or names[0]] = value
    return config


def _is_hf(fields: dict[str, Any]) -> bool:
    return "layer" not in fields and "hyena_order" in fields


def _default(field: str) -> Any:
    return _DEFAULTS.get(field, ModelConfig.model_fields[field].default)


def _published_tensors(model: HyenaDNA) -> dict[str, Tensor]:
    tensors = dict(model.state_dict())
    for name, module in model.named_modules():
        if isinstance(module, PositionalFeatures):
            z, t = (
                (module.z, module.t)
                if module.z is not None
                else module.grid(0, module.l_max, torch.float32, torch.device("cpu"))
            )
            tensors |= {f"{name}.z": z, f"{name}.t": t}
    for name in [n for n in tensors if _FREQ.fullmatch(n)]:
        prefix, _, suffix = _FREQ.fullmatch(name).groups()  # type: ignore[union-attr]
        for i in range(model.config.num_inner_mlps + 1):
            tensors[f"{prefix}{2 * i + 1}{suffix}"] = tensors[name]
    return tensors | {"lm_head.weight": tensors[_EMBEDDING]}


def _published_name(name: str, config: dict[str, Any]) -> str:
    for part in ("mixer", "mlp"):
        if config.get(f"checkpoint_{part}"):
            name = name.replace(f".{part}.", f".{part}.layer.")
    return f"model.{name}"


def _our_name(name: str) -> str:
    name = re.sub(r"^(model|hyena)\.", "", name)
    name = re.sub(r"\.(mixer|mlp)\.layer\.", r".\1.", name)
    return _FREQ.sub(r"\g<1>1\3", name)


def _keep_grid(module: PositionalFeatures, z: Tensor, t: Tensor, dtype: torch.dtype, source: Path) -> None:
    # Compared at full precision of the file: what rounds to the same float32 grid is the same grid.
    grid_z, grid_t = module.grid(0, module.l_max, torch.float32, torch.device("cpu"))
    for stored, grid in ((z, grid_z), (t, grid_t)):
        if stored.shape != grid.shape:
            raise UserError(
                f"{source}: pos_emb has a grid of shape {tuple(stored.shape)} where the config's l_max and emb_dim say "
                f"{tuple(grid.shape)}; l_max is fixed for the life of a model"
            )
    if not (torch.equal(grid_z, z) and torch.equal(grid_t, t)):
        module.store(z.to(dtype), t.to(dtype))


def _read_config(path: Path) -> dict[str, Any]:
    path = path / "config.json" if path.is_dir() else path
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; name a published model's config.json") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}); download it again") from error
    layer = content.get("layer", {}) if isinstance(content, dict) else None
    if not isinstance(layer, dict):
        raise UserError(f"{path} is not a JSON object with an object 'layer'; name a HyenaDNA model's config.json")
    for field in ("d_model", "n_layer", "l_max"):
        if not any(n in where for where in (content, layer) for n in _FIELDS[field]):
            raise UserError(f"{path} has no {' or '.join(_FIELDS[field])}; name the config.json of a HyenaDNA model")
    return content


def _build(fields: dict[str, Any], modulation_shift: float | None) -> HyenaDNA:
    layer = fields.get("layer", {})
    for option, allowed in _ONLY.items():
        for where in (fields, layer):
            if option in where and where[option] not in allowed:
                raise UserError(
                    f"config.json: {option} = {where[option]!r} is not built; published models use {allowed[0]!r}"
                )
    values = {field: _default(field) for field in _FIELDS}
    for field, names in _FIELDS.items():
        places = (fields, layer) if field in _TOP else (layer, fields)
        stated = [where[n] for where in places for n in names if where.get(n) is not None]
        values |= {field: stated[0]} if stated else {}
    if modulation_shift is not None:
        values["modulation_shift"] = modulation_shift
    try:
        config = ModelConfig(**values)
    except ValidationError as error:
        wrong = error.errors()[0]
        what = f"{wrong['loc'][0]} = {wrong['input']!r}: " if wrong["loc"] else ""
        raise UserError(f"config.json: {what}{wrong['msg']}; check that the file is whole") from error
    model = HyenaDNA(config)
    model.published_fields = fields
    return model
