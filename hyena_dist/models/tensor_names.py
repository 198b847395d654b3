"""The names that published files and other trainers give to our tensors.

Ours are the published ones without what surrounds them: "backbone." and, where the head is not tied, "lm_head.weight".
Three things differ inside: the ".layer." infix of models trained with activation checkpointing, the shared frequency,
which is stored once per use, and the tied head, which is stored as well.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from hyena_dist.errors import UserError

HEAD = "lm_head.weight"
EMBEDDING = "backbone.embeddings.word_embeddings.weight"

_BACKBONE = "backbone."
_ANCHOR = EMBEDDING.removeprefix(_BACKBONE)
# What DistributedDataParallel, DeepSpeed, torch.compile, FSDP and Fabric put between the parts of a name.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
# Where a file holds several models (an average beside the trained one), one of these is meant.
_USUAL = ("backbone.", "model.backbone.", "hyena.backbone.")
_FREQ = re.compile(r"(.*\.implicit_filter\.)(\d+)(\.freq)")


def holds_model(names: Iterable[Any]) -> bool:
    """Return whether these are names of a HyenaDNA, whatever surrounds them."""
    return any(isinstance(name, str) and _is_anchor(_unwrapped(name)) for name in names)


def our_names(stored: Iterable[str], source: Path) -> dict[str, str]:
    """Return stored name -> our name of the tensors of a model; what is no part of it is left out.

    Raises:
        UserError: no name, or those of several models, end as the embedding's does.
    """
    plain = {name: _unwrapped(name) for name in stored}
    prefixes = sorted({name.removesuffix(_ANCHOR) for name in plain.values() if _is_anchor(name)})
    if not prefixes:
        example = next(iter(plain), "nothing")
        raise UserError(
            f"{source} has no {_ANCHOR} under any prefix, but {len(plain)} tensors such as {example}; name a "
            f"checkpoint of a HyenaDNA"
        )
    prefix = prefixes[0] if len(prefixes) == 1 else next((p for p in _USUAL if p in prefixes), None)
    if prefix is None:
        raise UserError(f"{source} holds several models ({', '.join(prefixes)}); save the one that is meant alone")
    outside = prefix.removesuffix(_BACKBONE)
    # Without "backbone." the model's names are known by their first parts alone.
    inside = prefix if prefix != outside else tuple(f"{prefix}{part}." for part in ("embeddings", "layers", "ln_f"))
    found = {}
    for name, known in plain.items():
        if known.endswith(HEAD) and outside.startswith(known.removesuffix(HEAD)):
            found[name] = HEAD
        elif known.startswith(inside):
            known = re.sub(r"\.(mixer|mlp)\.layer\.", r".\1.", _BACKBONE + known.removeprefix(prefix))
            found[name] = _FREQ.sub(r"\g<1>1\3", known)
    return found


def published_names(tensors: Mapping[str, Tensor], num_inner_mlps: int, infixes: Iterable[str]) -> dict[str, Tensor]:
    """Return tensors under the names of a published weights.ckpt.

    Args:
        tensors: those of the whole model under our names, the head included.
        num_inner_mlps: how many more times the frequency of a filter is stored.
        infixes: "mixer" and "mlp" where the model was trained with their activations checkpointed.
    """
    found = dict(tensors)
    for name in tensors:
        if match := _FREQ.fullmatch(name):
            for i in range(num_inner_mlps + 1):
                found[f"{match[1]}{2 * i + 1}{match[3]}"] = tensors[name]
    for part in infixes:
        found = {name.replace(f".{part}.", f".{part}.layer."): value for name, value in found.items()}
    return {f"model.{name}": value for name, value in found.items()}


def hf_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of the whole model, the head included, under the names of the -hf port."""
    return {name if name == HEAD else f"hyena.{name}": value for name, value in tensors.items()}


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _is_anchor(name: str) -> bool:
    return name == _ANCHOR or name.endswith(f".{_ANCHOR}")
