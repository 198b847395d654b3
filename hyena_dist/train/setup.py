"""What a run needs before its first step: where it stands, its processes' layout, the model and the engine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from hyena_dist.config.deepspeed import read_preset
from hyena_dist.config.file import dump_config
from hyena_dist.config.run import ParallelConfig, RunConfig, StagePlan
from hyena_dist.data.store import GenomeStore
from hyena_dist.errors import UserError
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.mixers.attention import usable_backends
from hyena_dist.parallel.compat.cpu import keep_freed_memory
from hyena_dist.parallel.engine.deepspeed import Engine, adamw
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.train.checkpoint import format as checkpoint
from hyena_dist.train.evaluation.perplexity import evaluation_windows
from hyena_dist.train.optimizer import parameter_groups

Resume = Literal["auto", "never"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Place(NamedTuple):
    """Where a run stands in its curriculum, and how far these processes bring it."""

    stages: tuple[StagePlan, ...]
    segment: tuple[StagePlan, ...]
    """The stages that the layout of these processes suits."""
    end_step: int
    """Where they end: with the run, with the segment, or with the last stage that was asked for."""
    found: Path | None
    """The checkpoint to continue from."""
    state: dict[str, Any]

    @property
    def parallel(self) -> ParallelConfig:
        """The layout of these processes."""
        return self.segment[0].parallel

    @property
    def finished(self) -> bool:
        """Whether the whole curriculum is done."""
        return bool(self.state["step"] >= self.stages[-1].end_step)

    def stages_done(self, step: int) -> int:
        """Stages that end at or before a step."""
        return sum(stage.end_step <= step for stage in self.stages)


def open_data(config: RunConfig) -> GenomeStore:
    """The run's data; what the last evaluation needs of it is looked for now, not after a week of training.

    Raises:
        UserError: no store, or a held-out split without windows of a length that is evaluated.
    """
    store = GenomeStore.open(config.data.path)
    for length in config.evaluation_lengths:
        evaluation_windows(store, config.evaluation.split, length, 1)
    return store


def find_place(
    config: RunConfig, asked: RunConfig, store: GenomeStore, world: Mesh, resume: Resume, last_stage: int | None
) -> Place:
    """Where to continue; every rank calls this. `config` is what was planned from `asked`, which run.yaml keeps.

    Raises:
        UserError: as `find_checkpoint`, or batches and layouts that these ranks cannot have.
    """
    segments = config.segments(world.world_size)
    stages = tuple(stage for segment in segments for stage in segment)
    found = world.on_main(lambda: find_checkpoint(config, asked, store, resume))
    state: dict[str, Any] = checkpoint.read_state(found) if found else {"step": 0}
    segment = next((segment for segment in segments if state["step"] < segment[-1].end_step), segments[-1])
    end_step = min(segment[-1].end_step, stages[(last_stage or len(stages)) - 1].end_step)
    return Place(stages, segment, end_step, found, state)


def find_checkpoint(config: RunConfig, asked: RunConfig, store: GenomeStore, resume: Resume) -> Path | None:
    """The checkpoint that the run continues from, if there is one; writes run.yaml. For the main process.

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
        (config.run_dir / "run.yaml").write_text(dump_config(asked))
    except OSError as error:
        raise UserError(f"cannot write to {config.run_dir}: {error.strerror}; choose another output_dir") from error
    return found


def build(config: RunConfig, mesh: Mesh, segment: Sequence[StagePlan], found: Path | None) -> tuple[HyenaDNA, Engine]:
    """The model and its engine on every rank, as initialised by the seed or as a checkpoint left them."""
    torch.manual_seed(config.seed)
    model = HyenaDNA(config.model, mesh, DTYPES[config.precision])
    if found:
        checkpoint.load_model(found, model)  # before the engine, which takes its shards of what it gets
    model.to(mesh.device)
    if mesh.device.type == "cpu":
        tokens = max(stage.micro_batch_size * stage.seq_length for stage in segment)
        keep_freed_memory(4 * tokens * config.model.d_model // mesh.context.size())
    preset, settings = read_preset(segment[0].parallel.zero), config.optimizer
    groups = parameter_groups(model, settings)
    optimizer = adamw(groups, preset, lr=settings.lr, betas=settings.betas, eps=settings.eps)
    micro_batch_size = segment[0].micro_batch_size
    engine = Engine(model, optimizer, mesh, preset, micro_batch_size=micro_batch_size, clip_grad=settings.clip_grad)
    if found:
        checkpoint.load_optimizer(found, engine)
    return model, engine


def introduction(config: RunConfig, place: Place, mesh: Mesh) -> list[str]:
    """What is going to run, for people."""
    model = config.model
    lines = [
        f"{config.name}: {model.num_parameters:,} parameters on {mesh.device.type}, {place.parallel.zero}, "
        f"{config.precision}, data {config.data.path} ({config.data.sampling})",
        f"  {config.layout_of(place.segment).describe(mesh.world_size)}",
    ]
    if "A" in model.mixers:
        backend = usable_backends(mesh.device, DTYPES[config.precision], model.d_model // model.attention_heads)[0]
        lines.append(f"  attention by {backend}")
    lines += [f"  {stage.describe()}" for stage in place.stages]
    if place.finished:
        lines.append(f"already trained to step {place.state['step']:,}; keeping {place.found}")
    elif place.found:
        lines.append(f"continuing from {place.found}")
    return lines
