"""OptimizerConfig: AdamW and its learning rate."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from hyena_dist.config.section import Section


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
