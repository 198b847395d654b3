"""Adapters: peft's low-rank matrices beside the linear layers of a backbone, whose own weights stay as they are."""

from hyena_dist.config.task import LoraConfig
from hyena_dist.errors import UserError
from hyena_dist.hf.layers import adapt
from hyena_dist.tasks.model import SequenceModel

TARGETS = ("in_proj", "out_proj", "fc1", "fc2")
"""The names of the layers that get adapters: the projections around a mixer, and the two of the MLP."""


def add_adapters(model: SequenceModel, settings: LoraConfig) -> None:
    """Put adapters into a model, in place; from then on they and the head alone are trained.

    They begin as no change: one of their two matrices is zeros.

    Raises:
        UserError: tensor ranks share the layers.
    """
