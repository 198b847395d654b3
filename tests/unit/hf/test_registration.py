"""`import hyena_dist` is enough for AutoConfig, AutoModel and AutoTokenizer, in whatever order things are imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.hf.small import config

LOAD = """
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
config = AutoConfig.from_pretrained({folder!r})
models = [auto.from_config(config) for auto in (AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification)]
models.append(AutoTokenizer.from_pretrained({folder!r}))
print([type(found).__module__.split(".")[0] + "." + type(found).__name__ for found in (config, *models)])
"""
LIGHT = "import sys, hyena_dist\nassert not set(sys.modules) & set('torch transformers numpy pydantic'.split())\n"
FIRST = {
    "theirs first": "from transformers import AutoModelForCausalLM, AutoTokenizer\nimport hyena_dist{load}",
    "ours first, then generation, a base of our models": LIGHT + "import transformers.generation.utils{load}",
}


@pytest.mark.parametrize("code", FIRST.values(), ids=FIRST)
def test_in_either_order(code: str, tmp_path: Path) -> None:
    config().save_pretrained(tmp_path)
    code = code.format(load=LOAD.format(folder=str(tmp_path)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = ("Config", "Model", "ForCausalLM", "ForSequenceClassification", "Tokenizer")
    assert done.stdout.strip().splitlines()[-1] == str([f"hyena_dist.HyenaDNA{name}" for name in names])
