"""Read the tensors of a torch file and run nothing that a pickle carries.

torch's own weights_only reader comes first. Lightning files hold more than tensors (hyper-parameters, callbacks,
optimizer states), which that reader refuses as a whole; the second reader rebuilds the tensors and turns every other
class or function into a placeholder that ignores whatever is done to it.
"""

import pickle
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from hyena_dist.errors import UserError

_TENSOR_BUILDERS = {
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
}


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
        """Ignored."""

    def extend(self, items: Any) -> None:
        """Ignored."""

    def add(self, item: Any) -> None:
        """Ignored."""

    def __call__(self, *args: Any, **kwargs: Any) -> "_Inert":
        return self

    def __hash__(self) -> int:
        return id(self)


class _TensorUnpickler(pickle.Unpickler):
    """Finds tensors' own parts; everything else is inert."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) in _TENSOR_BUILDERS:
            return getattr(torch._utils, name)
        if module in ("torch", "torch.storage") and name.endswith("Storage") and name.isidentifier():
            found = getattr(torch if module == "torch" else torch.storage, name, None)
            return found if isinstance(found, type) else _Inert
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) == ("torch", "Size"):
            return torch.Size
        return type(name.rpartition(".")[2] or "Inert", (_Inert,), {})


def _load(file: Any, **kwargs: Any) -> Any:
    return _TensorUnpickler(file, **kwargs).load()


_PICKLE_MODULE = SimpleNamespace(Unpickler=_TensorUnpickler, load=_load, __name__="tensor_reader")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of `path`: those under "state_dict" if it has such a key, as Lightning files do, else all.

    Raises:
        UserError: the file cannot be read or holds no tensors.
    """
    try:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=_PICKLE_MODULE)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; name a torch file of weights") from error
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{path} is not a readable torch file ({reason}); download it again") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    tensors = {str(k): v for k, v in state.items() if isinstance(v, Tensor)} if isinstance(state, dict) else {}
    if not tensors:
        raise UserError(f"{path} holds no tensors under 'state_dict'; name a checkpoint of a HyenaDNA model")
    return tensors
