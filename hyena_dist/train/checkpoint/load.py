"""Reading a checkpoint: whole tensors into a model and into AdamW, whatever the layout that they go to."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from hyena_dist.errors import UserError
from hyena_dist.parallel.engine.deepspeed import Engine
from hyena_dist.parallel.engine.fragments import set_moments
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.tensor_shards import part_of, partitions
from hyena_dist.train.state import read_state


@torch.no_grad()
def load_tensors(path: Path, model: nn.Module, mesh: Mesh) -> None:
    """Copy the whole tensors of a safetensors file into a model by name; each tensor rank takes its part.

    Raises:
        UserError: a tensor that is missing, unknown or of another shape.
    """
    tensors = load_file(path)
    parts = partitions(model)
    held = model.state_dict()
    wrong = sorted(tensors.keys() ^ held.keys())
    if wrong:
        where = "missing in" if wrong[0] in held else "unknown to the model of"
        raise UserError(f"{wrong[0]} is {where} {path}; check that the checkpoint and the run belong together")
    for name, value in held.items():
        part = part_of(tensors[name], parts.get(name), mesh)
        if part.shape != value.shape:
            raise UserError(
                f"{path}: {name} has shape {tuple(tensors[name].shape)}, of which a rank's part does not fit the "
                f"model's {tuple(value.shape)}; check that the checkpoint and the run belong together"
            )
        value.copy_(part)


def load_optimizer(path: Path, engine: Engine) -> None:
    """Continue with a checkpoint's optimizer state; the engine's model must have its weights already.

    Raises:
        UserError: the checkpoint has no optimizer state of a parameter.
    """
    tensors: dict[str, Tensor] = {}
    for file in path.glob("optimizer-*.safetensors"):
        tensors |= load_file(file)  # mapped, not read: a rank reads what it takes

    def read(name: str) -> Tensor:
        if name not in tensors:
            raise UserError(f"{path} has no {name}; continue from another checkpoint, or start anew with name=...")
        return tensors[name]

    set_moments(engine, read, read_state(path).updates)
