"""The export of a model from a run, into a folder that load_published and others' code read."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from hyena_dist.errors import UserError
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.published import (
    check_finite,
    load_published,
    published_config,
    save_published,
    stored_tensors,
)
from hyena_dist.system.files import replace_atomically
from hyena_dist.system.locks import lock
from hyena_dist.system.urls import check_local
from hyena_dist.train.checkpoint.format import model_folder
from hyena_dist.train.checkpoint.tensor_file import write_tensors

Format = Literal["safetensors", "published"]

_OURS = {"config.json", "model.safetensors", "weights.ckpt"}
# What the format of hyena_dist.hf has besides.
_OURS |= {"README.md", "generation_config.json", "special_tokens_map.json", "tokenizer_config.json"}

Write = Callable[[Path, HyenaDNA], None]
"""Writes a model into an empty folder."""


def export(source: Path, out: Path, format: Format = "safetensors") -> None:
    """Write config.json and the weights of a model; an earlier export in the same place is replaced.

    Args:
        source: a run's folder, of which the newest checkpoint is taken, or whatever load_published takes.
        out: a folder that is new, empty or an earlier export.
        format: "safetensors" writes model.safetensors, for a model of the -hf port as that has it, "published"
            weights.ckpt as the original code has it, whatever the source was. hyena_dist.hf has another one.

    Raises:
        UserError: a reason of `export_with`.
    """
    export_with(
        write_model if format == "safetensors" else lambda folder, model: save_published(model, folder), source, out
    )


def export_with(write: Write, source: Path, out: Path) -> None:
    """Write a model in some format; an earlier export in the same place is replaced.

    Args:
        write: writes the format.
        source: a run's folder, of which the newest checkpoint is taken, or whatever load_published takes.
        out: a folder that is new, empty or an earlier export.

    Raises:
        UserError: nothing to load in `source`, weights that are not finite or have no place in the format, an `out`
            that holds other things, or a disk that is full.
    """
    check_local(out)
    source = model_folder(source).resolve()
    out = out.resolve()
    if out == (source.parent if source.is_file() else source):
        raise UserError(f"{out} is where the model is read from; name another folder to export to")
    _check_replaceable(out)
    model = load_published(source)
    check_finite(model, str(source))
    partial = out.with_name(f".{out.name}.partial")
    try:
        with lock(partial / "lock"):  # another export to the same folder waits, and then replaces this one
            folder = partial / "model"
            shutil.rmtree(folder, ignore_errors=True)
            try:
                folder.mkdir()
                write(folder, model)
                _check_replaceable(out)
                if out.exists():
                    shutil.rmtree(out)
                replace_atomically(folder, out)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(f"cannot export to {out}: {reason}; free some space or choose another folder") from error


def _check_replaceable(out: Path) -> None:
    """Raise UserError if a folder holds anything that is no part of an export."""
    others = sorted({p.name for p in out.iterdir()} - _OURS) if out.is_dir() else []
    if others:
        raise UserError(f"{out} holds {others[0]}, which is no part of an export; choose a new or empty folder")


def write_model(folder: Path, model: HyenaDNA) -> None:
    """Write config.json and model.safetensors of a model in one process, as load_published reads them.

    Raises:
        OSError: a file could not be written.
    """
    write_tensors(folder / "model.safetensors", stored_tensors(model))
    (folder / "config.json").write_text(json.dumps(published_config(model), indent=2) + "\n")
