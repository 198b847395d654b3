"""RunConfig: one frozen tree that says everything about a run, and every size derived from it.

Sizes have Megatron's names, the inside of the model HyenaDNA's. Runs on login nodes: no torch.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from hyena_dist.config.data import DataConfig
from hyena_dist.config.divisibility import Layout
from hyena_dist.config.init import InitConfig
from hyena_dist.config.model import ModelConfig
from hyena_dist.config.optimizer import OptimizerConfig
from hyena_dist.config.parallel import ParallelConfig
from hyena_dist.config.schedule import CurriculumStage, StagePlan, TrainConfig
from hyena_dist.config.section import Section
from hyena_dist.config.task import TaskConfig
from hyena_dist.errors import UserError
from hyena_dist.system.urls import check_local


class EvaluationConfig(Section):
    """The settings of the evaluation: held-out perplexity."""

    split: Literal["valid", "test"] = "valid"
    lengths: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (), description="context lengths; the curriculum's if not given"
    )
    max_tokens: int = Field(1_000_000, gt=0, description="targets scored per length at the end")
    interval_max_tokens: int = Field(100_000, gt=0, description="targets scored every train.eval_interval steps")
    micro_batch_tokens: int = Field(65_536, gt=0)


class TrackingConfig(Section):
    """The settings of MLflow; metrics.jsonl is always written."""

    mlflow: bool = True
    uri: str | None = Field(None, description="any MLflow tracking URI; a SQLite file beside the runs if not given")
    experiment: str = "hyena-dist"
    system_metrics: bool = True


AUTO = (
    "parallel.tensor_model_parallel_size",
    "parallel.context_parallel_size",
    "parallel.activation_checkpointing",
    "parallel.zero",
    "train.micro_batch_size",
)
"""Fields that may be given as `auto`: plan/ fills them in for every stage that does not say them itself."""


class RunConfig(Section):
    """Everything that is set about a run."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    output_dir: Path = Field(Path("runs"), description="the run's folder is output_dir/name")
    seed: int = Field(0, ge=0, lt=2**64)
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="of activations and matrix products; parameters, filters, FFTs and losses stay fp32"
    )
    model: ModelConfig = ModelConfig()
    parallel_defaults: ParallelConfig = Field(
        ParallelConfig(), alias="parallel", description="of stages that say nothing else; see StagePlan.parallel"
    )
    data: DataConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig
    evaluation: EvaluationConfig = EvaluationConfig()
    tracking: TrackingConfig = TrackingConfig()
    init: InitConfig | None = Field(None, description="the model that a run begins with; the seed's weights without")
    task: TaskConfig | None = Field(None, description="what a model is fine-tuned for; a run without it pretrains")
    auto: tuple[str, ...] = Field((), description="what was given as `auto` and is not planned yet; see AUTO")

    @model_validator(mode="before")
    @classmethod
    def _take_autos(cls, tree: Any) -> Any:
        """Turn every `auto` in the place of a value into an entry of the field `auto`."""
        if not isinstance(tree, dict):
            return tree
        tree = dict(tree)
        auto = list(tree.get("auto", ()))
        for path in AUTO:
            section, key = path.split(".")
            values = tree.get(section)
            if isinstance(values, dict) and values.get(key) == "auto":
                tree[section] = {k: v for k, v in values.items() if k != key}
                auto.append(path)
        return tree | {"auto": auto}

    @model_validator(mode="before")
    @classmethod
    def _task_names_data(cls, tree: Any) -> Any:
        """Take the labelled sequences for the data of a run that names no other."""
        task = tree.get("task") if isinstance(tree, dict) else None
        labelled = task.get("data") if isinstance(task, dict) else None
        named = (labelled.get("path") or labelled.get("train")) if isinstance(labelled, dict) else None
        return tree | {"data": {"path": named} | (tree.get("data") or {})} if named else tree

    @model_validator(mode="after")
    def _one_model(self) -> "RunConfig":
        if self.init is not None and self.task is not None:
            raise ValueError("init names the model of a pretraining run, and this run has a task; set task.model")
        return self

    @field_validator("output_dir")
    @classmethod
    def _output_is_here(cls, path: Path) -> Path:
        try:
            check_local(path)
        except UserError as error:
            raise ValueError(str(error)) from error
        return path

    @model_validator(mode="after")
    def _layout_works(self) -> "RunConfig":
        for layout in self._layouts():
            if problem := layout.problem():
                raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _adapters_have_whole_layers(self) -> "RunConfig":
        sizes = [self.parallel_of(stage).tensor_model_parallel_size for stage in self.train.curriculum]
        if self.task is not None and self.task.tune == "lora" and max(sizes) > 1:
            raise ValueError(
                f"task.tune=lora puts adapters beside whole layers, which {max(sizes)} tensor ranks share; set "
                f"parallel.tensor_model_parallel_size=1"
            )
        return self

    @property
    def run_dir(self) -> Path:
        """The run's folder."""
        return self.output_dir / self.name

    @property
    def evaluation_lengths(self) -> tuple[int, ...]:
        """Context lengths of the evaluation, ascending."""
        return tuple(sorted(set(self.evaluation.lengths or [s.seq_length for s in self.train.curriculum])))

    def layout_of(self, segment: Sequence[StagePlan]) -> Layout:
        """Return what the ranks that train some stages share among them; all of the stages have one layout."""
        return self.layout_with(segment[0].parallel, [(stage.number + 1, stage.seq_length) for stage in segment])

    def stages(self, world_size: int) -> tuple[StagePlan, ...]:
        """Return the curriculum for `world_size` ranks.

        Raises:
            UserError: a world size or batch sizes that do not divide, with the arithmetic and the nearest that does.
        """
        parallels = [self.parallel_of(stage) for stage in self.train.curriculum]
        return self.train.stages([(p, self.layout_with(p).data_parallel_size(world_size)) for p in parallels])

    def segments(self, world_size: int) -> tuple[tuple[StagePlan, ...], ...]:
        """Return the curriculum cut where the layout of processes changes: each part is trained by other processes.

        Raises:
            UserError: a world size or batch sizes that do not divide, as in `stages`.
        """
        groups = itertools.groupby(self.stages(world_size), lambda stage: stage.parallel.processes)
        return tuple(tuple(stages) for _, stages in groups)

    def parallel_of(self, stage: CurriculumStage) -> ParallelConfig:
        """Return the layout of a stage: what it says itself, and the run's defaults for the rest."""
        return stage.parallel.over(self.parallel_defaults)

    def _layouts(self) -> Iterator[Layout]:
        """Yield the layout of every set of processes, with the lengths that they see; the last processes evaluate."""
        numbered = list(enumerate(self.train.curriculum, 1))
        groups = [list(g) for _, g in itertools.groupby(numbered, lambda pair: self.parallel_of(pair[1]).processes)]
        for group in groups:
            lengths = [(number, stage.seq_length) for number, stage in group]
            yield self.layout_with(self.parallel_of(group[0][1]), lengths, evaluates=group is groups[-1])

    def layout_with(
        self, parallel: ParallelConfig, stages: Sequence[tuple[int, int]] = (), evaluates: bool = True
    ) -> Layout:
        """Return what ranks would share under a layout.

        Args:
            parallel: the layout.
            stages: number, counted from 1, and seq_length of each stage whose length counts.
            evaluates: whether the lengths of the evaluation count too.
        """
        model = self.model
        evaluation = [("evaluation", n) for n in self.evaluation.lengths] if evaluates else []
        return Layout(
            parallel.tensor_model_parallel_size,
            parallel.context_parallel_size,
            parallel.sequence_parallel,
            d_model=model.d_model,
            d_inner=model.inner_size,
            vocabulary=model.padded_vocab_size,
            mixer_units=tuple(model.mixer_units.items()),
            l_max=model.l_max,
            lengths=(*((f"stage {i}", n) for i, n in stages), *evaluation),
        )
