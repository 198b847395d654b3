"""Loading of a trained model to use it."""

from pathlib import Path

import torch

from hyena_dist.errors import UserError
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.published import check_finite, load_published
from hyena_dist.train.checkpoint.format import model_folder


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
        modulation_shift: for published models, which do not say; see `load_published`.

    Raises:
        UserError: nothing to load there, a device that there is not, or weights that are not finite.
    """
    place = torch.device(device)
    if place.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {device} is asked for and this machine has no GPU that torch sees; take cpu")
    path = Path(model)
    if not path.exists():
        raise UserError(f"there is no {path}; name a run, a checkpoint or a published folder")
    loaded = load_published(model_folder(path), modulation_shift, dtype)
    check_finite(loaded, str(path))
    return loaded.to(place)
