"""AutoConfig, AutoModel and AutoTokenizer learn of HyenaDNA by `import hyena_dist`, which imports no transformers.

transformers has no entry points, and importing it takes seconds that most users of this package do not need. So its
modules of "auto" classes are watched (hyena_dist/__init__.py), and each learns of HyenaDNA when it has been imported,
before or after this package.
"""

from functools import cache
from importlib import import_module

_AUTO = "transformers.models.auto"


def register_config() -> None:
    """Let AutoConfig know the configuration."""
    config = import_module("hyena_dist.hf.config").HyenaDNAConfig
    import_module(f"{_AUTO}.configuration_auto").AutoConfig.register("hyenadna", config, exist_ok=True)


def register_tokenizer() -> None:
    """Let AutoTokenizer know the tokenizer."""
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
