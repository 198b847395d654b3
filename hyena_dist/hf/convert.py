"""The way from a model of ours to one of transformers'; native.py has the way back."""

from hyena_dist.hf.causal_lm import HyenaDNAForCausalLM
from hyena_dist.hf.config import HyenaDNAConfig
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.published import hf_tensors


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
