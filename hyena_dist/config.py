"""RunConfig: one frozen tree that says everything about a run; every derived size is computed here and nowhere else.

Sizes have Megatron's names, the inside of the model HyenaDNA's. Runs on login nodes: no torch.
"""

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from hyena_dist.errors import UserError


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _exponents(cls, value: Any, info: ValidationInfo) -> Any:
        # YAML takes 5e6, without a dot, for text. pydantic makes floats of such text, but no integers.
        whole = cls.model_fields[str(info.field_name)].annotation in (int, int | None)
        if whole and isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE]\+?\d+", value):
            return float(value)
        return value


class ModelConfig(_Section):
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
    mixer: Literal["hyena"] = "hyena"

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
    def padded_vocab_size(self) -> int:
        """Rows of the embedding: vocab_size rounded up to a multiple of pad_vocab_size_multiple."""
        m = self.pad_vocab_size_multiple
        return -(-self.vocab_size // m) * m

    @property
    def num_parameters(self) -> int:
        """Trainable parameters of the whole model, the tied head counted once."""
        d, n, w, inner = self.d_model, self.order, self.filter_order, self.inner_size
        network = (self.emb_dim + 1) * w + self.num_inner_mlps * (w + 1) * w + w + w * (n - 1) * d
        mixer = (n + 1) * d * (d + 1 + self.short_filter_order + 1) + network + (n - 1) * d + d * (d + 1)
        mlp = (d + 1) * inner + (inner + 1) * d
        return self.padded_vocab_size * d + self.n_layer * (mixer + mlp + 4 * d) + 2 * d


class ParallelConfig(_Section):
    """How a run is spread over ranks; data_parallel_size is derived."""

    tensor_model_parallel_size: int = Field(1, gt=0)
    context_parallel_size: int = Field(1, gt=0)
    zero: str = Field("zero1", description="a preset of ds_configs/ (zero0, ..., zero3_offload) or a JSON file")
    activation_checkpointing: bool = False

    @model_validator(mode="after")
    def _only_data_parallel_yet(self) -> "ParallelConfig":
        size = self.tensor_model_parallel_size * self.context_parallel_size
        if size != 1:
            raise ValueError(
                f"tensor_model_parallel_size {self.tensor_model_parallel_size} and context_parallel_size "
                f"{self.context_parallel_size} are not built yet; set both to 1 and use more data-parallel ranks"
            )
        return self


class DataConfig(_Section):
    """What is read."""

    path: Path = Field(description="a store made by `hyena-dist data build`")
    source: Literal["zarr", "webdataset"] = "zarr"
    reverse_complement: bool = Field(False, description="read half of the training windows from the other strand")
    prefetch: int = Field(2, ge=1, description="steps of batches read ahead in the background")


class OptimizerConfig(_Section):
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


class CurriculumStage(_Section):
    """One stage of the length warm-up; its budget is given in tokens or in train_iters."""

    seq_length: int = Field(gt=0)
    tokens: int | None = Field(None, gt=0)
    train_iters: int | None = Field(None, gt=0)
    micro_batch_size: int | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _one_budget(self) -> "CurriculumStage":
        if (self.tokens is None) == (self.train_iters is None):
            raise ValueError(f"the stage of seq_length {self.seq_length} needs either tokens or train_iters, not both")
        return self


class TrainConfig(_Section):
    """Batches, the curriculum and how often things happen (intervals in optimizer steps)."""

    curriculum: tuple[CurriculumStage, ...] = Field(min_length=1)
    global_batch_size: int | None = Field(None, gt=0, description="sequences per step, the same in every stage")
    global_batch_tokens: int | None = Field(None, gt=0, description="or tokens per step, the same in every stage")
    micro_batch_size: int | None = Field(None, gt=0, description="sequences per rank and pass; derived if not given")
    micro_batch_tokens: int = Field(131_072, gt=0, description="bound for a derived micro_batch_size")
    log_interval: int = Field(10, gt=0)
    eval_interval: int = Field(0, ge=0, description="0: only at the end")
    save_interval: int = Field(500, ge=0, description="0: only at the end")
    keep_last: int = Field(2, gt=0, description="checkpoints to keep")

    @model_validator(mode="after")
    def _one_batch(self) -> "TrainConfig":
        if (self.global_batch_size is None) == (self.global_batch_tokens is None):
            raise ValueError("train needs either global_batch_size or global_batch_tokens, not both")
        return self


class EvaluationConfig(_Section):
    """Held-out perplexity."""

    split: Literal["valid", "test"] = "valid"
    lengths: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        (), description="context lengths; the curriculum's if not given"
    )
    max_tokens: int = Field(1_000_000, gt=0, description="targets scored per length at the end")
    interval_max_tokens: int = Field(100_000, gt=0, description="targets scored every train.eval_interval steps")
    micro_batch_tokens: int = Field(65_536, gt=0)


