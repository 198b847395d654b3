"""The language model that contexts are put to, with the weights that a run begins with."""

from pathlib import Path
from typing import Any

import torch

from hyena_dist.config.run import RunConfig
from hyena_dist.config.task import SCRATCH
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.published import load_weights
from hyena_dist.models.weights_files import find_weights, read_tensors
from hyena_dist.ops.precision import DTYPES
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.train.checkpoint.format import fingerprint, model_folder


def language_model(config: RunConfig, mesh: Mesh) -> HyenaDNA:
    """Build the model of a run's task, with the weights that `task.model` names or those of torch's seed.

    Raises:
        UserError: weights that cannot be read, or do not fit the architecture.
    """
    model = HyenaDNA(config.model, mesh, DTYPES[config.precision])
    if source := _weights(config):
        with torch.no_grad():
            load_weights(model, read_tensors(source), source)
    return model


def weights_fingerprint(config: RunConfig) -> Any:
    """Return what identifies the weights that a run begins with, as JSON; None for those of the seed."""
    source = _weights(config)
    return None if source is None else fingerprint(source)


def _weights(config: RunConfig) -> Path | None:
    if config.task is None or config.task.model == SCRATCH:
        return None
    return find_weights(model_folder(Path(config.task.model)))
