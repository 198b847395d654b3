"""The two dialects of config.json: the original has an object "layer", that of the -hf port is flat."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hyena_dist.config.model import ModelConfig
from hyena_dist.errors import UserError

Fields = dict[str, Any]

PUBLISHED_SHIFT = 0.05
"""The decay's shift in the published standalone model and the -hf port. The training repository used 0.0; no file
says which, so compare perplexities when it matters."""

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
    "tie_embeddings": ("tie_embeddings",),
    "layer_pattern": ("layer_pattern",),
    "num_attention_heads": ("num_attention_heads",),
    "rotary_base": ("rotary_base",),
}
_TOP = {"d_model", "n_layer", "d_inner", "vocab_size", "pad_vocab_size_multiple"}
_TOP |= {"embed_dropout", "resid_dropout", "layer_norm_epsilon", "initializer_range"}
_TOP |= {"tie_embeddings", "layer_pattern", "num_attention_heads", "rotary_base"}  # the last three are ours alone
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
}


def read_config(path: Path) -> Fields:
    """Read a config.json, the file or the one in a folder.

    Raises:
        UserError: there is none, or it is not that of a HyenaDNA.
    """
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
    fields: Fields = content
    return fields


def model_config(fields: Fields, modulation_shift: float | None = None) -> ModelConfig:
    """Return the architecture that a config.json describes, in either dialect.

    Args:
        fields: the content of the file.
        modulation_shift: shift of the filters' decay; if not given, the file's "shift", else PUBLISHED_SHIFT.

    Raises:
        UserError: an option that is not built, or a value that does not fit.
    """
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
        return ModelConfig(**values)
    except ValidationError as error:
        wrong = error.errors()[0]
        what = f"{wrong['loc'][0]} = {wrong['input']!r}: " if wrong["loc"] else ""
        raise UserError(f"config.json: {what}{wrong['msg']}; check that the file is whole") from error


def says_tied(fields: Fields) -> bool:
    """Return whether a config.json states that the head is the embedding; most state nothing, or what is not so."""
    return any(fields.get(key) is True for key in ("tie_embeddings", "tie_word_embeddings"))


def is_hf(fields: Fields) -> bool:
    """Return whether a config.json is in the dialect of the -hf port."""
    return "layer" not in fields and "hyena_order" in fields


def write_fields(config: ModelConfig, known: Fields | None) -> Fields:
    """Return the content of a config.json, in the dialect of the file that a model came with.

    Args:
        config: the architecture.
        known: the content of that file, whose fields are kept; the original's dialect without one.
    """
    fields: Fields = dict(known or {"_name_": "lm"})
    layer = fields
    if not is_hf(fields):
        layer = fields["layer"] = dict(fields.get("layer", {"_name_": "hyena", "modulate": True, "lr_pos_emb": 0.0}))
    elif not config.tie_embeddings:
        fields["tie_word_embeddings"] = False  # transformers ties where nothing is said
    for field, names in _FIELDS.items():
        target = fields if field in _TOP else layer
        value = config.inner_size if field == "d_inner" else getattr(config, field)
        stated = next((n for n in names if target.get(n) is not None), None)
        stays = value == target[stated] if stated else value == _default(field) and field not in _STATED
        if not stays:
            target[stated or names[0]] = value
    return fields


def _default(field: str) -> Any:
    return _DEFAULTS.get(field, ModelConfig.model_fields[field].default)
