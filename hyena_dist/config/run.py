"""RunConfig: one frozen tree that says everything about a run, and every size derived from it.

Sizes have Megatron's names, the inside of the model HyenaDNA's. Runs on login nodes: no torch.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from hyena_dist.config.divisibility import Layout, nearest
from hyena_dist.config.parallel import ParallelConfig
from hyena_dist.config.schedule import CurriculumStage, StagePlan, TrainConfig
from hyena_dist.config.section import Section


class ModelConfig(Section):
    """The architecture: HyenaDNA's fields under HyenaDNA's names (facts of the published config.json)."""

    d_model: int = Field(128, gt=0)
    n_layer: int = Field(2, gt=0)
    d_inner: int | None = Field(None, gt=0, description="width of the MLP; 4 * d_model if not given")
    l_max: int = Field(1026, gt=1, description="positions of the filter's grid; fixed for the life of a model")
    order: int = Field(2, ge=2, description="Hyena order: order - 1 long convolutions, order gates")
    short_filter_order: int = Field(3, ge=1)
    filter_order: int = Field(64, gt=0, description="width of the filter network")
    num_inner_mlps: int = Field(2, ge=0)
    emb_dim: int = Field(5, ge=3, description="features of a position: t, and cos and sin of (emb_dim - 1) / 2 bands")
    activation_freq: float = Field(10.0, description="initial frequency w of the sine activations")
    modulation_shift: float = Field(
        0.0, description="0.0 in the training repository, 0.05 in the standalone model and the -hf port; stored nowhere"
    )
    vocab_size: int = Field(12, gt=0)
    pad_vocab_size_multiple: int = Field(8, gt=0)
    embed_dropout: float = Field(0.1, ge=0, lt=1)
    resid_dropout: float = Field(0.0, ge=0, lt=1)
    layer_norm_epsilon: float = Field(1e-5, gt=0)
    initializer_range: float = Field(0.02, ge=0)
    layer_pattern: str | None = Field(
        None, pattern="^[HA]+$", description="mixer of each layer, H Hyena or A attention; all H if not given"
    )
    num_attention_heads: int | None = Field(None, gt=0, description="of A layers; d_model / 64 if not given")
    rotary_base: float = Field(10_000.0, gt=0, description="of A layers")

    @model_validator(mode="after")
    def _layers_fit(self) -> "ModelConfig":
        if len(self.mixers) != self.n_layer:
            raise ValueError(
                f"layer_pattern {self.layer_pattern} names {len(self.mixers)} layers, n_layer is {self.n_layer}; "
                f"set n_layer={len(self.mixers)} or give {self.n_layer} letters"
            )
        heads = self.attention_heads
        if "A" in self.mixers and self.d_model % (2 * heads):
            fits = nearest(heads, [n for n in range(1, self.d_model // 2 + 1) if self.d_model % (2 * n) == 0])
            wider = f"d_model {-(-self.d_model // (2 * heads)) * 2 * heads} with num_attention_heads {heads}"
            raise ValueError(
                f"d_model {self.d_model} does not split into {heads} attention heads of an even size (rotary positions "
                f"come in pairs); " + (f"try num_attention_heads {fits}" if fits else f"try {wider}")
            )
        return self

    @model_validator(mode="after")
    def _odd_features(self) -> "ModelConfig":
        if self.emb_dim % 2 == 0:
            raise ValueError(f"emb_dim {self.emb_dim} must be odd (1 + 2 x bands); try {self.emb_dim + 1}")
        return self

    @property
    def inner_size(self) -> int:
        """Width of the MLP."""
        return self.d_inner or 4 * self.d_model

    @property
    def mixers(self) -> str:
        """One letter a layer."""
        return self.layer_pattern or "H" * self.n_layer

    @property
    def attention_heads(self) -> int:
        """Heads of an attention layer."""
        return self.num_attention_heads or max(1, self.d_model // 64)

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding: vocab_size rounded up to a multiple of pad_vocab_size_multiple."""
        m = self.pad_vocab_size_multiple
        return -(-self.vocab_size // m) * m

    @property
    def num_parameters(self) -> int:
        """Trainable parameters of the whole model, the tied head counted once."""
        d, n, w, inner = self.d_model, self.order, self.filter_order, self.inner_size
        network = (self.emb_dim + 1) * w + self.num_inner_mlps * (w + 1) * w + w + w * (n - 1) * d
        hyena = (n + 1) * d * (d + 1 + self.short_filter_order + 1) + network + (n - 1) * d + d * (d + 1)
        attention = 4 * d * (d + 1)
        mixers = self.mixers.count("H") * hyena + self.mixers.count("A") * attention
        mlp = (d + 1) * inner + (inner + 1) * d
        return self.padded_vocab_size * d + mixers + self.n_layer * (mlp + 4 * d) + 2 * d


class DataConfig(Section):
    """What is read, and in what order."""

    path: str = Field(description="a store, or shards, made by `hyena-dist data`; shards may be at a URL")
    sampling: Literal["interval", "published", "uniform"] = Field(
        "interval",
        description="interval: a random window of each training interval; published: its first bases; uniform: any "
        "window without held-out bases",
    )
    species_weights: dict[str, Annotated[float, Field(gt=0)]] | None = Field(
        None, description="share of the samples by species, others are left out; by number of intervals if not given"
    )
    reverse_complement: bool = Field(False, description="read half of the training windows from the other strand")
    max_n_fraction: float = Field(
        1.0, ge=0, le=1, description="leave out intervals (uniform: windows) with a larger share of N"
    )
    soft_mask_loss_weight: float = Field(
        1.0, ge=0, le=1, description="weight in the loss of lower-case bases (repeats); below 1 needs --soft-mask"
    )
    workers: int = Field(0, ge=0, description="processes that read; 0: a thread")
    prefetch: int = Field(2, ge=1, description="steps that the thread, or each process, reads ahead")
    timeout_s: float = Field(600.0, gt=0, description="a batch that takes longer to come ends the run")


class OptimizerConfig(Section):
    """AdamW with cosine decay over tokens."""

    param_groups: Literal["paper", "sane"] = Field(
        "sane",
        description="paper: weight decay on everything but the filter, as published; sane: on matrices alone",
    )
    lr: float = Field(6e-4, gt=0)
    min_lr: float = Field(0.0, ge=0)
    lr_warmup_tokens: int = Field(0, ge=0)
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.1, ge=0)
    clip_grad: float = Field(1.0, ge=0, description="0 turns clipping off")

    @model_validator(mode="after")
    def _decays(self) -> "OptimizerConfig":
        if self.min_lr > self.lr:
            raise ValueError(f"optimizer.min_lr {self.min_lr:g} is above optimizer.lr {self.lr:g}; lower min_lr")
        return self


