"""From a model of ours to one of transformers', and back."""

import torch

from hyena_dist.errors import UserError
from hyena_dist.hf.causal_lm import HyenaDNAForCausalLM
from hyena_dist.hf.config import HyenaDNAConfig
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.published import hf_tensors
from hyena_dist.parallel.linear import Norm


def from_native(model: HyenaDNA) -> HyenaDNAForCausalLM:
    """Return the model for transformers, with memory of its own, on the CPU and in evaluation mode.

    Example:
        >>> import hyena_dist
        >>> from hyena_dist.hf import from_native
        >>> model = hyena_dist.HyenaDNA(hyena_dist.ModelConfig(d_model=8, l_max=64, filter_order=16))
        >>> from_native(model).config.max_seq_len
        64
    """
    hf = HyenaDNAForCausalLM(HyenaDNAConfig.from_architecture(model.config)).to(model.backbone.ln_f.weight.dtype)
    loaded = hf.load_state_dict(hf_tensors(model), strict=False)
    assert not loaded.unexpected_keys
    assert all(name.endswith(".freq") for name in loaded.missing_keys)  # further names of what was loaded
    return hf.eval()


def to_native(model: HyenaDNAForCausalLM) -> HyenaDNA:
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
    names = {id(tensor): name for name, tensor in reversed(model.state_dict(keep_vars=True).items())}
    state = {
        name.removeprefix("hyena."): tensor for name, tensor in model.state_dict().items() if name in names.values()
    }
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
