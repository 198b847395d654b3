"""The part of a run that plans read: one stage of its curriculum, under the stage's own layout and ZeRO preset."""

from hyena_dist.config.costs import Shape
from hyena_dist.config.deepspeed import ZeroTraits, read_preset, zero_traits
from hyena_dist.config.model import ModelConfig
from hyena_dist.config.run import RunConfig
from hyena_dist.config.schedule import StagePlan

ModelShape = Shape[ModelConfig]
"""A micro-batch of a model whose mixers are known."""


def shape_of(config: RunConfig, stage: StagePlan) -> ModelShape:
    """Return the shape of a stage's micro-batch."""
    activation_bytes = 2 if config.precision == "bf16" else 4
    return Shape(config.model, stage.parallel, stage.micro_batch_size, stage.seq_length, activation_bytes)


def zero_of(stage: StagePlan) -> ZeroTraits:
    """Return the traits of a stage's ZeRO preset.

    Raises:
        UserError: the preset cannot be read, as in read_preset.
    """
    return zero_traits(read_preset(stage.parallel.zero))
