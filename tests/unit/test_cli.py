"""The command line: quick help, one sentence for mistakes, the demo on a small budget."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hyena_dist.config_file import load_config
from hyena_dist.parallel.deepspeed_config import read_preset

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "jobs/recipes").glob("*.yaml"))
HYENA_DIST = str(Path(sys.executable).parent / "hyena-dist")


def run(*arguments: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([HYENA_DIST, *arguments], cwd=cwd, capture_output=True, text=True, timeout=250)


@pytest.mark.parametrize("verb", ["train", "evaluate", "demo", "doctor", "data", "data build", "data verify"])
def test_help_shows_an_example(verb: str) -> None:
    done = run(*verb.split(), "--help")
    assert done.returncode == 0
    if verb != "data":
        assert "example" in done.stdout
        assert f"hyena-dist {verb}" in done.stdout


def test_help_imports_nothing_heavy() -> None:
    """Half a second is the promise, and an import is what could break it."""
    script = "import sys; from hyena_dist.cli import _parser; _parser(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"torch", "numpy", "pydantic", "yaml", "deepspeed", "megatron", "mlflow", "zarr", "matplotlib"}
    assert not heavy & set(loaded)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "nowhere.yaml"], "cannot read the run file nowhere.yaml"),
        (["train", "run.yaml", "optimizer.learning_rate=1"], "unknown key 'optimizer.learning_rate'"),
        (["train", "run.yaml", "trian.save_interval=1"], "did you mean 'train'?"),
        (["train", "run.yaml", "model.l_max=64"], "longer than model.l_max 64"),
        (["train", "run.yaml", "train.micro_batch_size=3"], "is not a multiple of micro_batch_size 3"),
        (["train", "run.yaml", "parallel.zero=zreo1", "--dry-run"], "did you mean 'zero1'?"),
        (["train", "run.yaml", "parallel.tensor_model_parallel_size=2"], "not built yet"),
        (["train", "run.yaml"], "nothing-here"),
        (["evaluate", "nothing", "--data", "nothing-here"], "nothing-here"),
        (["evaluate", "nothing", "--data", "nothing-here", "--lengths", "1k"], "--lengths 1k is not a list"),
        (["data", "verify", "nothing-here"], "nothing-here"),
    ],
)
def test_mistakes(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    curriculum = "curriculum: [{seq_length: 128, train_iters: 1}]"
    (tmp_path / "run.yaml").write_text(f"data: {{path: nothing-here}}\ntrain: {{global_batch_size: 4, {curriculum}}}\n")
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.strip().count("\n") == 0
    assert list(tmp_path.iterdir()) == [tmp_path / "run.yaml"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.stem)
@pytest.mark.parametrize("world_size", [2, 8])
def test_recipes(recipe: Path, world_size: int) -> None:
    """Every recipe is valid and divides evenly; the demo is for two ranks."""
    config = load_config(recipe)
    read_preset(config.parallel.zero)
    if recipe.stem != "demo" or world_size == 2:
        assert config.stages(world_size)[-1].end_step > 0


def test_demo_and_evaluate(tmp_path: Path) -> None:
    """The demo's whole way on a budget of a few steps; a second run keeps it, --fresh starts over."""
    small = ["train.curriculum=[{seq_length: 64, train_iters: 3}, {seq_length: 256, train_iters: 3}]"]
    small += [
        "precision=fp32",
        "train.global_batch_tokens=512",
        "evaluation.max_tokens=20000",
        "evaluation.lengths=[64, 256]",
    ]
    done = run("demo", "--output-dir", "out", *small, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "out/demo/summary.json").read_text())
    assert summary["ppl_by_length"].keys() == {"64", "256"}
    assert summary["valid_ppl"] == summary["ppl_by_length"]["256"]
    assert summary["markov_ppl"].keys() == {str(order) for order in range(9)}
    assert summary["tokens_per_second"] > 0
    assert (tmp_path / summary["checkpoint"] / "model.safetensors").exists()
    assert all((tmp_path / plot).exists() for plot in summary["plots"])
    assert (tmp_path / "out/mlflow.db").exists()
    assert "mlflow ui --backend-store-uri sqlite:///" in done.stdout + done.stderr

    again = run("demo", "--output-dir", "out", *small, cwd=tmp_path)
    assert again.returncode == 0
    assert "already trained to step 6; keeping" in again.stdout + again.stderr
    assert json.loads((tmp_path / "out/demo/summary.json").read_text()) == summary

    scored = run("evaluate", "out/demo", "--data", "out/demo-data", "--lengths", "256", "--max-tokens", "20000",
                 "--json", "scores.json", cwd=tmp_path)  # fmt: skip
    assert scored.returncode == 0, scored.stderr
    ppl = json.loads((tmp_path / "scores.json").read_text())["ppl_by_length"]["256"]["ppl"]
    assert ppl == pytest.approx(summary["valid_ppl"], rel=1e-5)
