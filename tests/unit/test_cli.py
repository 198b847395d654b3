"""The command line: quick help, one sentence for mistakes, the demo on a small budget."""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyena_dist.cli import _parser
from hyena_dist.config.deepspeed import read_preset
from hyena_dist.config.file import load_config
from hyena_dist.errors import UserError
from tests.processes import run_cli

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "jobs/recipes").glob("*.yaml"))
HYENA_DIST = str(Path(sys.executable).parent / "hyena-dist")


def write_run(folder: Path) -> None:
    curriculum = "curriculum: [{seq_length: 128, train_iters: 1}]"
    (folder / "run.yaml").write_text(f"data: {{path: nothing-here}}\ntrain: {{global_batch_size: 4, {curriculum}}}\n")


def verbs(parser: argparse.ArgumentParser, *words: str) -> Iterator[tuple[str, str]]:
    """Each verb that does something and its help: ("data build", "usage: ...")."""
    deeper = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not deeper:
        yield " ".join(words), parser.format_help()
    for name, below in deeper[0].choices.items() if deeper else ():
        yield from verbs(below, *words, name)


def test_help_shows_an_example() -> None:
    helps = dict(verbs(_parser()))
    assert {"train", "data build", "jobs submit", "bench operator"} < helps.keys()
    for verb, text in helps.items():
        assert verb in text.partition("\nexample")[2], verb


