"""Hugging Face: configuration, models and tokenizer that AutoModel and AutoTokenizer find, and folders for the Hub.

Nothing of transformers is imported until it is asked for.
"""

from importlib import import_module
from typing import Any

_EXPORTS = {
    "HyenaDNAConfig": "hyena_dist.hf.config",
    "HyenaDNAForCausalLM": "hyena_dist.hf.causal_lm",
    "HyenaDNAForSequenceClassification": "hyena_dist.hf.classification",
    "HyenaDNAModel": "hyena_dist.hf.model",
    "HyenaDNATokenizer": "hyena_dist.hf.tokenizer",
    "export_hf": "hyena_dist.hf.export",
    "from_native": "hyena_dist.hf.convert",
    "to_native": "hyena_dist.hf.native",
}
__all__ = [*_EXPORTS]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'hyena_dist.hf' has no attribute '{name}'")