class EvaluationConfig(Section):
    """Held-out perplexity."""

    split: Literal["valid", "test"] = "valid"
    lengths: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (), description="context lengths; the curriculum's if not given"
    )
    max_tokens: int = Field(1_000_000, gt=0, description="targets scored per length at the end")
    interval_max_tokens: int = Field(100_000, gt=0, description="targets scored every train.eval_interval steps")
    micro_batch_tokens: int = Field(65_536, gt=0)


class TrackingConfig(Section):
    """MLflow; metrics.jsonl is always written."""

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
"""What may be given as `auto`: plan/ fills it in for every stage that does not say it itself."""


class RunConfig(Section):
    """A whole run."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    output_dir: Path = Field(Path("runs"), description="the run's folder is output_dir/name")
    seed: int = Field(0, ge=0)
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="of activations and matrix products; parameters, filters, FFTs and losses stay fp32"
    )
    model: ModelConfig = ModelConfig()
    parallel: ParallelConfig = ParallelConfig()
    data: DataConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig
    evaluation: EvaluationConfig = EvaluationConfig()
    tracking: TrackingConfig = TrackingConfig()
    auto: tuple[str, ...] = Field((), description="what was given as `auto` and is not planned yet; see AUTO")

    @model_validator(mode="before")
    @classmethod
    def _take_autos(cls, tree: Any) -> Any:
        """`auto` in the place of a value becomes an entry in `auto`."""
        if not isinstance(tree, dict):
            return tree
        tree, auto = dict(tree), list(tree.get("auto", ()))
        for path in AUTO:
            section, key = path.split(".")
            values = tree.get(section)
            if isinstance(values, dict) and values.get(key) == "auto":
                tree[section] = {k: v for k, v in values.items() if k != key}
                auto.append(path)
        return tree | {"auto": auto}

    @model_validator(mode="after")
    def _layout_works(self) -> "RunConfig":
        for layout in self._layouts():
            if problem := layout.problem():
                raise ValueError(problem)
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
        """What the ranks that train some stages share; all of them have one layout."""
        return self.layout_with(segment[0].parallel, [(stage.number + 1, stage.seq_length) for stage in segment])

    def stages(self, world_size: int) -> tuple[StagePlan, ...]:
        """The curriculum for `world_size` ranks.

        Raises:
            UserError: a world size or batch sizes that do not divide, with the arithmetic and the nearest that does.
        """
        parallels = [self._of(stage) for stage in self.train.curriculum]
        return self.train.stages([(p, self.layout_with(p).data_parallel_size(world_size)) for p in parallels])

    def segments(self, world_size: int) -> tuple[tuple[StagePlan, ...], ...]:
        """The curriculum cut where the layout of processes changes: each part is trained by other processes.

        Raises:
            UserError: as `stages`.
        """
        groups = itertools.groupby(self.stages(world_size), lambda stage: stage.parallel.processes)
        return tuple(tuple(stages) for _, stages in groups)

    def _of(self, stage: CurriculumStage) -> ParallelConfig:
        return stage.parallel.over(self.parallel)

    def _layouts(self) -> Iterator[Layout]:
        """One for every set of processes, with the lengths that they see; the last ones evaluate."""
        numbered = list(enumerate(self.train.curriculum, 1))
        groups = [list(g) for _, g in itertools.groupby(numbered, lambda pair: self._of(pair[1]).processes)]
        for group in groups:
            lengths = [(number, stage.seq_length) for number, stage in group]
            yield self.layout_with(self._of(group[0][1]), lengths, evaluates=group is groups[-1])

    def layout_with(
        self, parallel: ParallelConfig, stages: Sequence[tuple[int, int]] = (), evaluates: bool = True
    ) -> Layout:
        """What ranks would share under a layout, with the lengths of some (number, seq_length) of stages."""
        model = self.model
        evaluation = [("evaluation", n) for n in self.evaluation.lengths] if evaluates else []
        return Layout(
            parallel.tensor_model_parallel_size,
            parallel.context_parallel_size,
            parallel.sequence_parallel,
            d_model=model.d_model,
            d_inner=model.inner_size,
            vocabulary=model.padded_vocab_size,
            heads=model.attention_heads if "A" in model.mixers else None,
            l_max=model.l_max,
            lengths=(*((f"stage {i}", n) for i, n in stages), *evaluation),
        )