class TrackingConfig(_Section):
    """MLflow; metrics.jsonl is always written."""

    mlflow: bool = True
    uri: str | None = Field(None, description="any MLflow tracking URI; a SQLite file beside the runs if not given")
    experiment: str = "hyena-dist"
    system_metrics: bool = True


class StagePlan(NamedTuple):
    """A curriculum stage with every size worked out for a number of ranks."""

    number: int
    seq_length: int
    global_batch_size: int
    micro_batch_size: int
    gradient_accumulation_steps: int
    data_parallel_size: int
    first_step: int
    """Number of optimizer steps taken before this stage."""
    end_step: int
    first_token: int
    """Number of tokens (targets, padding included) seen before this stage."""

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one optimizer step over all ranks."""
        return self.global_batch_size * self.seq_length

    def describe(self) -> str:
        """One line for people."""
        return (
            f"stage {self.number + 1}: length {self.seq_length:,}, steps {self.first_step:,} to {self.end_step:,}, "
            f"batch {self.global_batch_size} = {self.micro_batch_size} x {self.gradient_accumulation_steps} "
            f"accumulated x {self.data_parallel_size} data-parallel, "
            f"{self.tokens_at(self.end_step) - self.first_token:,} tokens"
        )

    def tokens_at(self, step: int) -> int:
        """Tokens seen after `step` optimizer steps of the run, for a step within this stage."""
        return self.first_token + (step - self.first_step) * self.tokens_per_step


class RunConfig(_Section):
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

    @model_validator(mode="after")
    def _lengths_fit(self) -> "RunConfig":
        lengths = [(f"stage {i}", s.seq_length) for i, s in enumerate(self.train.curriculum)]
        lengths += [("evaluation", n) for n in self.evaluation.lengths]
        for where, length in lengths:
            if length > self.model.l_max:
                raise ValueError(
                    f"seq_length {length} of {where} is longer than model.l_max {self.model.l_max}; "
                    f"set model.l_max={length} or shorten the sequences"
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

    def data_parallel_size(self, world_size: int) -> int:
        """Ranks that hold different samples."""
        model_ranks = self.parallel.tensor_model_parallel_size * self.parallel.context_parallel_size
        if world_size % model_ranks:
            raise UserError(
                f"world size {world_size} is not a multiple of tensor x context parallel size {model_ranks}; "
                f"start {-(-world_size // model_ranks) * model_ranks} ranks"
            )
        return world_size // model_ranks

    def stages(self, world_size: int) -> tuple[StagePlan, ...]:
        """The curriculum for `world_size` ranks.

        Raises:
            UserError: batch sizes that do not divide, with the arithmetic and the nearest size that does.
        """
        plans: list[StagePlan] = []
        dp = self.data_parallel_size(world_size)
        step = token = 0
        for index, stage in enumerate(self.train.curriculum):
            batch, micro = self._batches(stage, dp)
            per_step = batch * stage.seq_length
            iters = stage.train_iters or -(-(stage.tokens or 0) // per_step)
            accumulation = batch // (micro * dp)
            plan = StagePlan(
                index, stage.seq_length, batch, micro, accumulation, dp, step, step + iters, first_token=token
            )
            plans.append(plan)
            step, token = step + iters, token + iters * per_step
        return tuple(plans)

    def _batches(self, stage: CurriculumStage, dp: int) -> tuple[int, int]:
        """Sequences per step, and per rank and pass."""
        train, factors = self.train, self._factors(stage, dp)
        in_tokens = train.global_batch_size is None
        name = "global_batch_tokens" if in_tokens else "global_batch_size"
        total = (train.global_batch_tokens if in_tokens else train.global_batch_size) or 0
        unit = math.prod(factors.values())
        if total % unit:
            product = " x ".join(f"{what} {size}" for what, size in factors.items())
            product += f" = {unit}" if len(factors) > 1 else ""
            fits_all = math.lcm(*(math.prod(self._factors(s, dp).values()) for s in train.curriculum))
            raise UserError(f"{name} {total} is not a multiple of {product}; try {-(-total // fits_all) * fits_all}")
        batch = total // stage.seq_length if in_tokens else total
        if "micro_batch_size" in factors:
            return batch, factors["micro_batch_size"]
        fits = max(1, train.micro_batch_tokens // stage.seq_length)
        return batch, max(m for m in range(1, batch // dp + 1) if (batch // dp) % m == 0 and m <= fits)

    def _factors(self, stage: CurriculumStage, dp: int) -> dict[str, int]:
        """What the global batch must be a multiple of, by name."""
        micro = stage.micro_batch_size or self.train.micro_batch_size
        factors = {"seq_length": stage.seq_length} if self.train.global_batch_size is None else {}
        factors |= {"micro_batch_size": micro} if micro else {}
        return factors | {"data_parallel_size": dp}
