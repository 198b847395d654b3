"""A task file becomes a complete run."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from hyena_dist.config.file import dump_config, load_config
from hyena_dist.config.model import ModelConfig
from hyena_dist.config.run import RunConfig
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.tasks.resolve import complete, load_task
from hyena_dist.train.export import write_model
from tests.configs import refusal
from tests.labelled import write_classes

ARCHITECTURE = {"d_model": 16, "n_layer": 1, "l_max": 66, "filter_order": 16}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 sequences of 24 to 48 bases for train, 24 each for valid and test."""
    return write_classes(tmp_path_factory.mktemp("data") / "classes.csv")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(0)
    write_model(folder, HyenaDNA(ModelConfig(**ARCHITECTURE, tie_embeddings=False)))
    return folder


def resolved(data: Path, task: dict[str, Any] | None = None, **tree: Any) -> RunConfig:
    return complete({"task": {"data": {"path": str(data)}, **(task or {})}, **tree}, "test")


def test_epochs_become_steps(data: Path) -> None:
    config = resolved(data, {"epochs": 2.5}, train={"global_batch_size": 8})
    (stage,) = config.stages(1)
    assert (stage.seq_length, stage.end_step) == (48, 15)
    assert (config.train.eval_interval, config.train.save_interval) == (3, 3), "a fifth of the run"
    assert resolved(data, {"epochs": 10}, train={"global_batch_size": 8}).train.eval_interval == 6, "an epoch"
    assert config.optimizer.lr_warmup_tokens == 15 * 8 * 48 // 10
    assert config.task is not None
    assert config.task.epochs is None, "the curriculum says it from here"


def test_a_complete_run_stays(data: Path, pretrained: Path, tmp_path: Path) -> None:
    config = resolved(data, model=str(pretrained), train={"global_batch_size": 8}, optimizer={"lr": 1e-3})
    (tmp_path / "run.yaml").write_text(dump_config(config))
    assert load_task(tmp_path / "run.yaml") == load_config(tmp_path / "run.yaml") == config


def test_a_run_has_the_name_of_its_file(data: Path, tmp_path: Path) -> None:
    (tmp_path / "promoters.yaml").write_text(yaml.safe_dump({"task": {"data": {"path": str(data)}}}))
    assert load_task(tmp_path / "promoters.yaml").name == "promoters"
    assert load_task(tmp_path / "promoters.yaml", ["name=mine"]).name == "mine"


def test_the_model_gives_its_architecture(data: Path, pretrained: Path) -> None:
    expected = ModelConfig(**ARCHITECTURE, d_inner=64)
    trained = resolved(data, model=str(pretrained))
    assert trained.model == expected, "the head of the language model, which is its own, has no part"
    scratch = resolved(data, model="scratch", architecture=str(pretrained))
    assert (trained.task, scratch.task) != (None, None)
    assert trained.task.model == str(pretrained)  # type: ignore[union-attr]
    assert scratch.task.model == "scratch"  # type: ignore[union-attr]
    assert scratch.model == expected
    other = resolved(data, model=str(pretrained), architecture={"embed_dropout": 0.2})
    assert other.model == expected.model_copy(update={"embed_dropout": 0.2})


def test_a_model_from_scratch_is_as_long_as_its_sequences(tmp_path: Path) -> None:
    assert resolved(write_classes(tmp_path / "short.csv")).model == ModelConfig()
    config = resolved(write_classes(tmp_path / "long.csv", longest=3000))
    assert ModelConfig().l_max < config.model.l_max == config.train.curriculum[0].seq_length <= 3000


def test_lengths_are_what_ranks_can_share(tmp_path: Path) -> None:
    data = write_classes(tmp_path / "odd.csv", longest=47)
    parallel = {"context_parallel_size": 2, "tensor_model_parallel_size": 2, "sequence_parallel": True}
    assert resolved(data).train.curriculum[0].seq_length == 47
    assert resolved(data, parallel=parallel).train.curriculum[0].seq_length == 48


def test_longer_sequences_are_cut_if_the_task_says_so(data: Path) -> None:
    short = ARCHITECTURE | {"l_max": 40}
    assert "task.max_length=40" in refusal(lambda: resolved(data, architecture=short))
    config = resolved(data, {"max_length": 32}, architecture=short)
    assert config.train.curriculum[0].seq_length == 32


def test_refusals(data: Path, pretrained: Path) -> None:
    stage = {"train": {"curriculum": [{"seq_length": 48, "train_iters": 1}], "global_batch_size": 8}}
    assert "no section task" in refusal(lambda: complete({}, "test"))
    assert "leave one out" in refusal(lambda: resolved(data, {"epochs": 1}, **stage))
    assert "there is no model elsewhere" in refusal(lambda: resolved(data, model="elsewhere"))
    assert "has its own" in refusal(lambda: resolved(data, model=str(pretrained), architecture=str(pretrained)))
    both = {"model": ARCHITECTURE, "architecture": ARCHITECTURE}
    assert "leave `architecture` out" in refusal(lambda: resolved(data, **both))
    assert "did you mean 'pooling'?" in refusal(lambda: resolved(data, {"poolin": "max"}))
    cut = {"parallel": {"tensor_model_parallel_size": 2}, "architecture": ARCHITECTURE}
    assert "adapters beside whole layers" in refusal(lambda: resolved(data, {"tune": "lora"}, **cut))
    assert "set task.tune=lora" in refusal(lambda: resolved(data, {"lora": {"rank": 2}}))
