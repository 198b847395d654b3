"""Read the tensors of a torch file and run nothing that a pickle carries.

torch's own weights_only reader comes first. Lightning files hold more than tensors (hyper-parameters, callbacks,
optimizer states), which that reader refuses as a whole; the second reader rebuilds the tensors and turns every other
class or function into a placeholder that ignores whatever is done to it.
"""

import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from hyena_dist.errors import UserError
from hyena_dist.models.tensor_names import holds_model

# Where a file has more than one model, as an average beside the trained one, the first of these keys is meant.
_USUAL = ("", "state_dict", "model_state_dict", "model", "module", "state_dict.model", "model.state_dict")
_DEPTH = 3  # how far down the mapping of the tensors may be
_TENSOR_BUILDERS = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"}
_DTYPES = {str(value).removeprefix("torch."): value for value in vars(torch).values() if isinstance(value, torch.dtype)}


class _Inert:
    """Stands in for any class or function: can be called, built, filled and compared by the unpickler to no effect."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "_Inert":
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        """Ignore an item that a pickle appends."""

    def extend(self, items: Any) -> None:
        """Ignore items that a pickle appends."""

    def add(self, item: Any) -> None:
        """Ignore an item that a pickle adds to a set."""

    def __call__(self, *args: Any, **kwargs: Any) -> "_Inert":
        return self

    def __hash__(self) -> int:
        return id(self)


class _Builder:
    """One of torch's functions that make tensors.

    A pickle can set attributes of what it names, and torch's reader of old files trusts some of them, so that it never
    gets hold of the function itself.
    """

    __slots__ = ("_function",)

    def __init__(self, name: str) -> None:
        self._function = getattr(torch._utils, name)

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        pass


class _TensorUnpickler(pickle.Unpickler):
    """Finds tensors' own parts, none of which a pickle can change; everything else is inert.

    torch's readers take the storage types of tensors by name before they ask here.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in _TENSOR_BUILDERS:
            return _Builder(name)
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("torch", "Size"):
            return torch.Size
        # Untyped storages hold tensors of rare types: their bytes are read over, the tensors stay placeholders.
        return type(name.rpartition(".")[2] or "Inert", (_Inert,), {"dtype": torch.uint8})


def _load(file: Any, **kwargs: Any) -> Any:
    return _TensorUnpickler(file, **kwargs).load()


_PICKLE_MODULE = SimpleNamespace(Unpickler=_TensorUnpickler, load=_load, __name__="tensor_reader")


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError):
        # Not for the second reader: damaged archives, and TorchScript, whose code torch.load would go on to run.
        raise
    except Exception:
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_PICKLE_MODULE)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return the tensors of `path`: the mapping in it that has those of a HyenaDNA, else "state_dict", else all.

    Trainers keep them at the top or under a key of their own, beside optimizer states and averages.

    Raises:
        UserError: the file cannot be read, holds no tensors, or holds several models under keys that tell nothing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about formats and protocols, which both readers know
            content = _read(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; name a torch file of weights") from error
    except Exception as error:
        reason = re.split(r"\.\s|\n", str(error), maxsplit=1)[0][:200] or type(error).__name__
        raise UserError(f"{path} is not a readable torch file ({reason}); download it again") from error
    if isinstance(content, _Inert):
        raise UserError(f"{path} is a pickled object, which is not run; save its state_dict() and name that file")
    found = {key: tensors for key, tensors in _mappings(content) if holds_model(tensors)}
    if len(found) > 1 and not found.keys() & set(_USUAL):
        raise UserError(f"{path} holds several models ({', '.join(found)}); save the one that is meant alone")
    usual = next((key for key in _USUAL if key in found), None)
    tensors = found[usual] if usual is not None else next(iter(found.values()), {})
    if not tensors:
        # dict's own methods: an OrderedDict from a pickle may carry attributes of the same names.
        tensors = _tensors(dict.get(content, "state_dict", content)) if isinstance(content, dict) else {}
    if not tensors:
        raise UserError(f"{path} holds no tensors under 'state_dict'; name a checkpoint of a HyenaDNA model")
    return tensors


def _mappings(content: Any, key: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Walk through the mappings of a file and give the tensors of each, by their keys joined with dots."""
    if not isinstance(content, dict) or depth > _DEPTH:
        return
    yield key, _tensors(content)
    for name, value in dict.items(content):
        if isinstance(name, str):
            yield from _mappings(value, f"{key}.{name}".lstrip("."), depth + 1)


def _tensors(mapping: Any) -> dict[str, Tensor]:
    items = dict.items(mapping) if isinstance(mapping, dict) else ()
    return {k: v for k, v in items if isinstance(k, str) and isinstance(v, Tensor)}
