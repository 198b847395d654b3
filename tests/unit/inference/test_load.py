"""`hyena_dist.load` takes folders and files, and says in a sentence what it does not take."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hyena_dist
from hyena_dist import HyenaDNA, ModelConfig, UserError
from hyena_dist.inference.load import load_here, model_hash

TINY = Path(__file__).parents[2] / "golden/tiny"


def test_folders_and_files_give_one_model() -> None:
    models = [hyena_dist.load(TINY), hyena_dist.load(str(TINY / "weights.ckpt"))]
    assert not any(model.training for model in models)
    assert len({model_hash(model) for model in models}) == 1
    assert load_here(models[0], "cpu", None, None) is models[0]


def test_hashes_tell_weights_types_and_shifts_apart() -> None:
    models = [hyena_dist.load(TINY), hyena_dist.load(TINY, dtype=torch.bfloat16)]
    models += [hyena_dist.load(TINY, modulation_shift=0.0), hyena_dist.load(TINY)]
    with torch.no_grad():
        models[-1].backbone.layers[1].mlp.fc2.bias[3] += 1e-6
    assert len({model_hash(model) for model in models}) == 4


def test_mistakes(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "none", "there is no .*none"), (tmp_path, "config.json")):
        with pytest.raises(UserError, match=words):
            hyena_dist.load(path)
    for device, words in (("cpux", "cpux"), ("cuda", "no GPU")):
        if device == "cpux" or not torch.cuda.is_available():
            with pytest.raises(UserError, match=words):
                hyena_dist.load(TINY, device=device)


def test_weights_that_are_not_numbers(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from hyena_dist.train.export import export

    HyenaDNA(ModelConfig(d_model=16, n_layer=1, l_max=64, filter_order=8)).save_published(tmp_path / "model")
    export(tmp_path / "model", tmp_path / "out", "safetensors")
    tensors = load_file(tmp_path / "out/model.safetensors")
    tensors["backbone.ln_f.weight"][3] = float("nan")
    save_file(tensors, tmp_path / "out/model.safetensors")
    with pytest.raises(UserError, match=r"1 of the 16 values of backbone.ln_f.weight are NaN"):
        hyena_dist.load(tmp_path / "out")


def test_a_model_in_training_drops_nothing_and_stays_in_its_mode() -> None:
    model = hyena_dist.load(TINY)
    texts = {"a": "ACGTTGCATTGCA"}
    uses: list[Callable[[], Any]] = [
        lambda: hyena_dist.score(model, texts).log_likelihood,  # type: ignore[union-attr]
        lambda: hyena_dist.embed(model, texts).layers[2],  # type: ignore[union-attr]
        lambda: hyena_dist.score_variants(model, [("a", 3, "G", "T")], texts, position=0).delta,  # type: ignore
    ]
    expected = [use() for use in uses]
    model.backbone.layers.train()
    model.backbone.embed_dropout.train()
    modes = [module.training for module in model.modules()]
    for use, value in zip(uses, expected, strict=True):
        np.testing.assert_array_equal(use(), value)
    assert [module.training for module in model.modules()] == modes
