"""The model of a task: built for training from a pretrained one, or read back for predictions."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from hyena_dist.config.model import ModelConfig
from hyena_dist.config.task import SCRATCH
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.published import copy_tensors
from hyena_dist.models.weights_files import find_weights, read_tensors
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.tasks.adapters import add_adapters
from hyena_dist.tasks.labelling import Labelling
from hyena_dist.tasks.model import SequenceModel
from hyena_dist.train.checkpoint.format import model_folder

_BACKBONE = "backbone."


def untrained(
    architecture: ModelConfig, labelling: Labelling, mesh: Mesh, dtype: torch.dtype, *, pretrained: bool = False
) -> SequenceModel:
    """Build the model of a task, its parameters drawn from torch's seed.

    Args:
        architecture: the language model, whose head has no part in this.
        labelling: the labels, with pooling and adapters.
        mesh: this rank's groups.
        dtype: the type of activations and matrix products.
        pretrained: whether the backbone has the weights of `task.model`.

    Raises:
        UserError: weights that cannot be read, or do not fit the architecture.
    """
    task = labelling.task
    language_model = HyenaDNA(architecture, mesh, dtype)
    if pretrained and task.model != SCRATCH:
        source = find_weights(model_folder(Path(task.model)))
        found = read_tensors(source).items()
        tensors = {name.removeprefix(_BACKBONE): value for name, value in found if name.startswith(_BACKBONE)}
        copy_tensors(language_model.backbone, tensors, source, mesh)
    pooling = None if labelling.kind == "per_base" else task.pooling
    model = SequenceModel(language_model, len(labelling.classes), pooling, frozen=task.tune == "frozen")
    if task.tune == "lora":
        add_adapters(model, task.lora)
    return model


def take_weights(model: SequenceModel, checkpoint: Path) -> None:
    """Copy the weights of a checkpoint of the same task, head and adapters included.

    Raises:
        UserError: the checkpoint is of another model.
    """
    weights = checkpoint / "model.safetensors"
    copy_tensors(model, load_file(weights), weights, model.mesh)
