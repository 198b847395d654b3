"""AutoConfig, AutoModel and AutoTokenizer learn of HyenaDNA by `import hyena_dist`, which imports no transformers.

transformers has no entry points, and importing it takes seconds that most users of this package do not need. So its
modules of "auto" classes are watched, and each learns of HyenaDNA when it has been imported, before or after this one.
"""

import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_AUTO = "transformers.models.auto"


def _register_config() -> None:
    config = import_module("hyena_dist.hf.config").HyenaDNAConfig
    import_module(f"{_AUTO}.configuration_auto").AutoConfig.register("hyenadna", config, exist_ok=True)


def _register_tokenizer() -> None:
    config = import_module("hyena_dist.hf.config").HyenaDNAConfig
    tokenizer = import_module("hyena_dist.hf.tokenizer").HyenaDNATokenizer
    auto = import_module(f"{_AUTO}.tokenization_auto").AutoTokenizer
    auto.register(config, tokenizer_class=tokenizer, exist_ok=True)


@cache
def register_models() -> None:
    """Let AutoModel and its kin know the models.

    Not when their module has been imported, which generation, a base of the models, does itself, but with the first
    configuration: nothing looks for the model of a configuration before there is one.
    """
    hf, auto = import_module("hyena_dist.hf"), import_module(f"{_AUTO}.modeling_auto")
    auto.AutoModel.register(hf.HyenaDNAConfig, hf.HyenaDNAModel, exist_ok=True)
    auto.AutoModelForCausalLM.register(hf.HyenaDNAConfig, hf.HyenaDNAForCausalLM, exist_ok=True)
    auto.AutoModelForSequenceClassification.register(
        hf.HyenaDNAConfig, hf.HyenaDNAForSequenceClassification, exist_ok=True
    )


_AFTER = {
    f"{_AUTO}.configuration_auto": _register_config,
    f"{_AUTO}.tokenization_auto": _register_tokenizer,
}
"""What is done after the import of each module."""


class _Watch:
    """Finds the watched modules as Python does, and adds to their execution what is done after it."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in _AFTER:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = _then(spec.loader.exec_module, _AFTER[name])  # type: ignore
        return spec


def _then(execute: Callable[[ModuleType], None], after: Callable[[], None]) -> Callable[[ModuleType], None]:
    def both(module: ModuleType) -> None:
        execute(module)
        after()

    return both


def watch() -> None:
    """Register with the "auto" modules that are imported already, and with the others when they will be."""
    if _Watch not in sys.meta_path:
        sys.meta_path.insert(0, _Watch)
        for name in _AFTER.keys() & sys.modules.keys():
            _AFTER[name]()
