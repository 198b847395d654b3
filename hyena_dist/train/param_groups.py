"""The parameter groups of AdamW: which tensors decay."""

from typing import Any

from torch import nn

from hyena_dist.config.optimizer import OptimizerConfig


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Return the parameters that are trained in one or two groups, with and without weight decay.

    "paper": everything but the filter network decays, biases and norms included, as the published code did.
    "sane": matrices decay; biases, norms, embedding, short filters, D and the filter network do not.
    """
    decay: list[nn.Parameter] = []
    no_decay: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if config.param_groups == "paper":
            decays = ".implicit_filter." not in name
        else:
            decays = parameter.dim() == 2 and ".filter_fn." not in name and "embeddings" not in name
        (decay if decays else no_decay).append(parameter)
    groups = [
        {"params": decay, "weight_decay": config.weight_decay},
        {"params": no_decay, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
