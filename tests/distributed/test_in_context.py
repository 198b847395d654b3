"""Soft prompts and instruction tuning are the same on any ranks and after a kill; a prompt leaves all weights alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import nn

from hyena_dist.config.run import RunConfig
from hyena_dist.inference.load import load, model_hash
from hyena_dist.parallel.mesh import Mesh
from hyena_dist.parallel.world import join_world
from hyena_dist.tasks.in_context.few_shot import evaluate_few_shot
from hyena_dist.tasks.in_context.objective import InContext
from hyena_dist.tasks.in_context.soft_prompt import SoftPrompt
from hyena_dist.train.checkpoint.format import list_checkpoints
from hyena_dist.train.run import train
from tests.configs import refusal
from tests.distributed.test_finetuning import Make, saved
from tests.distributed.test_stop_and_go import kill_at
from tests.distributed.training import curve
from tests.processes import Ranks, run_ranks

ARCHITECTURE = {"d_model": 16, "n_layer": 2, "l_max": 160, "filter_order": 16, "embed_dropout": 0.1}
PROMPT = {"method": "soft_prompt", "prompt_tokens": 20, "shots": 1}
INSTRUCTION = {"method": "instruction", "shots": 2, "all_answers": True}
WAYS = {"soft_prompt": PROMPT, "instruction": INSTRUCTION}


class Watched(InContext):
    """Keeps the model that it has built."""

    model: nn.Module

    def build_model(self, mesh: Mesh) -> nn.Module:
        self.model = super().build_model(mesh)
        return self.model


def tune(config: RunConfig) -> tuple[str, str] | None:
    """Train; returns the hashes of a frozen model as it was built, and as it is in the end."""
    built: list[Watched] = []

    def objective(planned: RunConfig) -> Watched:
        built.append(Watched(planned))
        return built[0]

    train(config, join_world(timeout_s=60), objective=objective)
    prompt = built[0].model
    if not isinstance(prompt, SoftPrompt):
        return None
    fresh = load(config.task.model) if config.task and config.task.model != "scratch" else prompt.model
    return model_hash(fresh), model_hash(prompt.model)


def tuned(ranks: int, config: RunConfig) -> list[dict[str, float]]:
    run_ranks(ranks, tune, config)
    return curve(config.run_dir)


def make_way(make_task: Make, way: str, **sections: Any) -> RunConfig:
    architecture = {"embed_dropout": 0.1} if "model" in sections else ARCHITECTURE
    return make_task(task={"in_context": WAYS[way], "epochs": 1}, architecture=architecture, **sections)


LAYOUTS: dict[str, tuple[int, dict[str, Any]]] = {
    "two ranks": (2, {}),
    "zero0": (2, {"zero": "zero0"}),
    "zero3": (2, {"zero": "zero3"}),
    "context": (2, {"context_parallel_size": 2}),
    "tensor": (2, {"tensor_model_parallel_size": 2}),
    "recomputed": (1, {"activation_checkpointing": True}),
}


@pytest.fixture(scope="module")
def curves() -> dict[str, list[dict[str, float]]]:
    """Curves of one process by way, each made by the first test that needs it."""
    return {}


CASES = [
    *(("soft_prompt", layout) for layout in LAYOUTS if layout != "tensor"),
    *(("instruction", layout) for layout in ("zero3", "context", "tensor")),
]


@pytest.mark.parametrize(("way", "layout"), CASES)
def test_one_process_is_any_layout(
    way: str, layout: str, make_task: Make, curves: dict[str, list[dict[str, float]]]
) -> None:
    """Losses, norms and valid losses are equal within 1e-5, dropout and demonstrations included."""
    ranks, parallel = LAYOUTS[layout]
    if way not in curves:
        curves[way] = tuned(1, make_way(make_task, way))
    found = tuned(ranks, make_way(make_task, way, parallel=parallel))
    assert len(found) == len(curves[way])
    for mine, one in zip(found, curves[way], strict=True):
        assert mine.keys() == one.keys()
        for key in ("step", "train/loss", "train/grad_norm", "valid/loss"):
            if key in one:
                assert mine[key] == pytest.approx(one[key], rel=1e-5, abs=1e-8), (key, mine["step"])


@pytest.mark.parametrize(
    ("way", "zero"), [("soft_prompt", "zero0"), ("soft_prompt", "zero3"), ("instruction", "zero1")]
)
def test_killed_and_resumed(way: str, zero: str, make_task: Make) -> None:
    """A run that is killed ends as one that is not: curve, checkpoints and predictions, bit for bit."""
    same: dict[str, Any] = {"parallel": {"zero": zero}, "optimizer": {"lr": 0.03}}
    undisturbed, killed = make_way(make_task, way, **same), make_way(make_task, way, **same)
    whole = tuned(2, undisturbed)
    kill_at(Ranks(2, tune, killed), killed.run_dir / "metrics.jsonl", 5)
    assert tuned(2, killed) == whole
    assert saved(killed) == saved(undisturbed)


@pytest.fixture
def base(make_task: Make) -> Path:
    """A language model, as a checkpoint of instruction tuning is one."""
    config = make_way(make_task, "instruction", optimizer={"lr": 0.03})
    run_ranks(1, tune, config)
    return config.run_dir


def test_a_prompt_leaves_the_model_alone_and_is_small(make_task: Make, base: Path) -> None:
    config = make_way(make_task, "soft_prompt", model=str(base), optimizer={"lr": 0.1}, parallel={"zero": "zero2"})
    for before, after in run_ranks(2, tune, config):
        assert before == after == model_hash(load(base)), "to the last bit"
    last = list_checkpoints(config.run_dir / "checkpoints")[-1]
    stored = load_file(last / "model.safetensors")
    assert {name: tuple(value.shape) for name, value in stored.items()} == {
        "prompt_embeddings": (20, 16),
        "average": (20, 16),
    }
    assert (stored["prompt_embeddings"] - stored["average"]).abs().min() > 0
    about = json.loads((last / "in_context.json").read_text())
    assert about["letters"] == {"gc": "A", "none": "C", "tata": "G"}

    # A prompt belongs to the weights that it was tuned before.
    weights = next(list_checkpoints(base / "checkpoints")[-1].glob("model.safetensors"))
    (config.run_dir / "other").mkdir()
    for name in ("config.json", "model.safetensors"):
        (config.run_dir / "other" / name).write_bytes(weights.with_name(name).read_bytes())
    changed = config.task.model_copy(update={"model": str(config.run_dir / "other")})  # type: ignore[union-attr]
    same = InContext(config.model_copy(update={"task": changed}))
    same.load_model(last, same.build_model(Mesh()), Mesh())
    (config.run_dir / "other/model.safetensors").write_bytes(
        next(list_checkpoints(base / "checkpoints")[0].glob("model.safetensors")).read_bytes()
    )
    message = refusal(lambda: same.load_model(last, same.build_model(Mesh()), Mesh()))
    assert "is a prompt before other weights than" in message


def evaluate(config: RunConfig) -> dict[str, Any]:
    return evaluate_few_shot(config, join_world(timeout_s=60))


def test_few_shot_is_what_instruction_tuning_measures(make_task: Make, base: Path) -> None:
    """On one rank or two: the tuned weights, asked again, answer as they did."""
    found = json.loads((base / "summary.json").read_text())
    best = next(path for path in list_checkpoints(base / "checkpoints") if str(path) == found["checkpoint"])
    for ranks in (1, 2):
        config = make_task(
            model=str(best),
            architecture={},
            task={"in_context": {"method": "few_shot", "shots": 2}},
            evaluation={"micro_batch_tokens": 500},
        )
        summary = run_ranks(ranks, evaluate, config)[-1]
        assert summary["test"]["loss"] == pytest.approx(found["test"]["loss"], rel=1e-5)
        assert summary["test"]["accuracy"] == found["test"]["accuracy"]
        assert (config.run_dir / "predictions-test.parquet").exists()


def test_tensor_ranks_share_no_prompt(make_task: Make) -> None:
    config = make_way(make_task, "soft_prompt", parallel={"tensor_model_parallel_size": 2})
    with pytest.raises(AssertionError, match=r"set parallel\.tensor_model_parallel_size=1"):
        run_ranks(2, tune, config)
