"""Adapters: peft's low-rank matrices beside the linear layers of a backbone, whose own weights stay as they are."""

import torch.nn.functional as F
from torch import Tensor, nn

from hyena_dist.config.task import LoraConfig
from hyena_dist.errors import UserError
from hyena_dist.parallel.linear import ColumnLinear, RowLinear
from hyena_dist.tasks.model import SequenceModel

TARGETS = ("in_proj", "out_proj", "fc1", "fc2")
"""The names of the layers that get adapters: the projections around a mixer, and the two of the MLP."""


class _Linear(nn.Linear):
    """A linear layer of a type that peft knows, with the parameters of one of ours and products in the input's type."""

    def __init__(self, layer: ColumnLinear | RowLinear) -> None:
        rows, columns = layer.weight.shape
        super().__init__(columns, rows, bias=layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


def add_adapters(model: SequenceModel, settings: LoraConfig) -> None:
    """Put adapters into a model, in place; from then on they and the head alone are trained.

    They begin as no change: one of their two matrices is zeros. The other is drawn from torch's seed.

    Raises:
        UserError: tensor ranks share the layers.
    """
    if model.mesh.tensor.size() > 1:
        raise UserError(
            f"task.tune=lora puts adapters beside whole layers, which {model.mesh.tensor.size()} tensor ranks share; "
            f"set parallel.tensor_model_parallel_size=1"
        )
    import peft  # imports transformers, which only runs with adapters wait for

    for parent in list(model.backbone.modules()):
        for name, child in list(parent.named_children()):
            if name in TARGETS and isinstance(child, ColumnLinear | RowLinear):
                setattr(parent, name, _Linear(child))
    # No dropout of peft's, which would draw from torch's random state: a resumed run would not drop the same.
    adapters = peft.LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=list(TARGETS))
    peft.inject_adapter_in_model(adapters, model.backbone)
    for name, parameter in model.backbone.named_parameters():
        parameter.requires_grad_("lora_" in name)
