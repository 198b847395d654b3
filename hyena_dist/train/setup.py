"""What a run needs before its first step: where it stands, the model and the engine, and words about them."""

from pathlib import Path
from typing import Literal

import torch

from hyena_dist.config import RunConfig, StagePlan
from hyena_dist.config_file import dump_config
from hyena_dist.data.store import GenomeStore
from hyena_dist.errors import UserError
from hyena_dist.models.attention import usable_backends
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.parallel.cpu import keep_freed_memory
from hyena_dist.parallel.deepspeed_config import read_preset
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.zero import Engine, adamw
from hyena_dist.train import checkpoint
from hyena_dist.train.optimizer import parameter_groups

Resume = Literal["auto", "never"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def find_checkpoint(config: RunConfig, store: GenomeStore, resume: Resume) -> Path | None:
    """The checkpoint that the run continues from, if there is one; makes the run's folder. For the main process.

    Raises:
        UserError: a checkpoint of another run or other data, one at all with resume "never", or no right to write.
    """
    checkpoints = config.run_dir / "checkpoints"
    if resume == "never" and checkpoint.list_checkpoints(checkpoints):
        raise UserError(f"{config.run_dir} has checkpoints; pass --resume auto to continue or choose another name=...")
    found = checkpoint.newest_intact(checkpoints, lambda text: print(text, flush=True))
    if found:
        checkpoint.check_compatible(found, config)
        if checkpoint.read_state(found)["data"] != store.fingerprint:
            raise UserError(f"{found} was trained on other data than {config.data.path}; set data.path back")
    try:
        config.run_dir.mkdir(parents=True, exist_ok=True)
        (config.run_dir / "run.yaml").write_text(dump_config(config))
    except OSError as error:
        raise UserError(f"cannot write to {config.run_dir}: {error.strerror}; choose another output_dir") from error
    return found


def build(config: RunConfig, mesh: Mesh, micro_batch_size: int, found: Path | None) -> tuple[HyenaDNA, Engine]:
    """The model and its engine on every rank, as initialised by the seed or as a checkpoint left them."""
    torch.manual_seed(config.seed)
    model = HyenaDNA(config.model, mesh, DTYPES[config.precision])
    if found:
        checkpoint.load_model(found, model)  # before the engine, which takes its shards of what it gets
    model.to(mesh.device)
    if mesh.device.type == "cpu":
        tokens = max(stage.micro_batch_size * stage.seq_length for stage in config.stages(mesh.world_size))
        keep_freed_memory(4 * tokens * config.model.d_model // mesh.context.size())
    model.backbone.activation_checkpointing = config.parallel.activation_checkpointing
    preset, settings = read_preset(config.parallel.zero), config.optimizer
    groups = parameter_groups(model, settings)
    optimizer = adamw(groups, preset, lr=settings.lr, betas=settings.betas, eps=settings.eps)
    engine = Engine(model, optimizer, mesh, preset, micro_batch_size=micro_batch_size, clip_grad=settings.clip_grad)
    if found:
        checkpoint.load_optimizer(found, engine)
    return model, engine


def introduction(config: RunConfig, stages: tuple[StagePlan, ...], mesh: Mesh) -> list[str]:
    """What is going to run, for people."""
    model = config.model
    lines = [
        f"{config.name}: {model.num_parameters:,} parameters on {mesh.device.type}, {config.parallel.zero}, "
        f"{config.precision}, data {config.data.path} ({config.data.sampling})",
        f"  {config.layout.describe(mesh.world_size)}",
    ]
    if "A" in model.mixers:
        backend = usable_backends(mesh.device, DTYPES[config.precision], model.d_model // model.attention_heads)[0]
        lines.append(f"  attention by {backend}")
    return lines + [f"  {stage.describe()}" for stage in stages]
