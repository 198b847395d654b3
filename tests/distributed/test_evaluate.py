"""`hyena-dist evaluate` under a launcher: ranks share the work, and one of them tells."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from hyena_dist.config.model import ModelConfig
from hyena_dist.models.lm import HyenaDNA
from hyena_dist.models.published import save_published

LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


@pytest.mark.parametrize("options", [["--out", "out"], ["--same-bases", "--precision", "bf16", "--device", "cpu"]])
def test_two_ranks_find_what_one_finds(small_store: Path, tmp_path: Path, options: list[str]) -> None:
    torch.manual_seed(0)
    save_published(HyenaDNA(ModelConfig(d_model=16, n_layer=2, l_max=128, filter_order=8)), tmp_path / "model")
    found = []
    for launcher in ([], LAUNCH):
        out = tmp_path / f"{len(launcher)}.json"
        words = ["evaluate", str(tmp_path / "model"), "--data", str(small_store), "--lengths", "32,128", *options]
        printed = run([*launcher, "-m", "hyena_dist", *words, "--last", "8", "--json", str(out)], tmp_path)
        lines = [line for line in printed if line]
        assert len(lines) == len(set(lines)), "one rank tells"
        assert sum(line.startswith("Markov chain of order") for line in lines) == 9
        found.append((printed, json.loads(out.read_text())))
    (one_printed, one), (two_printed, two) = found
    assert two_printed == one_printed
    for length, perplexity in one["ppl_by_length"].items():
        assert two["ppl_by_length"][length] == pytest.approx(perplexity, rel=1e-9)
        for here, there in zip(*(found["parts"][length]["by_position"] for found in (one, two)), strict=True):
            assert there.keys() == here.keys()
            # A part that one window alone has is without an interval.
            assert [there[key] is None for key in there] == [here[key] is None for key in here]
            assert [v for v in there.values() if v] == pytest.approx([v for v in here.values() if v], rel=1e-9)
        assert two["parts"][length]["last"]["8"] == pytest.approx(one["parts"][length]["last"]["8"], rel=1e-9)
    if "--out" in options:
        assert json.loads((tmp_path / "out/evaluation.json").read_text()) == two
        assert (tmp_path / "out/ppl_by_position.csv").read_text().count("\n") == 1 + 6 + 8
    assert two["markov_ppl"] == one["markov_ppl"]


def run(words: Sequence[str], folder: Path) -> list[str]:
    """Return the lines that a command prints on standard output."""
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=250, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_reader_that_leaves_and_a_folder_that_there_is_not(small_store: Path, tmp_path: Path) -> None:
    save_published(HyenaDNA(ModelConfig(d_model=16, n_layer=1, l_max=64, filter_order=8)), tmp_path / "model")
    command = ["-m", "hyena_dist", "evaluate", str(tmp_path / "model"), "--data", str(small_store), "--lengths", "64"]
    process = subprocess.Popen(
        [sys.executable, *command, "--json", str(tmp_path / "x.json")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    assert process.wait(200) == 0
    assert json.loads((tmp_path / "x.json").read_text())["ppl_by_length"].keys() == {"64"}
    done = subprocess.run(
        [sys.executable, *command, "--json", str(tmp_path / "none/x.json")], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "there is no folder" in done.stderr
    assert done.stdout == ""


def test_a_model_that_gives_nan_ends_every_rank_in_one_sentence(small_store: Path, tmp_path: Path) -> None:
    model = HyenaDNA(ModelConfig(d_model=16, n_layer=1, l_max=64, filter_order=8))
    save_published(model, tmp_path / "model")
    stored = torch.load(tmp_path / "model/weights.ckpt", weights_only=True)
    next(value for name, value in stored["state_dict"].items() if name.endswith("ln_f.weight"))[3] = float("nan")
    torch.save(stored, tmp_path / "model/weights.ckpt")
    words = ["-m", "hyena_dist", "evaluate", "model", "--data", str(small_store), "--lengths", "64", "--out", "out"]
    for launcher, code in (([], 2), (LAUNCH, 1)):  # torchrun has a code of its own
        done = subprocess.run(
            [sys.executable, *launcher, *words], capture_output=True, text=True, timeout=250, cwd=tmp_path
        )
        assert done.returncode == code
        assert "error: the loss is nan on 124 of 124 held-out windows, first on chr1:32000-32065: the" in done.stderr
        assert not (tmp_path / "out").exists()
