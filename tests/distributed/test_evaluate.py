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


@pytest.mark.parametrize("options", [[], ["--same-bases"]])
def test_two_ranks_find_what_one_finds(small_store: Path, tmp_path: Path, options: list[str]) -> None:
    torch.manual_seed(0)
    save_published(HyenaDNA(ModelConfig(d_model=16, n_layer=2, l_max=128, filter_order=8)), tmp_path / "model")
    found = []
    for launcher in ([], LAUNCH):
        out = tmp_path / f"{len(launcher)}.json"
        words = ["evaluate", str(tmp_path / "model"), "--data", str(small_store), "--lengths", "32,128", *options]
        printed = run([*launcher, "-m", "hyena_dist", *words, "--json", str(out)])
        assert len(printed) == len(set(printed)) == 2 + 9  # a line for each length and order
        found.append((printed, json.loads(out.read_text())))
    (one_printed, one), (two_printed, two) = found
    assert two_printed == one_printed
    for length, perplexity in one["ppl_by_length"].items():
        assert two["ppl_by_length"][length] == pytest.approx(perplexity, rel=1e-9)
    assert two["markov_ppl"] == one["markov_ppl"]


def run(words: Sequence[str]) -> list[str]:
    """Return the lines that a command prints on standard output."""
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=250)
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
