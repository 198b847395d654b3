"""Loading of a trained model to use it."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from hyena_dist.errors import UserError
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.published import check_finite, load_published
from hyena_dist.parallel.world import local_gpu
from hyena_dist.system.launch import launch_environment
from hyena_dist.train.checkpoint.format import model_folder

Model = HyenaDNA | str | Path
"""A model, or what `load` takes."""


def load(
    model: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    modulation_shift: float | None = None,
) -> HyenaDNA:
    """Load a trained model in evaluation mode, on one device.

    >>> import hyena_dist
    >>> model = hyena_dist.load("tests/golden/tiny")
    >>> model.config.n_layer
    2

    Args:
        model: the folder of a run (its newest checkpoint is taken), a checkpoint, a published folder or -hf folder, or
            a file of weights with config.json beside it.
        device: where it computes.
        dtype: the type to cast it to; fp32 if not given.
        modulation_shift: shift of the filters' decay, which published files do not store; see `load_published`.

    Raises:
        UserError: nothing to load there, a device that there is not, or weights that are not finite.
    """
    place = find_device(device)
    path = Path(model)
    if not path.exists():
        raise UserError(f"there is no {path}; name a run, a checkpoint or a published folder")
    loaded = load_published(model_folder(path), modulation_shift, dtype)
    check_finite(loaded, str(path))
    return loaded.to(place)


def find_device(device: str | torch.device) -> torch.device:
    """Return a device by its name.

    Raises:
        UserError: there is no such device here.
    """
    try:
        place = torch.device(device)
    except RuntimeError:
        raise UserError(f"there is no device {device!r}; take cpu or cuda") from None
    if place.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {device} is asked for and this machine has no GPU that torch sees; take cpu")
    return place


def load_here(model: Model, device: str, dtype: torch.dtype | None, modulation_shift: float | None) -> HyenaDNA:
    """Return a model as it is, or load it to this process's device: of several GPUs the one that is its own.

    Raises:
        UserError: what `load` refuses, or more processes on the machine than GPUs.
    """
    if isinstance(model, HyenaDNA):
        return model
    if device == "cuda" and torch.cuda.is_available():
        device = f"cuda:{local_gpu(launch_environment().local_rank, torch.cuda.device_count())}"
    return load(model, device=device, dtype=dtype, modulation_shift=modulation_shift)


@contextmanager
def evaluating(model: HyenaDNA) -> Iterator[None]:
    """Within the block, a model drops nothing; afterwards each of its modules is in the mode that it came in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def model_hash(model: HyenaDNA) -> str:
    """Return a hash of a model's architecture and weights, which tells results of one model from those of another."""
    digest = hashlib.sha256(model.config.model_dump_json().encode())
    digest.update(str(model.compute_dtype).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
