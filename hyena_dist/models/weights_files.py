"""The files of a model's weights: which one a folder has, and its tensors under our names."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from hyena_dist.errors import UserError
from hyena_dist.models.tensor_names import our_names
from hyena_dist.models.weights_reader import read_state_dict

_INDEX = ".index.json"
NAMES = (
    "model.safetensors",
    f"model.safetensors{_INDEX}",
    "weights.ckpt",
    "pytorch_model.bin",
    f"pytorch_model.bin{_INDEX}",
)
"""What a folder's weights may be called; the first that is there is read."""
_ENDINGS = (".safetensors", ".ckpt", ".bin", ".pt", ".pth")


def find_weights(path: Path) -> Path:
    """Return `path` if it is a file, else the file of weights in that folder.

    Raises:
        UserError: there is none under a usual name.
    """
    if path.is_file():
        return path
    found = next((path / name for name in NAMES if (path / name).is_file()), None)
    if found is None:
        others = sorted(p.name for p in path.glob("*") if p.suffix in _ENDINGS)
        instead = f"name a file itself, such as {path / others[0]}" if others else "name a published model's folder"
        raise UserError(f"{path} has neither {', '.join(NAMES[:-1])} nor {NAMES[-1]}; {instead}")
    return found


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors or torch file, or of all that an index names; they get our names.

    Raises:
        UserError: a file that is missing or unreadable, or that holds no HyenaDNA.
    """
    stored: dict[str, Tensor] = {}
    for part in _parts(path) if path.name.endswith(_INDEX) else [path]:
        stored |= _read(part)
    tensors: dict[str, Tensor] = {}
    for stored_name, name in our_names(stored, path).items():
        value = stored[stored_name]
        if name in tensors and not torch.equal(tensors[name], value):
            raise UserError(f"{path}: {stored_name} differs from its other copies; only shared frequencies are built")
        tensors[name] = value
    return tensors


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".safetensors":
        return read_state_dict(path)
    try:
        return load_file(path)
    except Exception as error:
        raise UserError(f"{path} is not a readable safetensors file ({error}); download it again") from error


def _parts(index: Path) -> list[Path]:
    """Return the files that an index names, all of them beside it."""
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        parts = [index.with_name(name) for name in names]  # refuses what leads out of the folder
    except OSError as error:
        raise UserError(f"cannot read {index}: {error.strerror}; download it again") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index} is not an index with a weight_map of file names; download it again") from error
    missing = next((part for part in parts if not part.is_file()), None)
    if missing is not None:
        raise UserError(f"{index} names {missing.name}, which is not beside it; download all {len(parts)} parts")
    return parts