@pytest.mark.parametrize("words", [[], ["train"], ["data"], ["jobs", "submit"]])
def test_help(words: list[str]) -> None:
    done = subprocess.run([HYENA_DIST, *words, "--help"], capture_output=True, text=True, timeout=250)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: hyena-dist")


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
        (["train", "run.yaml", "--dry-run", "parallel.zero=zreo1"], "did you mean 'zero1'?"),
        (["train", "run.yaml", "--dri-run", "parallel.zero=zero1"], "unrecognized arguments: --dri-run"),
        (["export", "a", "b", "c=d"], "unrecognized arguments: c=d"),
        (["train", "run.yaml", "parallel.tensor_model_parallel_size=3"], "(128 / 3 = 42.67); try 2 or 4"),
        (["train", "run.yaml", "parallel.tensor_model_parallel_size=2"], "= 2; start 2 ranks"),
        (["train", "run.yaml", "parallel.context_parallel_size=2", "--dry-run", "--world-size", "3"],
         "world size 3 is not a multiple of tensor x context parallel size 1 x 2 = 2; start 2 or 4 ranks"),
        (["train", "run.yaml", "--dry-run", "--world-size", "0"], "world size 0 is not a positive multiple"),
        (["train", "run.yaml"], "nothing-here"),
        (["evaluate", "nothing", "--data", "nothing-here"], "nothing-here"),
        (["evaluate", "nothing", "--data", "nothing-here", "--lengths", "1k"], "--lengths 1k is not a list"),
        (["export", "nothing-here", "out"], "nothing-here"),
        (["bench", "operator", "--dtypes", "fp8"], "--dtypes fp8 is not built; choose of fp32, bf16"),
        (["bench", "operator", "--lengths", "8k"], "--lengths 8k is not a list"),
        (["export", str(ROOT / "tests/golden/tiny"), str(ROOT / "tests")], "which is no part of an export"),
        (["data", "verify", "nothing-here"], "nothing-here"),
    ],
)  # fmt: skip
def test_mistakes(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    write_run(tmp_path)
    done = run_cli(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.strip().count("\n") == 0
    assert list(tmp_path.iterdir()) == [tmp_path / "run.yaml"]


@pytest.mark.parametrize(
    ("backend", "sentence"),
    [("cuda", "HYENA_DIST_BACKEND='cuda' is no backend; choose auto, torch or triton"), ("triton", "needs a GPU")],
)
@pytest.mark.parametrize("arguments", [["train", "run.yaml"], ["bench", "step", "--lengths", "8"]])
def test_a_backend_that_is_not_there(backend: str, sentence: str, arguments: list[str], tmp_path: Path) -> None:
    write_run(tmp_path)
    done = run_cli(*arguments, cwd=tmp_path, env={"HYENA_DIST_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert sentence in done.stderr
    assert done.stderr.strip().count("\n") == 0


@pytest.mark.parametrize(
    ("layout", "sentence"),
    [
        (["tensor_model_parallel_size=3"], "tensor_model_parallel_size 3 does not divide model.d_model 128"),
        (["tensor_model_parallel_size=2", "context_parallel_size=2"], "2 x 2 = 4; start 4 or 8 ranks"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("rank", ["0", "5"])
def test_impossible_layouts_start_no_process_group(layout: list[str], sentence: str, rank: str, tmp_path: Path) -> None:
    """Each rank says so by itself: the other five are not there, and neither is the host they would meet at."""
    write_run(tmp_path)
    launched = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "6", "MASTER_ADDR": "192.0.2.1", "MASTER_PORT": "29500"}
    begin = time.monotonic()
    done = run_cli("train", "run.yaml", *(f"parallel.{override}" for override in layout), cwd=tmp_path, env=launched)
    assert done.returncode == 2
    assert done.stderr.startswith("error: " if rank == "0" else "error on rank 5: ")
    assert sentence in done.stderr
    assert done.stderr.strip().count("\n") == 0
    assert time.monotonic() - begin < 60, "a process group would wait for its peers"
    assert list(tmp_path.iterdir()) == [tmp_path / "run.yaml"]


def test_dry_run_shows_the_layout(tmp_path: Path) -> None:
    write_run(tmp_path)
    cut = "parallel={tensor_model_parallel_size: 2, context_parallel_size: 2, sequence_parallel: true}"
    done = run_cli("train", "run.yaml", cut, "--dry-run", "--world-size", "8", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (
        "# layout: 8 ranks = tensor 2 x context 2 x data 2, sequence parallel; each rank holds 64 of 128 channels; "
        "64 of 128 positions; 32 of 128 positions of the residual stream\n"
    ) in done.stdout
    assert "batch 4 = 2 x 1 accumulated x 2 data-parallel" in done.stdout


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.stem)
def test_recipes(recipe: Path) -> None:
    """Every recipe is valid and divides evenly over one node of 8; the demos are for fewer ranks."""
    config = load_config(recipe)
    stages = config.stages({"demo": 2, "demo-tp2cp2": 4}.get(recipe.stem, 8))
    for stage in stages:
        read_preset(stage.parallel.zero)
    assert stages[-1].end_step > 0


def test_demo_and_evaluate(tmp_path: Path) -> None:
    """The demo's whole way on a budget of a few steps; a second one keeps it."""
    small = ["train.curriculum=[{seq_length: 64, train_iters: 3}, {seq_length: 256, train_iters: 3}]"]
    small += [
        "precision=fp32",
        "train.global_batch_tokens=512",
        "evaluation.max_tokens=20000",
        "evaluation.lengths=[64, 256]",
    ]
    done = run_cli("demo", "--output-dir", "out", *small, cwd=tmp_path)
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

    again = run_cli("demo", "--output-dir", "out", cwd=tmp_path)  # run.yaml remembers what was trained
    assert again.returncode == 0
    assert "already trained to step 6; keeping" in again.stdout + again.stderr
    assert json.loads((tmp_path / "out/demo/summary.json").read_text()) == summary

    scored = run_cli("evaluate", "out/demo", "--data", "out/demo-data", "--lengths", "256", "--max-tokens", "20000",
                 "--json", "scores.json", cwd=tmp_path)  # fmt: skip
    assert scored.returncode == 0, scored.stderr
    ppl = json.loads((tmp_path / "scores.json").read_text())["ppl_by_length"]["256"]["ppl"]
    assert ppl == pytest.approx(summary["valid_ppl"], rel=1e-5)


def test_profile_options() -> None:
    parse = _parser().parse_args
    plain = parse(["train", "run.yaml"])
    assert (plain.profile, plain.profile_steps) == (set(), (3, 5))
    both = parse(["train", "run.yaml", "--profile", "comm,trace", "--profile-steps", "7"])
    assert (both.profile, both.profile_steps) == ({"comm", "trace"}, (7, 7))
    with pytest.raises(UserError, match="'time' is no profile; give comm, trace or comm,trace"):
        parse(["train", "run.yaml", "--profile", "comm,time"])
    for wrong in ("0-3", "5-3", "a", "3-", "-3"):
        with pytest.raises(UserError, match="is no range of steps counted from 1; try 3-5"):
            parse(["train", "run.yaml", f"--profile-steps={wrong}"])
