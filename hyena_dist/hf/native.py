"""The way from a model of transformers' to one of ours."""

from typing import TYPE_CHECKING

import torch

from hyena_dist.errors import UserError
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.parallel.linear import Norm

if TYPE_CHECKING:
    from hyena_dist.hf.causal_lm import HyenaDNAForCausalLM


def to_native(model: "HyenaDNAForCausalLM") -> HyenaDNA:
    """Return the model as one of ours, for what takes those, in evaluation mode; the two share their tensors.

    Example:
        >>> from hyena_dist.hf import HyenaDNAConfig, HyenaDNAForCausalLM, to_native
        >>> model = HyenaDNAForCausalLM(HyenaDNAConfig(d_model=8, n_layer=2, filter_order=16))
        >>> to_native(model).num_parameters() == model.num_parameters()
        True

    Raises:
        UserError: a model with layers that ours has not, such as adapters.
    """
    architecture = model.config.architecture
    with torch.device("meta"):
        native = HyenaDNA(architecture, compute_dtype=model.dtype)
    # Of the names of one tensor, the first.
    first = {id(tensor): name for name, tensor in reversed(model.state_dict(keep_vars=True).items())}
    tensors = model.state_dict()
    state = {name.removeprefix("hyena."): tensors[name] for name in first.values()}
    if architecture.tie_embeddings:
        state.pop("lm_head.weight", None)
    loaded = native.load_state_dict(state, strict=False, assign=True)
    strange = [*loaded.unexpected_keys, *loaded.missing_keys]
    if strange:
        raise UserError(f"{strange[0]} has no place in both models; merge adapters into the model first")
    for module in native.modules():
        if isinstance(module, Norm):
            module.compute_dtype = model.dtype
    return native.eval()
