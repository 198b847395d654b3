"""HyenaDNA trained the way large models are trained. Nothing heavy is imported until it is asked for."""

from importlib import import_module
from typing import Any

from hyena_dist.system.late_imports import when_imported

__version__ = "0.1.0"

_EXPORTS = {
    "HyenaDNA": "hyena_dist.models.lm",
    "ModelConfig": "hyena_dist.config.model",
    "RunConfig": "hyena_dist.config.run",
    "UserError": "hyena_dist.errors",
    "embed": "hyena_dist.inference.embed",
    "evaluate": "hyena_dist.train.evaluation.held_out",
    "from_published_config": "hyena_dist.models.published",
    "generate": "hyena_dist.inference.generate",
    "load": "hyena_dist.inference.load",
    "load_classifier": "hyena_dist.tasks.classifier",
    "load_published": "hyena_dist.models.published",
    "score": "hyena_dist.inference.score",
    "tokenizer": "hyena_dist.hf.tokenizer",
    "score_variants": "hyena_dist.inference.variants",
}
__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'hyena_dist' has no attribute '{name}'")


# AutoModel and AutoTokenizer know HyenaDNA from here on.
when_imported("transformers.models.auto.configuration_auto", "hyena_dist.hf.registration:register_config")
when_imported("transformers.models.auto.tokenization_auto", "hyena_dist.hf.registration:register_tokenizer")
