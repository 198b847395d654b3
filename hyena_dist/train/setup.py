"""The model of an objective under its engine: from the seed, from a trained model, or as a checkpoint left it."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from hyena_dist.config.deepspeed import read_preset
from hyena_dist.config.run import RunConfig
from hyena_dist.ops import tuning
from hyena_dist.ops.precision import precision_warning
from hyena_dist.parallel.compat.cpu import keep_freed_memory
from hyena_dist.parallel.engine.deepspeed import Engine, adamw
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.profile.phases import Phases
from hyena_dist.train.checkpoint.load import load_optimizer
from hyena_dist.train.choices import made_elsewhere
from hyena_dist.train.init import describe_beginning
from hyena_dist.train.objective import Objective
from hyena_dist.train.param_groups import parameter_groups
from hyena_dist.train.resume import ResumePoint


def build(
    objective: Objective[Any], config: RunConfig, mesh: Mesh, point: ResumePoint, phases: Phases
) -> tuple[nn.Module, Engine]:
    """Build model and engine on every rank, from the resume point's checkpoint or, at its start, the run's `init`."""
    tuning.install(point.state.choices)
    torch.manual_seed(config.seed)
    model = objective.build_model(mesh)
    init = None if point.checkpoint else config.init
    if start := init.model if init else point.checkpoint:
        objective.load_model(Path(start), model, mesh)  # before the engine, which takes its shards of what it gets
    model.to(mesh.device)
    if mesh.device.type == "cpu":
        tokens = max(stage.micro_batch_size * stage.seq_length for stage in point.segment)
        keep_freed_memory(4 * tokens * config.model.d_model // mesh.context.size())
    settings = config.optimizer
    preset = read_preset(point.parallel.zero)
    groups = parameter_groups(model, settings)
    optimizer = adamw(groups, preset, lr=settings.lr, betas=settings.betas, eps=settings.eps)
    engine = Engine(
        model,
        optimizer,
        mesh,
        preset,
        micro_batch_size=point.segment[0].micro_batch_size,
        clip_grad=settings.clip_grad,
        enter=phases.enter,
    )
    if start and (init is None or init.optimizer == "keep"):
        load_optimizer(Path(start), engine)
    return model, engine


def introduction(
    objective: Objective[Any], model: nn.Module, config: RunConfig, point: ResumePoint, mesh: Mesh
) -> list[str]:
    """Return lines that tell people what is going to run."""
    lines = [
        f"{config.name}: {mesh.device.type}, {point.parallel.zero}, {config.precision}",
        *(f"  {line}" for line in objective.describe(model, mesh)),
        f"  {config.layout_of(point.segment).describe(mesh.world.size)}",
        *(f"  {stage.describe()}" for stage in point.stages),
    ]
    if mesh.world.is_main and (warning := precision_warning(config.precision, mesh.device)):
        lines.append(warning)
    if point.finished:
        lines.append(f"already trained to step {point.state.step:,}; keeping {point.checkpoint}")
    elif point.checkpoint:
        lines.append(f"continuing from {point.checkpoint}")
        if sentence := made_elsewhere(point.state.choices, point.checkpoint, mesh.device):
            lines.append(sentence)
    elif config.init and mesh.world.is_main:
        lines += describe_beginning(config, objective.fingerprint)
    return lines
