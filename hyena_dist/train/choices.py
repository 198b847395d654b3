"""The choices between kernels in a run: rank 0 makes them before each stage, and checkpoints keep them.

All ranks take those of rank 0, and a run that goes on takes those of its checkpoint: it is then equal to the bit to one
that was never stopped. A CPU has nothing to choose from, and nothing here takes time on it.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from hyena_dist.config.schedule import StagePlan
from hyena_dist.models.mixers.base import MixerModule
from hyena_dist.ops import tuning
from hyena_dist.ops.backend import backend_of, explain
from hyena_dist.parallel.mesh import Mesh


def settle(model: nn.Module, stage: StagePlan, mesh: Mesh, dtype: torch.dtype) -> str | None:
    """Settle the choices of a stage; every rank calls this before the stage's first step of this process.

    Args:
        model: has the mixers that choose, of which one of each kind rehearses.
        stage: says the length and the number of sequences of a rank.
        mesh: all ranks.
        dtype: the type of activations.

    Returns:
        A line that tells people what was chosen; None where there is no choice.
    """
    if backend_of(mesh.device) == "torch":
        return None

    def rehearse() -> dict[str, str]:
        kinds = {type(module): module for module in model.modules() if isinstance(module, MixerModule)}
        with tuning.timing():
            for mixer in kinds.values():
                mixer.rehearse(stage.seq_length, stage.micro_batch_size, dtype)
        return tuning.chosen()

    choices = mesh.world.on_main(rehearse)
    tuning.install(choices)
    here = f" on {tuning.machine(mesh.device)}"
    chosen = [f"; {case.removesuffix(here)}: {name}" for case, name in choices.items() if case.endswith(here)]
    return f"operators run on {explain(mesh.device)}{''.join(chosen)}"


def made_elsewhere(choices: Mapping[str, str], checkpoint: Path, device: torch.device) -> str | None:
    """Return a sentence if the choices of a checkpoint do not hold on this device and so are made anew."""
    here = tuning.machine(device)
    if backend_of(device) == "torch" or not choices or any(case.endswith(f" on {here}") for case in choices):
        return None
    *_, there = next(iter(choices)).partition(" on ")
    return (
        f"the choices between kernels in {checkpoint} are those of {there}; they are made anew for {here}, so that "
        f"losses may differ by rounding"
    )
