"""HyenaDNA trained the way large models are trained. Nothing heavy is imported until it is asked for."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "HyenaDNA": "hyena_dist.models.lm",
    "ModelConfig": "hyena_dist.config.model",
    "RunConfig": "hyena_dist.config.run",
    "UserError": "hyena_dist.errors",
    "embed": "hyena_dist.inference.embed",
    "from_published_config": "hyena_dist.models.published",
    "load": "hyena_dist.inference.load",
    "load_published": "hyena_dist.models.published",
    "score": "hyena_dist.inference.score",
}
__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'hyena_dist' has no attribute '{name}'")
