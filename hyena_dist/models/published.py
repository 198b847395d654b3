"""Published HyenaDNA folders: config.json with weights.ckpt (Lightning) or the -hf port's safetensors, both ways.

The module tree has the published names; tensor_names.py has what surrounds them, published_config.py the dialects of
config.json. What is written has names, head and config of one dialect.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hyena_dist.errors import UserError
from hyena_dist.models.lm import HyenaDNA, check_cast
from hyena_dist.models.mixers.filter import PositionalFeatures
from hyena_dist.models.published_config import is_hf, model_config, read_config, says_tied, write_fields
from hyena_dist.models.tensor_names import EMBEDDING, HEAD, hf_names, published_names
from hyena_dist.models.weights_files import find_weights, read_tensors
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.tensor_shards import part_of, partitions
from hyena_dist.system.files import replace_atomically


def from_published_config(path: str | Path, modulation_shift: float | None = None) -> HyenaDNA:
    """Build a model with fresh weights from a published config.json alone.

    Args:
        path: the file, or the folder that holds it.
        modulation_shift: shift of the filters' decay; if not given, chosen as in load_published.
    """
    fields = read_config(Path(path))
    model = HyenaDNA(model_config(fields, modulation_shift))
    model.published_fields = fields
    return model


def load_published(
    path: str | Path,
    modulation_shift: float | None = None,
    dtype: torch.dtype | None = None,
    compute_dtype: torch.dtype | None = None,
) -> HyenaDNA:
    """Load a model that was published or that another trainer saved, in evaluation mode, in one process.

    A head that differs from the embedding is kept as one of its own.

    Args:
        path: a folder with config.json and weights under a usual name (weights.ckpt, model.safetensors,
            pytorch_model.bin, or an index of parts), or a file of weights with config.json beside it. Nothing that a
            pickle carries is executed.
        modulation_shift: shift of the filters' decay, which published files do not store. If not given: the config's
            "shift" if it has one, else 0.05 as in the published standalone model.
        dtype: the type to cast the model to, as by `model.to(dtype)`; fp32 if not given, whatever the file has.
        compute_dtype: the type of activations and products of a model that is not cast, as in training.

    Raises:
        UserError: a missing or unreadable file, an option or a type that is not built, or weights that do not fit the
            config.
    """
    check_cast(dtype)
    path = Path(path)
    folder = path.parent if path.is_file() else path
    if path.is_file() and not (folder / "config.json").is_file():
        raise UserError(f"{path} has no config.json beside it, which says what the model is; put the model's there")
    fields = read_config(folder)
    config = model_config(fields, modulation_shift)
    weights = find_weights(path)
    tensors = read_tensors(weights)
    if not _head_is_tied(tensors):
        if says_tied(fields):
            raise UserError(
                f"{weights}: lm_head.weight differs from the embedding, to which config.json ties it; set "
                f"tie_word_embeddings to false to keep this head"
            )
        config = config.model_copy(update={"tie_embeddings": False})
    model = HyenaDNA(config, compute_dtype=compute_dtype)
    model.published_fields = fields
    load_weights(model, tensors, source=weights)
    return model.eval().to(dtype=dtype)


def has_tied_head(path: Path) -> bool:
    """Return whether the head of a stored model is its embedding.

    Raises:
        UserError: a file that is missing or cannot be read.
    """
    return _head_is_tied(read_tensors(find_weights(path)))


def load_weights(model: HyenaDNA, tensors: dict[str, Tensor], source: Path) -> None:
    """Copy whole tensors under our names into a language model, as `copy_tensors` does.

    Raises:
        UserError: names or shapes that do not fit, or a head that is not tied where the model's is.
    """
    if model.lm_head is None:
        if not _head_is_tied(tensors):
            raise UserError(
                f"{source}: lm_head.weight differs from the embedding; set model.tie_embeddings=false to keep it"
            )
        tensors = {name: value for name, value in tensors.items() if name != HEAD}
    copy_tensors(model, tensors, source, model.mesh)


def copy_tensors(model: nn.Module, tensors: dict[str, Tensor], source: Path, mesh: Mesh) -> None:
    """Copy whole tensors into a model by name; a model with tensor ranks takes its part of each.

    Position grids that equal the formula are dropped, others are kept.

    Raises:
        UserError: names or shapes that do not fit.
    """
    tensors = dict(tensors)
    for name, module in model.named_modules():
        if isinstance(module, PositionalFeatures):
            stored = tensors.get(f"{name}.z"), tensors.get(f"{name}.t")
            tensors.pop(f"{name}.z", None)
            tensors.pop(f"{name}.t", None)
            if stored[0] is not None and stored[1] is not None:
                try:
                    module.take(stored[0], stored[1])
                except UserError as error:
                    raise UserError(f"{source}: {error}") from error
    expected = {k for k in model.state_dict() if not k.endswith((".pos_emb.z", ".pos_emb.t"))}
    wrong = sorted(expected ^ tensors.keys())
    if wrong:
        where = "missing in" if wrong[0] in expected else "unknown to the architecture of"
        unknown = sorted(tensors.keys() - expected)
        held = f"; it has {unknown[0]}" if unknown and wrong[0] in expected else ""
        raise UserError(
            f"{source}: {wrong[0]} is {where} the checkpoint ({len(wrong)} such names){held}; check its config"
        )
    parts = partitions(model)
    for name, value in model.state_dict().items():
        if name in tensors:
            part = parts.get(name)
            shape = tuple(value.shape)
            shape = part.whole_shape(shape, mesh.tensor.size()) if part else shape
            if tensors[name].shape != shape:
                raise UserError(
                    f"{source}: {name} has shape {tuple(tensors[name].shape)} where the config says {shape}; "
                    f"check that config and weights belong together"
                )
            value.copy_(part_of(tensors[name], part, mesh))


def save_published(model: HyenaDNA, directory: str | Path) -> None:
    """Write config.json and weights.ckpt as published models have them; load_published reads back the same bits.

    Raises:
        UserError: weights that are not finite, or that the published code would read as others.
    """
    check_finite(model, "the model")
    check_published(model)
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    known = model.published_fields
    config = write_fields(model.config, None if known is None or is_hf(known) else known)
    infixes = [part for part in ("mixer", "mlp") if config.get(f"checkpoint_{part}")]
    state = published_names(_whole(model), model.config.num_inner_mlps, infixes)
    torch.save({"state_dict": state}, directory / "weights.ckpt.tmp")
    replace_atomically(directory / "weights.ckpt.tmp", directory / "weights.ckpt")
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def check_published(model: HyenaDNA) -> None:
    """Refuse a model that the published code cannot have: one whose head is not its embedding."""
    if model.lm_head is not None:
        raise UserError(
            "the published code ties the head to the embedding, and this model's head is its own, so that weights.ckpt "
            "cannot have it; write model.safetensors (--format safetensors)"
        )


def check_finite(model: HyenaDNA, source: str) -> None:
    """Refuse a model with weights that are not finite, by the name of the first tensor that has such."""
    for name, value in model.state_dict().items():
        wrong = int((~torch.isfinite(value)).sum())
        if wrong:
            raise UserError(
                f"{source}: {wrong:,} of the {value.numel():,} values of {name} are NaN or infinite; take a checkpoint "
                f"from before the model diverged"
            )


def published_config(model: HyenaDNA) -> dict[str, Any]:
    """Return the fields of a published config.json; those a loaded model came with are kept as they were."""
    return write_fields(model.config, model.published_fields)


def stored_tensors(model: HyenaDNA) -> dict[str, Tensor]:
    """Return the tensors that go beside `published_config` in a model.safetensors.

    They have the -hf port's names, grids and head if the model came from one, else ours.
    """
    if model.published_fields is not None and is_hf(model.published_fields):
        return hf_tensors(model)
    return dict(model.state_dict())


def hf_tensors(model: HyenaDNA) -> dict[str, Tensor]:
    """Return the tensors of a model in one process as the -hf port has them, grids and head included."""
    return hf_names(_whole(model))


def _whole(model: HyenaDNA) -> dict[str, Tensor]:
    """Return all that published files store under our names: the state, the grids and the head."""
    tensors = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    for name, module in model.named_modules():
        if isinstance(module, PositionalFeatures):
            z, t = (
                (module.z, module.t)
                if module.z is not None
                else module.grid(0, module.l_max, torch.float32, torch.device("cpu"))
            )
            tensors |= {f"{name}.z": z, f"{name}.t": t}
    return {HEAD: tensors[EMBEDDING]} | tensors


def _head_is_tied(tensors: dict[str, Tensor]) -> bool:
    """Return whether stored tensors have no head but the embedding."""
    head, embedding = tensors.get(HEAD), tensors.get(EMBEDDING)
    return head is None or embedding is None or torch.equal(head, embedding)
